package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary runs itself twice over: as a program that confines itself, and
// as the one that it becomes by that, which tries things. plan is its only argument.
const roleVariable = "SALLYPORT_TEST_ROLE"

type plan struct {
	Kernel Kernel
	Rules  Rules
	Keep   uint64
	Tries  []try
}

// try is one thing to do; its name is for messages.
type try struct {
	Do   string // read, write, rename, move, remove, listen, connect, run, look, signal, abstract
	On   string // a path, a port, a pid, an abstract name
	Want syscall.Errno
}

// outcome is what the confined program says of itself.
type outcome struct {
	Error string // it could not be confined
	Tried []syscall.Errno
	Held  Privileges
	Force string // what InForce says
	Count int    // threads
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "confine":
		say(outcome{Error: confineYourself().Error()})
	case "try":
		say(tryAll())
	case "processors":
		before := runtime.GOMAXPROCS(8 * runtime.GOMAXPROCS(0)) // a machine that halving twice would show on
		if os.Getenv("GOMAXPROCS") != "" {
			runtime.GOMAXPROCS(before)
		}
		Processors()
		Processors()
		fmt.Println(before, runtime.GOMAXPROCS(0))
	}
}

func say(o outcome) { json.NewEncoder(os.Stdout).Encode(o) }

func thePlan() (p plan) {
	if err := json.Unmarshal([]byte(os.Args[1]), &p); err != nil {
		panic(err)
	}
	return p
}

// confineYourself returns only on failure.
func confineYourself() error {
	p := thePlan()
	runtime.LockOSThread()
	run, read, err := Program()
	if err != nil {
		return err
	}
	p.Rules.Run, p.Rules.Read = append(p.Rules.Run, run...), append(p.Rules.Read, append(read, "/proc")...)
	if err := Capabilities(p.Keep); err != nil {
		return err
	}
	if err := p.Kernel.Confine(p.Rules); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, []string{roleVariable + "=try"})
}

func tryAll() outcome {
	p := thePlan()
	hold, held := make(chan struct{}), make(chan struct{})
	const more = 4 // threads, begun after the confinement
	for range more {
		go func() {
			runtime.LockOSThread()
			held <- struct{}{}
			<-hold
		}()
	}
	for range more {
		<-held
	}
	defer close(hold)
	o := outcome{}
	threads, _ := os.ReadDir("/proc/self/task")
	o.Count = len(threads)
	var err error
	if o.Held, err = Held(); err != nil {
		o.Error = err.Error()
	}
	if err := p.Kernel.InForce(); err != nil {
		o.Force = err.Error()
	}
	for _, t := range p.Tries {
		errno, _ := errors.AsType[syscall.Errno](t.do())
		o.Tried = append(o.Tried, errno)
	}
	return o
}

func (t try) do() error {
	switch t.Do {
	case "read":
		_, err := os.ReadFile(t.On)
		return err
	case "list":
		_, err := os.ReadDir(t.On)
		return err
	case "write":
		return os.WriteFile(t.On, []byte("x"), 0o600)
	case "rename":
		return errors.Join(os.WriteFile(t.On+".new", nil, 0o600), os.Rename(t.On+".new", t.On))
	case "remove":
		return os.Remove(t.On)
	case "mkdir":
		return os.Mkdir(t.On, 0o700)
	case "socket":
		l, err := net.Listen("unix", t.On)
		if err == nil {
			l.Close()
		}
		return err
	case "abstract":
		c, err := net.Dial("unix", t.On)
		if err == nil {
			c.Close()
		}
		return err
	case "run":
		return exec.Command(t.On).Run()
	case "look":
		_, err := os.Readlink("/proc/" + t.On + "/exe")
		return err
	case "signal":
		return syscall.Kill(number(t.On), 0)
	case "listen", "connect":
		return t.tcp()
	}
	panic("no such thing to try: " + t.Do)
}

// tcp is plain TCP: Go's own listeners are MPTCP's, which Landlock does not know.
func (t try) tcp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{Port: number(t.On), Addr: [4]byte{127, 0, 0, 1}}
	if t.Do == "listen" {
		return unix.Bind(fd, at)
	}
	return unix.Connect(fd, at)
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

const testUID = 12345

// carryOut runs a plan as an ordinary user who has NET_ADMIN, if the tests are root.
func carryOut(t *testing.T, p plan) outcome {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe", string(text))
	c.Env, c.Stderr, c.Dir = append(os.Environ(), roleVariable+"=confine"), os.Stderr, "/"
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUID, Gid: testUID}, AmbientCaps: []uintptr{unix.CAP_NET_ADMIN}}
	}
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return o
}

// folder is one that the plan's user owns, and everybody may enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), own(dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func own(path string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, testUID, testUID)
}

// file makes one that the plan's user owns.
func file(t *testing.T, elements ...string) string {
	t.Helper()
	name := filepath.Join(elements...)
	if err := errors.Join(os.WriteFile(name, []byte("text"), 0o644), own(name)); err != nil {
		t.Fatal(err)
	}
	return name
}

// here is the kernel that the tests run on; its Landlock is what they are about.
func here(t *testing.T) Kernel {
	t.Helper()
	k, err := Ask()
	if err != nil {
		t.Fatal(err)
	}
	if k.ABI == 0 {
		t.Skip(k.Why)
	}
	return k
}

func (t try) String() string { return fmt.Sprintf("%s %s", t.Do, t.On) }
