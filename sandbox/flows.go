package sandbox

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
)

const (
	flowWindow = 30 * time.Second
	// maxFlows bounds what one sandbox can make us remember. The packets of
	// flows beyond it are counted together, by rule.
	maxFlows = 4096
)

// flows makes events of refused packets: one at the first packet of a flow, and
// one more when its window closes if further packets came. The counts of a flow's
// events add up to its packets, also where an event could not be recorded at
// first: then the count stays here until it can be. Not for concurrent use.
type flows struct {
	append  func(audit.Event) (audit.Event, error)
	subject func(sandbox string) audit.Subject
	open    map[flowKey]*flow
}

type flowKey struct {
	sandbox, rule string
	header
}

type flow struct {
	event   audit.Event // the first one, as it was recorded
	since   time.Time
	pending int64 // packets that no event tells of yet
}

func newFlows(subject func(sandbox string) audit.Subject, add func(audit.Event) (audit.Event, error)) *flows {
	return &flows{append: add, subject: subject, open: map[flowKey]*flow{}}
}

// add takes one packet.
func (f *flows) add(p wire.Packet) error {
	now := time.Unix(0, p.Time)
	h, _ := parseHeader(p.Data)
	key := flowKey{p.Sandbox, knownRule(p.Rule, h), h}
	if len(f.open) >= maxFlows && f.open[key] == nil {
		key = flowKey{rule: key.rule}
	}
	if open := f.open[key]; open != nil {
		if now.Sub(open.since) < flowWindow {
			open.pending++
			return nil
		}
		if err := f.close(key); err != nil {
			open.pending++ // goes with what could not be recorded
			return err
		}
	}
	open := &flow{event: packetEvent(f.subject(p.Sandbox), key.rule, key.header, now), since: now, pending: 1}
	f.open[key] = open
	return f.record(open)
}

// expire closes the flows whose window has passed. A time far ahead closes all.
// A flow that cannot be recorded stays.
func (f *flows) expire(now time.Time) error {
	for key, open := range f.open {
		if now.Sub(open.since) < flowWindow {
			continue
		}
		if err := f.close(key); err != nil {
			return err // the others would fail the same way
		}
	}
	return nil
}

func (f *flows) close(key flowKey) error {
	if err := f.record(f.open[key]); err != nil {
		return err
	}
	delete(f.open, key)
	return nil
}

// record makes an event of the packets that no event tells of yet.
func (f *flows) record(open *flow) error {
	if open.pending == 0 {
		return nil
	}
	event := open.event
	event.Count = open.pending
	if open.event.ID != "" {
		event.RepeatOf, event.ID, event.Time = open.event.ID, "", time.Time{}
	}
	recorded, err := f.append(event)
	if err != nil {
		return err
	}
	open.pending = 0
	if open.event.ID == "" {
		open.event = recorded
	}
	return nil
}

// inherit takes over what of could not record.
func (f *flows) inherit(of *flows) {
	for key, open := range of.open {
		if rest := f.open[flowKey{rule: key.rule}]; len(f.open) >= maxFlows && rest != nil {
			rest.pending += open.pending
			continue
		} else if len(f.open) >= maxFlows {
			key = flowKey{rule: key.rule}
		}
		f.open[key] = open
	}
}

var packetReasons = map[string]string{
	"spoof":  "the source address is not the sandbox's own",
	"port":   "that port is the wall's own",
	"closed": "the gateway was not running",
	"stray":  "a TCP segment that belongs to no connection",

	ruleHalfOpen: "a connection that was begun and not completed",
}

// knownRule is the rule that refused a packet. DNS gets to the last one only where
// nobody takes it.
func knownRule(rule string, h header) string {
	switch {
	case packetReasons[rule] != "":
		return rule
	case h.proto == protoUDP && h.dport == DNSPort:
		return "closed"
	}
	return "other"
}

func packetEvent(subject audit.Subject, rule string, h header, at time.Time) audit.Event {
	reason, known := packetReasons[rule]
	if !known {
		reason = fmt.Sprintf("%s is not let out: only TCP and DNS are answered", h.protoName())
	}
	e := audit.Event{Time: at.UTC(), Subject: subject, Layer: audit.LayerPacket, Proto: h.protoName(),
		Verdict: policy.Deny.String(), Rule: rule, Reason: reason, Count: 1}
	switch {
	case !h.dst.IsValid():
		e.Reason += " (packets of many flows, or without an IP header)"
	case h.hasPorts():
		e.Src = netip.AddrPortFrom(h.src, h.sport).String()
		e.Dst = netip.AddrPortFrom(h.dst, h.dport).String()
		e.Port = h.dport
	default:
		e.Src, e.Dst = h.src.String(), h.dst.String()
		if h.isICMP() {
			e.Method = fmt.Sprintf("type %d code %d", h.dport>>8, h.dport&0xff)
		}
	}
	return e
}

func lostEvent(lost uint64) audit.Event {
	return audit.Event{Layer: audit.LayerPacket, Verdict: policy.Deny.String(), Rule: "lost", Count: int64(lost),
		Reason: "refused packets of which only the number is known: the gateway was away, or they came too fast"}
}
