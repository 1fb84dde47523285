package inside

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/verify/probe"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	insideChild = "SALLYPORT_TEST_INSIDE"
	namespaces  = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
)

// inChild runs the test again in namespaces of its own, from which no packet can
// leave, and says whether this is that run. It is root there with all that root has,
// or, confined, user 1000 with no capability and no way to one.
func inChild(t *testing.T, confined bool) bool {
	t.Helper()
	if os.Getenv(insideChild) == t.Name() {
		prepare(t, confined)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may show what root can do")
	}
	var out []byte
	done := make(chan error)
	go func() { done <- func() error { var err error; out, err = runChild(t, confined); return err }() }()
	if err := <-done; err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in the child: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("in the child:\n%s", out)
	}
	return false
}

func runChild(t *testing.T, confined bool) ([]byte, error) {
	runtime.LockOSThread() // not unlocked: what the thread gives up is lost
	// The folder of a test's binary is root's alone.
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideChild+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if confined {
		cmd.Dir = "/"
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 1000, Gid: 1000}
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return nil, err
		}
		for c := range unix.CAP_LAST_CAP + 1 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				return nil, err
			}
		}
	}
	return cmd.CombinedOutput()
}

// prepare has /proc be that of the child's own processes, and lo up. A confined child
// may do neither, and sees the other one's processes.
func prepare(t *testing.T, confined bool) {
	t.Helper()
	if confined {
		return
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}, {"proc", "/proc", "proc", 0}, {"tmpfs", "/run", "tmpfs", 0}} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", m.target, err)
		}
	}
	ifreq(t, "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}

func ifreq(t *testing.T, name string, request uint, set func(*unix.Ifreq) error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = set(r)
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, request, r)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// target is what the probes are given.
func target(s probe.Setting, root bool) probe.Target {
	return probe.Target{Setting: s, Root: root, Run: "0a1b2c3d"}
}
