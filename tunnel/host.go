// Package tunnel reaches an address or a unix socket through a GPU host by SSH:
// it resolves what the user's ssh configuration says about a host, keeps one
// verified connection to it, and opens any number of streams over that. It
// needs no ssh program and no file of the caller's once a Host is resolved. It
// stops at the stream: what is spoken over it, and who may open one, is decided
// elsewhere.
package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Host is everything needed to reach one SSH server, and to be sure that it is
// that one. Resolve makes it from the user's configuration; it travels as JSON
// to a process that reads none of the user's files. It holds private keys: print
// it with String, store it only WithoutSecrets.
type Host struct {
	Name           string        `json:"name"`                      // as the user wrote it, for messages
	Addr           string        `json:"addr"`                      // name or address to connect to; no brackets
	Port           uint16        `json:"port"`                      // zero is an error
	User           string        `json:"user"`                      // the login there
	HostKeyAlias   string        `json:"host_key_alias,omitempty"`  // looked up in KnownHosts instead of Addr and Port; empty: none
	KnownHosts     string        `json:"known_hosts"`               // text of the known_hosts files; empty: every host key is unknown
	KnownHostsFile string        `json:"known_hosts_file"`          // where a new key belongs; named in errors
	AgentSocket    string        `json:"agent_socket,omitempty"`    // empty: no agent
	IdentitiesOnly bool          `json:"identities_only,omitempty"` // offer only those of the agent's keys that are in Keys
	Keys           []Key         `json:"keys,omitempty"`            // identity files, in the order to try
	Notes          []string      `json:"notes,omitempty"`           // identities left out and why; shown when authentication fails
	Jump           []Host        `json:"jump,omitempty"`            // ProxyJump, first hop first; a hop has no Jump of its own
	KeepAlive      time.Duration `json:"keep_alive,omitempty"`      // between keepalives, and the time for their answer; zero: 15 s
}

// Key is one identity file. PEM is absent when the private half is only in the
// agent (or was dropped by WithoutSecrets).
type Key struct {
	Path        string `json:"path"`                  // for messages
	PEM         []byte `json:"pem,omitempty"`         // private key without a passphrase, OpenSSH, PKCS#1 or PKCS#8
	Public      []byte `json:"public,omitempty"`      // SSH wire format
	Certificate []byte `json:"certificate,omitempty"` // SSH wire format, for the same key
}

// String names the key's file; it never prints the key.
func (k Key) String() string { return k.Path }

// GoString keeps private keys out of %#v.
func (k Key) GoString() string { return fmt.Sprintf("tunnel.Key{Path: %q}", k.Path) }

// LogValue keeps private keys out of the log.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.Path) }

// WithoutSecrets returns a copy that is fit for the disk: all but private keys.
func (h Host) WithoutSecrets() Host {
	h.Keys = slices.Clone(h.Keys)
	for i := range h.Keys {
		h.Keys[i].PEM = nil
	}
	h.Notes = slices.Clone(h.Notes)
	h.Jump = slices.Clone(h.Jump)
	for i := range h.Jump {
		h.Jump[i] = h.Jump[i].WithoutSecrets()
	}
	return h
}

// String is "strix (me@strix.lan:22 via bastion)"; it never prints keys.
func (h Host) String() string {
	s := fmt.Sprintf("%s (%s@%s", h.Name, h.User, h.address())
	for i, j := range h.Jump {
		s += map[bool]string{true: " via ", false: ", "}[i == 0] + j.Name
	}
	return s + ")"
}

// GoString keeps private keys out of %#v.
func (h Host) GoString() string { return "tunnel.Host{" + h.String() + "}" }

// LogValue keeps private keys out of the log.
func (h Host) LogValue() slog.Value { return slog.StringValue(h.String()) }

// address is host:port, with brackets for IPv6.
func (h Host) address() string {
	return net.JoinHostPort(h.Addr, strconv.Itoa(int(h.Port)))
}

// hops is the way to h: the jump hosts, then h itself.
func (h Host) hops() []Host {
	way := append(slices.Clone(h.Jump), h)
	way[len(way)-1].Jump = nil
	return way
}

// check reports what is missing for a connection to h.
func (h Host) check() error {
	var errs []error
	for _, hop := range h.hops() {
		if hop.Addr == "" || hop.Port == 0 || hop.User == "" {
			errs = append(errs, fmt.Errorf("ssh host %q: address, port and user are all needed, got %q, %d and %q", hop.Name, hop.Addr, hop.Port, hop.User))
		}
		if len(hop.Jump) > 0 {
			errs = append(errs, fmt.Errorf("ssh host %q: a jump host cannot have jump hosts of its own here", hop.Name))
		}
		if strings.ContainsAny(hop.KnownHostsFile, "\r\n") {
			errs = append(errs, fmt.Errorf("ssh host %q: line break in the known_hosts file's name", hop.Name))
		}
	}
	if h.KeepAlive < 0 {
		errs = append(errs, fmt.Errorf("ssh host %q: negative keepalive %v", h.Name, h.KeepAlive))
	}
	return errors.Join(errs...)
}
