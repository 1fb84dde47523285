package peer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// ReverseProxy is httputil.ReverseProxy in front of an origin, with a line in a log
// for each request. Without -duplex, its server closes a request's body when the
// origin answers while the Transport still reads it: the stream is cut.
func ReverseProxy(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	listen := flags.String("listen", "", "tcp:ADDR")
	origin := flags.String("origin", "", "unix:PATH or tcp:ADDR")
	duplex := flags.Bool("duplex", false, "read the request's body on after the answer has begun")
	path := flags.String("log", "", "file for a line of each request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log, err := openAccessLog(*path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	var handler http.Handler = newReverseProxy(*origin)
	if *duplex {
		handler = fullDuplex(handler)
	}
	return serveHTTPAt(ctx, []string{*listen}, log.around(handler))
}

func fullDuplex(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // always there in net/http
		h.ServeHTTP(w, r)
	})
}

func newReverseProxy(origin string) *httputil.ReverseProxy {
	network, at, _ := strings.Cut(origin, ":")
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "origin"})
	p.FlushInterval = -1
	p.Transport = &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}
	return p
}

// accessLog is a line for each request, written as nginx does by default: not held back.
type accessLog struct {
	mu   sync.Mutex
	file *os.File
}

func openAccessLog(path string) (*accessLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the access log: %w", err)
	}
	return &accessLog{file: f}, nil
}

func (l *accessLog) close() error { return l.file.Close() }

func (l *accessLog) around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &countedResponse{ResponseWriter: w}
		began := time.Now()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			fmt.Fprintf(l.file, "%s %s %q %d %d %v\n", began.Format(time.RFC3339Nano), r.RemoteAddr, r.Method+" "+r.URL.Path, counted.status, counted.n, time.Since(began))
		}()
		h.ServeHTTP(counted, r)
	})
}

// countedResponse counts what is answered.
type countedResponse struct {
	http.ResponseWriter
	status int
	n      int64
}

// Unwrap is for http.ResponseController.
func (w *countedResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *countedResponse) WriteHeader(code int) {
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}

// Write counts.
func (w *countedResponse) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}
