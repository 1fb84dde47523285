package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// directReason is why Intercept refuses.
const directReason = "no direct connection leaves the sandbox"

// Intercept refuses every connection it accepts, after a short look at what it
// wanted: LocalAddr is the address that the container aimed at. Plain HTTP is
// answered with a 403 and one line; everything else is reset.
type Intercept struct {
	Subject      audit.Subject           // whose attempts they are; zero: recorded as unknown
	Record       func(audit.Event) error // keeps an event
	HelloTimeout time.Duration           // for the whole first message; zero: 5 s
	MaxHello     int                     // bytes of it that are read; zero: 64 KiB
	MaxConns     int                     // connections looked into at once, more are reset unseen; zero: 256
	Log          *slog.Logger

	firstByte time.Duration // for its first byte: some protocols wait for the server; zero: 300 ms
}

// Serve accepts on l until ctx ends, then closes every connection and returns
// nil once all of them have ended. It closes l.
func (i *Intercept) Serve(ctx context.Context, l net.Listener) error {
	if i.Record == nil || i.Log == nil {
		return fmt.Errorf("start intercept: %w", errors.Join(nilErr(i.Record == nil, errNoRecord), nilErr(i.Log == nil, errNoLog)))
	}
	s := &interceptor{
		rec:       &recorder{put: i.Record, subject: i.Subject, layer: audit.LayerIntercept, log: i.Log},
		slots:     make(chan struct{}, orDefault(i.MaxConns, defaultConns)),
		timeout:   orDefault(i.HelloTimeout, 5*time.Second),
		firstByte: orDefault(i.firstByte, 300*time.Millisecond),
		most:      orDefault(i.MaxHello, 64<<10),
	}
	s.away = newAway(s.rec)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	for {
		conn, err := l.Accept()
		if err == nil {
			s.take(ctx, &wg, conn)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if !temporary(err) {
			return fmt.Errorf("accept intercepted connections on %s: %w", l.Addr(), err)
		}
		i.Log.Warn("accept an intercepted connection", "error", err)
		wait(ctx, 50*time.Millisecond)
	}
}

// interceptor is an Intercept at work.
type interceptor struct {
	rec       *recorder
	slots     chan struct{}
	away      *away // for connections that find no slot
	timeout   time.Duration
	firstByte time.Duration
	most      int
}

// take looks into conn in a goroutine of its own, where one is free.
func (s *interceptor) take(ctx context.Context, wg *sync.WaitGroup, conn net.Conn) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.away.take(wg, conn, directReason+" (not looked into: "+tooMany+")")
		return
	}
	wg.Go(func() {
		defer func() { <-s.slots }()
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		s.handle(ctx, conn)
	})
}

// handle learns what conn wants, records it and ends it.
func (s *interceptor) handle(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	start := time.Now()
	look := s.look(ctx, conn)
	e := denied(conn, directReason)
	e.Port = localPort(conn)
	e.SNI, e.Host, e.Method, e.Path = look.sni, hostOnly(look.host), look.method, look.path
	e.BytesIn, e.Duration = look.bytes, seconds(start)
	if look.note != "" {
		e.Reason += " (" + look.note + ")"
	}
	if look.kind != isHTTP {
		s.rec.record(e)
		reset(conn)
		return
	}
	e.Status = http.StatusForbidden
	if !s.rec.record(e) {
		reset(conn)
		return
	}
	s.forbid(ctx, conn, e)
}

// forbid answers plain HTTP, and reads on for a moment: closing with unread
// bytes would reset the connection before the answer is read.
func (s *interceptor) forbid(ctx context.Context, conn net.Conn, e audit.Event) {
	line := "sallyport: " + quoted(e.Dst) + " is refused: " + directReason +
		". Hosts in policy.allow of the user's config are reached through HTTP_PROXY and HTTPS_PROXY"
	if host, err := plainName(e.Host); err == nil {
		port := orDefault(e.Port, 80)
		line = allowHint(host, port, fmt.Sprintf("%s:%d is refused: %s", host, port, directReason)) + ", and use HTTP_PROXY or HTTPS_PROXY"
	}
	resp := answer(nil, &refusal{status: http.StatusForbidden, hint: line})
	resp.Header.Set("X-Sallyport-Reason", directReason)
	resp.Close = true
	s.arm(ctx, conn, time.Second)
	if resp.Write(conn) != nil || closeWrite(conn, conn) != nil {
		return
	}
	var sink [4096]byte
	for range 64 { // 256 KiB
		if _, err := conn.Read(sink[:]); err != nil {
			return
		}
	}
}

// arm sets conn's deadline, unless ctx has ended and the deadline is past.
func (s *interceptor) arm(ctx context.Context, conn net.Conn, d time.Duration) {
	_ = conn.SetDeadline(time.Now().Add(d))
	if ctx.Err() != nil {
		_ = conn.SetDeadline(time.Unix(1, 0))
	}
}

func localPort(conn net.Conn) uint16 {
	if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Port()
	}
	return 0
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func nilErr(isNil bool, err error) error {
	if isNil {
		return err
	}
	return nil
}

// temporary says whether accepting may work again (descriptors used up).
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// wait waits for d or ctx's end.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
