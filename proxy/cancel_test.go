package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
)

// An agent that hangs up ends its request at the model server at once, wherever
// that stands: a prompt nobody waits for would keep the GPU busy for minutes.
func TestModelHangUpEndsTheRequestEverywhere(t *testing.T) {
	for name, c := range map[string]struct {
		answer string // sent before the server works on
		seen   int    // bytes of the answer's body that the agent has when it hangs up
	}{
		"in prefill, without a header": {"", 0},
		"in prefill, after the header": {headSSE, 0},
		"in mid-stream":                {headSSE + chunk(eventStart+eventDelta), len(eventStart + eventDelta)},
		"within an event":              {headSSE + chunk("event: content_block_delta\nda"), 20},
	} {
		t.Run(name, func(t *testing.T) {
			var aborts atomic.Int32
			begun, ended := make(chan struct{}), make(chan struct{})
			addr := origin(t, func(conn *net.TCPConn) {
				defer close(ended)
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, c.answer)
				close(begun)
				var b [1]byte
				// The work, in which nothing but an end can come; not the test's deadline.
				if _, err := conn.Read(b[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					aborts.Add(1)
				}
			})
			l := newLedger()
			agent := connect(t, start(t, modelTo(l, addr)))
			agent.send(post("/v1/messages", small))
			<-begun
			if c.answer != "" {
				resp, err := http.ReadResponse(agent.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, resp.Body, int64(c.seen)); err != nil {
					t.Fatal(err)
				}
			}
			_ = agent.Close()
			<-ended
			if n := aborts.Load(); n != 1 {
				t.Errorf("the server saw %d aborts", n)
			}
			if e := l.next(t); e.Reason != "the client hung up" || e.Verdict != "allowed" {
				t.Errorf("event %+v", e)
			}
			l.none(t)
		})
	}
}

// Each request that finds no kept connection dials; with DialEach every one does.
func TestModelDialsEach(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	for each, want := range map[bool]int32{false: 1, true: 3} {
		var dials atomic.Int32
		l := newLedger()
		m := modelTo(l, addr)
		dial := m.Dial
		m.DialEach = each
		m.Dial = func(ctx context.Context) (net.Conn, error) { dials.Add(1); return dial(ctx) }
		c := connect(t, start(t, m))
		for range 3 {
			c.send(post("/v1/messages", small))
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != small || resp.Close {
				t.Errorf("%s %q", resp.Status, body)
			}
			l.next(t)
		}
		if n := dials.Load(); n != want {
			t.Errorf("DialEach %t: %d dials for 3 requests, want %d", each, n, want)
		}
	}
}

func TestModelTellsOfTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		told   bool
	}{
		"whole":          {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false},
		"a refusal":      {"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", false},
		"its own fault":  {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}", true},
		"no answer":      {"", true},
		"half an answer": {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", true},
	} {
		t.Run(name, func(t *testing.T) {
			addr := origin(t, func(conn *net.TCPConn) {
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(conn, c.answer)
				}
			})
			l := newLedger()
			m := modelTo(l, addr)
			trouble := make(chan string, 1)
			m.Trouble = func(why string) { trouble <- why }
			addr, stop := startStop(t, m)
			conn := connect(t, addr)
			conn.send(post("/v1/messages", small))
			if resp, err := http.ReadResponse(conn.r, nil); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			l.next(t)
			_ = conn.Close()
			stop() // every handler has ended
			select {
			case why := <-trouble:
				if !c.told || why == "" {
					t.Errorf("told of %q", why)
				}
			default:
				if c.told {
					t.Error("not told")
				}
			}
		})
	}
}
