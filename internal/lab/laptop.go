package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	binDir     = "/opt/sallyport/bin" // gateway and launcher
	runtimeDir = "/run/user/1000"     // the user's XDG_RUNTIME_DIR
)

// rebinds are names that lead, on the laptop, where no name of the internet's should:
// to the laptop, to whoever asks, into a private network, and to a cloud's metadata.
var rebinds = []struct{ name, addr string }{
	{"laptop.rebind.example", LaptopLAN}, {"loopback.rebind.example", "127.0.0.1"},
	{"private.rebind.example", "10.213.0.1"}, {"metadata.rebind.example", "169.254.169.254"},
}

// Rebinds are those names, which a rule for *.rebind.example allows.
func Rebinds() []string {
	var names []string
	for _, r := range rebinds {
		names = append(names, r.name)
	}
	return names
}

// Laptop is the developer's machine: a Docker engine, and the user who types.
type Laptop struct {
	*Host

	// Home is the user's home folder, a path that is valid on the laptop and in
	// the test process.
	Home string

	engine *daemon
	store  *store
	id     string
	paths  int
}

func newLaptop(h *Host, p *place, e Engine, lower, bin string) (*Laptop, error) {
	l := &Laptop{Host: h, Home: filepath.Join(p.shared, "home"), id: p.id}
	user, files, err := newAccount(lower, l.Home)
	if err != nil {
		return nil, err
	}
	h.user = user
	files["/etc/resolv.conf"] = "nameserver " + DNS + "\n"
	files["/etc/hosts"] = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + h.Name + "\n"
	for _, r := range rebinds {
		files["/etc/hosts"] += r.addr + " " + r.name + "\n"
	}
	files["/etc/hostname"] = h.Name + "\n"
	if l.store, err = takeStore(string(e)); err != nil {
		return nil, err
	}
	t := &tree{
		lower: lower,
		work:  filepath.Join(p.disk, h.Name),
		binds: map[string]string{"/var/lib/docker": l.store.dir, p.shared: p.shared},
		files: files,
	}
	if bin != "" {
		t.binds[binDir] = bin
	}
	if err := errors.Join(ownedDir(l.Home, 0o700), h.boot(t)); err != nil {
		return nil, err
	}
	run := h.Outside(runtimeDir)
	if err := errors.Join(os.MkdirAll(filepath.Dir(run), 0o755), ownedDir(run, 0o700)); err != nil {
		return nil, err
	}
	l.engine = &daemon{host: h, log: filepath.Join(p.shared, "dockerd.log")}
	return l, nil
}

// ownedDir makes a folder of the user's.
func ownedDir(path string, mode os.FileMode) error {
	return errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode), os.Chown(path, UserID, UserID))
}

// StartEngine starts the laptop's engine, which must not run.
func (l *Laptop) StartEngine(ctx context.Context, o EngineOptions) error {
	l.engine.json = map[string]any{
		"bip":               "172.17.0.1/16",
		"ipv6":              true,
		"fixed-cidr-v6":     dockerNet6,
		"cgroup-parent":     "/" + l.id,
		"live-restore":      o.LiveRestore,
		"no-new-privileges": o.NoNewPrivileges,
		// What a lab of a killed test left is no reason to keep anybody waiting.
		"shutdown-timeout": 10,
	}
	if o.UsernsRemap {
		l.engine.json["userns-remap"] = "default"
	}
	return l.engine.start(ctx)
}

// StopEngine stops the engine as a service manager would: its containers end,
// unless it was started with LiveRestore.
func (l *Laptop) StopEngine() error { return l.engine.stop() }

// KillEngine ends the engine with SIGKILL.
func (l *Laptop) KillEngine() error { return l.engine.kill() }

// DockerHost is the engine's address, for programs on the laptop.
func (l *Laptop) DockerHost() string { return "unix://" + socketPath }

// Engine is the engine's address, for the test process.
func (l *Laptop) Engine() string { return "unix://" + l.Outside(socketPath) }

// Docker runs the docker command as the user and returns what it printed.
func (l *Laptop) Docker(ctx context.Context, args ...string) (string, error) {
	out, err := l.Command(ctx, "docker", args...).Output()
	return strings.TrimSpace(string(out)), err
}

// FlushFirewall removes every firewall rule of the laptop, Docker's included, as
// a careless administrator would.
func (l *Laptop) FlushFirewall(ctx context.Context) error {
	for _, line := range []string{
		"nft flush ruleset",
		"iptables -F", "iptables -t nat -F", "iptables -t mangle -F",
		"iptables -P FORWARD ACCEPT", "ip6tables -F", "ip6tables -P FORWARD ACCEPT",
	} {
		words := strings.Fields(line)
		if _, err := l.CommandRoot(ctx, words[0], words[1:]...).Output(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// PathWithout is a PATH with the laptop's gateway and launcher and every other
// program of it, except the named ones.
func (l *Laptop) PathWithout(names ...string) (string, error) {
	l.paths++
	dir := fmt.Sprintf("/opt/sallyport/path-%d", l.paths)
	outside := l.Outside(dir)
	if err := os.MkdirAll(outside, 0o755); err != nil {
		return "", err
	}
	for _, from := range []string{"/usr/bin", "/usr/sbin"} {
		programs, err := os.ReadDir(l.Outside(from))
		if err != nil {
			return "", err
		}
		for _, p := range programs {
			if slices.Contains(names, p.Name()) {
				continue
			}
			err := os.Symlink(filepath.Join(from, p.Name()), filepath.Join(outside, p.Name()))
			if err != nil && !errors.Is(err, os.ErrExist) {
				return "", err
			}
		}
	}
	return binDir + ":" + dir, nil
}

// Project makes a folder of the user's in their home, for one test. Its path is
// valid on the laptop and in the test process.
func (l *Laptop) Project(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("/ \\:*?", r) {
			return '-'
		}
		return r
	}, t.Name())
	dir, err := os.MkdirTemp(l.Home, strings.ToLower(name)+"-")
	if err == nil {
		err = ownedDir(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// WriteFile writes a file of the user's below their home; path is relative to it.
func (l *Laptop) WriteFile(path string, content []byte, mode os.FileMode) error {
	return writeOwned(l.Home, path, content, mode)
}

// writeOwned writes a file and the folders above it, up to top, as the user's.
func writeOwned(top, path string, content []byte, mode os.FileMode) error {
	at := top
	for _, part := range strings.Split(filepath.Dir(path), "/") {
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o700); err == nil {
			err = os.Chown(at, UserID, UserID)
			if err != nil {
				return err
			}
		} else if !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	full := filepath.Join(top, path)
	return errors.Join(os.WriteFile(full, content, mode), os.Chmod(full, mode), os.Chown(full, UserID, UserID))
}
