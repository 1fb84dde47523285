package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// destination is "user@host:port" taken apart; empty and zero: not given.
type destination struct {
	user, host string
	port       uint16
}

// parseDestination reads host, user@host, host:port, [v6]:port, a bare IPv6
// address, each optionally behind ssh://.
func parseDestination(s string) (destination, error) {
	var d destination
	rest := strings.TrimSuffix(strings.TrimPrefix(s, "ssh://"), "/")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if d.user, rest = rest[:i], rest[i+1:]; d.user == "" {
			return destination{}, fmt.Errorf("ssh host %q: no user before the @", s)
		}
	}
	d.host = rest
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return destination{}, fmt.Errorf("ssh host %q: the [ is not closed", s)
		}
		d.host = rest[1:end]
		rest = rest[end+1:]
		if rest != "" && rest[0] != ':' {
			return destination{}, fmt.Errorf("ssh host %q: only :port can follow the ]", s)
		}
		rest = strings.TrimPrefix(rest, ":")
	case strings.Count(rest, ":") == 1:
		d.host, rest, _ = strings.Cut(rest, ":")
		if rest == "" {
			return destination{}, fmt.Errorf("ssh host %q: no port after the colon", s)
		}
	default:
		rest = ""
	}
	if rest != "" {
		port, err := parsePort(rest)
		if err != nil {
			return destination{}, fmt.Errorf("ssh host %q: %w", s, err)
		}
		d.port = port
	}
	_, notAddress := netip.ParseAddr(d.host)
	if strings.ContainsAny(d.host, "[]/") || strings.Contains(d.host, ":") && notAddress != nil {
		return destination{}, fmt.Errorf("ssh host %q: not a host name", s)
	}
	if err := checkWord("host name", d.host); err != nil {
		return destination{}, fmt.Errorf("ssh host %q: %w", s, err)
	}
	if d.user != "" {
		if err := checkWord("user name", d.user); err != nil {
			return destination{}, fmt.Errorf("ssh host %q: %w", s, err)
		}
	}
	return d, nil
}

// String is the form that parseDestination reads.
func (d destination) String() string {
	s := d.host
	switch {
	case d.port != 0:
		s = net.JoinHostPort(d.host, strconv.Itoa(int(d.port)))
	case strings.Contains(d.host, ":"):
		s = "[" + d.host + "]"
	}
	if d.user != "" {
		s = d.user + "@" + s
	}
	return s
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// checkWord refuses what OpenSSH refuses in a name: it may reach ssh -G, and
// commands that a user is told to run.
func checkWord(what, s string) error {
	if s == "" {
		return fmt.Errorf("the %s is empty", what)
	}
	if s[0] == '-' {
		return fmt.Errorf("the %s %q begins with -", what, s)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("'`\"$\\;&<>|(){}", r) }) {
		return fmt.Errorf("the %s %q has a character that no name has", what, s)
	}
	return nil
}

// parseJump reads a ProxyJump value: hops, first one first; none: no hops.
func parseJump(s string) ([]destination, error) {
	if only := strings.TrimSpace(s); strings.EqualFold(only, "none") || only == "" {
		return nil, nil
	}
	var hops []destination
	for _, part := range strings.Split(s, ",") {
		d, err := parseDestination(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("ProxyJump %q: %w", s, err)
		}
		hops = append(hops, d)
	}
	return hops, nil
}

// expand replaces %-tokens, ${VARIABLES} and a leading ~/ in a path of the ssh
// configuration. An unknown one is an error: a wrong path is worse than none.
func expand(s string, tokens map[byte]string, home string, getenv func(string) string) (string, error) {
	if s == "~" || strings.HasPrefix(s, "~/") {
		s = strings.ReplaceAll(home, "%", "%%") + s[1:]
	} else if strings.HasPrefix(s, "~") {
		return "", fmt.Errorf("%q: only ~/ is supported, not another user's home", s)
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			i++
			if i == len(s) {
				return "", fmt.Errorf("%q ends in %%", s)
			}
			text, ok := tokens[s[i]]
			if s[i] == '%' {
				text, ok = "%", true
			}
			if !ok {
				return "", fmt.Errorf("%q: %%%c is not supported here", s, s[i])
			}
			out.WriteString(text)
		case strings.HasPrefix(s[i:], "${"):
			name, _, ok := strings.Cut(s[i+2:], "}")
			if !ok || getenv == nil || getenv(name) == "" {
				return "", fmt.Errorf("%q: variable %q is not set", s, name)
			}
			out.WriteString(getenv(name))
			i += len("${}") - 1 + len(name)
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String(), nil
}
