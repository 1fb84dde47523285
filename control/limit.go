package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of what clients may hold of the gateway at once. They are this user's
// own programs, so it is a mistake that they stop, and the shortage of
// descriptors that it would cause everywhere else.
const (
	maxConns   = 512              // connections
	maxStreams = 384              // of them watches and pulls: a short call always finds room
	readTime   = 10 * time.Second // for a request's body
	writeTime  = 10 * time.Second // for a client to take one piece of an answer
	idleTime   = time.Minute      // of a connection between two calls
)

var errStreams = fmt.Errorf("there are %d watches and pulls already; hint: end launchers that hang (launcher status)", maxStreams)

// busy is the whole answer to a connection beyond maxConns.
var busy = func() []byte {
	body := fmt.Sprintf(`{"error":"the gateway has %d connections on its control socket already; hint: end launchers that hang"}`, maxConns)
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}()

// boundedListener accepts maxConns connections at a time, and says busy to those
// beyond.
type boundedListener struct {
	net.Listener
	slots chan struct{}
	log   *slog.Logger
	full  bool // the last one found no room
}

func newBoundedListener(l net.Listener, log *slog.Logger) *boundedListener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, maxConns), log: log}
}

// Accept returns the next connection for which there is room. It is called by
// one goroutine.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			l.full = false
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
		}
		if !l.full {
			l.full = true
			l.log.Warn("too many connections on the control socket; further ones are turned away", "most", maxConns)
		}
		_, err = c.Write(busy) // into the empty buffer of a new connection
		if err := errors.Join(err, c.Close()); err != nil {
			l.log.Debug("turn a control connection away", "err", err)
		}
	}
}

// boundedConn makes room when it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close may be called more than once.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// timed bounds how long a request's body may take to arrive. What reads it whole
// or means to stay lifts the bound.
func timed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = errors.Join(rc.SetReadDeadline(time.Now().Add(readTime)), rc.SetWriteDeadline(time.Time{})) // of a socket both work
		h.ServeHTTP(w, r)
	})
}

// arrived lifts the bound of timed: from here on the call may take its time.
func arrived(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }

// writing bounds the next write of an answer.
func writing(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}

// streaming serves calls that stay, maxStreams of them at a time.
type streaming chan struct{}

func (s streaming) handle(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s <- struct{}{}:
			defer func() { <-s }()
			h(w, r)
		default:
			_, _ = io.CopyN(io.Discard, r.Body, maxBody) // its error is the client's
			answer(w, nil, errStreams)
		}
	}
}
