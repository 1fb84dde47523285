//go:build lab

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lab"
)

// childEnv makes the test program a process that owns a lab and waits.
const childEnv = "SALLYPORT_LAB_CHILD"

// child starts a lab with a container, says where it is, and waits for its end.
func child(out io.Writer) error {
	l, err := lab.Start(context.Background(), lab.Options{})
	if err != nil {
		return err
	}
	id, err := l.Laptop.Docker(context.Background(), "run", "--detach", "debian:12-slim", "sleep", "infinity")
	if err != nil {
		return errors.Join(err, l.Close())
	}
	pid, err := l.Laptop.Docker(context.Background(), "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	proc, err := os.Readlink(l.Laptop.Outside(filepath.Join("/proc", pid, "ns/pid")))
	if err != nil {
		return errors.Join(err, l.Close())
	}
	fmt.Fprintln(out, l.Dir(), proc)
	select {}
}

// TestKilledLabLeavesNothing kills a test process with SIGKILL: its engine and
// containers end with it, and the next lab removes its files and cgroups.
func TestKilledLabLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), childEnv+"=1")
	c.Stderr = os.Stderr
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir, namespace, _ := strings.Cut(strings.TrimSpace(line), " ")
	if !inUse(namespace) {
		t.Fatalf("no process is in the container's namespace %s", namespace)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); inUse(namespace); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the container outlived the test process")
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the dead lab's folder should still be there: %v", err)
	}
	lab.New(t, lab.Options{})
	left, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left over: %s (%v) and %v", dir, err, left)
	}
}

// inUse says whether a process of this machine is in a process namespace.
func inUse(namespace string) bool {
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		return false
	}
	for _, path := range all {
		if at, err := os.Readlink(path); err == nil && at == namespace {
			return true
		}
	}
	return false
}

func TestCloseLeavesNothing(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Engine: lab.Engine28})
	if err != nil {
		t.Fatal(err)
	}
	// A daemon of the user's, with nobody to wait for it.
	if _, err := l.Laptop.Command(t.Context(), "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &").Output(); err != nil {
		t.Error(err)
	}
	if _, err := l.Laptop.Docker(t.Context(), "run", "--detach", "debian:12-slim", "sleep", "infinity"); err != nil {
		t.Error(err)
	}
	namespace, err := os.Readlink(l.Laptop.Outside("/proc/1/ns/pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if inUse(namespace) {
		t.Error("a process of the laptop is left")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(l.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Dir()); !errors.Is(err, os.ErrNotExist) || len(left) > 0 || strings.Contains(string(mounts), l.Dir()) {
		t.Errorf("left over: %s (%v), %v", l.Dir(), err, left)
	}
}

// TestOthersSettings starts engines that distributions set up otherwise.
func TestOthersSettings(t *testing.T) {
	for _, e := range []lab.Engine{lab.Engine20, lab.Engine28} {
		t.Run("engine-"+string(e), func(t *testing.T) {
			l := lab.New(t, lab.Options{Engine: e, Setting: lab.EngineOptions{UsernsRemap: true, NoNewPrivileges: true}})
			options, err := l.Laptop.Docker(t.Context(), "info", "--format", "{{.SecurityOptions}}")
			if err != nil {
				t.Fatal(err)
			}
			// Engine 20.10 does not tell that no-new-privileges is its default.
			if !strings.Contains(options, "name=userns") {
				t.Errorf("the engine's security options: %s", options)
			}
			out, err := l.Laptop.Docker(t.Context(), "run", "--rm", "debian:12-slim", "sh", "-c", "cat /proc/self/uid_map; grep NoNewPrivs /proc/self/status")
			if err != nil || !strings.Contains(out, "200000") || !strings.Contains(out, "NoNewPrivs:\t1") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestAgentImage(t *testing.T) {
	for _, e := range []lab.Engine{lab.Engine20, lab.Engine28} {
		t.Run("engine-"+string(e), func(t *testing.T) {
			l := lab.New(t, lab.Options{Engine: e, Agent: true})
			out, err := l.Laptop.Docker(t.Context(), "run", "--rm", "--network", "none", "--entrypoint", "claude", l.AgentImage, "--version")
			if err != nil || !strings.Contains(out, "Claude Code") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
