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
		if p.Rule == ruleFrame {
			h = parseFrame(p.EtherType, p.Data)
		}
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
	"options":  "IP options or extension headers, such as a source route",
	"address":  "DNS to loopback or to a group: no server has such an address",

	ruleFrame:    "not an IP packet to the gateway",
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
	case key.rule == ruleFrame:
		describeFrame(&e, h)
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

// describeFrame says what is known of a frame.
func describeFrame(e *audit.Event, h header) {
	e.Proto = "ethernet"
	switch h.dport {
	case etherARP:
		e.Proto, e.Reason = "arp", "nothing is to be asked or told by ARP: both ends of the sandbox's network are known"
		if h.dst.IsValid() {
			e.Src, e.Dst = h.src.String(), h.dst.String()
		}
	case etherIPv4, etherIPv6:
		e.Reason = "an IP packet to a hardware address that is not the gateway's, or with a VLAN tag"
	default:
		e.Reason = fmt.Sprintf("not an IP packet: its EtherType is 0x%04x", h.dport)
	}
}

// restored says what the wall puts right in its own namespace.
var restored = map[string]string{
	wire.Rules:     "the rules in the wall's network namespace were changed from outside and put back",
	wire.Routing:   "the routing in the wall's network namespace was changed from outside and put back",
	wire.Interface: "an interface that was put into the wall's network namespace was deleted",
}

// restoredEvent is of no sandbox: the wall is everybody's.
func restoredEvent(r wire.Restored) audit.Event {
	reason, known := restored[r.What]
	if !known {
		reason = fmt.Sprintf("something in the wall's network namespace was changed from outside and put right (%q)", r.What)
	}
	return audit.Event{Layer: audit.LayerControl, Proto: "link", Verdict: policy.Deny.String(), Rule: "wall-changed", Reason: reason, Count: r.Times}
}

// lostEvent is what is known of n attempts that left no trace but their number.
func lostEvent(subject audit.Subject, n int64, reason string) audit.Event {
	return audit.Event{Subject: subject, Layer: audit.LayerPacket, Verdict: policy.Deny.String(), Rule: "lost", Lost: n, Reason: reason}
}
