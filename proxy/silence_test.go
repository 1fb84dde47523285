package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory, whose connections a synctest bubble can wait
// for.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial(context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

const (
	eventStart = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":120000,\"output_tokens\":0}}}\n\n"
	eventDelta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
	eventEnd   = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":40}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	headSSE = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// serveModel runs m, its model server (which writes each of its answer after its
// wait) and one request in memory, and returns the answer's body and the events.
func serveModel(t *testing.T, m *Model, answer []timed) (string, *ledger) {
	t.Helper()
	upstream, front := newPipes(), newPipes()
	l := newLedger()
	m.Record, m.Dial = l.record, upstream.dial
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 2)
	go func() { served <- m.Serve(ctx, front) }()
	go func() { served <- answerOnce(upstream, answer) }()
	conn, err := front.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, post("/v1/messages", small)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%s, %v after %q", resp.Status, err, body)
	}
	_ = conn.Close()
	cancel()
	for range 2 {
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	return string(body), l
}

// timed is a piece of an answer, and how long it takes to come.
type timed struct {
	wait time.Duration
	raw  string
}

func answerOnce(l *pipes, answer []timed) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	for _, piece := range answer {
		time.Sleep(piece.wait) // the bubble's clock
		if _, err := io.WriteString(conn, piece.raw); err != nil {
			return err
		}
	}
	return nil
}

// Twelve minutes of prefill pass whole, whether the server sends its header at
// once (vLLM) or with the first token only (llama.cpp). A silent header is not
// filled, since a status is never invented: there the agent's own limits hold
// (agents: timeVariables).
func TestModelTwelveMinutesOfPrefill(t *testing.T) {
	const prefill = 12 * time.Minute
	rest := chunk(eventStart) + chunk(eventDelta+eventEnd) + "0\r\n\r\n"
	for name, c := range map[string]struct {
		answer []timed
		pings  int
	}{
		"header at once":            {[]timed{{0, headSSE}, {prefill, rest}}, 47}, // the 48th falls on the answer
		"message_start at once":     {[]timed{{0, headSSE + chunk(eventStart)}, {prefill, chunk(eventDelta+eventEnd) + "0\r\n\r\n"}}, 47},
		"header with the first":     {[]timed{{prefill, headSSE + rest}}, 0},
		"pings of the server's own": {[]timed{{0, headSSE}, {10 * time.Second, chunk(": keep-alive\n\n")}, {prefill, rest}}, 47},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body, l := serveModel(t, &Model{Log: quiet, Endpoints: claudeEndpoints, ModelName: "gpt-oss"}, c.answer)
				if pings := strings.Count(body, pingEvent); pings < c.pings || pings > c.pings+1 {
					t.Errorf("%d pings in %v, want %d", pings, prefill, c.pings)
				}
				body = strings.ReplaceAll(strings.ReplaceAll(body, pingEvent, ""), ": keep-alive\n\n", "")
				if body != eventStart+eventDelta+eventEnd {
					t.Errorf("the answer is not whole: %q", body)
				}
				e := l.next(t)
				if e.Status != 200 || e.Reason != "" || e.FirstToken < prefill.Seconds() || e.TokensIn != 120000 || e.TokensOut != 40 {
					t.Errorf("event %+v", e)
				}
				l.none(t)
			})
		})
	}
}

func TestModelSpeed(t *testing.T) {
	piece := func(wait time.Duration, raw string) timed { return timed{wait, chunk(raw)} }
	for name, c := range map[string]struct {
		answer           []timed
		first, perSecond float64
	}{
		"40 tokens in 4 s after 3 s": {[]timed{{0, headSSE}, piece(time.Second, eventStart), piece(2*time.Second, eventDelta),
			piece(time.Second, eventDelta), piece(3*time.Second, eventDelta), piece(5*time.Second, eventEnd), {0, "0\r\n\r\n"}}, 3, 10},
		"all at once":    {[]timed{{time.Second, headSSE}, piece(0, eventStart+eventDelta+eventEnd), {0, "0\r\n\r\n"}}, 1, 0},
		"no usage":       {[]timed{{0, headSSE}, piece(time.Second, eventDelta), piece(time.Second, eventDelta), {0, "0\r\n\r\n"}}, 1, 0},
		"no content":     {[]timed{{0, headSSE}, piece(time.Second, eventStart), piece(time.Second, eventEnd), {0, "0\r\n\r\n"}}, 0, 0},
		"a hostile sum":  {[]timed{{0, headSSE}, piece(0, eventDelta), piece(time.Second, eventDelta+strings.Replace(eventEnd, "40", "1e400", 1)), {0, "0\r\n\r\n"}}, 0, 0},
		"negative count": {[]timed{{0, headSSE}, piece(time.Second, eventDelta), piece(time.Second, eventDelta+strings.Replace(eventEnd, "40", "-40", 1)), {0, "0\r\n\r\n"}}, 1, 0},
		"not a stream":   {[]timed{{2 * time.Second, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, l := serveModel(t, &Model{Log: quiet, Endpoints: claudeEndpoints, ModelName: "gpt-oss"}, c.answer)
				if e := l.next(t); e.FirstToken != c.first || e.TokensPerSecond != c.perSecond {
					t.Errorf("first token %v s, %v tokens/s; want %v, %v", e.FirstToken, e.TokensPerSecond, c.first, c.perSecond)
				}
			})
		})
	}
}
