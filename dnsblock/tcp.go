package dnsblock

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
)

const (
	// maxQuery bounds a query over TCP (bytes). Queries are shorter; what a TLS,
	// SSH or HTTP client says first, read as a length, is longer, so that such a
	// client is refused at once and not after the timeout.
	maxQuery = 4096

	defaultMaxTCP      = 16
	maxRefusing        = 16 // connections beyond MaxTCP whose process is looked for, at a time
	defaultIdleTimeout = 10 * time.Second
	acceptPause        = 50 * time.Millisecond // after a failed accept, for want of descriptors say
)

// Serve answers the queries of the connections that l accepts until ctx is done;
// then, or on an error, l and every connection are closed and all has ended.
// Each connection may send several queries, one after the other.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer l.Close()
	defer stop()
	if err := s.check(); err != nil {
		return err
	}
	free, refusing := make(chan struct{}, cmp.Or(s.MaxTCP, defaultMaxTCP)), make(chan struct{}, maxRefusing)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				conn.Close()
			}
			return nil
		case retry(err):
			pause(ctx)
			continue
		case err != nil:
			return fmt.Errorf("serve DNS over TCP: %w", err)
		}
		switch {
		case enter(free):
			conns.Go(func() {
				defer func() { <-free }()
				s.serveConn(ctx, conn)
			})
		case enter(refusing): // to learn who it is takes a while
			conns.Go(func() {
				defer func() { <-refusing }()
				s.refuse(conn, peerOf(conn), tooMany, 0)
			})
		default:
			s.refuse(conn, peerOf(conn).notLookedFor(), tooMany, 0)
		}
	}
}

// enter takes a place in pool, if there is one.
func enter(pool chan struct{}) bool {
	select {
	case pool <- struct{}{}:
		return true
	default:
		return false
	}
}

// tooMany is why a connection beyond MaxTCP is refused.
const tooMany = "too many DNS connections at a time"

// retry says whether an accept that failed with err may work later.
func retry(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

func pause(ctx context.Context) {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// serveConn answers one connection's queries. A connection that ends without a
// whole message, or in the midst of one, was an attempt as well.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	p := peerOf(conn)
	buf := make([]byte, 2+maxQuery)
	for answered := 0; ; answered++ {
		if err := conn.SetDeadline(time.Now().Add(cmp.Or(s.IdleTimeout, defaultIdleTimeout))); err != nil {
			return
		}
		message, n, err := readMessage(conn, buf)
		switch {
		case errors.Is(err, errTooLong):
			s.refuse(conn, p, err.Error(), n)
			return
		case err != nil && n == 0 && answered > 0:
			return
		case err != nil:
			s.refuse(conn, p, "DNS connection ended without a whole message", n)
			return
		}
		answer := s.handle(message, p)
		if answer == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

var errTooLong = errors.New("not a DNS query, or one of more than 4096 bytes")

// readMessage reads one message, which it returns, and says how many bytes it
// has read, also on an error.
func readMessage(r io.Reader, buf []byte) (message []byte, n int, err error) {
	if n, err = io.ReadFull(r, buf[:2]); err != nil {
		return nil, n, err
	}
	length := int(binary.BigEndian.Uint16(buf))
	if length > maxQuery {
		return nil, n, errTooLong
	}
	m, err := io.ReadFull(r, buf[2:2+length])
	return buf[2 : 2+length], n + m, err
}

// refuse records a connection and resets it.
func (s *Server) refuse(conn net.Conn, p peer, reason string, bytes int) {
	e := s.event(p, reason)
	e.BytesIn = int64(bytes)
	s.record(e) // recorded or not, it is closed
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // a reset; if it cannot be, the close will do
	}
	_ = conn.Close()
}

func peerOf(conn net.Conn) peer {
	p := peer{proto: "tcp", src: addrPort(conn.RemoteAddr()), dst: addrPort(conn.LocalAddr())}
	if knowing, ok := conn.(interface{ Process() *audit.Process }); ok {
		p.process = knowing.Process
	}
	return p
}

// notLookedFor is p where there is no time to learn who it is.
func (p peer) notLookedFor() peer {
	if p.process != nil {
		p.process = func() *audit.Process {
			return &audit.Process{Unknown: "too many attempts at once to look for each one's sender"}
		}
	}
	return p
}

// addrPort returns the zero AddrPort for what is no TCP address.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmapped(tcp.AddrPort())
}
