package sandbox

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

const (
	lookupWindow = time.Second
	maxLookups   = 64 // of one sandbox, in a window; each reads much of its /proc
	// freshTime is how old a packet may be for its ports still to say who sent it.
	freshTime = time.Second
)

// lookups finds the senders of a sandbox's packets, by Hub.Find, within bounds.
// Beyond maxLookups a flow gets what was found for it in the same window; one that
// was not looked up then is said to be unknown. Safe for concurrent use.
type lookups struct {
	mu    sync.Mutex
	since time.Time
	found map[flowKey]*audit.Process // in this window; at most maxLookups
	spent int
}

// process returns who sent the first packet of a flow; nil for a protocol without
// sockets to look for. find may take its time; nil: there is none left.
func (l *lookups) process(k flowKey, at, now time.Time, find func(proto string, src, dst netip.AddrPort) *audit.Process) *audit.Process {
	switch {
	case k.proto != protoTCP && k.proto != protoUDP || !k.dst.IsValid():
		return nil
	case k.rule == "spoof":
		return &audit.Process{Unknown: "its source address is forged, so its port says nothing"}
	case k.rule == "fragment":
		return &audit.Process{Unknown: "a piece of a datagram does not say from which socket it came"}
	case k.rule == ruleHalfOpen || now.Sub(at) > freshTime:
		return &audit.Process{Unknown: "it was known too late to look for its sender"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= lookupWindow {
		l.since, l.spent, l.found = now, 0, map[flowKey]*audit.Process{}
	}
	if find == nil || l.spent >= maxLookups {
		if found := l.found[k]; found != nil {
			return found
		}
		if find == nil {
			return &audit.Process{Unknown: "to look for the senders of other attempts took too long"}
		}
		return &audit.Process{Unknown: "too many attempts at once to look for each one's sender"}
	}
	l.spent++
	found := find(k.protoName(), netip.AddrPortFrom(k.src, k.sport), netip.AddrPortFrom(k.dst, k.dport))
	if found == nil {
		return nil
	}
	l.found[k] = found
	return found
}
