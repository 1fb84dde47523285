package origin

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

const testUID = 12345

// world is a sandbox with nothing but lo, its holder, and a gateway that looks.
type world struct {
	ns      *os.File
	inode   uint64
	holder  int
	gateway *role
}

// role is this test binary in one of its roles.
type role struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	lines io.Reader
	ended chan struct{}
}

// onThread runs f on a thread that is used for nothing else, before or after.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // it does not end, and /proc shows its namespaces as the process's
			defer runtime.UnlockOSThread()
			onThread(t, func() error {
				done <- f()
				return nil
			})
			return
		}
		done <- f() // never unlocked: the thread ends
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("making a network namespace takes root; hint: run the tests as scripts/test does")
	}
	w := &world{}
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := raiseLo(); err != nil {
			return err
		}
		var err error
		w.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	t.Cleanup(func() { w.ns.Close() })
	var st unix.Stat_t
	if err := unix.Fstat(int(w.ns.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	w.inode = st.Ino
	holder := w.start(t, "holder", testUID, syscall.CLONE_NEWPID)
	w.holder = holder.cmd.Process.Pid
	if _, err := io.ReadFull(holder.lines, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	w.gateway = w.look(t, "/proc")
	return w
}

func raiseLo() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// in runs f in the sandbox's network namespace.
func (w *world) in(t testing.TB, f func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := unix.Setns(int(w.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// start runs a role in the sandbox's network namespace.
func (w *world) start(t testing.TB, name string, uid uint32, flags uintptr, args ...string) *role {
	t.Helper()
	r := command(t, name, uid, flags, args...)
	w.in(t, r.cmd.Start)
	r.watch(t)
	return r
}

// look runs a gateway outside, which sees processes in root.
func (w *world) look(t testing.TB, root string) *role {
	t.Helper()
	r := command(t, "gateway", testUID, 0, root, strconv.Itoa(w.holder), strconv.FormatUint(w.inode, 10))
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.watch(t)
	return r
}

func command(t testing.TB, name string, uid uint32, flags uintptr, args ...string) *role {
	t.Helper()
	r := &role{cmd: exec.Command("/proc/self/exe", args...), ended: make(chan struct{})}
	r.cmd.Env = []string{roleVariable + "=" + name, "GOMAXPROCS=2"}
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Cloneflags: flags}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.lines, r.out = ours, out, json.NewDecoder(out)
	t.Cleanup(func() { out.Close() })
	return r
}

// watch waits for the end of a role that was started; the test ends it.
func (r *role) watch(t testing.TB) {
	r.cmd.Stdout.(*os.File).Close()
	go func() {
		r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(r.end)
}

// end ends a role, and with the first process of its pid namespace all below it.
func (r *role) end() {
	r.in.Close()
	r.cmd.Process.Kill()
	<-r.ended
}

// agent makes an attempt from the sandbox; see runAgent.
func (w *world) agent(t testing.TB, uid uint32, depth int, args ...string) (*role, report) {
	t.Helper()
	r := w.start(t, "agent", uid, syscall.CLONE_NEWPID, append([]string{strconv.Itoa(depth)}, args...)...)
	var did report
	if err := r.out.Decode(&did); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return r, did
}

// ask has the gateway look.
func (r *role) ask(t testing.TB, q question) audit.Process {
	t.Helper()
	if err := json.NewEncoder(r.in).Encode(q); err != nil {
		t.Fatal(err)
	}
	var p audit.Process
	if err := r.out.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen listens in the sandbox's namespace, as the wall does beyond its veth.
func (w *world) listen(t testing.TB, address string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	var l net.Listener
	w.in(t, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
}

func exeName(t testing.TB) (exe, base string) {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return exe, filepath.Base(exe)
}

// wantUnknown checks that nothing but a reason is told.
func wantUnknown(t testing.TB, p audit.Process, why string) {
	t.Helper()
	if p.Unknown != why || p.PID != 0 || p.Exe != "" || p.Command != "" {
		t.Errorf("it says %+v; wanted unknown: %s", p, why)
	}
}

// wantFound checks that it is the process of the report.
func wantFound(t testing.TB, p audit.Process, did report) {
	t.Helper()
	exe, base := exeName(t)
	want := audit.Process{PID: did.PID, UID: did.UID, Exe: exe}
	for _, pid := range did.Parents {
		want.Parents = append(want.Parents, audit.Parent{PID: pid, Name: base})
	}
	command := p.Command
	p.Command = ""
	if !reflect.DeepEqual(p, want) || !strings.Contains(command, did.Src.Addr().String()) {
		t.Errorf("it says  %+v, command %q\nwanted %+v, and the address", p, command, want)
	}
}

// openTo lets the test's users reach a folder of t.TempDir.
func openTo(t testing.TB, dir string) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
}

// until waits for what the kernel does without telling us.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
