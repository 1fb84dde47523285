package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// How often a server that loads is asked, and how much of its log is read:
// enough for every line of a start.
const (
	firstPoll  = 200 * time.Millisecond
	lastPoll   = 2 * time.Second
	startLines = 2000
	stateTime  = 15 * time.Second
	freshTime  = 10 * time.Second // who starts to wait later has not seen the start
)

// WaitReady follows a server that was started, here or by somebody else, until
// /health says that it is ready, and reports how far it is: at each change and
// every two seconds at least. A lost connection to the machine is no failure: the
// server goes on loading there, and waiting goes on too, without an end but ctx's.
// A server that ends, or is gone, is a *FailedError. When ctx ends the server is
// left as it is, and the error says so.
func (s *Server) WaitReady(ctx context.Context, report func(Progress)) error {
	if err := s.check(); err != nil {
		return err
	}
	if report == nil {
		report = func(Progress) {}
	}
	last, err := s.History.Load(s.Name, s.machineName())
	now := s.now()
	w := &waiting{Server: s, report: report, fresh: now.Sub(s.began) < freshTime && err == nil}
	w.track = newTracker(now, last.Stages)
	if !s.began.IsZero() {
		w.track = newTracker(s.began, last.Stages)
	} // else the runtime says when
	follow, stop := context.WithCancel(ctx)
	defer w.wg.Wait() // after stop
	defer stop()
	return w.run(ctx, follow)
}

// waiting is one WaitReady.
type waiting struct {
	*Server
	fresh bool // seen from its start and without a gap: how long it takes is worth remembering
	lost  bool // the machine does not answer

	mu     sync.Mutex // guards track and report, which the log's reader uses too
	track  *tracker
	report func(Progress)

	wg    sync.WaitGroup // readers of the log
	ended chan struct{}  // closed when the present reader has; nil: there is none
}

// run asks and follows, by turns. The log's reader runs beside it.
func (w *waiting) run(ctx, follow context.Context) error {
	delay := firstPoll
	for {
		done, err := w.look(ctx)
		if done || err != nil {
			return err
		}
		if w.ended == nil && !w.lost {
			w.startReader(follow)
		}
		w.tell("")
		tick := w.wait(delay)
		select {
		case <-ctx.Done():
			return w.interrupted(ctx)
		case <-tick:
		case <-w.ended: // its log has ended: look at once whether it has too
			w.ended = nil
			if done, err := w.look(ctx); done || err != nil {
				return err
			}
			select { // a log that ends again and again is not followed without a pause
			case <-ctx.Done():
				return w.interrupted(ctx)
			case <-tick:
			}
		}
		delay = min(delay*3/2, lastPoll)
	}
}

// look asks what became of the server, and if it runs as it should, itself. An
// answer is not believed before that: whoever gives it may be somebody else.
func (w *waiting) look(ctx context.Context) (done bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, stateTime) // a link may be dead without a word
	defer cancel()
	st, err := w.Runtime.State(bounded)
	why := ""
	if err == nil && st.Phase == PhaseRunning {
		why, err = w.refusal(bounded, st)
	}
	if ctx.Err() != nil {
		return true, w.interrupted(ctx)
	}
	if err != nil {
		w.linkLost(err)
		return false, nil
	}
	w.linkBack()
	switch st.Phase {
	case PhaseRunning:
		if why != "" {
			return true, &FailedError{Server: w.Name, Machine: w.place(), How: "is not used", Why: why, Last: shown(w.lastLines(ctx)), Hint: w.hintRestart()}
		}
		w.started(st)
		if w.health(ctx) == healthy {
			w.ready()
			return true, nil
		}
		return false, nil
	case PhaseExited:
		return true, w.Server.failed(ctx, st)
	}
	return true, &FailedError{Server: w.Name, Machine: w.place(), How: "is gone: it was removed while it started",
		Hint: fmt.Sprintf("`launcher serve %s` starts it again", w.Name)}
}

// linkLost says once that the machine does not answer. The server does not need
// us: it goes on.
func (w *waiting) linkLost(err error) {
	w.fresh = false
	if w.lost {
		return
	}
	w.lost = true
	why := printable(err.Error(), maxText)
	if errors.Is(err, context.DeadlineExceeded) { // the rest names the question that happened to be asked
		why = "out of time"
	}
	w.tell(fmt.Sprintf("no answer from %s (%s); %s goes on loading there, waiting for the connection", w.place(), why, w.Name))
}

func (w *waiting) linkBack() {
	if !w.lost {
		return
	}
	w.lost = false
	w.tell(fmt.Sprintf("connected to %s again", w.place()))
}

// started takes the runtime's word for when a server was started that somebody
// else did start. Its clock may differ from ours: never later than now.
func (w *waiting) started(st RuntimeState) {
	if !w.began.IsZero() || st.Started.IsZero() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if st.Started.Before(w.track.began) {
		w.track.began = st.Started
	}
}

// tell reports, with a notice if there is one.
func (w *waiting) tell(notice string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.track.progress(w.now())
	p.Notice = notice
	w.report(p)
}

// ready reports the end, and remembers how long each stage took.
func (w *waiting) ready() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.track.end(now)
	p := w.track.progress(now)
	p.Stage, p.Text, p.Percent, p.Left = StageStartup, "ready", 100, 0
	if w.fresh {
		if err := w.History.Save(w.Name, w.machineName(), Run{When: now, Stages: w.track.took}); err != nil {
			p.Notice = printable(err.Error(), maxText) // the next start has no time left to show
		}
	}
	w.report(p)
}

// interrupted is the error of a caller who does not wait any longer.
func (w *waiting) interrupted(ctx context.Context) error {
	return &wrapped{fmt.Sprintf("model server %s on %s: not waited for any longer: %v; it goes on starting\nhint: `launcher status` shows it, `launcher stop %s` ends it",
		w.Name, w.place(), context.Cause(ctx), w.Name), ctx.Err()}
}

// startReader follows the log until it ends, or breaks off.
func (w *waiting) startReader(ctx context.Context) {
	ended := make(chan struct{})
	w.ended = ended
	w.wg.Go(func() {
		defer close(ended)
		log, err := w.Runtime.Logs(ctx, true, startLines)
		if err != nil {
			return // State says why
		}
		closed := make(chan struct{})
		stop := context.AfterFunc(ctx, func() { defer close(closed); log.Close() })
		w.read(log)
		if stop() {
			log.Close()
			return
		}
		<-closed
	})
}

// read takes in what the server writes. A line that is not complete yet counts
// as far as it goes: a progress bar's newest.
func (w *waiting) read(log io.Reader) {
	var b lineBuffer
	buf := make([]byte, 32<<10)
	for {
		n, err := log.Read(buf)
		w.take(&b, buf[:n])
		if err != nil {
			return
		}
	}
}

func (w *waiting) take(b *lineBuffer, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, changed := w.now(), false
	b.write(p, func(line string) {
		if w.track.line(line, now) {
			changed = true
		}
	})
	if m, ok := parseLine(b.peek()); ok && m.percent >= 0 && w.track.line(b.peek(), now) || w.track.dots(b.peek()) {
		changed = true
	}
	if changed {
		w.report(w.track.progress(now))
	}
}
