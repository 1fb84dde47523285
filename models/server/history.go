package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// History remembers how the last start of each model went on each machine, and
// how fast it last answered, in a JSON file. Several launchers may use the file
// at a time. It is a help, not a record: a file that cannot be read is set aside.
// A nil History knows nothing and keeps nothing.
type History struct {
	Path string // of the file; its folder must exist. Beside it lies a lock file

	patience time.Duration // for the lock; zero: lockPatience
}

// Run is what is remembered of one model on one machine.
type Run struct {
	When            time.Time                // of the last start; zero: none seen
	Stages          map[string]time.Duration // by Stage constant; empty: unknown
	TokensPerSecond float64                  // last seen; zero: unknown
}

// Total is how long the last start took; zero: unknown.
func (r Run) Total() time.Duration {
	var total time.Duration
	for _, d := range r.Stages {
		total += d
	}
	return total
}

// The bounds of a history: entries, bytes of its file, the longest stage, and how
// long another launcher may hold the lock.
const (
	maxRuns        = 200
	maxHistory     = 1 << 20
	maxStage       = 24 * time.Hour
	maxRate        = 1e6
	lockPatience   = 2 * time.Second
	lockInterval   = 10 * time.Millisecond
	historyVersion = 1
)

// entry is a Run in the file.
type entry struct {
	Model   string             `json:"model"`
	Machine string             `json:"machine,omitempty"` // empty: this machine
	When    time.Time          `json:"when,omitzero"`
	Stages  map[string]float64 `json:"stages,omitempty"` // seconds
	Rate    float64            `json:"tokens_per_second,omitempty"`
}

type historyFile struct {
	Version int     `json:"version"`
	Runs    []entry `json:"runs"`
}

// Load returns what is remembered of a model on a machine ("" is this one); the
// zero Run if nothing is.
func (h *History) Load(model, machine string) (Run, error) {
	if h == nil {
		return Run{}, nil
	}
	file, err := h.read()
	if err != nil && !errors.Is(err, errCorrupt) {
		return Run{}, err
	}
	if i := file.find(model, machine); i >= 0 {
		return file.Runs[i].run(), nil
	}
	return Run{}, nil
}

// Save remembers a start: r's When and Stages. The rate of answers stays.
func (h *History) Save(model, machine string, r Run) error {
	return h.change(model, machine, func(e *entry) {
		e.When, e.Stages = r.When.UTC().Truncate(time.Second), map[string]float64{}
		for stage, d := range r.Stages {
			e.Stages[stage] = d.Round(time.Millisecond).Seconds()
		}
	})
}

// SaveRate remembers how fast a model last answered.
func (h *History) SaveRate(model, machine string, tokensPerSecond float64) error {
	return h.change(model, machine, func(e *entry) { e.Rate = tokensPerSecond })
}

// change reads the file, changes one entry and writes it anew, while no other
// launcher does.
func (h *History) change(model, machine string, change func(*entry)) error {
	if h == nil {
		return nil
	}
	if model == "" || len(model) > maxName || len(machine) > maxName {
		return fmt.Errorf("remember a start: model %q on machine %q: not names", printable(model, maxName), printable(machine, maxName))
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	file, err := h.read()
	if errors.Is(err, errCorrupt) {
		err = os.Rename(h.Path, h.Path+".corrupt")
	}
	if err != nil {
		return err
	}
	e := entry{Model: model, Machine: machine}
	if i := file.find(model, machine); i >= 0 {
		e = file.Runs[i]
		file.Runs = slices.Delete(file.Runs, i, i+1)
	}
	change(&e)
	e.tidy()
	file.Runs = append(file.Runs, e) // the newest is the last
	file.Runs = slices.Delete(file.Runs, 0, max(0, len(file.Runs)-maxRuns))
	return h.write(file)
}

// lock takes the lock file; a launcher that holds it for long is not waited for.
func (h *History) lock() (unlock func(), err error) {
	f, err := os.OpenFile(h.Path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("remember a start: %w", err)
	}
	for deadline := time.Now().Add(cmp.Or(h.patience, lockPatience)); ; time.Sleep(lockInterval) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if time.Now().After(deadline) || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("remember a start: lock %s: %w", h.Path, err)
		}
	}
}

// errCorrupt says that the file is none of ours any more.
var errCorrupt = errors.New("not a history")

// read returns the file's content; empty if there is no file.
func (h *History) read() (historyFile, error) {
	f, err := os.Open(h.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return historyFile{}, nil
	} else if err != nil {
		return historyFile{}, fmt.Errorf("read history: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHistory+1))
	if err != nil {
		return historyFile{}, fmt.Errorf("read history %s: %w", h.Path, err)
	}
	var file historyFile
	if len(text) > maxHistory {
		return historyFile{}, fmt.Errorf("read history %s: %w: larger than %d bytes", h.Path, errCorrupt, maxHistory)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&file); err != nil {
		return historyFile{}, fmt.Errorf("read history %s: %w: %w", h.Path, errCorrupt, err)
	}
	if file.Version != historyVersion {
		return historyFile{}, fmt.Errorf("read history %s: %w: version %d", h.Path, errCorrupt, file.Version)
	}
	file.Runs = slices.DeleteFunc(file.Runs, func(e entry) bool {
		return e.Model == "" || len(e.Model) > maxName || len(e.Machine) > maxName
	})
	for i := range file.Runs {
		file.Runs[i].tidy()
	}
	return file, nil
}

// write replaces the file as a whole.
func (h *History) write(file historyFile) error {
	file.Version = historyVersion
	text, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		return fmt.Errorf("write history %s: %w", h.Path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(h.Path), filepath.Base(h.Path)+".*") // 0600
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	defer os.Remove(f.Name()) // it is gone once renamed
	_, err = f.Write(append(text, '\n'))
	if err := cmp.Or(err, f.Close()); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	if err := os.Rename(f.Name(), h.Path); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

func (f historyFile) find(model, machine string) int {
	return slices.IndexFunc(f.Runs, func(e entry) bool { return e.Model == model && e.Machine == machine })
}

// tidy drops what cannot be true.
func (e *entry) tidy() {
	for stage, s := range e.Stages {
		if rank(stage) < 0 || math.IsNaN(s) || s < 0 || s > maxStage.Seconds() {
			delete(e.Stages, stage)
		}
	}
	if math.IsNaN(e.Rate) || e.Rate < 0 || e.Rate > maxRate {
		e.Rate = 0
	}
}

func (e entry) run() Run {
	r := Run{When: e.When, TokensPerSecond: e.Rate, Stages: map[string]time.Duration{}}
	for stage, s := range e.Stages {
		r.Stages[stage] = time.Duration(s * float64(time.Second))
	}
	return r
}
