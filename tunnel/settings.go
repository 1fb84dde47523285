package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// settings are the lines of the ssh configuration that concern one host. For
// most keywords the first line counts.
type settings struct {
	values
	alias     string // the host as named
	home      string
	agentSock string
	getenv    func(string) string
	tokens    map[byte]string // what %h and so on stand for
}

// first is the value of a keyword with one argument; empty: not set.
func (s *settings) first(key string) string {
	if v := s.values[key]; len(v) > 0 {
		return v[0][0]
	}
	return ""
}

// path expands one path of keyword key.
func (s *settings) path(key, value string) (string, error) {
	p, err := expand(value, s.tokens, s.home, s.getenv)
	if err != nil {
		return "", fmt.Errorf("ssh host %s: %s %w", s.alias, key, err)
	}
	return p, nil
}

// yes reads a switch; anything but yes and no is an error.
func (s *settings) yes(key string) (bool, error) {
	switch v := strings.ToLower(s.first(key)); v {
	case "yes", "true":
		return true, nil
	case "", "no", "false":
		return false, nil
	default:
		return false, fmt.Errorf("ssh host %s: %s is %q, neither yes nor no", s.alias, key, v)
	}
}

// host fills in all but keys and jump hosts. What d itself says goes first.
func (s *settings) host(d destination) (Host, error) {
	h := Host{Name: d.host, Addr: d.host, Port: d.port, User: d.user}
	var err error
	if name := s.first("hostname"); name != "" {
		// %h is the name as given here, not yet the one it becomes.
		if h.Addr, err = expand(name, map[byte]string{'h': d.host}, s.home, nil); err != nil {
			return Host{}, fmt.Errorf("ssh host %s: HostName %w", s.alias, err)
		}
	}
	h.Addr = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(h.Addr, "["), "]"))
	if err := checkWord("host name", h.Addr); err != nil {
		return Host{}, fmt.Errorf("ssh host %s: %w", s.alias, err)
	}
	if port := s.first("port"); h.Port == 0 && port != "" {
		if h.Port, err = parsePort(port); err != nil {
			return Host{}, fmt.Errorf("ssh host %s: %w", s.alias, err)
		}
	}
	if h.Port == 0 {
		h.Port = 22
	}
	if h.User == "" {
		h.User = s.first("user")
	}
	if h.User == "" {
		h.User = s.tokens['u']
	}
	h.HostKeyAlias = s.first("hostkeyalias")
	s.tokens['h'], s.tokens['p'], s.tokens['r'], s.tokens['k'] = h.Addr, strconv.Itoa(int(h.Port)), h.User, h.Addr
	if h.HostKeyAlias != "" {
		s.tokens['k'] = h.HostKeyAlias
	}
	if h.IdentitiesOnly, err = s.yes("identitiesonly"); err != nil {
		return Host{}, err
	}
	return h, errors.Join(s.agent(&h), s.knownHosts(&h))
}

// agent finds the agent's socket.
func (s *settings) agent(h *Host) (err error) {
	switch v := s.first("identityagent"); {
	case v == "" || v == "SSH_AUTH_SOCK":
		h.AgentSocket = s.agentSock
	case strings.EqualFold(v, "none"):
	case strings.HasPrefix(v, "$") && !strings.HasPrefix(v, "${"):
		if s.getenv != nil {
			h.AgentSocket = s.getenv(v[1:])
		}
	default:
		h.AgentSocket, err = s.path("IdentityAgent", v)
	}
	return err
}

// knownHosts reads the files of keys that the host may show.
func (s *settings) knownHosts(h *Host) error {
	if r := s.first("revokedhostkeys"); r != "" && !strings.EqualFold(r, "none") {
		return fmt.Errorf("ssh host %s: RevokedHostKeys %s is not supported, and not ignored: put `@revoked * KEY` lines into known_hosts instead", s.alias, r)
	}
	files := []struct {
		key      string
		defaults []string
	}{
		{"UserKnownHostsFile", []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}},
		{"GlobalKnownHostsFile", []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}},
	}
	var text strings.Builder
	for _, f := range files {
		paths := f.defaults
		if v := s.values[strings.ToLower(f.key)]; len(v) > 0 {
			paths = v[0]
		}
		for _, p := range paths {
			if strings.EqualFold(p, "none") {
				continue
			}
			p, err := s.path(f.key, p)
			if err != nil {
				return err
			}
			if h.KnownHostsFile == "" {
				h.KnownHostsFile = p
			}
			data, err := os.ReadFile(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("ssh host %s: known_hosts: %w", s.alias, err)
			}
			fmt.Fprintf(&text, "%s%s\n%s\n", fromFile, p, strings.TrimSuffix(string(data), "\n"))
		}
	}
	h.KnownHosts = text.String()
	return nil
}

// jump is the list of jump hosts. A ProxyCommand would need a program of the
// user's; it is refused rather than left out.
func (s *settings) jump() ([]destination, error) {
	command, jump := s.first("proxycommand"), s.first("proxyjump")
	if command != "" && !strings.EqualFold(command, "none") {
		return nil, fmt.Errorf("ssh host %s: ProxyCommand is not supported: use ProxyJump, or name a host that needs neither (say `ProxyCommand none` in its Host block)", s.alias)
	}
	hops, err := parseJump(jump)
	if err != nil {
		return nil, fmt.Errorf("ssh host %s: %w", s.alias, err)
	}
	return hops, nil
}
