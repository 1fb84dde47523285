package proxy

import (
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// talk serves s, sends it input on one connection in a bubble of its own time,
// and returns all that came back once the server has ended the connection. A
// goroutine that stays behind fails the bubble.
func talk(s server, input []byte) (output []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	ours, its := net.Pipe()
	l := &single{conn: its, closed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx, l) })
	wg.Go(func() { _, _ = ours.Write(input) })
	output, _ = io.ReadAll(ours) // until its limits in time have passed
	synctest.Wait()
	_ = ours.Close()
	cancel()
	wg.Wait()
	return output
}

// single is a listener with one connection.
type single struct {
	mu     sync.Mutex
	conn   net.Conn // nil once it is accepted
	once   sync.Once
	closed chan struct{}
}

func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *single) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// far is what is behind a server under test: it keeps what it is sent and
// answers the first of it.
type far struct {
	answer []byte
	after  time.Duration // that it takes to answer; in a bubble, until nobody does anything
	wg     sync.WaitGroup
	mu     sync.Mutex
	got    []*strings.Builder // of each connection
}

func (f *far) dial(context.Context, string, uint16) (net.Conn, error) {
	ours, its := net.Pipe()
	got := &strings.Builder{}
	f.mu.Lock()
	f.got = append(f.got, got)
	f.mu.Unlock()
	f.wg.Go(func() {
		defer its.Close()
		buf := make([]byte, 4096)
		for answered := false; ; {
			_ = its.SetReadDeadline(time.Now().Add(time.Hour))
			n, err := its.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				return
			}
			if !answered && strings.Contains(got.String(), "\r\n\r\n") {
				answered = true
				f.wg.Go(func() {
					time.Sleep(f.after)
					_, _ = its.Write(f.answer)
				})
			}
		}
	})
	return ours, nil
}

// strictHead is an HTTP/1 request's head as RFC 9112 has it, without any of what
// a reader may be lenient about.
var strictHead = regexp.MustCompile("^([A-Z]+|[!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\\x00-\\x20\\x7f]+) HTTP/1\\.[01]\r\n" +
	"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\\r\\n\\x00]*\r\n)*)\r\n")

// wireRequest is a request as strictHead reads it.
type wireRequest struct {
	method, target string
	headers        map[string][]string // by lower case name
	rest           string              // what follows the head
}

func readStrict(s string) (r wireRequest, ok bool) {
	m := strictHead.FindStringSubmatch(s)
	if m == nil {
		return r, false
	}
	r = wireRequest{method: m[1], target: m[2], headers: map[string][]string{}, rest: s[len(m[0]):]}
	for line := range strings.SplitSeq(strings.TrimSuffix(m[3], "\r\n"), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			name = strings.ToLower(name)
			r.headers[name] = append(r.headers[name], strings.Trim(value, " \t"))
		}
	}
	return r, true
}

// only is the one value of a header, empty where there is none.
func (r wireRequest) only(name string) (value string, ok bool) {
	switch v := r.headers[name]; len(v) {
	case 0:
		return "", true
	case 1:
		return v[0], true
	}
	return "", false
}

// kept keeps events in memory.
type kept struct {
	mu     sync.Mutex
	events []audit.Event
}

func (k *kept) record(e audit.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
	return nil
}

func (k *kept) allowed() (n int) {
	for _, e := range k.events {
		if e.Verdict == "allowed" {
			n++
		}
	}
	return n
}
