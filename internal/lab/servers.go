package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// servers answer on the internet and count what they are asked.
type servers struct {
	running sync.WaitGroup
	closers []func() error
	site    atomic.Pointer[site] // see ServeHub

	mu    sync.Mutex
	asked map[string]int
	conns map[net.Conn]struct{}
	ended bool
}

// greeting is what servers of plain TCP and UDP send.
const greeting = "sp-lab internet"

// serve starts the servers, all on IPv4 and IPv6: TCP 22 (a banner), 80 (HTTP),
// 443 and 8443 (HTTPS with a certificate of its own making), 53 (DNS), at every
// address; UDP 443, 4433 and 123 (echo) and 53 (DNS), at Web, Web6, DNS and DNS6.
// DNS has an A and an AAAA record for every name below example.
func serve(h *Host) (*servers, error) {
	s := &servers{asked: make(map[string]int), conns: make(map[net.Conn]struct{})}
	config, err := selfSigned()
	if err != nil {
		return nil, err
	}
	for number, handle := range map[int]func(net.Conn){
		22:   func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-sp_lab\r\n") },
		80:   serveHTTP,
		443:  func(c net.Conn) { s.serveWeb(c, config) },
		8443: func(c net.Conn) { serveHTTP(tls.Server(c, config)) },
	} {
		l, err := h.Listen("tcp", fmt.Sprintf("[::]:%d", number))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.accept(l, fmt.Sprintf("tcp %d", number), handle)
	}
	for _, addr := range []string{Web, Web6, DNS, DNS6} {
		for _, number := range []string{"443", "4433", "123", "53"} {
			if err := s.packets(h, net.JoinHostPort(addr, number), number); err != nil {
				return nil, errors.Join(err, s.close())
			}
		}
	}
	l, err := h.Listen("tcp", "[::]:53")
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.dns(&dns.Server{Listener: l})
	return s, nil
}

func (s *servers) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[what]++
}

func (s *servers) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

// accept serves connections one by one each in a goroutine, until close.
func (s *servers) accept(l net.Listener, name string, handle func(net.Conn)) {
	s.closers = append(s.closers, l.Close)
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.count(name)
			if !s.hold(c) {
				continue
			}
			s.running.Go(func() {
				defer s.release(c)
				handle(c)
			})
		}
	})
}

func (s *servers) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		_ = c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *servers) release(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	_ = c.Close()
}

// serveHTTP answers the requests of one connection with the greeting.
func serveHTTP(c net.Conn) {
	serveWith(c, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, greeting+"\n")
	}))
}

// serveWith answers the requests of one connection.
func serveWith(c net.Conn, handler http.Handler) {
	l := &oneConn{conn: c, gone: make(chan struct{})}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // tests speak nonsense to it
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				close(l.gone)
			}
		},
	}
	_ = server.Serve(l) // ends with the connection
}

// oneConn is a listener with one connection; it ends with that.
type oneConn struct {
	conn net.Conn
	once sync.Once
	gone chan struct{}
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.gone
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// packets serves a UDP port: DNS on 53, an echo elsewhere.
func (s *servers) packets(h *Host, address, number string) error {
	var c net.PacketConn
	err := h.Do(func() (err error) {
		c, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		return err
	}
	if number == "53" {
		s.dns(&dns.Server{PacketConn: c})
		return nil
	}
	s.closers = append(s.closers, c.Close)
	s.running.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			s.count("udp " + number)
			_, _ = c.WriteTo(append([]byte(greeting+": "), buf[:n]...), from)
		}
	})
	return nil
}

func (s *servers) dns(server *dns.Server) {
	server.Handler = dns.HandlerFunc(s.answer)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	s.running.Go(func() { _ = server.ActivateAndServe() }) // it ends by Shutdown alone
	<-started
	s.closers = append(s.closers, server.Shutdown)
}

func (s *servers) answer(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	for _, q := range r.Question {
		s.count("dns " + dns.TypeToString[q.Qtype] + " " + strings.ToLower(q.Name))
		head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 1}
		switch {
		case !dns.IsSubDomain("example.", q.Name):
			m.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.ParseIP(Web)})
		case q.Qtype == dns.TypeAAAA:
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: net.ParseIP(Web6)})
		case q.Qtype == dns.TypeTXT:
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{greeting}})
		}
	}
	_ = w.WriteMsg(m)
}

func (s *servers) close() error {
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	s.running.Wait()
	return errors.Join(errs...)
}
