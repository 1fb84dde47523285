package wall

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A holder has NET_ADMIN on every thread, and no other capability, whatever it was
// started with. The binary is made without cgo, as the shipped one is: with it no
// system call can be made on all threads.
func TestHolderKeepsNetAdminAlone(t *testing.T) {
	ns, path := newNamespace(t, nil), socketPath(t)
	l := listen(t, path)
	binary := filepath.Join(t.TempDir(), "hold")
	build := exec.Command("go", "build", "-o", binary, "./testdata/hold")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	holder := exec.Command(binary, path)
	ns.in(t, holder.Start)
	ended := make(chan error, 1)
	go func() { ended <- holder.Wait(); l.Close() }()
	defer func() { holder.Process.Kill(); <-ended }()
	if _, err := l.AcceptUnix(); err != nil { // it has begun its work
		t.Fatal(err)
	}
	tasks := filepath.Join("/proc", itoa(holder.Process.Pid), "task")
	threads, err := os.ReadDir(tasks)
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, thread := range threads {
		status, err := os.ReadFile(filepath.Join(tasks, thread.Name(), "status"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			if (name == "CapEff" || name == "CapPrm") && value != "0000000000001000" || name == "CapInh" && value != "0000000000000000" {
				t.Errorf("thread %s: %s is %s", thread.Name(), name, value)
			}
		}
	}
}
