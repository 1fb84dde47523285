package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
)

type tunnelKey struct{}

// tunnel is one CONNECT: the client's connection, the target's, and what passed.
// goproxy copies between the two; the target's side sees every byte of both
// directions, so it counts, keeps the idle clock and checks the first message.
type tunnel struct {
	g      *grant
	start  time.Time
	in     atomic.Int64 // bytes from the container
	out    atomic.Int64 // bytes to the container
	last   atomic.Int64 // when a byte passed last, as a time since start
	mu     sync.Mutex
	client *side // nil until goproxy has taken the connection over
	target *side // nil until dialled
	timer  *time.Timer
	leave  func() bool // no longer reset it when Serve ends
	ended  bool
	told   bool   // the event is recorded
	cut    string // why it was ended; empty: the two sides ended it
	sni    string // what the first message named
	gate   gate   // of the goroutine that copies from the client
}

var errEnded = errors.New("the tunnel has ended")

// tunnel hands a granted CONNECT to goproxy. goproxy returns while it copies.
func (s *forward) tunnel(w http.ResponseWriter, r *http.Request, g *grant) {
	t := &tunnel{g: g, start: time.Now()}
	t.gate = gate{want: g.host, must: g.port == 443}
	t.leave = context.AfterFunc(s.lis.ctx, t.reset) // a half-closed one would outlive its client
	s.lis.wg.Add(1)                                 // done when the tunnel has ended and is recorded
	s.engine.ServeHTTP(hijacker{w, t}, r.WithContext(context.WithValue(r.Context(), tunnelKey{}, t)))
	t.mu.Lock()
	lost := t.client == nil
	t.mu.Unlock()
	if lost {
		t.finish("the connection could not be taken over")
	}
}

// hijacker gives goproxy the tunnel's side of the connection.
type hijacker struct {
	http.ResponseWriter
	t *tunnel
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	h.t.client = &side{Conn: conn, t: h.t}
	return h.t.client, rw, nil
}

// dial is goproxy's dialer for this tunnel; the address it is given was decided
// before and is not looked at again.
func (t *tunnel) dial(context.Context, string, string) (net.Conn, error) {
	conn, err := t.g.dial()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		_ = conn.Close()
		return nil, errEnded
	}
	t.target = &side{Conn: conn, t: t}
	t.touch()
	t.timer = time.AfterFunc(t.g.s.IdleTimeout, t.tick)
	if t.g.s.slow {
		return targetSide{t.target}, nil
	}
	return pumped{targetSide{t.target}}, nil
}

// connectFailed records and answers a CONNECT whose dial failed.
func (g *grant) connectFailed(w io.Writer, err error) {
	c, ok := w.(*side)
	if !ok {
		return
	}
	no := g.unreachable(err)
	c.t.mu.Lock()
	told := c.t.told
	c.t.told = true
	c.t.mu.Unlock()
	if told {
		return // ended meanwhile, and recorded so
	}
	if !g.deny(no, c.t.start) {
		no = &refusal{status: http.StatusServiceUnavailable, reason: auditFailed}
	}
	resp := answer(nil, no)
	resp.Close = true
	_ = resp.Write(w)
}

func (t *tunnel) touch() { t.last.Store(int64(time.Since(t.start))) }

// tick ends the tunnel when nothing passed for IdleTimeout.
func (t *tunnel) tick() {
	if t.expired() {
		t.reset()
	}
}

func (t *tunnel) expired() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	left := t.g.s.IdleTimeout - (time.Since(t.start) - time.Duration(t.last.Load()))
	if left > 0 {
		t.timer.Reset(left)
		return false
	}
	t.cut = fmt.Sprintf("idle for %v", t.g.s.IdleTimeout)
	return true
}

// reset ends both sides at once.
func (t *tunnel) reset() {
	t.mu.Lock()
	var sides []*side
	for _, s := range []*side{t.client, t.target} {
		if s != nil {
			sides = append(sides, s)
		}
	}
	t.mu.Unlock()
	for _, s := range sides { // all before the first Close, after which goproxy closes the other
		_ = setLinger(s.Conn, 0)
	}
	for _, s := range sides {
		_ = s.Close()
	}
}

// refuse records that the tunnel may not go on, then ends it.
func (t *tunnel) refuse(reason string) error {
	t.mu.Lock()
	told := t.told
	t.told = true
	sni := t.sni
	t.mu.Unlock()
	if !told {
		t.g.event.SNI = sni
		t.g.event.BytesIn, t.g.event.BytesOut = t.in.Load(), t.out.Load()
		t.g.deny(&refusal{status: http.StatusOK, reason: reason}, t.start)
	}
	t.reset()
	return errors.New(reason)
}

// sideClosed finishes the tunnel once no side is open.
func (t *tunnel) sideClosed() {
	t.mu.Lock()
	open := t.client != nil && !t.client.shut || t.target != nil && !t.target.shut
	cut := t.cut
	t.mu.Unlock()
	if !open {
		t.finish(cut)
	}
}

func (t *tunnel) finish(reason string) {
	t.mu.Lock()
	ended, told, sni, dialled := t.ended, t.told, t.sni, t.target != nil
	t.ended, t.told = true, true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	if ended {
		return
	}
	t.leave()
	defer t.g.s.lis.wg.Done()
	if told {
		return
	}
	e := t.g.event
	e.SNI, e.Status, e.Reason = sni, http.StatusOK, orDefault(reason, e.Reason)
	if !dialled {
		e.Verdict, e.Status, e.Reason = policy.Deny.String(), 0, orDefault(reason, "ended before it was connected")
	}
	e.BytesIn, e.BytesOut, e.Duration = t.in.Load(), t.out.Load(), seconds(t.start)
	t.g.s.rec.record(e)
}
