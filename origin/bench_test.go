package origin

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reportCPU reports what an operation takes of the processor, whatever else the
// machine does.
func reportCPU(b *testing.B) func() {
	used := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1000, "cpu-µs/op") }
}

// benchmarkWorld is a sandbox with n processes that idle and one that attempts.
func benchmarkWorld(b *testing.B, n int) (*Finder, report, netip.AddrPort) {
	w := newWorld(b)
	_, to := w.listen(b, "127.0.0.1:0")
	for range n {
		w.start(b, "agent", testUID, 0, "0", "idle", "tcp", to.String())
	}
	_, did := w.agent(b, testUID, 2, "plain", "tcp", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	unlimited(f)
	return f, did, to
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{0, 50, 500} {
		b.Run(fmt.Sprintf("cold/processes=%d", n), func(b *testing.B) {
			f, did, to := benchmarkWorld(b, n)
			defer reportCPU(b)()
			for b.Loop() {
				clear(f.recent)
				f.seen = nil
				f.since = time.Time{}
				if p := f.Find("tcp", did.Src, to); p.PID != did.PID {
					b.Fatal(p)
				}
			}
		})
		b.Run(fmt.Sprintf("next/processes=%d", n), func(b *testing.B) {
			f, did, to := benchmarkWorld(b, n)
			defer reportCPU(b)()
			for b.Loop() {
				clear(f.recent)
				if p := f.Find("tcp", did.Src, to); p.PID != did.PID {
					b.Fatal(p)
				}
			}
		})
	}
	for _, proto := range []string{"tcp", "udp"} {
		b.Run("cached/"+proto, func(b *testing.B) {
			w := newWorld(b)
			_, to := w.listen(b, "127.0.0.1:0")
			_, did := w.agent(b, testUID, 2, "plain", proto, to.String())
			f := New(Sandbox{Holder: w.holder, Netns: w.inode})
			unlimited(f)
			looks := 0
			defer reportCPU(b)()
			for b.Loop() {
				at := f.recent[attempt{proto, did.Src, to}].at
				if p := f.Find(proto, did.Src, to); p.PID != did.PID {
					b.Fatal(p)
				}
				if !f.recent[attempt{proto, did.Src, to}].at.Equal(at) {
					looks++
				}
			}
			b.ReportMetric(float64(looks), "looks")
		})
	}
}

// What the kernel tells of one socket, the tables of it, and a look with either.
func BenchmarkSocket(b *testing.B) {
	w := newWorld(b)
	_, to := w.listen(b, "127.0.0.1:0")
	_, did := w.agent(b, testUID, 2, "plain", "tcp", to.String())
	s, _ := w.sockets(b)
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	unlimited(f)
	f.patient = time.Minute
	b.Run("kernel", func(b *testing.B) {
		defer reportCPU(b)()
		for b.Loop() {
			if s.Inode(did.Src, to) == 0 {
				b.Fatal("it is not known")
			}
		}
	})
	b.Run("tables", func(b *testing.B) {
		l := &look{Finder: f}
		defer reportCPU(b)()
		for b.Loop() {
			r := &request{proto: "tcp", src: did.Src, dst: to, accepted: true}
			if err := l.tables("tcp", []*request{r}); err != nil || len(r.lines) != 1 {
				b.Fatal(r.lines, err)
			}
		}
	})
	for name, inode := range map[string]func() uint64{
		"look/kernel": func() uint64 { return s.Inode(did.Src, to) },
		"look/tables": func() uint64 { return 0 },
	} {
		b.Run(name, func(b *testing.B) {
			defer reportCPU(b)()
			for b.Loop() {
				clear(f.recent)
				if p := f.FindAccepted(Accepted{Src: did.Src, Dst: to, Inode: inode()}, open); p.PID != did.PID {
					b.Fatal(p)
				}
			}
		})
	}
}
