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
// to tell of it: what is lost shows in a number that does not change any more.
const leaveTime = 4 * handshakeTime

// queueTime is how long connections may wait to be accepted.
const queueTime = time.Minute

// lookTime is how long the senders of one batch of packets are looked for; the
// look that has begun is not ended.
const lookTime = 200 * time.Millisecond

// reasons of lost attempts.
const (
	lostPackets     = "packets of the wall's rule %q that could not be kept: they came too fast, or the gateway was away"
	lostConnections = "connections that were begun and of which nothing else is known: a gateway ended before it had taken them, or they came too fast"
)

// packets records what the wall tells. What cannot be recorded now waits, and with
// it the answer to the wall. To look for senders takes its time: only other packets
// wait for it.
func (h *Hub) packets(wall *wallConn, told wire.Packets) {
	h.telling.Lock()
	defer h.telling.Unlock()
	if h.ended {
		return
	}
	known, until := h.known(), time.Now().Add(lookTime)
	events := batch(h.refused(known, told), func(id string) sender { return h.sender(known[id], id, until) })
	for _, l := range told.Lost {
		events = append(events, lostEvent(h.sender(known[l.Sandbox], l.Sandbox, until).subject, int64(l.Packets),
			fmt.Sprintf(lostPackets, knownRule(l.Rule, header{}))))
	}
	for _, r := range told.Restored {
		events = append(events, restoredEvent(r))
	}
	h.reporting.Lock()
	defer h.reporting.Unlock()
	h.unanswered = wall
	h.record(events)
}

// refused takes what the wall tells of connections, and returns the packets that
// are attempts of their own.
func (h *Hub) refused(known map[string]*sandbox, told wire.Packets) []wire.Packet {
	h.reporting.Lock()
	defer h.reporting.Unlock()
	for _, b := range told.Begun {
		if s := known[b.Sandbox]; s != nil {
			s.half.count(b)
		}
	}
	now := time.Now()
	refused := told.Packets[:0]
	for _, p := range told.Packets {
		s := known[p.Sandbox]
		switch {
		case p.Rule == ruleSYN && s != nil && s.half.begin(p, now), p.Rule == ruleStray && s != nil && s.half.belongs(p):
			continue
		case p.Rule == ruleSYN:
			p.Rule = ruleHalfOpen
		}
		refused = append(refused, p)
	}
	return refused
}

// report records what became overdue by now; at the end, everything that may.
func (h *Hub) report(now time.Time, end bool) {
	h.reporting.Lock()
	defer h.reporting.Unlock()
	var events []audit.Event
	settled := map[string]uint64{}
	for id, s := range h.known() {
		events = append(events, h.overdue(id, s, now, end)...)
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
		if !end && h.leaves(s, now) {
			delete(h.leaving, id)
		}
	}
}

// overdue makes events of the attempts of a sandbox whose connection did not come,
// and of those of which nothing is known: before it is forgotten, of all of them.
func (h *Hub) overdue(id string, s *sandbox, now time.Time, end bool) []audit.Event {
	var events []audit.Event
	from := h.sender(s, id, now)
	forgetting, lost, by := h.forgetting(s, now), int64(0), now
	switch {
	case end || forgetting:
		by = now.Add(time.Hour)
	case h.queued(s): // what waits to be accepted may be among them
		by = now.Add(-queueTime)
	default:
		lost = s.half.lost(now)
	}
	for p, b := range s.half.overdue(by) {
		key := flowKey{id, ruleHalfOpen, header{proto: protoTCP, src: p.src.Addr(), sport: p.src.Port(), dst: p.dst.Addr(), dport: p.dst.Port()}}
		events = append(events, packetEvent(from, key, b.first, b.attempts))
	}
	if forgetting && !end { // at the end the next gateway asks the wall
		lost = s.half.rest()
	}
	if lost > 0 {
		e := lostEvent(from.subject, lost, lostConnections)
		e.Proto, e.About = "tcp", true
		events = append(events, e)
	}
	return events
}

// forgetting reports whether nothing more will be told of a sandbox.
func (h *Hub) forgetting(s *sandbox, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaves(s, now)
}

// leaves is the same; h.mu is held, and h.reporting. While the record fails the
// wall waits with what it has to tell.
func (h *Hub) leaves(s *sandbox, now time.Time) bool {
	return !s.left.IsZero() && now.Sub(s.left) >= leaveTime && now.Sub(h.failed) >= leaveTime
}

// record adds to the record and then answers the wall; h.reporting is held.
func (h *Hub) record(events []audit.Event) bool {
	if err := h.flows.record(events); err != nil {
		h.Log.Error("record refused packets; they are tried again", "err", err)
		h.failed = time.Now()
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
// After until no process is looked for.
func (h *Hub) sender(s *sandbox, id string, until time.Time) sender {
	if s == nil {
		return sender{subject: audit.Subject{Sandbox: id}}
	}
	from := sender{subject: s.currentSubject()}
	if h.Find != nil {
		h.mu.Lock()
		origin := s.origin
		h.mu.Unlock()
		from.process = func(k flowKey, at time.Time) *audit.Process {
			now := time.Now()
			find := func(proto string, src, dst netip.AddrPort) *audit.Process { return h.Find(id, origin, proto, src, dst) }
			if !now.Before(until) {
				find = nil
			}
			return s.lookups.process(k, at, now, find)
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
