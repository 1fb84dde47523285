package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"
)

// RuleError says what is wrong with one rule.
type RuleError struct {
	Index int    // position in the list given to New
	Host  string // as written
	Err   error  // what is wrong, with a hint
}

// Error names the rule by its position and host.
func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %d (host %s): %v", e.Index+1, strconv.Quote(cut(e.Host)), e.Err)
}

// Unwrap returns what is wrong.
func (e *RuleError) Unwrap() error { return e.Err }

// compile checks one rule and returns the name that it is about, and whether it
// is about the names below it.
func compile(r Rule) (name string, below bool, err error) {
	if len(r.Ports) == 0 {
		return "", false, errors.New("no ports; write at least one, for example ports: [443]")
	}
	for _, port := range r.Ports {
		if port == 0 {
			return "", false, errors.New("port 0 does not exist; ports are 1 to 65535")
		}
	}
	if strings.ContainsFunc(r.Why, unprintable) {
		return "", false, errors.New("why must be one line of printable text")
	}
	base, below := strings.CutPrefix(r.Host, "*.")
	if strings.Contains(base, "*") {
		return "", false, errors.New(`"*" stands alone or inside a name; write the name, or "*.example.org" for every name below it`)
	}
	name, err = Canonical(base)
	switch {
	case errors.Is(err, ErrAddress):
		return "", false, errors.New("an address; write the host's name, since rules name hosts and the gateway resolves them")
	case err != nil:
		return "", false, hostError(base)
	case below:
		err = tooWide(name)
	}
	return name, below, err
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// hostError says which common slip made a rule's host invalid.
func hostError(host string) error {
	switch {
	case host == "":
		return errors.New(`no host; write a name, or "*.example.org"`)
	case strings.Contains(host, "://"), strings.Contains(host, "/"):
		return errors.New("a URL; write the host alone, and its port under ports")
	case strings.Contains(host, ":"):
		return errors.New("a port in the host; write it under ports")
	case strings.HasPrefix(host, "."):
		return errors.New(`starts with a dot; write "*.example.org" for every name below example.org`)
	}
	return errors.New("not a valid host name: letters, digits, hyphens and dots, labels of 1 to 63 bytes")
}

// tooWide refuses "*." over a name below which anybody may register one: the
// rule would let data out to whoever asks for it.
func tooWide(name string) error {
	if suffix, _ := publicsuffix.PublicSuffix(name); suffix == name {
		return fmt.Errorf("anybody can have a name below %s, so this would allow almost everything; name the hosts", name)
	}
	return nil
}

// Hint says in one line what a user would write to allow host and port.
func Hint(host string, port uint16) string {
	name, err := Canonical(host)
	switch {
	case errors.Is(err, ErrAddress):
		return "rules name hosts, not addresses: ask for the host by its name"
	case err != nil || port == 0:
		return "no rule can allow this"
	}
	return fmt.Sprintf(`to allow it, add to policy.allow in Sallyport's config.yaml: - {host: %q, ports: [%d], why: "…"}`, name, port)
}

// maxShown bounds how many bytes of a client's host are repeated to a reader. A
// valid name fits whole.
const maxShown = maxName + 1

// Shown returns a host as a client wrote it, fit for a line of text: quoted
// unless it holds only what names and addresses hold, and bounded.
func Shown(host string) string {
	if host == "" || len(host) > maxShown || strings.ContainsFunc(host, notShown) {
		return strconv.QuoteToASCII(cut(host))
	}
	return host
}

func notShown(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	return !letter && (r < '0' || r > '9') && !strings.ContainsRune("-._:[]", r)
}

// cut bounds s. The mark says that something is missing.
func cut(s string) string {
	const keep = 80
	if len(s) <= maxShown {
		return s
	}
	return s[:keep] + "…"
}
