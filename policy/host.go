package policy

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Bounds on a host as a client may spell it.
const (
	maxName  = 253  // RFC 1035 §2.3.4, without the root's dot
	maxLabel = 63   // RFC 1035 §2.3.4
	maxInput = 1024 // bytes of Unicode that may map to maxName; bounds the cost of mapping
)

// Errors of Canonical. They are constants so that refusing allocates nothing.
var (
	// ErrAddress means that the host is an IP address in some spelling.
	ErrAddress = errors.New("an address, and rules name hosts")
	// ErrHost means that the host is no host name at all.
	ErrHost = errors.New("not a valid host name")
)

// Canonical returns the one spelling of a host name that rules are compared
// with: ASCII, lower case, no trailing dot. Its error is ErrAddress for every
// spelling of an IP address (a zone, brackets, or the octal, hexadecimal and
// short forms that inet_aton takes included), else ErrHost. A plain lower-case
// ASCII name is returned as it came, without allocating.
func Canonical(host string) (string, error) {
	if len(host) > maxInput {
		return "", ErrHost
	}
	name := strings.TrimSuffix(host, ".")
	if !plain(name) {
		if looksLikeIPv6(host) {
			return "", ErrAddress
		}
		mapped, err := idna.Lookup.ToASCII(host)
		if err != nil || !utf8.ValidString(host) { // idna encodes bytes that are no UTF-8
			return "", ErrHost
		}
		// Literals are looked for after mapping: fullwidth digits become ASCII
		// ones, and other full stops become dots.
		name = strings.TrimSuffix(mapped, ".")
	}
	if !wellFormed(name) {
		return "", ErrHost
	}
	if numeric(name[strings.LastIndexByte(name, '.')+1:]) {
		return "", ErrAddress
	}
	return name, nil
}

// plain reports whether mapping s would give s: lower-case letters, digits, dots
// and hyphens, and no label with "--" where punycode's prefix stands.
func plain(s string) bool {
	start := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			start = i + 1
		case c == '-':
			if i == start+3 && s[i-1] == '-' {
				return false
			}
		case c < '0' || c > 'z' || c > '9' && c < 'a':
			return false
		}
	}
	return true
}

// wellFormed checks the lengths and the hyphens of a mapped name; its characters
// are plain's or those that idna.Lookup leaves. idna.Lookup
// accepts empty labels, so this is where they are refused.
func wellFormed(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// numeric reports whether a name's last label makes it an IPv4 address to some
// parser: digits alone, or hexadecimal with its prefix (WHATWG URL, "ends in a
// number"). No top-level domain looks like that.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// looksLikeIPv6 is for the reason alone: a colon is valid in no name.
func looksLikeIPv6(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil
}
