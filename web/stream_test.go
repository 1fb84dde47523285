package web

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
)

// listener is a reader of a live stream.
type listener struct {
	*testing.T
	response *http.Response
	lines    *bufio.Scanner
}

func (s *site) listen(cookie, path string) *listener {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), "GET", "http://"+s.host+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	response, err := (&http.Transport{}).RoundTrip(r)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { response.Body.Close() })
	return &listener{s.T, response, bufio.NewScanner(response.Body)}
}

// next is the next message, as NAME DATA; empty: the stream has ended.
func (l *listener) next() string {
	var words []string
	for l.lines.Scan() {
		if l.lines.Text() == "" {
			return strings.Join(words, " ")
		}
		_, text, _ := strings.Cut(l.lines.Text(), ": ")
		words = append(words, text)
	}
	return ""
}

func TestStream(t *testing.T) {
	s := serve(t, func(s *Server) { s.ahead = time.Millisecond })
	l := s.listen(s.enter(), "/stream?denied=1&host=*.example")
	if got := l.response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("it is %s", got)
	}
	if got := l.next(); got != `hello {"events":0,"refused":0,"allowed":0}` {
		t.Errorf("first %q", got)
	}
	s.add(audit.Event{Layer: audit.LayerProxy, Host: "a.example", Verdict: policy.Allow.String()}, refusedName("a.test"))
	e := refusedName("b.example")
	e.Count = 3
	s.add(e)
	if got := l.next(); got != `change {"events":1,"refused":3,"allowed":0}` {
		t.Errorf("then %q", got)
	}
}

// What comes together is told together.
func TestStreamGathers(t *testing.T) {
	s := serve(t, func(s *Server) { s.ahead = time.Hour; s.interval = time.Millisecond })
	l := s.listen(s.enter(), "/stream")
	l.next()
	s.add(refusedName("a.example"), refusedName("b.example"))
	for range 3 {
		if got := l.next(); !strings.HasPrefix(got, "beat") {
			t.Errorf("got %q", got)
		}
	}
}

// A stream ends with its session: by the user, and by its time.
func TestStreamEndsWithSession(t *testing.T) {
	s := serve(t, func(s *Server) { s.interval = time.Millisecond })
	for name, end := range map[string]func(cookie string){
		"logout":  func(c string) { s.request("POST", "/logout", "Cookie", c, "Origin", "http://"+s.host) },
		"expired": func(string) { s.clock.add(sessionLife) },
	} {
		cookie := s.enter()
		l := s.listen(cookie, "/stream")
		l.next()
		end(cookie)
		last := ""
		for m := l.next(); m != ""; m = l.next() {
			last = m
		}
		if !strings.HasPrefix(last, "bye") {
			t.Errorf("%s: the last was %q", name, last)
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	for range maxStreams {
		if l := s.listen(cookie, "/stream"); l.response.StatusCode != http.StatusOK || l.next() == "" {
			t.Fatal(l.response.Status)
		}
	}
	if l := s.listen(cookie, "/stream"); l.response.StatusCode != http.StatusServiceUnavailable || l.response.Header.Get("Retry-After") == "" {
		t.Error(l.response.Status)
	}
	s.get(cookie, "/help") // the rest goes on
}

// pipes is a listener whose connections have no buffer at all.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// bubble runs f with a stream whose connection has no buffer, and the fake clock
// of testing/synctest.
func bubble(t *testing.T, f func(s *Server, client net.Conn, stream *bufio.Scanner)) {
	path := filepath.Join(t.TempDir(), "audit.db")
	synctest.Test(t, func(t *testing.T) {
		store, err := audit.Open(path, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{Store: store, Open: func() (*audit.Reader, error) { return audit.OpenReader(path) }, Status: func() control.Status { return control.Status{} },
			Log: slog.New(slog.DiscardHandler)}
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server, served := s.server("80"), make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		client, far := net.Pipe()
		l.conns <- far
		cookie := "sallyport-80=" + s.gate.sessions.issue(time.Now().Add(time.Hour))
		if _, err := io.WriteString(client, "GET /stream HTTP/1.1\r\nHost: 127.0.0.1:80\r\nCookie: "+cookie+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		f(s, client, bufio.NewScanner(response.Body))
		client.Close()
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A reader that does not read is dropped, and the store never waits for it.
func TestSlowReaderIsDropped(t *testing.T) {
	bubble(t, func(s *Server, client net.Conn, _ *bufio.Scanner) {
		for range 2 * streamBuffer {
			if _, err := s.Store.Append(audit.Event{Layer: audit.LayerDNS, Host: "a.example", Verdict: policy.Allow.String()}); err != nil {
				t.Fatal(err)
			}
		}
		if s.streams.Load() != 1 {
			t.Error("there is no stream")
		}
		time.Sleep(defaultInterval + defaultAhead + streamTimeout) // of the bubble's clock
		synctest.Wait()
		if n := s.streams.Load(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// The bounds in time of other requests do not end a stream that is read.
func TestStreamOutlivesTimeouts(t *testing.T) {
	bubble(t, func(s *Server, client net.Conn, stream *bufio.Scanner) {
		beats := 0
		for begun := time.Now(); time.Since(begun) < 10*writeTimeout && stream.Scan(); {
			if stream.Text() == "event: beat" {
				beats++
			}
		}
		if want := int(10 * writeTimeout / defaultInterval); beats < want {
			t.Errorf("%d beats, want %d", beats, want)
		}
	})
}
