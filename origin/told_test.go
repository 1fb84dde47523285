package origin

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

func open() bool { return true }

// withTables has f find these tables in its sandbox's folder of /proc; an empty one
// is not there.
func withTables(t *testing.T, f *Finder, raw, tcp string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"raw": raw, "raw6": heading, "packet": heading, "tcp": tcp} {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, "net", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	f.holder.Close()
	f.holder = folder
}

// What the kernel told stands for the table, and for nothing else.
func TestToldWithoutTables(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	_, did := w.agent(t, testUID, 2, "plain", "tcp", to.String())
	told := Accepted{Src: did.Src, Dst: to, Inode: s.Inode(did.Src, to)}
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	withTables(t, f, heading, "")
	wantFound(t, *f.FindAccepted(told, open), did)
	wantUnknown(t, *f.FindAccepted(told, func() bool { return false }), Gone)
	wantUnknown(t, *f.FindAccepted(Accepted{Src: did.Src, Dst: to}, open), HidePID) // it takes a table, and there is none
	withTables(t, f, heading+row(did.Src, to, false, 1, 0, 1), "")
	clear(f.recent)
	wantUnknown(t, *f.FindAccepted(told, open), Crafted)
}

// One that nobody has is not believed, and what is uncertain is decided by the
// tables, which alone tell the uid.
func TestToldInVain(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	for _, wrong := range []uint64{1, inodeOf(t, w.ns), 1<<64 - 1} {
		wantFound(t, w.look(t, "/proc").ask(t, question{Src: did.Src, Dst: to, Accepted: true, Open: true, Inode: wrong}), did)
	}
	for _, row := range []struct {
		name, way string
		uid       uint32
		want      string
	}{
		{"it hides itself", "hide", testUID, Hidden},
		{"it runs as root", "plain", 0, OtherUser(0)},
		{"it runs as another user", "plain", 4711, OtherUser(4711)},
		{"it is shared", "fork", testUID, Shared(2)},
		{"it may be shared", "hideandfork", testUID, MayShare},
		{"it closes its socket at once", "close", testUID, Gone},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, did := w.agent(t, row.uid, 1, row.way, "tcp", to.String())
			inode := s.Inode(did.Src, to)
			if (inode == 0) != (row.want == Gone) {
				t.Fatalf("the kernel tells %d", inode)
			}
			q := question{Src: did.Src, Dst: to, Accepted: true, Open: true, Inode: inode}
			p := w.gateway.ask(t, q)
			wantUnknown(t, p, row.want)
			if row.want != Gone && p.UID != int(row.uid) {
				t.Errorf("its uid is told as %d; wanted %d", p.UID, row.uid)
			}
			r.end()
			q.Inode = max(inode, 1) // it was told, and closed before the look
			wantUnknown(t, w.gateway.ask(t, q), Gone)
		})
	}
}

// Who had a socket is who has it, if the kernel tells the same one; no table is read.
func TestToldAndRemembered(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	_, did := w.agent(t, testUID, 0, "plain", "tcp", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	wantFound(t, *f.FindAccepted(Accepted{Src: did.Src, Dst: to}, open), did)
	key := attempt{"tcp", did.Src, to}
	k := f.recent[key]
	withTables(t, f, heading, heading+row(did.Src, to, false, 1, testUID, 1)) // which say something else
	again := func(inode uint64) *audit.Process {
		k.at, k.lastPID = time.Now(), lastPID("/proc")
		f.recent[key] = k
		return cached(f, &request{proto: "tcp", src: did.Src, dst: to, accepted: true, inode: inode})
	}
	until(t, "an answer that is remembered", func() bool { return again(k.inode) != nil }) // others fork too
	for range 20 {
		if p := again(k.inode + 1); p != nil {
			t.Errorf("of another socket: %+v", p)
		}
		if p := again(0); p != nil {
			t.Errorf("by the tables: %+v", p)
		}
	}
}

// A connection from the port of one that was reset, whose process has its dead socket
// open still, is that of who made it.
func TestToldOfReusedSourcePort(t *testing.T) {
	w := newWorld(t)
	l, to := w.listen(t, "127.0.0.1:0")
	s, _ := w.sockets(t)
	_, first := w.agent(t, testUID, 0, "plain", "tcp", to.String())
	f := New(Sandbox{Holder: w.holder, Netns: w.inode})
	before := Accepted{Src: first.Src, Dst: to, Inode: s.Inode(first.Src, to)}
	wantFound(t, *f.FindAccepted(before, open), first)
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0)
	c.Close()
	_, second := w.agent(t, testUID, 1, "plain", "tcp", to.String(), first.Src.String())
	if first.Src != second.Src {
		t.Fatalf("they came from %v and %v", first.Src, second.Src)
	}
	after := Accepted{Src: first.Src, Dst: to, Inode: s.Inode(first.Src, to)}
	if after.Inode == 0 || after.Inode == before.Inode {
		t.Fatalf("the kernel tells %d, and then %d", before.Inode, after.Inode)
	}
	wantFound(t, *f.FindAccepted(after, open), second)
}
