package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The stages of this program inside the namespaces. Each is the same process.
const (
	stageNamespace = "namespace" // makes the namespaces what they must be, and gives up every capability
	stageKeep      = "keep"      // without any: starts the server, and ends all when the runner dies
)

// Descriptors that a stage is started with.
const (
	controlFD = 3 // seqpacket: an order for each stage, and its reports
	lockFD    = 4 // the runner's lock: it stays taken until the last of the server is gone
)

const maxMessage = 1 << 20 // bytes; orders hold a command line

// order is what a stage is told.
type order struct {
	Files Files    `json:"files"`
	Path  string   `json:"path,omitempty"`
	Argv  []string `json:"argv,omitempty"`
}

// report is what a stage says: one that it started or failed, one that it ended.
type report struct {
	PID    int     `json:"pid,omitempty"` // of the server, which runs
	Status *uint32 `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
	Code   int     `json:"code,omitempty"`
}

// startInside starts the server in namespaces of its own. The child is our own
// program, which stays the server's parent there: its end, also by SIGKILL, is
// the end of the server, and so is ours.
func (r *run) startInside(path string, out *output) (*child, error) {
	for _, p := range []string{r.Folder, path} {
		if within(p, hiddenFolder) {
			return nil, &ExitError{CodeForbidden, fmt.Errorf("%s lies in %s, which the server is not shown: sockets of other programs are there\nhint: set hosts[].folder (or local.folder), or the model's command, to a place elsewhere", printable(p), hiddenFolder)}
		}
	}
	files := Files{Write: []string{r.Folder}, Read: slices.Clone(r.Read), Hide: r.Hide}
	path, err := files.addProgram(path)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	err = errors.Join(send(ours, order{Files: files}), send(ours, order{Files: files, Path: path, Argv: r.Argv}))
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	c, err := startChild(spawn{
		path: "/proc/self/exe", argv: append(append([]string{os.Args[0]}, r.Inside...), stageNamespace), env: r.Env,
		out: out.stdout, err: out.stderr, pass: []*os.File{theirs, r.lock}, attr: NewNamespaces,
	})
	if err != nil {
		return nil, errors.Join(explainNamespace(err), ours.Close())
	}
	_ = theirs.Close() // else its end would not be seen
	first, err := receive[report](ours)
	if err != nil || first.Error != "" {
		c.killAll()
		_ = ours.Close()
		if err != nil { // killed, or out of memory
			return nil, fmt.Errorf("the namespace's first process ended without a word (%s)", State{ExitCode: exitCode(c.status())}.outcome())
		}
		return nil, &ExitError{first.Code, errors.New(printable(first.Error))}
	}
	c.server, c.told = first.PID, make(chan struct{})
	go func() {
		defer close(c.told)
		defer ours.Close()
		if last, err := receive[report](ours); err == nil && last.Status != nil {
			c.mu.Lock()
			c.waited, c.reported = unix.WaitStatus(*last.Status), true
			c.mu.Unlock()
		}
	}()
	return c, nil
}

// addProgram has the server's program be seen, and returns its path. Of a program
// in a folder for passing files the folder is, or its virtual environment.
func (f *Files) addProgram(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("find the model server: %w", err)
	}
	hidden, err := Files{Hide: f.Hide}.resolve()
	if err != nil {
		return "", err
	}
	f.Read = append(f.Read, real)
	passing := slices.Collect(maps.Keys(freshFolders()))
	for _, name := range []string{path, real} {
		folder, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", fmt.Errorf("find the model server: %w", err)
		}
		if up := filepath.Dir(folder); filepath.Base(folder) == "bin" && !slices.Contains(passing, up) {
			folder = up
		}
		if below(folder, passing) && !slices.Contains(passing, folder) && !below(folder, hidden.Hide) {
			f.Read = append(f.Read, folder)
		}
	}
	return path, nil
}

// within reports whether path is folder or lies in it.
func within(path, folder string) bool {
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// Inside is what this program does where startInside has started it. It returns
// only when that is over, or failed.
func Inside(stage string) error {
	control := os.NewFile(controlFD, "control")
	if control == nil {
		return errors.New("runner: Inside is for the runner to start")
	}
	o, err := receive[order](control)
	if err != nil {
		return fmt.Errorf("runner: Inside is for the runner to start: %w", err)
	}
	switch stage {
	case stageNamespace:
		err = EnterNamespaces(o.Files, append(os.Args[:len(os.Args)-1:len(os.Args)-1], stageKeep), os.Environ())
	case stageKeep:
		var c *child
		if c, err = startServer(o); err == nil {
			return keep(control, c)
		}
	default:
		err = fmt.Errorf("there is no stage %q", stage)
	}
	code := CodeForbidden
	if exit := new(ExitError); errors.As(err, &exit) {
		code = exit.Code
	}
	return &ExitError{code, errors.Join(err, send(control, report{Error: err.Error(), Code: code}))}
}

// startServer starts the server, after a last look at what it will find.
func startServer(o order) (*child, error) {
	if err := errors.Join(keepFiles(), AssertNamespaces(o.Files)); err != nil {
		return nil, err
	}
	// By /proc/PID the server would find our binary as it is outside, to write to.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl(PR_SET_DUMPABLE)", err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	c, err := startChild(spawn{path: o.Path, argv: o.Argv, env: os.Environ(), out: os.Stdout, err: os.Stderr, mortal: true})
	if err != nil {
		return nil, &ExitError{CodeNotRunnable, fmt.Errorf("start the model server %s: %w", printable(o.Path), err)}
	}
	go func() {
		for range signals { // the runner's
			c.signal(unix.SIGTERM)
		}
	}()
	return c, nil
}

// keep returns when the server and its descendants are gone, which the end of the
// runner brings about too.
func keep(control *os.File, c *child) error {
	err := send(control, report{PID: c.pid})
	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned)
		_, _ = receive[order](control) // none comes
	}()
	if err == nil {
		select {
		case <-c.ended:
		case <-orphaned:
		}
	}
	c.killAll()
	status := uint32(c.status())
	return errors.Join(err, send(control, report{Status: &status}))
}

// controlPair is the two ends of a control connection.
func controlPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

func send(f *os.File, message any) error {
	data, err := json.Marshal(message)
	if err == nil {
		_, err = f.Write(data)
	}
	if err != nil {
		return fmt.Errorf("talk to the process in the namespace: %w", err)
	}
	return nil
}

func receive[T any](f *os.File) (message T, err error) {
	buf := make([]byte, maxMessage)
	n, err := f.Read(buf)
	if err == nil {
		err = json.Unmarshal(buf[:n], &message)
	}
	return message, err
}
