package peer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/bench/load"
)

// Origin is the model server of the streaming cases. It knows the model "bench". At
// POST /v1/messages it answers with the stream that the request's headers ask for.
func Origin(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("origin", flag.ContinueOnError)
	var at addresses
	flags.Var(&at, "listen", "tcp:ADDR or unix:PATH; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"bench","object":"model","max_model_len":131072}]}`) // or its client is gone
	})
	mux.HandleFunc("POST /v1/messages", answerStream)
	return serveHTTPAt(ctx, at, mux)
}

func answerStream(w http.ResponseWriter, r *http.Request) {
	s, err := load.ReadScript(r.Header)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if s.Early {
		answerEarly(w, r, s)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client is gone
	}
	if err := writeStream(r.Context(), w, http.NewResponseController(w), s); err != nil {
		panic(http.ErrAbortHandler) // or net/http would end the answer as if it were whole
	}
}

// answerEarly writes a whole stream before it reads the request's body. With its
// length said, it is whole before that: nginx sends no more of a body once it has an
// answer, and would wait for the end of one that waits for the body.
func answerEarly(w http.ResponseWriter, r *http.Request, s load.Script) {
	pieces, size := [][]byte{[]byte(load.StreamStart)}, len(load.StreamStart)
	fill := bytes.Repeat([]byte("."), s.Fill)
	for n := range s.Deltas {
		pieces = append(pieces, load.AppendDelta(nil, n, 0, fill))
	}
	pieces = append(pieces, []byte(load.StreamEnd(s.Deltas)))
	for _, p := range pieces[1:] {
		size += len(p)
	}
	w.Header().Set("Content-Length", strconv.Itoa(size))
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // always there in net/http
	for _, p := range pieces {
		if _, err := w.Write(p); err != nil {
			return // the client is gone
		}
		if err := rc.Flush(); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, r.Body) // the answer is given
}

// writeStream writes the stream of a script; each event is flushed.
func writeStream(ctx context.Context, w io.Writer, rc *http.ResponseController, s load.Script) error {
	send := func(b []byte) error {
		if _, err := w.Write(b); err != nil {
			return err
		}
		return rc.Flush()
	}
	if err := send([]byte(load.StreamStart)); err != nil {
		return err
	}
	fill, event := bytes.Repeat([]byte("."), s.Fill), []byte(nil)
	pace := pace{s.First, int64(s.Every)}
	for n := range s.Deltas {
		if err := pace.wait(ctx); err != nil {
			return err
		}
		now, err := load.Monotonic()
		if err != nil {
			return err
		}
		if event = load.AppendDelta(event[:0], n, now, fill); send(event) != nil {
			return errors.New("the client does not read")
		}
	}
	if s.Hold {
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := io.WriteString(w, load.StreamEnd(s.Deltas))
	return err
}

// pace lets something happen at regular times of the monotonic clock, in
// nanoseconds. next zero: the first time is every from now; every zero: at once.
type pace struct{ next, every int64 }

func (p *pace) wait(ctx context.Context) error {
	now, err := load.Monotonic()
	if err != nil {
		return err
	}
	left := p.left(now)
	if left <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// left is how long it is until the next time. What is more than one late is not made
// up for, as by a time.Ticker.
func (p *pace) left(now int64) time.Duration {
	if p.every <= 0 {
		return 0
	}
	if p.next == 0 {
		p.next = now + p.every
	}
	left := p.next - now
	p.next += p.every * (1 + max(0, -left)/p.every)
	return time.Duration(left)
}

// addresses are a repeated flag's.
type addresses []string

// String is the flag's value.
func (a *addresses) String() string { return strings.Join(*a, " ") }

// Set adds a value.
func (a *addresses) Set(value string) error {
	*a = append(*a, value)
	return nil
}

// listenAt opens tcp:ADDR or unix:PATH, whose file may be left from before.
func listenAt(ctx context.Context, address string) (net.Listener, error) {
	network, at, ok := strings.Cut(address, ":")
	if !ok || network != "tcp" && network != "unix" {
		return nil, fmt.Errorf("listen at %q: neither tcp:ADDR nor unix:PATH", address)
	}
	if network == "unix" {
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("listen at %q: %w", address, err)
		}
	}
	return new(net.ListenConfig).Listen(ctx, network, at)
}

// serveHTTPAt serves HTTP at each address until ctx ends.
func serveHTTPAt(ctx context.Context, at []string, h http.Handler) error {
	if len(at) == 0 {
		return errors.New("no address to listen at")
	}
	tasks, ctx := errgroup.WithContext(ctx)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	for _, address := range at {
		l, err := listenAt(ctx, address)
		if err != nil {
			return errors.Join(err, srv.Close())
		}
		tasks.Go(func() error { return srv.Serve(l) })
	}
	tasks.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	if err := tasks.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
