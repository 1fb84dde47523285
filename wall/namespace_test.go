package wall

import (
	"bytes"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	testUID = 12345
	patient = 15 * time.Second // for what takes milliseconds
)

// namespace is a network namespace of the test's own: no route leads out of it.
type namespace struct {
	file *os.File
}

// newNamespace makes one with the sysctls that launcher sets, changed by change.
func newNamespace(t *testing.T, change map[string]string) namespace {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making a network namespace takes root")
	}
	sysctls := Sysctls(HasIPv6())
	maps.Copy(sysctls, change)
	var n namespace
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		for name, value := range sysctls {
			if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
				return err
			}
		}
		var err error
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	t.Cleanup(func() { n.file.Close() })
	return n
}

// onThread runs f on a thread that is used for nothing else, before or after.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// in runs f in the namespace.
func (n namespace) in(t *testing.T, f func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// process is this test binary in one of its roles.
type process struct {
	*exec.Cmd
	ended  chan error
	stderr lockedBuffer
}

// start runs a role in the namespace. caps are all the capabilities it has.
func (n namespace) start(t *testing.T, role, socket, token string, caps ...uintptr) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("/proc/self/exe"), ended: make(chan error, 1)}
	p.Env = []string{roleVariable + "=" + role, socketVariable + "=" + socket, tokenVariable + "=" + token}
	p.Stderr = &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUID, Gid: testUID}, AmbientCaps: caps}
	n.in(t, p.Start)
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() {
		p.Process.Kill()
		err := <-p.ended
		p.ended <- err
		if strings.Contains(p.stderr.String(), "DATA RACE") || t.Failed() {
			t.Errorf("%s %d ended with %v:\n%s", role, p.Process.Pid, err, p.stderr.String())
		}
	})
	return p
}

func (n namespace) startWall(t *testing.T, socket string) *process {
	t.Helper()
	return n.start(t, "wall", socket, wallToken, unix.CAP_NET_ADMIN)
}

func (n namespace) startHolder(t *testing.T, socket, token string) *process {
	t.Helper()
	return n.start(t, "hold", socket, token, unix.CAP_NET_ADMIN)
}

// kill ends the process as docker kill does, and waits.
func (p *process) kill() {
	p.Process.Kill()
	err := <-p.ended
	p.ended <- err
}

// wantError waits for the end of the process and checks what it said.
func (p *process) wantError(t *testing.T, want string) {
	t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		if err == nil || !strings.Contains(p.stderr.String(), want) {
			t.Errorf("it ended with %v, without %q:\n%s", err, want, p.stderr.String())
		}
	case <-time.After(patient):
		t.Errorf("it still runs; wanted the error %q", want)
	}
}

// descriptors counts those of the process.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	return countDescriptors(t, filepath.Join("/proc", itoa(p.Process.Pid), "fd"))
}

func countDescriptors(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// socketPath is one that the test user may connect to.
func socketPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "wall.sock")
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	os.Remove(path)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// until waits for what another process or the kernel does without telling us.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patient)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
