package sandbox

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
)

// flows makes events of what the wall tells of a batch: one for each flow in it
// (protocol, addresses, ports, rule), with the number of its packets. The record
// joins them further. Safe for concurrent use.
type flows struct {
	append  func([]audit.Event) ([]audit.Event, error)
	mu      sync.Mutex
	waiting []audit.Event // that could not be recorded yet
}

type flowKey struct {
	sandbox, rule string
	header
}

// sender is who sent packets, as it was when they were told.
type sender struct {
	subject audit.Subject
	process func(k flowKey, at time.Time) *audit.Process // nil: is not looked for
}

// batch makes events of packets, in the order of the first of each flow.
func batch(packets []wire.Packet, who func(id string) sender) []audit.Event {
	var events []audit.Event
	index := map[flowKey]int{}
	for _, p := range packets {
		h, _ := parseHeader(p.Data)
		key := flowKey{p.Sandbox, knownRule(p.Rule, h), h}
		key.sequence = 0
		if i, again := index[key]; again {
			events[i].Count++
			continue
		}
		index[key] = len(events)
		events = append(events, packetEvent(who(p.Sandbox), key, time.Unix(0, p.Time), 1))
	}
	return events
}

// record adds events to the record, together with those that it failed for
// before. Where it fails they wait: the wall is not answered, so no more come.
func (f *flows) record(events []audit.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, events...)
	if len(f.waiting) == 0 {
		return nil
	}
	if _, err := f.append(f.waiting); err != nil {
		return err
	}
	f.waiting = nil
	return nil
}

var packetReasons = map[string]string{
	"spoof":    "the source address is not the sandbox's own",
	"port":     "that port is the wall's own",
	"closed":   "the gateway was not running",
	"stray":    "a TCP segment that belongs to no connection",
	"fragment": "a piece of a datagram: only whole ones are looked at",

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

func packetEvent(from sender, key flowKey, at time.Time, count int64) audit.Event {
	h := key.header
	reason, known := packetReasons[key.rule]
	if !known {
		reason = fmt.Sprintf("%s is not let out: only TCP and DNS are answered", h.protoName())
	}
	e := audit.Event{Time: at.UTC(), Subject: from.subject, Layer: audit.LayerPacket, Proto: h.protoName(),
		Verdict: policy.Deny.String(), Rule: key.rule, Reason: reason, Count: count}
	switch {
	case !h.dst.IsValid():
		e.Reason += " (without an IP header)"
	case h.hasPorts() && (key.rule != "fragment" || h.dport != 0): // only the first piece has them
		e.Src = netip.AddrPortFrom(h.src, h.sport).String()
		e.Dst = netip.AddrPortFrom(h.dst, h.dport).String()
		e.Port = h.dport
	default:
		e.Src, e.Dst = h.src.String(), h.dst.String()
		if h.isICMP() {
			e.Method = fmt.Sprintf("type %d code %d", h.dport>>8, h.dport&0xff)
		}
	}
	if from.process != nil {
		e.Process = from.process(key, at)
	}
	return e
}

// lostEvent is what is known of n attempts that left no trace but their number.
func lostEvent(subject audit.Subject, n int64, reason string) audit.Event {
	return audit.Event{Subject: subject, Layer: audit.LayerPacket, Verdict: policy.Deny.String(), Rule: "lost", Lost: n, Reason: reason}
}
