package machine

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// answers is what here gets when it says hello to there.
func answers(t *testing.T, there, here net.Conn) {
	t.Helper()
	defer there.Close()
	defer here.Close()
	if _, err := io.WriteString(there, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(here, got); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestListenUnix(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		ctx := testContext(t)
		path := filepath.Join(s.home, "back.sock")
		left, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		ok(t, err)
		left.SetUnlinkOnClose(false) // as sshd leaves it behind
		ok(t, left.Close())
		l, err := m.ListenUnix(ctx, path)
		ok(t, err)
		st, err := os.Stat(path)
		ok(t, err)
		if st.Mode().Perm() != 0o600 || int(st.Sys().(*syscall.Stat_t).Uid) != s.uid {
			t.Errorf("the socket is %v, of user %d", st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
		there, err := m.Dial(ctx, "unix", path)
		ok(t, err)
		here, err := l.Accept()
		ok(t, err)
		answers(t, there, here)
		ok(t, l.Close())
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close the socket is there: %v", err)
		}

		// A file is not replaced.
		ok(t, os.WriteFile(path, []byte("precious"), 0o644))
		if _, err := m.ListenUnix(ctx, path); err == nil {
			t.Error("a file was replaced")
		}
		content(t, path, "precious")
		for bad, want := range map[string]string{"x.sock": "absolute", "/" + strings.Repeat("x", 107): "hosts[].folder", s.home + "/no/x.sock": ""} {
			if _, err := m.ListenUnix(ctx, bad); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", bad, err)
			}
		}
	})
}

func TestDial(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		defer l.Close()
		there, err := m.Dial(testContext(t), "tcp", l.Addr().String())
		ok(t, err)
		here, err := l.Accept()
		ok(t, err)
		answers(t, there, here)
		if _, err := m.Dial(testContext(t), "udp", "127.0.0.1:1"); err == nil {
			t.Error("udp was dialled")
		}
	})
}
