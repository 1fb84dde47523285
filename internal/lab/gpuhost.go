package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// GPUHost is the machine that has the model: OpenSSH's sshd, an account of the
// user's, a folder for the model server's socket and, if asked for, an engine.
type GPUHost struct {
	*Host

	keys *keys
	sshd *Cmd
	log  string // outside path of sshd's log

	engine *gpuEngine // nil: none
}

// ModelDir is the folder of the GPU host in which model servers put their
// sockets.
const ModelDir = "/run/models"

// sshdConfig is sshd as Debian sets it up, in what matters to clients. Passwords
// are off: there is nobody to type them.
const sshdConfig = `ListenAddress ` + GPUHostLAN + `
HostKey /etc/ssh/lab_ed25519
HostKey /etc/ssh/lab_ecdsa
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers ` + UserName + `
LogLevel VERBOSE
`

func newGPUHost(h *Host, p *place, lower string, k *keys, o Options) (*GPUHost, error) {
	const home = "/home/" + UserName
	user, files, err := newAccount(lower, home)
	if err != nil {
		return nil, err
	}
	h.user = user
	if o.GPUDevices {
		user.groups = append(user.groups, RenderGroupID)
		files["/etc/group"] += fmt.Sprintf("%s:x:%d:%s\n", renderGroup, RenderGroupID, UserName)
	}
	files["/etc/ssh/lab_sshd"] = sshdConfig
	files["/etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n"
	files["/etc/resolv.conf"] = "nameserver " + DNS + "\n"
	t := &tree{lower: lower, work: filepath.Join(p.disk, h.Name), files: files,
		binds: map[string]string{p.shared: p.shared}, gpu: o.GPUDevices}
	g := &GPUHost{Host: h, keys: k, log: filepath.Join(p.shared, "sshd.log")}
	if g.engine, err = newGPUEngine(o.GPUEngine, p, t, user); err != nil {
		return nil, err
	}
	if err := h.boot(t); err != nil {
		return nil, err
	}
	err = errors.Join(
		os.WriteFile(h.Outside("/etc/ssh/lab_ed25519"), k.hostEd25519.private, 0o600),
		os.WriteFile(h.Outside("/etc/ssh/lab_ecdsa"), k.hostECDSA.private, 0o600),
		os.MkdirAll(h.Outside("/run/sshd"), 0o755),
		ownedDir(h.Outside(home), 0o755),
		writeOwned(h.Outside(home), ".ssh/authorized_keys", k.user.public, 0o600),
		ownedDir(h.Outside(ModelDir), 0o755),
		os.MkdirAll(h.Outside(filepath.Dir(runtimeDir)), 0o755),
		ownedDir(h.Outside(runtimeDir), 0o700),
	)
	if err == nil && g.engine != nil {
		err = g.engine.prepare(h)
	}
	return g, err
}

// sshdStart bounds the wait for sshd to listen.
const sshdStart = 10 * time.Second

// StartSSH starts sshd, which must not run, and waits until it accepts.
func (g *GPUHost) StartSSH(ctx context.Context) error {
	g.sshd = g.CommandRoot(context.WithoutCancel(ctx), "/usr/sbin/sshd", "-D", "-E", g.log, "-f", "/etc/ssh/lab_sshd")
	if err := g.sshd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sshdStart)
	defer cancel()
	err := until(ctx, func() error {
		c, err := g.Dial(ctx, "tcp", net.JoinHostPort(GPUHostLAN, "22"))
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		return errors.Join(fmt.Errorf("lab: sshd: %w; its log:\n%s", err, tail(g.log)), g.StopSSH())
	}
	return nil
}

// StopSSH ends sshd and every connection that it serves.
func (g *GPUHost) StopSSH() error {
	if g.sshd == nil {
		return nil
	}
	err := g.sshd.Process.Kill()
	_ = g.sshd.Wait() // killed
	g.sshd = nil
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	// Each connection has processes of its own, which outlive the listener.
	kill := g.CommandRoot(context.Background(), "pkill", "-KILL", "sshd")
	if out, kerr := kill.CombinedOutput(); kerr != nil && kill.ProcessState.ExitCode() != 1 { // 1: there was none
		err = errors.Join(err, fmt.Errorf("lab: end ssh sessions: %w: %s", kerr, out))
	}
	return err
}

// SSHLog is sshd's log so far.
func (g *GPUHost) SSHLog() string { return tail(g.log) }

// HostKeys are sshd's public keys, as lines of a known_hosts file for
// GPUHostLAN.
func (g *GPUHost) HostKeys() []byte { return g.keys.knownHosts(GPUHostLAN) }

// ServeModel serves h on the socket name in ModelDir until the test ends, and
// returns the socket's path on the GPU host. The user may connect to it.
func (g *GPUHost) ServeModel(t testing.TB, name string, h http.Handler) string {
	t.Helper()
	path := filepath.Join(ModelDir, name)
	l, err := g.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// The listener knows the path, but removes it in the test process's tree.
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	if err := os.Chmod(g.Outside(path), 0o666); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("lab: model server: %v", err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
		_ = os.Remove(g.Outside(path))
	})
	return path
}

// DialSocket gives an http.Transport a way to a unix socket of the GPU host.
func (g *GPUHost) DialSocket(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return g.Dial(ctx, "unix", path) }
}

// until asks again and again, for things that nothing announces.
func until(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
