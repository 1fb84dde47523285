package origin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// Attempts that come at the same time share looks, and each has its own answer.
func TestFindAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	var dids [4]report
	for i := range dids {
		_, dids[i] = w.agent(t, testUID, 0, "plain", "tcp", to.String())
	}
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	unlimited(f)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			did := dids[i%len(dids)]
			p := f.Find("tcp", did.Src, to)
			if p.Unknown != "" || p.PID != did.PID || p.Command == "" {
				t.Errorf("%d: it says %+v; wanted %+v", i, p, did)
			}
			if p := f.Find("tcp", netip.AddrPortFrom(did.Src.Addr(), 1), to); p.Unknown != Gone {
				t.Errorf("%d: it says %+v", i, p)
			}
		})
	}
	wg.Wait()
}

// In a flood many are unknown, and nobody is named for another one.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	l, to := w.listen(t, "127.0.0.1:0")
	var pids = map[string]int{}
	for i := range 8 {
		from := fmt.Sprintf("127.0.0.%d", i+2)
		_, did := w.agent(t, testUID, i%3, "flood", "tcp", to.String(), from+":0")
		pids[from] = did.PID
	}
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	for range 2000 {
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			raw, err := c.SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
			p := f.FindAccepted(Accepted{Src: from, Dst: to}, func() bool { return Connected(raw) })
			if p.Unknown == "" && (p.PID != pids[from.Addr().String()] || !strings.Contains(p.Command, from.Addr().String()+":0")) {
				t.Errorf("for %v it says %+v", from, p)
			}
			mu.Lock()
			answers[p.Unknown]++
			mu.Unlock()
			c.SetLinger(0)
		})
	}
	wg.Wait()
	t.Logf("unknown for these reasons: %v", answers)
	for why := range answers {
		if why != "" && why != Busy && why != Gone && why != Slow {
			t.Errorf("unknown: %s", why)
		}
	}
	if answers[""] == 0 {
		t.Error("nobody is named at all")
	}
}

func TestTooManyAttempts(t *testing.T) {
	w := newWorld(t)
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	// set changes f while no look runs.
	set := func(change func()) {
		t.Helper()
		f.mu.Lock()
		change()
		f.mu.Unlock()
	}
	set(func() { f.budget = budget{left: -time.Hour, at: time.Now()} })
	wantUnknown(t, *f.Find("tcp", a, b), Busy)
	set(func() { f.budget = budget{left: full, at: time.Now().Add(time.Hour)} })
	wantUnknown(t, *f.Find("tcp", a, b), Gone)
	until(t, "the end of the look", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.looking.IsZero()
	})
	set(func() {
		if f.budget.left >= full {
			t.Error("a look costs nothing")
		}
		// While one look runs, so many wait for the next one, and no more.
		unlimited(f)
		f.looking = time.Now()
		f.next = &batch{requests: make([]*request, maxWaiting), done: make(chan struct{})}
	})
	wantUnknown(t, *f.Find("tcp", a, b), Busy)
	// A look that hangs holds nobody up.
	set(func() { f.next, f.looking, f.patient = nil, time.Now().Add(time.Hour), time.Millisecond })
	wantUnknown(t, *f.Find("tcp", a, b), Slow)
	set(func() { f.next, f.looking, f.patient = nil, time.Now().Add(-time.Hour), 10*time.Millisecond })
	wantUnknown(t, *f.Find("tcp", a, b), Slow)
	set(func() {
		if f.next != nil {
			t.Error("it waits for a look that hangs")
		}
		f.looking, f.budget = time.Now().Add(time.Hour), budget{left: -1, at: time.Now().Add(time.Hour)}
	})
	wantUnknown(t, *f.Find("tcp", a, b), Busy) // it does not wait to learn that
}

// unlimited lets f look as long as it likes.
func unlimited(f *Finder) { f.budget = budget{left: 1 << 60, at: time.Now().Add(time.Hour)} }

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBudget(now)
	b.spend(now, full-1)
	if b.empty(now) {
		t.Error("it is empty before all is spent")
	}
	b.spend(now, 1+fill)
	if !b.empty(now) || !b.empty(now.Add(time.Second)) {
		t.Error("it is not empty with more than all spent")
	}
	if b.empty(now.Add(time.Second + 10*time.Microsecond)) {
		t.Error("it does not fill again")
	}
	if b.empty(now.Add(time.Hour)); b.left != full {
		t.Errorf("after an hour it has %v", b.left)
	}
	if b.empty(now); b.left != full {
		t.Error("a clock that goes back changes it")
	}
}

// A process is told from a later one with its pid.
func TestProcessThatEnded(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	r, _ := w.agent(t, testUID, 0, "plain", "tcp", to.String())
	p, err := openProcess("/proc", r.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.status(); err != nil {
		t.Fatal(err)
	}
	r.end()
	if s, err := p.status(); err == nil {
		t.Errorf("a process that ended has a status: %+v", s)
	}
	if _, err := p.link("exe"); err == nil {
		t.Error("a process that ended has a program")
	}
}
