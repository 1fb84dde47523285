package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/machine"
)

// askScript has one of our binaries there answer; none that is there answers
// nothing, as no server's folder does.
const askScript = `folder=$1 binary=$2
shift 2
[ -e "$folder/lock" ] || exit 0
for b in "$binary" "${binary%/*}"/gateway-*; do
	[ -f "$b" ] && [ -x "$b" ] && exec "$b" "$@" --folder "$folder"
done
echo "none of our binaries is in ${binary%/*}" >&2
exit 127`

// runnerStatus is what `gateway model-state` answers: runner.Status.
type runnerStatus struct {
	Held     bool      `json:"held"`
	Phase    string    `json:"phase"`
	By       string    `json:"by"`
	Launch   string    `json:"launch"`
	IdleStop string    `json:"idle_stop"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	ExitCode int       `json:"exit_code"`
	Why      string    `json:"why"`
	Error    string    `json:"error"`
	OOM      bool      `json:"oom"`
}

// ask runs model-state with further arguments.
func (r *ProcessRuntime) ask(ctx context.Context, args ...string) (runnerStatus, error) {
	var s runnerStatus
	out, err := r.machine.Sh(ctx, askScript, nil, append([]string{r.folder, r.binary, "model-state"}, args...)...)
	if failed := new(machine.ShError); errors.As(err, &failed) {
		return s, errors.New(runnerWords(failed))
	}
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("the answer of our own binary there is malformed: %w", err)
	}
	return s, nil
}

// State asks what the runner wrote down, and whether it lives.
func (r *ProcessRuntime) State(ctx context.Context) (RuntimeState, error) {
	s, err := r.ask(ctx)
	if err != nil {
		return RuntimeState{}, r.wrap("look at", err)
	}
	return s.state(), nil
}

func (s runnerStatus) state() RuntimeState {
	st := RuntimeState{
		Phase: PhaseExited, Started: s.Started, Ended: s.Ended, ExitCode: s.ExitCode, OOMKilled: s.OOM,
		By: printable(s.By, maxName), Launch: printable(s.Launch, maxName), Why: s.why(),
	}
	if d, err := time.ParseDuration(s.IdleStop); err == nil {
		st.IdleStop = d
	}
	switch {
	case s.Held: // what it says of an end is of an earlier life, or not yet over
		st.Phase, st.Ended, st.ExitCode, st.OOMKilled, st.Why = PhaseRunning, time.Time{}, 0, false, ""
	case s.Phase == "":
		st = RuntimeState{Phase: PhaseAbsent}
	}
	return st
}

// why is the runner's word for an end that was wanted, or what went wrong beside
// the server itself.
func (s runnerStatus) why() string {
	switch {
	case s.Why == WhyAsked || s.Why == WhyIdle:
		return s.Why
	case s.Error != "":
		return printable(s.Error, 4*maxText)
	case s.Why == "lost":
		return "its runner was killed, or the machine went down"
	}
	return ""
}

// Stop has the runner end its server; after grace the kernel ends both.
func (r *ProcessRuntime) Stop(ctx context.Context, grace time.Duration) error {
	_, err := r.ask(ctx, "--stop", "--stop-grace", grace.String())
	return r.wrap("stop", err)
}

// Logs reads the log that the runner keeps.
func (r *ProcessRuntime) Logs(ctx context.Context, follow bool, lines int) (io.ReadCloser, error) {
	args := []string{r.folder, r.binary, "model-log", "--lines", strconv.Itoa(max(lines, -1))}
	if follow {
		args = append(args, "--follow")
	}
	ctx, cancel := context.WithCancel(ctx)
	// The end of its input ends it, where no signal gets through.
	stdin, hold := io.Pipe()
	read, write := io.Pipe()
	l := &processLog{PipeReader: read, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer cancel()
		err := r.machine.Stream(ctx, askScript, stdin, write, args...)
		_ = hold.Close()
		_ = write.CloseWithError(r.wrap("read the log of", err))
	}()
	return l, nil
}

// processLog is a log that is being read.
type processLog struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
}

// Close ends the reading, and waits for that.
func (l *processLog) Close() error {
	l.cancel()
	err := l.PipeReader.Close()
	<-l.ended
	return err
}
