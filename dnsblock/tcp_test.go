package dnsblock

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/sallyport/sallyport/audit"
)

func framed(messages ...[]byte) []byte {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// serveTCP runs s until the test ends and returns where.
func serveTCP(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func readFramed(t *testing.T, r io.Reader) *dns.Msg {
	t.Helper()
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return unpack(t, b)
}

func TestTCP(t *testing.T) {
	s, b := newServer()
	addr := serveTCP(t, s)
	c := dial(t, addr)
	a, broken := pack(t, question("a.example.", dns.TypeA)), wire("b")[:14]
	if _, err := c.Write(framed(a, broken, a)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{dns.RcodeNameError, dns.RcodeFormatError, dns.RcodeNameError} {
		if m := readFramed(t, c); m.Rcode != want {
			t.Errorf("answer %v", m)
		}
	}
	events := b.all()
	if len(events) != 3 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	if e.Proto != "tcp" || e.Host != "a.example" || e.Dst != addr || e.Src != c.LocalAddr().String() {
		t.Errorf("event %+v", e)
	}
}

// Connections that bring no query are recorded, and reset at once.
func TestTCPWithoutQuery(t *testing.T) {
	for name, first := range map[string]string{
		"TLS":           "\x16\x03\x01\x02\x00\x01\x00",
		"SSH":           "SSH-2.0-x\r\n",
		"HTTP":          "GET / HTTP/1.1\r\n",
		"CONNECT":       "CONNECT a:1 HTTP/1.1\r\n",
		"too short":     "\x00\x03abc",
		"empty message": "\x00\x00",
		"response":      string(framed(append([]byte{1, 2, 0x80}, make([]byte, 9)...))),
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newServer()
			c := dial(t, serveTCP(t, s))
			if _, err := c.Write([]byte(first)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
			if e := b.all(); len(e) != 1 || e[0].Verdict != "denied" || e[0].Reason == "" {
				t.Errorf("events %+v", e)
			}
		})
	}
}

func TestTCPEndsEarly(t *testing.T) {
	query := framed(wire("x", "example"))
	for name, tt := range map[string]struct {
		sent   []byte
		events int
	}{
		"nothing sent":           {nil, 1},
		"half a length":          {query[:1], 1},
		"half a message":         {query[:10], 1},
		"a message":              {query, 1},
		"a message, and a half":  {append(append([]byte(nil), query...), query[:9]...), 2},
		"two messages and a bit": {append(append(append([]byte(nil), query...), query...), 0), 3},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := newServer()
			c := dial(t, serveTCP(t, s))
			if _, err := c.Write(tt.sent); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c) // until it is closed or reset
			if e := b.all(); len(e) != tt.events {
				t.Errorf("events %+v", e)
			}
		})
	}
}

func TestTCPLimit(t *testing.T) {
	s, b := newServer()
	s.MaxTCP = 1
	b.added = make(chan struct{}, 10)
	addr := serveTCP(t, s)
	first := dial(t, addr)
	query := framed(wire("x", "example"))
	if _, err := first.Write(query); err != nil {
		t.Fatal(err)
	}
	readFramed(t, first)
	if second, err := net.Dial("tcp", addr); err == nil { // the reset may come before
		if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		second.Close()
	}
	<-b.added
	<-b.added
	if e := b.all(); len(e) != 2 || !strings.Contains(e[1].Reason, "too many") {
		t.Errorf("events %+v", e)
	}
	if _, err := first.Write(query); err != nil {
		t.Fatal(err)
	}
	readFramed(t, first) // the first one goes on
}

// queued gives connections that are there already, and no more.
type queued struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	close  func() // once
}

func (q queued) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q queued) Close() error {
	q.close()
	return nil
}

// slow is a connection whose process takes long to learn.
type slow struct {
	net.Conn
	found <-chan struct{}
}

func (c slow) Process() *audit.Process {
	<-c.found
	return &audit.Process{PID: 7}
}

// To learn who is refused never makes others wait: there is a bound for that too.
func TestTCPLimitWhileProcessesAreLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer()
		s.MaxTCP, s.IdleTimeout = 1, time.Hour
		const more = 3
		l := queued{conns: make(chan net.Conn, 1+maxRefusing+more), closed: make(chan struct{})}
		l.close = sync.OnceFunc(func() { close(l.closed) })
		found := make(chan struct{})
		for range cap(l.conns) {
			client, server := net.Pipe()
			defer client.Close()
			l.conns <- slow{server, found}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Serve(ctx, l) }()
		synctest.Wait()
		if e := b.all(); len(e) != more || len(l.conns) > 0 {
			t.Errorf("%d connections wait, events %+v", len(l.conns), e)
		}
		for _, e := range b.all() {
			if e.Reason != tooMany || e.Process == nil || e.Process.PID != 0 || !strings.Contains(e.Process.Unknown, "too many") {
				t.Errorf("%+v", e)
			}
		}
		close(found)
		synctest.Wait()
		if e := b.all(); len(e) != more+maxRefusing || e[more].Process.PID != 7 || e[more].Reason != tooMany {
			t.Errorf("events %+v", e)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A client that sends slowly has its time for a whole message, not for a byte.
func TestTCPTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer()
		client, server := net.Pipe()
		defer client.Close()
		begun, took := time.Now(), time.Duration(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serveConn(t.Context(), server)
			took = time.Since(begun)
		}()
		for i := range 100 {
			if _, err := client.Write([]byte{byte(i % 2 * 50)}); err != nil { // a message of 50 bytes
				break
			}
			time.Sleep(time.Second)
		}
		<-done
		if took != defaultIdleTimeout {
			t.Errorf("closed after %v", took)
		}
		if e := b.all(); len(e) != 1 || e[0].BytesIn < 9 {
			t.Errorf("events %+v", e)
		}
	})
}

func TestTCPRecordFails(t *testing.T) {
	s, b := newServer()
	b.broken = true
	c := dial(t, serveTCP(t, s))
	if _, err := c.Write(framed(wire("x", "example"))); err != nil {
		t.Fatal(err)
	}
	if m := readFramed(t, c); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("answer %v", m)
	}
}
