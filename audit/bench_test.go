package audit

import (
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// benchEvent is an attempt as the flood makes them: of the n-th process.
func benchEvent(n int64) Event {
	return Event{
		Subject: Subject{Sandbox: "3fa85f645717", Agent: "claude", Model: "gpt-oss", Project: "/home/u/src/shop"},
		Layer:   LayerIntercept, Proto: "tcp", Src: "10.213.0.9:53412", Dst: "203.0.113.9:443", Port: 443,
		Rule: "default", Reason: "203.0.113.9:443 is not allowed",
		Process: &Process{PID: int(n), UID: 1000, Exe: "/usr/bin/curl", Command: "curl -s https://203.0.113.9/", Parents: []Parent{{12, "bash"}, {1, "claude"}}},
	}
}

// BenchmarkAppendDurable is events a second that survive the process at once and
// a power loss after 100 ms: identical refusals of 50 processes, and all
// different, from many goroutines and from one.
func BenchmarkAppendDurable(b *testing.B) {
	for _, bench := range []struct {
		name       string
		processes  int64 // how many different events; zero: all
		goroutines int
	}{
		{"joined/parallel", 50, 64}, {"distinct/parallel", 0, 64}, {"joined/serial", 50, 1}, {"distinct/serial", 0, 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := openWith(b, storePath(b), Options{})
			var n atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range bench.goroutines {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if bench.processes > 0 {
							i %= bench.processes
						}
						if _, err := s.Append(benchEvent(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			perSecond(b)
		})
	}
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppendFileBatchedFsync is what it is compared with: a file, a
// write(2) for each event, and fsync every 100 ms.
func BenchmarkAppendFileBatchedFsync(b *testing.B) {
	fd, err := syscall.Open(filepath.Join(b.TempDir(), "events.jsonl"), syscall.O_CREAT|syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer syscall.Close(fd)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(syncWithin); ; {
			select {
			case <-tick:
				if err := syscall.Fsync(fd); err != nil {
					b.Error(err)
				}
			case <-stop:
				return
			}
		}
	}()
	for i := int64(0); b.Loop(); i++ {
		e := benchEvent(i)
		e.ID, e.Time = "01KJMGEJW"+strconv.FormatInt(i, 10), time.Now().UTC()
		line, err := Encode(e)
		if err == nil {
			_, err = syscall.Write(fd, line)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	perSecond(b)
}
