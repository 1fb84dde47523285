package main

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/origin"
)

// meeting is a finder whose answers come when as many are asked for as are missing.
type meeting struct {
	missing sync.WaitGroup
	mu      sync.Mutex
	asked   map[string]int // by the sender's address
}

func (m *meeting) Find(proto string, src, dst netip.AddrPort) *audit.Process {
	m.mu.Lock()
	m.asked[src.String()+" "+dst.String()]++
	m.mu.Unlock()
	m.missing.Done()
	m.missing.Wait()
	return &audit.Process{PID: int(src.Port()), Exe: proto}
}

func (m *meeting) FindAccepted(_ uint64, src, dst netip.AddrPort, _ func() bool) *audit.Process {
	return &audit.Process{Unknown: origin.Gone}
}

// Queries of one socket are looked for once, and those of several at the same time;
// what is no datagram of a sandbox is left alone.
func TestAttributeAll(t *testing.T) {
	query := func(src, dst string) audit.Event {
		return audit.Event{Layer: audit.LayerDNS, Proto: "udp", Src: src, Dst: dst}
	}
	tcp, lost, known := query("10.0.0.9:4", "10.0.0.1:53"), query("10.0.0.9:5", "10.0.0.1:53"), query("10.0.0.9:6", "10.0.0.1:53")
	tcp.Proto, lost.Lost, known.Process = "tcp", 3, &audit.Process{PID: 77}
	events := []audit.Event{
		query("10.0.0.9:1", "10.0.0.1:53"), query("10.0.0.9:2", "10.0.0.1:53"), query("10.0.0.9:1", "10.0.0.1:53"),
		tcp, lost, known, query("", "10.0.0.1:53"), query("10.0.0.9:1", "203.0.113.5:53"), query("10.0.0.9:2", "10.0.0.1:53"),
	}
	m := &meeting{asked: map[string]int{}}
	m.missing.Add(3)
	(&attempts{finder: m}).attributeAll(events)
	for i, want := range []int{1, 2, 1, 0, 0, 77, 0, 1, 2} {
		got := 0
		if p := events[i].Process; p != nil {
			got = p.PID
		}
		if got != want {
			t.Errorf("event %d: process %d, want %d", i, got, want)
		}
	}
	if len(m.asked) != 3 || m.asked["10.0.0.9:1 10.0.0.1:53"] != 1 || m.asked["10.0.0.9:2 10.0.0.1:53"] != 1 || m.asked["10.0.0.9:1 203.0.113.5:53"] != 1 {
		t.Errorf("asked %v", m.asked)
	}
}
