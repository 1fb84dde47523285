package tunnel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Options is what Resolve may use of its surroundings.
type Options struct {
	Home        string                                                                 // needed
	User        string                                                                 // the login here; empty: asked of the system
	ConfigFiles []string                                                               // the user's, then the system's; nil: ~/.ssh/config, /etc/ssh/ssh_config
	AgentSock   string                                                                 // SSH_AUTH_SOCK; empty: no agent unless IdentityAgent names one
	Getenv      func(string) string                                                    // for ${VARIABLES} in paths; nil: none is set
	Passphrase  func(path string) ([]byte, error)                                      // asks the user; nil: keys with a passphrase are left out
	LookPath    func(string) (string, error)                                           // finds ssh for `ssh -G`; nil: exec.LookPath
	Run         func(ctx context.Context, name string, args ...string) ([]byte, error) // runs it, returns its stdout; nil: os/exec
}

// maxHops bounds a chain of jump hosts.
const maxHops = 8

// Resolve turns what a user calls a host ("strix", "me@strix.lan:22") into all
// that is needed to reach it, as OpenSSH would: the ssh configuration, keys
// (unlocked), known hosts, and the same for each jump host.
func Resolve(ctx context.Context, alias string, o Options) (Host, error) {
	if o.Home == "" {
		return Host{}, errors.New("tunnel: Options.Home is needed")
	}
	if o.User == "" {
		u, err := user.Current()
		if err != nil {
			return Host{}, fmt.Errorf("ssh host %s: who runs this? %w", alias, err)
		}
		o.User = u.Username
	}
	if o.LookPath == nil {
		o.LookPath = exec.LookPath
	}
	if o.Run == nil {
		o.Run = run
	}
	d, err := parseDestination(alias)
	if err != nil {
		return Host{}, err
	}
	r := &resolver{Options: o, keys: map[string]*unlocked{}, agents: map[string][]ssh.PublicKey{}}
	h, err := r.host(ctx, d, true, nil)
	if err != nil {
		return Host{}, err
	}
	h.Name = alias
	return h, h.check()
}

// resolver is one call of Resolve.
type resolver struct {
	Options
	keys   map[string]*unlocked       // by path: no passphrase is asked for twice
	agents map[string][]ssh.PublicKey // by socket
}

// host resolves one host. jump says whether its own ProxyJump counts (OpenSSH
// overrides it for all hops but the first); above are the hosts that led here.
func (r *resolver) host(ctx context.Context, d destination, jump bool, above []string) (Host, error) {
	way := append(slices.Clone(above), d.host)
	if slices.Contains(above, d.host) || len(way) > maxHops {
		return Host{}, fmt.Errorf("ssh host %s: ProxyJump goes in a circle: %s; give the jump host a Host block with `ProxyJump none`",
			way[0], strings.Join(way, " → "))
	}
	s, err := r.settings(ctx, d)
	if err != nil {
		return Host{}, err
	}
	h, err := s.host(d)
	if err != nil {
		return Host{}, err
	}
	if err := r.identities(ctx, s, &h); err != nil {
		return Host{}, err
	}
	if !jump {
		return h, nil
	}
	hops, err := s.jump()
	if err != nil {
		return Host{}, err
	}
	for i, hop := range hops {
		j, err := r.host(ctx, hop, i == 0, way)
		if err != nil {
			return Host{}, fmt.Errorf("jump host of %s: %w", d.host, err)
		}
		h.Jump = append(append(h.Jump, j.Jump...), j)
		h.Jump[len(h.Jump)-1].Jump = nil
	}
	return h, nil
}

// settings reads the configuration for d, asking `ssh -G` for what only OpenSSH
// can judge.
func (r *resolver) settings(ctx context.Context, d destination) (*settings, error) {
	files := r.ConfigFiles
	if files == nil {
		files = []string{filepath.Join(r.Home, ".ssh", "config"), "/etc/ssh/ssh_config"}
	}
	v, err := readConfig(files, r.Home, d.host)
	var unreadable *UnreadableError
	switch {
	case errors.As(err, &unreadable):
		if v, unreadable.Err = r.askSSH(ctx, d); unreadable.Err != nil {
			return nil, fmt.Errorf("ssh host %s: %w", d.host, unreadable)
		}
	case err != nil:
		return nil, fmt.Errorf("ssh host %s: %w", d.host, err)
	}
	s := &settings{values: v, alias: d.host, home: r.Home, getenv: r.Getenv, agentSock: r.AgentSock}
	s.tokens = map[byte]string{'d': r.Home, 'n': d.host, 'h': d.host, 'u': r.User, 'i': strconv.Itoa(os.Getuid())}
	if c := strings.ToLower(s.first("canonicalizehostname")); unreadable == nil && c != "" && c != "no" && c != "false" {
		if s.values, err = r.askSSH(ctx, d); err != nil {
			return nil, fmt.Errorf("ssh host %s: CanonicalizeHostname is left to `ssh -G`: %w", d.host, err)
		}
	}
	return s, nil
}

// askSSH has OpenSSH itself read the configuration.
func (r *resolver) askSSH(ctx context.Context, d destination) (values, error) {
	program, err := r.LookPath("ssh")
	if err != nil {
		return nil, fmt.Errorf("no ssh program: %w", err)
	}
	args := []string{"-G"}
	if len(r.ConfigFiles) > 0 {
		args = append(args, "-F", r.ConfigFiles[0])
	}
	if d.user != "" {
		args = append(args, "-l", d.user)
	}
	if d.port != 0 {
		args = append(args, "-p", strconv.Itoa(int(d.port)))
	}
	out, err := r.Run(ctx, program, append(args, "--", d.host)...)
	if err != nil {
		return nil, err
	}
	v := values{}
	for line := range strings.Lines(string(out)) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch {
		case !ok || value == "" || !wanted(key):
		case key == "userknownhostsfile" || key == "globalknownhostsfile":
			v[key] = append(v[key], strings.Fields(value))
		default:
			v[key] = append(v[key], []string{value})
		}
	}
	named := func(v []string) bool { return !strings.HasPrefix(v[0], "~/.ssh/id_") }
	if files := v["identityfile"]; len(files) > 3 && !slices.ContainsFunc(files, named) {
		delete(v, "identityfile") // OpenSSH's defaults, not the user's
	}
	return v, nil
}

// run is Options.Run by os/exec.
func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, printable(strings.TrimSpace(string(exit.Stderr))))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, nil
}
