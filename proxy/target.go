package proxy

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

var (
	errLiteral = errors.New("an address; only names can be allowed")
	errName    = errors.New("not a plain host name")
	errPort    = errors.New("no port between 1 and 65535")
)

// parseTarget splits "name:port" as a CONNECT request gives it. The name comes
// back in lower case without its trailing dot. Names are letters, digits, "-",
// "_" and dots only, so that no spelling (userinfo, zone, percent, full width,
// octal) can mean one host here and another to the resolver.
func parseTarget(hostport string) (host string, port uint16, err error) {
	name, digits, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", 0, errName
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || digits[0] == '+' || digits[0] == '0' {
		return "", 0, errPort
	}
	host, err = plainName(name)
	return host, uint16(n), err
}

// splitClaim splits host:port for the record, whatever the host is.
func splitClaim(hostport string) (host string, port uint16, ok bool) {
	host, digits, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return host, uint16(n), err == nil
}

// urlTarget is parseTarget for an absolute URL, whose port may be left out.
func urlTarget(u *url.URL) (host string, port uint16, err error) {
	if u.User != nil {
		return "", 0, errName
	}
	if u.Scheme == "https" {
		return parseTarget(withPort(u.Host, ":443"))
	}
	return parseTarget(withPort(u.Host, ":80"))
}

// withPort adds a default port where there is none.
func withPort(hostport, port string) string {
	if strings.LastIndexByte(hostport, ':') > strings.LastIndexByte(hostport, ']') {
		return hostport
	}
	return hostport + port
}

func plainName(name string) (string, error) {
	if literal(name) {
		return "", errLiteral
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 {
		return "", errName
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", errName
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", errName
			}
		}
	}
	// 127.1, 0x7f000001, 2130706433 and 017700000001 are addresses to inet_aton.
	if numeric(label) {
		return "", errLiteral
	}
	return name, nil
}

// literal says whether name is an address. What can be none is not parsed: the error
// of that makes garbage.
func literal(name string) bool {
	if strings.IndexByte(name, ':') < 0 && strings.Trim(name, "0123456789.") != "" {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// numeric says whether a last label makes the whole an IPv4 address (WHATWG URL
// §3.5 "ends in a number").
func numeric(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(label, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}
