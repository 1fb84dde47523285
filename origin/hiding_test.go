package origin

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A socket that a process which cannot be read may have too is nobody's.
func TestSharedWithHiding(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	for _, proto := range []string{"tcp", "udp"} {
		// The parents of the one that hides can be read, or there are none.
		for _, depth := range []int{0, 1} {
			r, did := w.agent(t, testUID, depth, "hideandfork", proto, to.String())
			p := w.gateway.ask(t, question{Proto: proto, Src: did.Src, Dst: to})
			wantUnknown(t, p, MayShare)
			if p.UID != testUID {
				t.Errorf("its uid is told as %d", p.UID)
			}
			r.end()
		}
	}
}

// While a process hides in the sandbox nobody is named in it, by the first look
// or a later one; somebody else's that hides changes nothing.
func TestHidingBeside(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	elsewhere := command(t, "holder", testUID, 0)
	if err := elsewhere.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	elsewhere.watch(t)
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	wantFound(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), did)
	hiding, hidden := w.agent(t, testUID, 1, "hide", "tcp", to.String())
	for range 3 {
		_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
		wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), MayShare)
	}
	wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: hidden.Src, Dst: to}), Hidden)
	hiding.end()
	wantFound(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), did)
}

// What a thread with descriptors of its own, or a process with namespaces of its
// own, has open too is shared, whoever is found first.
func TestSharedOutOfSight(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	for _, way := range []string{"threadandchild", "namespaces"} {
		_, did := w.agent(t, testUID, 1, way, "tcp", to.String())
		wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), Shared(2))
	}
}

// A process without a command line may be in the midst of execve(2): it is looked at
// again, and named without one at last.
func TestProcessWithoutACommandLine(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "7")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "fd"), 0o755),
		os.Symlink("/bin/agent", filepath.Join(dir, "exe")), os.Symlink(socketLink(77), filepath.Join(dir, "fd", "3")),
		os.WriteFile(filepath.Join(dir, "cmdline"), nil, 0o644), os.WriteFile(filepath.Join(dir, "uid_map"), []byte("0 0 1\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "status"), []byte("Name:\tagent\nPPid:\t0\nUid:\t0\t0\nNStgid:\t7\t1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	l := &look{Finder: newFinder(Sandbox{}, root)}
	h := holder{pid: 7, base: ".", fd: "3", inode: 77}
	if p := l.describe(&request{}, h); p != nil {
		t.Errorf("at a first look it says %+v", p)
	}
	l.last = true
	if p := l.describe(&request{}, h); p == nil || p.Exe != "/bin/agent" || p.PID != 1 {
		t.Errorf("at the last look it says %+v", p)
	}
}
