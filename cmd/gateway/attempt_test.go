package main

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// counting is a finder that counts, and answers with how often it was asked.
type counting struct {
	asked   int
	unknown string
}

func (c *counting) Find(string, netip.AddrPort, netip.AddrPort) *audit.Process { return c.find() }

func (c *counting) FindAccepted(_ uint64, _, _ netip.AddrPort, open func() bool) *audit.Process {
	if !open() {
		return &audit.Process{Unknown: origin.Gone}
	}
	return c.find()
}

func (c *counting) find() *audit.Process {
	c.asked++
	return &audit.Process{PID: c.asked, Unknown: c.unknown}
}

// A kept connection's requests within sameFor are one process's; later ones, those
// after an answer that said nothing, and those of a closed connection are looked for.
func TestKeptConnectionIsLookedForNowAndThen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	synctest.Test(t, func(t *testing.T) {
		f := &counting{}
		a := (&attempts{finder: f}).take(c.(*net.TCPConn)).(*attempt)
		synctest.Wait() // it looks at once
		for i, step := range []struct {
			after   time.Duration
			unknown string
			want    int
		}{
			{0, "", 1}, {0, "", 1}, {sameFor - 1, "", 1}, // the first look, at the beginning
			{1, "", 2}, {sameFor - 1, "", 2},
			{1, origin.Changing, 3}, {0, origin.Changing, 4}, {0, "", 5}, {0, "", 5},
		} {
			time.Sleep(step.after)
			f.unknown = step.unknown
			if got := a.Process(); got.PID != step.want {
				t.Errorf("request %d: answer %d, want %d", i, got.PID, step.want)
			}
		}
		c.Close()
		if got := a.Process(); got.Unknown != origin.Gone {
			t.Errorf("of a closed connection: %+v", got)
		}
	})
}
