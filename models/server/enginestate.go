package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/models"
)

// prepare makes the server's folder and looks whether all that is mounted is
// there, in one round trip: an engine's own words for it differ, and Podman would
// make an empty folder in its place.
func (r *EngineRuntime) prepare(ctx context.Context, l models.Launch) error {
	args := []string{path.Dir(l.Socket)}
	for _, m := range l.Mounts {
		args = append(args, m.Source)
	}
	out, err := r.sh(ctx, prepareScript, nil, args...)
	if err != nil {
		return fmt.Errorf("start model server %s: make its folder on %s: %w", r.name, r.machine, err)
	}
	missing := strings.TrimSpace(string(out))
	if missing == "" {
		return nil
	}
	missing, _, _ = strings.Cut(missing, "\n")
	return fmt.Errorf("start model server %s: %s is not on %s\nhint: `launcher pull %s`",
		r.name, printable(missing, maxText), r.machine, r.name)
}

// prepareScript prints those of its arguments, but the first, that are not there.
const prepareScript = `umask 077
mkdir -p -- "$1/home" && chmod 700 -- "$1" || exit 1
shift
for f do [ -e "$f" ] || printf '%s\n' "$f"; done`

// phaseOf maps an engine's word. One that was created and never started has not
// begun.
func phaseOf(st containers.ServerState) Phase {
	switch st.State {
	case "created", "initialized", "configured":
		return PhaseAbsent
	case "exited", "dead", "removing", "stopped":
		return PhaseExited
	}
	return PhaseRunning // running, paused, restarting, stopping
}

// State asks the engine, and the runner's own word for why an end was wanted.
func (r *EngineRuntime) State(ctx context.Context) (RuntimeState, error) {
	st, err := r.find(ctx)
	switch {
	case errors.Is(err, containers.ErrNoContainer):
		return RuntimeState{Phase: PhaseAbsent}, nil
	case err != nil:
		return RuntimeState{}, err
	}
	s := RuntimeState{
		Phase: phaseOf(st), Started: st.Started, Ended: st.Finished, ExitCode: st.ExitCode, OOMKilled: st.OOMKilled, Refused: refused(st),
		By: printable(st.Labels[labelBy], maxName), Launch: printable(st.Labels[labelLaunch], maxName),
	}
	if d, err := time.ParseDuration(st.Labels[labelIdle]); err == nil {
		s.IdleStop = d
	}
	if s.Phase == PhaseExited {
		word := r.word(ctx, st)
		s.Why, s.OOMKilled = word.Why, s.OOMKilled || word.OOM
	}
	return s, nil
}

// Stop ends the container and leaves it there, with its log.
func (r *EngineRuntime) Stop(ctx context.Context, grace time.Duration) error {
	st, err := r.find(ctx)
	if errors.Is(err, containers.ErrNoContainer) {
		return nil
	} else if err != nil {
		return err
	}
	if err := r.engine.StopContainer(ctx, st.ID, grace); err != nil {
		return fmt.Errorf("stop model server %s on %s: %w", r.name, r.machine, err)
	}
	return nil
}

// Logs reads the container's log.
func (r *EngineRuntime) Logs(ctx context.Context, follow bool, lines int) (io.ReadCloser, error) {
	st, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	return r.engine.FollowLogs(ctx, st.ID, follow, lines)
}

// said is what is read of the runner's state.json.
type said struct {
	Started time.Time `json:"started"`
	Why     string    `json:"why"`
	OOM     bool      `json:"oom"`
}

// wordScript prints the runner's state. The folder is the server's to write too: a
// pipe there would keep its reader for good, and a link lead elsewhere.
const wordScript = `f=$1/state.json; [ -f "$f" ] && [ ! -L "$f" ] && head -c 65536 -- "$f"`

// word asks the runner why its server ended; the zero value: it does not say, or
// what it says is of an earlier life. It is a help: a state that cannot be read
// is none.
func (r *EngineRuntime) word(ctx context.Context, st containers.ServerState) said {
	folder := st.Labels[labelFolder]
	if !path.IsAbs(folder) {
		return said{}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := r.sh(ctx, wordScript, nil, folder)
	if err != nil {
		return said{}
	}
	var s said
	if json.Unmarshal(out, &s) != nil || s.Started.Before(st.Started.Add(-time.Second)) {
		return said{}
	}
	s.Why = printable(s.Why, maxName)
	return s
}
