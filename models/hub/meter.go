package hub

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// tick is how often progress is told.
const tick = 500 * time.Millisecond

// meter counts what was done and tells it.
type meter struct {
	report func(Progress)
	done   chan struct{}
	ended  sync.WaitGroup

	mu    sync.Mutex
	now   Progress
	fresh int64 // bytes that came over the network
	last  int64 // fresh at the tick before
}

// newMeter starts telling report, which may be nil.
func newMeter(report func(Progress)) *meter {
	m := &meter{report: report, done: make(chan struct{}), now: Progress{Left: -1}}
	if report == nil {
		m.report = func(Progress) {}
	}
	m.ended.Go(func() {
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-m.done:
				return
			case <-t.C:
				m.tick(tick)
			}
		}
	})
	return m
}

// close stops telling.
func (m *meter) close() {
	close(m.done)
	m.ended.Wait()
}

// tick tells how far it is; over is the time since the tick before.
func (m *meter) tick(over time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.Stage != StageDownload {
		return
	}
	const weight = 0.2 // of the newest tick: rates jump, and people read them
	rate := float64(m.fresh-m.last) / over.Seconds()
	m.last = m.fresh
	if m.now.Rate == 0 {
		m.now.Rate = rate
	}
	m.now.Rate += weight * (rate - m.now.Rate)
	m.now.Left = -1
	if left := float64(m.now.Total-m.now.Bytes) / m.now.Rate; m.now.Rate >= 1 && left < math.MaxInt32 {
		m.now.Left = int64(left)
	}
	m.report(m.now)
}

// stage begins one of the Stage constants.
func (m *meter) stage(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Stage = name
	m.report(m.now)
}

// note tells people something, once.
func (m *meter) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.now
	p.Note = printable(fmt.Sprintf(format, args...))
	m.report(p)
}

// add announces a wanted file; have: it is there.
func (m *meter) add(size int64, have bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Files++
	m.now.Total += size
	if have {
		m.now.Done++
		m.now.Bytes += size
	}
}

// found counts bytes that were there already; negative ones are thrown away.
func (m *meter) found(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Bytes += n
}

// finished counts a file that is there now.
func (m *meter) finished() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Done++
}

// Write counts bytes that arrived.
func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Bytes += int64(len(p))
	m.fresh += int64(len(p))
	return len(p), nil
}

func (m *meter) downloaded() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fresh
}

// Size is a number of bytes for people: "61.3 GB".
func Size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
