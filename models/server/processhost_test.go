package server

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/tunnel"
)

// buildGateway makes the real program, as it is shipped.
func buildGateway(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "gateway")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "../../cmd/gateway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// host is a login of this machine that runs servers as processes.
type host struct {
	home, folder, binary string
	uid, gid             int
	dir                  string // sshd's files
	client, key          ssh.Signer
	clientPEM            []byte
}

func newHost(t *testing.T, gateway string) *host {
	t.Helper()
	home, err := os.MkdirTemp("", "gpu") // short: sockets lie in it
	noErr(t, err)
	t.Cleanup(func() { os.RemoveAll(home) })
	h := &host{home: home, folder: filepath.Join(home, "models", "it's"), binary: filepath.Join(home, "bin", "gateway-0"), uid: os.Getuid(), gid: os.Getgid()}
	noErr(t, os.MkdirAll(filepath.Dir(h.binary), 0o755))
	program, err := os.ReadFile(gateway)
	noErr(t, err)
	noErr(t, os.WriteFile(h.binary, program, 0o755))
	return h
}

// somebody makes h a login that is not root's, if root tests.
func (h *host) somebody(t *testing.T) *host {
	t.Helper()
	if os.Getuid() == 0 {
		h.uid, h.gid = 54321, 54321
		noErr(t, os.Chown(h.home, h.uid, h.gid))
	}
	return h
}

func (h *host) here() *machine.Machine {
	return machine.Local(machine.LocalOptions{Home: h.home, UID: h.uid, GID: h.gid,
		Environ: []string{"PATH=" + os.Getenv("PATH"), "SSH_AUTH_SOCK=/tmp/agent", "AWS_SECRET_ACCESS_KEY=secret"}})
}

// overSSH is h behind a real sshd; its end closes the login, and sshd.
func (h *host) overSSH(t *testing.T) (m *machine.Machine, end func()) {
	t.Helper()
	if h.client == nil {
		h.dir = t.TempDir()
		h.client, h.clientPEM = newSSHKey(t)
		var hostPEM []byte
		h.key, hostPEM = newSSHKey(t)
		h.write(t, "host", string(hostPEM))
		h.write(t, "authorized", string(ssh.MarshalAuthorizedKey(h.client.PublicKey())))
	}
	me, err := user.Current()
	noErr(t, err)
	port, stop := h.sshd(t)
	c, err := tunnel.New(tunnel.Host{Name: "gpu", Addr: "127.0.0.1", Port: uint16(port), User: me.Username,
		KnownHosts: fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(h.key.PublicKey())),
		Keys:       []tunnel.Key{{Path: "id_test", PEM: h.clientPEM, Public: h.client.PublicKey().Marshal()}}}, slog.New(slog.DiscardHandler))
	noErr(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return machine.Remote("gpu", c), func() {
		cancel()
		noErr(t, <-ended)
		stop()
	}
}

// sshd starts OpenSSH's server at a free port.
func (h *host) sshd(t *testing.T) (port int, stop func()) {
	t.Helper()
	if os.Getuid() == 0 {
		noErr(t, os.MkdirAll("/run/sshd", 0o755)) // Debian's sshd wants it
	}
	for range 5 { // the port may be taken between our look and sshd's
		l, err := net.Listen("tcp", "127.0.0.1:0")
		noErr(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		config := h.write(t, "config", fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nPidFile none\nUsePAM no\nStrictModes no\n"+
			"PermitRootLogin yes\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\n", port, h.dir, h.dir))
		cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
		stderr, err := cmd.StderrPipe()
		noErr(t, err)
		noErr(t, cmd.Start())
		lines := bufio.NewScanner(stderr)
		up := false
		for !up && lines.Scan() {
			up = strings.Contains(lines.Text(), "Server listening")
		}
		go io.Copy(io.Discard, stderr)
		stop := func() {
			cmd.Process.Kill()
			cmd.Wait()
		}
		if up {
			return port, stop
		}
		stop()
	}
	t.Fatal("sshd does not listen")
	return 0, nil
}

func (h *host) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(h.dir, name)
	noErr(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func newSSHKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	noErr(t, err)
	block, err := ssh.MarshalPrivateKey(key, "test")
	noErr(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	noErr(t, err)
	return signer, pem.EncodeToMemory(block)
}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
