package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tunnel"
)

func itoa(n int) string { return strconv.Itoa(n) }

// onlyFile fails unless folder holds just the file.
func onlyFile(t *testing.T, folder, name string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	ok(t, err)
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("%s holds %v, want %s alone", folder, entries, name)
	}
}

func content(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %d bytes %.40q, %v; want %d", path, len(got), got, err, len(want))
	}
}

func TestPut(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		ctx := testContext(t)
		folder := filepath.Join(s.home, "a b", "it's")
		path := filepath.Join(folder, "gateway-0123")
		big := strings.Repeat("0123456789abcde\n", 300<<10)
		ok(t, m.Put(ctx, path, strings.NewReader(big), 0o755))
		content(t, path, big)
		st, err := os.Stat(path)
		ok(t, err)
		if st.Mode() != 0o755 {
			t.Errorf("mode %v", st.Mode())
		}
		for _, dir := range []string{folder, filepath.Dir(folder)} {
			if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, %v", dir, st.Mode(), err)
			}
		}

		// The old file is there until the new one is whole.
		half, rest := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- m.Put(ctx, path, half, 0o600) }()
		io.WriteString(rest, "new ")
		content(t, path, big)
		io.WriteString(rest, "file")
		rest.Close()
		ok(t, <-done)
		content(t, path, "new file")
		onlyFile(t, folder, "gateway-0123")

		// A link is replaced, not followed.
		victim := filepath.Join(s.home, "victim")
		ok(t, os.WriteFile(victim, []byte("mine"), 0o644))
		ok(t, os.Remove(path))
		ok(t, os.Symlink(victim, path))
		ok(t, m.Put(ctx, path, strings.NewReader(""), 0o600))
		content(t, path, "")
		content(t, victim, "mine")
	})
}

func TestPutFails(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		ctx := testContext(t)
		path := filepath.Join(s.home, "x", "file")
		ok(t, m.Put(ctx, path, strings.NewReader("old"), 0o600))
		broken := errors.New("broken")
		err := m.Put(ctx, path, io.MultiReader(strings.NewReader("half"), errReader{broken}), 0o600)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), path) {
			t.Errorf("input: %v", err)
		}
		ctx2, cancel := context.WithCancel(ctx)
		half, rest := io.Pipe()
		go func() {
			io.WriteString(rest, "half")
			cancel()
		}()
		if err := m.Put(ctx2, path, half, 0o600); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		rest.Close()
		content(t, path, "old")
		eventually(t, func() bool { entries, err := os.ReadDir(filepath.Dir(path)); return err == nil && len(entries) == 1 })

		ok(t, os.MkdirAll(filepath.Join(s.home, "d", "folder"), 0o777))
		ok(t, os.Chmod(filepath.Join(s.home, "d"), 0o777))
		if err := m.Put(ctx, filepath.Join(s.home, "d", "folder"), strings.NewReader("x"), 0o600); err == nil || !strings.Contains(err.Error(), "it is a folder") {
			t.Errorf("folder: %v", err)
		}
		onlyFile(t, filepath.Join(s.home, "d"), "folder")
		if entries, err := os.ReadDir(filepath.Join(s.home, "d", "folder")); err != nil || len(entries) > 0 {
			t.Errorf("the folder holds %v, %v", entries, err)
		}
		if err := m.Put(ctx, "/proc/nothing/file", strings.NewReader("x"), 0o600); err == nil {
			t.Error("/proc took a file")
		}
		for _, bad := range []string{"", "/", "file", "/a/../b", "/a/", "/a\x00b"} {
			if err := m.Put(ctx, bad, strings.NewReader("x"), 0o600); err == nil {
				t.Errorf("%q was taken", bad)
			}
		}
		if err := m.Put(ctx, path, strings.NewReader("x"), 0o4755); err == nil {
			t.Error("a mode beyond permission bits was taken")
		}
		content(t, path, "old")
	})
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// A file that did not come whole is not given its name.
func TestPutShort(t *testing.T) {
	s := newSomebody(t)
	bin := filepath.Join(s.home, "bin")
	ok(t, os.Mkdir(bin, 0o755))
	ok(t, os.WriteFile(filepath.Join(bin, "cat"), []byte("#!/bin/sh\nhead -c 3\nwhile read -r line; do :; done\n"), 0o755))
	m := Local(LocalOptions{Home: s.home, UID: s.uid, GID: s.gid, Environ: []string{"PATH=" + bin + ":/usr/bin:/bin"}})
	path := filepath.Join(s.home, "x", "file")
	if err := m.Put(testContext(t), path, strings.NewReader("whole"), 0o600); err == nil || !strings.Contains(err.Error(), "3 of 5 bytes came") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A link that is lost while a file is on its way looks, at the other end, like
// the file's end.
func TestPutLinkLost(t *testing.T) {
	s := newSomebody(t)
	drop := make(chan bool)
	m := s.there(t, login{drop: drop})
	ctx := testContext(t)
	path := filepath.Join(s.home, "x", "file")
	ok(t, m.Put(ctx, path, strings.NewReader("old"), 0o600))
	half, rest := io.Pipe()
	defer rest.Close()
	done := make(chan error, 1)
	go func() { done <- m.Put(ctx, path, half, 0o600) }()
	io.WriteString(rest, "half")
	drop <- true
	if err := <-done; !errors.Is(err, tunnel.ErrLinkDown) {
		t.Errorf("got %v", err)
	}
	eventually(t, func() bool { entries, err := os.ReadDir(filepath.Dir(path)); return err == nil && len(entries) == 1 })
	content(t, path, "old")
	ok(t, m.Put(ctx, path, strings.NewReader("new"), 0o600))
	content(t, path, "new")
}

func TestPutDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small disk needs root")
	}
	s := newSomebody(t)
	disk := filepath.Join(s.home, "disk")
	ok(t, os.Mkdir(disk, 0o755))
	m := s.there(t, login{setup: "mount -t tmpfs -o size=1m,mode=1777 none " + Quote(disk)})
	ctx := testContext(t)
	ok(t, m.Put(ctx, disk+"/small", strings.NewReader("small"), 0o600))
	err := m.Put(ctx, disk+"/big", bytes.NewReader(make([]byte, 4<<20)), 0o600)
	if err == nil || !strings.Contains(err.Error(), "No space left on device") || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("got %v", err)
	}
	if out, err := m.Sh(ctx, `ls -A "$1"`, nil, disk); err != nil || string(out) != "small\n" {
		t.Errorf("left: %q, %v", out, err)
	}
	if free, err := m.DiskFree(ctx, disk+"/not/yet"); err != nil || free <= 0 || free > 1<<20 {
		t.Errorf("free %d, %v", free, err)
	}
	ok(t, m.Put(ctx, disk+"/big", bytes.NewReader(make([]byte, 512<<10)), 0o600))
}

func TestDiskFree(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		ctx := testContext(t)
		var fs unix.Statfs_t
		ok(t, unix.Statfs(s.home, &fs))
		total := int64(fs.Blocks) * fs.Bsize
		for _, path := range []string{s.home, s.home + "/no/such folder/x", "/"} {
			if free, err := m.DiskFree(ctx, path); err != nil || free <= 0 || free > total*100 {
				t.Errorf("%s: %d, %v", path, free, err)
			}
		}
		if _, err := m.DiskFree(ctx, "relative"); err == nil {
			t.Error("a relative path was taken")
		}
	})
}

// eventually waits for what another process does and tells nobody.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for ctx := testContext(t); !f(); {
		if ctx.Err() != nil {
			t.Fatal("it did not happen")
		}
		runtime.Gosched()
	}
}
