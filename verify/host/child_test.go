package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/verify/probe"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const insideChild = "SALLYPORT_TEST_HOST"

// inChild runs the test again, as root in namespaces of its own, from which no packet
// can leave, with folders of its own; it says whether this is that run.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideChild) == t.Name() {
		prepare(t)
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may make a host of its own")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideChild+"="+t.Name())
	for _, name := range secret {
		cmd.Env = append(cmd.Env, name+"=")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in the child: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("in the child:\n%s", out)
	}
	return false
}

func prepare(t *testing.T) {
	t.Helper()
	mount := func(source, target, kind string, flags uintptr) {
		if err := unix.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatalf("mount %s: %v", target, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE)
	for _, folder := range []string{"/run", "/tmp", "/dev/shm"} {
		mount("tmpfs", folder, "tmpfs", 0)
	}
	mount("proc", "/proc", "proc", 0)
	for name, text := range map[string]string{"hosts": "127.0.0.1 localhost\n", "resolv.conf": "nameserver 127.0.0.1\n"} {
		file := filepath.Join("/run", name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mount(file, "/etc/"+name, "", unix.MS_BIND)
	}
}

func target(s probe.Setting) probe.Target {
	return probe.Target{Setting: s, Run: "0a1b2c3d"}
}
