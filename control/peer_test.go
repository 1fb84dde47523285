package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

const (
	socketVariable = "SALLYPORT_TEST_SOCKET"
	otherUID       = 12345
)

// TestMain is also the other user's client: the test binary runs itself.
func TestMain(m *testing.M) {
	socket := os.Getenv(socketVariable)
	if socket == "" {
		goleak.VerifyTestMain(m)
		return
	}
	_, err := NewClient(socket).Status(context.Background())
	fmt.Println(err)
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// open lets others reach what only the server itself is to refuse.
func open(t *testing.T, socket string) {
	t.Helper()
	dir := filepath.Dir(socket)
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("being somebody else takes root")
	}
	g := newGateway(t)
	open(t, g.socket)
	for uid, want := range map[uint32]bool{0: true, otherUID: false} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{socketVariable + "=" + g.socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != want {
			t.Errorf("uid %d: %v, %s", uid, err, out)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.refused, []uint32{otherUID}) {
		t.Errorf("told of %v", g.refused)
	}
}

func TestPeerOfNoSocketIsAnError(t *testing.T) {
	c, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := (&peerListener{c, nil}).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
