package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// defaultConns is MaxConns where it is zero.
const defaultConns = 256

// headTimeout bounds the reading of one request's head.
const headTimeout = 10 * time.Second

// tooMany is the reason for a connection beyond MaxConns.
const tooMany = "too many connections at once from this sandbox"

// listener accepts at most max connections at a time, resets and records those
// beyond, and ends all of them on demand.
type listener struct {
	net.Listener
	rec      *recorder
	away     *away // for those beyond
	max      int
	headWait time.Duration   // for a request's head; zero: headTimeout
	quick    *forward        // which refuses a connection's first requests; nil: net/http reads all
	ctx      context.Context // ends with serveHTTP; what outlives a handler listens to it
	wg       sync.WaitGroup  // one for each connection until its goroutine has ended
	mu       sync.Mutex
	open     map[*clientConn]struct{}
	done     bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &clientConn{Conn: conn, owner: l}
		if l.quick != nil {
			c.quick = &quick{s: l.quick}
		}
		if l.admit(c) {
			return c, nil
		}
		l.away.take(&l.wg, conn, tooMany)
	}
}

func (l *listener) admit(c *clientConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done || len(l.open) >= l.max {
		return false
	}
	l.open[c] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) forget(c *clientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// end closes every open connection and admits no more.
func (l *listener) end() {
	l.mu.Lock()
	l.done = true
	open := make([]*clientConn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		reset(c)
	}
}

type connKey struct{}

// connOf returns the connection that r came on.
func connOf(r *http.Request) *clientConn {
	c, _ := r.Context().Value(connKey{}).(*clientConn)
	return c
}

// serveHTTP runs an HTTP/1 server for handler on l until ctx ends, and returns
// when every connection and handler has ended.
func serveHTTP(ctx context.Context, l *listener, handler http.Handler, idle time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.ctx = ctx
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: orDefault(l.headWait, headTimeout),
		IdleTimeout:       idle,
		MaxHeaderBytes:    maxHead - 4096, // net/http adds 4096
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState:                    func(c net.Conn, s http.ConnState) { c.(*clientConn).state(s) },
		DisableGeneralOptionsHandler: true, // OPTIONS * is an attempt too
	}
	var stop sync.WaitGroup
	stop.Go(func() {
		<-ctx.Done()
		_ = srv.Close()
		l.end()
	})
	err := srv.Serve(l)
	ended := ctx.Err() != nil
	cancel()
	stop.Wait()
	l.wg.Wait()
	if ended {
		return nil
	}
	return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
}

func newListener(l net.Listener, rec *recorder, maxConns int) *listener {
	return &listener{Listener: l, rec: rec, away: newAway(rec), max: orDefault(maxConns, defaultConns), open: map[*clientConn]struct{}{}}
}

// unserved is the event of a request that no handler got.
func (c *clientConn) unserved(status int, reason string) audit.Event {
	e := denied(c, reason)
	e.Status = status
	c.mu.Lock()
	e.Method, e.Path = requestLine(c.head)
	e.Host = claimedHost(c.head)
	e.BytesIn = int64(len(c.head))
	c.mu.Unlock()
	return e
}

// limitRest bounds net/http's reading of the rest of a refused request's body.
func limitRest(w http.ResponseWriter, r *http.Request) {
	if bodyLength(r) == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headTimeout))
}
