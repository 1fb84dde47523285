package sandbox

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

// leaveTime is how long an ended sandbox is remembered for what the wall still has
// to tell of it.
const leaveTime = 2 * handshakeTime

// queueTime is how long connections may wait to be accepted.
const queueTime = time.Minute

// reasons of lost attempts.
const (
	lostPackets     = "packets of the wall's rule %q that could not be kept: they came too fast, or the gateway was away"
	lostConnections = "connections that were begun and of which nothing else is known: a gateway ended before it had taken them, or they came too fast"
)

// packets records what the wall tells. What cannot be recorded now waits, and with
// it the answer to the wall.
func (h *Hub) packets(wall *wallConn, told wire.Packets) {
	h.reporting.Lock()
	defer h.reporting.Unlock()
	if h.ended {
		return
	}
	known := h.known()
	for _, b := range told.Begun {
		if s := known[b.Sandbox]; s != nil {
			s.half.count(b)
		}
	}
	refused := told.Packets[:0]
	for _, p := range told.Packets {
		s := known[p.Sandbox]
		switch {
		case p.Rule == ruleSYN && s != nil && s.half.begin(p), p.Rule == ruleStray && s != nil && s.half.belongs(p):
			continue
		case p.Rule == ruleSYN:
			p.Rule = ruleHalfOpen
		}
		refused = append(refused, p)
	}
	events := batch(refused, func(id string) sender { return h.sender(known[id], id) })
	for _, l := range told.Lost {
		events = append(events, lostEvent(h.sender(known[l.Sandbox], l.Sandbox).subject, int64(l.Packets),
			fmt.Sprintf(lostPackets, knownRule(l.Rule, header{}))))
	}
	h.unanswered = wall
	h.record(events)
}

// report records what became overdue by now; at the end, everything that may.
func (h *Hub) report(now time.Time, end bool) {
	h.reporting.Lock()
	defer h.reporting.Unlock()
	var events []audit.Event
	settled := map[string]uint64{}
	for id, s := range h.known() {
		from := h.sender(s, id)
		overdue := now
		if end || h.forgetting(s, now) {
			overdue = now.Add(time.Hour)
		} else if h.queued(s) { // what waits to be accepted may be among them
			overdue = now.Add(-queueTime)
		} else if n := s.half.lost(now); n > 0 {
			e := lostEvent(from.subject, n, lostConnections)
			e.Proto, e.About = "tcp", true
			events = append(events, e)
		}
		for p, b := range s.half.overdue(overdue) {
			key := flowKey{id, ruleHalfOpen, header{proto: protoTCP, src: p.src.Addr(), sport: p.src.Port(), dst: p.dst.Addr(), dport: p.dst.Port()}}
			events = append(events, packetEvent(from, key, b.first, b.attempts))
		}
		settled[id] = s.half.settledBefore(h.young(s, now))
	}
	if !h.record(events) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range settled {
		if h.wall != nil && h.wall.settled[id] != n {
			h.wall.settled[id] = n
			h.send(h.wall.Conn, wire.Message{Settled: &wire.Settled{Sandbox: id, Segments: n}})
		}
	}
	for id, s := range h.leaving {
		if s.forgetting(now) {
			delete(h.leaving, id)
		}
	}
}

// forgetting reports whether nothing more will be told of a sandbox.
func (h *Hub) forgetting(s *sandbox, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.forgetting(now)
}

// forgetting is the same; Hub.mu is held.
func (s *sandbox) forgetting(now time.Time) bool {
	return !s.left.IsZero() && now.Sub(s.left) >= leaveTime
}

// record adds to the record and then answers the wall; h.reporting is held.
func (h *Hub) record(events []audit.Event) bool {
	if err := h.flows.record(events); err != nil {
		h.Log.Error("record refused packets; they are tried again", "err", err)
		return false
	}
	if h.unanswered != nil {
		h.send(h.unanswered.Conn, wire.Message{Taken: &wire.Taken{}})
		h.unanswered = nil
	}
	return true
}

// known are the sandboxes, those that have just ended included.
func (h *Hub) known() map[string]*sandbox {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[string]*sandbox, len(h.sandboxes)+len(h.leaving))
	for id, s := range h.leaving {
		all[id] = s
	}
	for id, s := range h.sandboxes {
		all[id] = s
	}
	return all
}

// sender is who the packets of a sandbox come from; s is nil if it is not known.
func (h *Hub) sender(s *sandbox, id string) sender {
	if s == nil {
		return sender{subject: audit.Subject{Sandbox: id}}
	}
	from := sender{subject: s.currentSubject()}
	if h.Find != nil {
		h.mu.Lock()
		origin := s.origin
		h.mu.Unlock()
		from.process = func(k flowKey, at time.Time) *audit.Process {
			return s.lookups.process(k, at, time.Now(), func(proto string, src, dst netip.AddrPort) *audit.Process {
				return h.Find(id, origin, proto, src, dst)
			})
		}
	}
	return from
}

// queued reports whether connections of a sandbox wait to be accepted.
func (h *Hub) queued(s *sandbox) bool {
	h.mu.Lock()
	l := s.listener
	h.mu.Unlock()
	if l == nil {
		return false
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	waiting := false
	_ = raw.Control(func(fd uintptr) { // of a listener, Unacked is the length of its queue
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		waiting = err == nil && info.Unacked > 0
	})
	return waiting
}

// young counts the connections of a sandbox that may not be in the record yet.
func (h *Hub) young(s *sandbox, now time.Time) int {
	h.mu.Lock()
	m := s.mux
	h.mu.Unlock()
	if m == nil {
		return 0
	}
	return m.young(now)
}

// reportOften reports what becomes overdue until ctx ends.
func (h *Hub) reportOften(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.report(now, false)
		}
	}
}

// newWall makes the numbers of every sandbox begin anew. What an earlier wall told
// is recorded first.
func (h *Hub) newWall() {
	h.report(time.Now(), true)
	for _, s := range h.known() {
		s.half.rebase()
	}
}
