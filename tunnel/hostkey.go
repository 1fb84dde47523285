package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// fromFile starts a comment line in Host.KnownHosts: what follows is the text
// of the file that the rest of the line names.
const fromFile = "# sallyport: from "

// errAuthority is of a host that shows the key of an authority of known_hosts.
var errAuthority = errors.New("the key is that of a certificate authority, and no host's own")

// hostKeys knows which keys one host may show.
type hostKeys struct {
	host   Host
	behind bool // reached through a jump host, so ssh-keyscan from here would not find it
	db     *knownhosts.HostKeyDB
	names  []string // host:port as looked up; the later ones only to accept, never to call a key changed
}

// newHostKeys parses h.KnownHosts.
func newHostKeys(h Host, behind bool) (*hostKeys, error) {
	// The library reads files only, and twice.
	dir, err := os.MkdirTemp("", "sallyport-known-hosts-")
	if err != nil {
		return nil, fmt.Errorf("known_hosts of %s: %w", h.Name, err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(file, []byte(h.KnownHosts), 0o600); err != nil {
		return nil, fmt.Errorf("known_hosts of %s: %w", h.Name, err)
	}
	db, err := knownhosts.NewDB(file)
	if err != nil {
		return nil, fmt.Errorf("known_hosts of %s (%s): no line of it can be read; see `man sshd`, SSH_KNOWN_HOSTS FILE FORMAT: %w", h.Name, h.KnownHostsFile, err)
	}
	k := &hostKeys{host: h, behind: behind, db: db}
	name := strings.ToLower(h.Addr)
	switch {
	case h.HostKeyAlias != "":
		k.names = []string{net.JoinHostPort(h.HostKeyAlias, "22")}
	case h.Port != 22: // as OpenSSH does: an entry without a port will do if its key is the right one
		k.names = []string{net.JoinHostPort(name, strconv.Itoa(int(h.Port))), net.JoinHostPort(name, "22")}
	default:
		k.names = []string{net.JoinHostPort(name, "22")}
	}
	return k, nil
}

// algorithms lists the kinds of host key to ask for: those that known_hosts has
// of this host, so that a server with several keys shows the one that is known.
// For an unknown host it is what the server shows by preference, to be named in
// the error.
func (k *hostKeys) algorithms() []string {
	for _, name := range k.names {
		algos := slices.DeleteFunc(k.db.HostKeyAlgorithms(name), func(a string) bool {
			return !slices.Contains(ssh.SupportedAlgorithms().HostKeys, a)
		})
		if len(algos) > 0 {
			return algos
		}
	}
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// check is the ssh.HostKeyCallback: nil only for a key that known_hosts has.
func (k *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	check := k.db.HostKeyCallback()
	var first error
	for _, name := range k.names {
		err := check(name, &net.TCPAddr{IP: net.IPv4zero, Port: int(k.host.Port)}, key)
		if err == nil && !k.own(name, key) {
			err = errAuthority
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		if !knownhosts.IsHostUnknown(err) {
			break
		}
	}
	return k.explain(first, key)
}

// own says whether key is not only the key of an authority, which the library
// takes from a host that shows it as its own.
func (k *hostKeys) own(name string, key ssh.PublicKey) bool {
	if _, certificate := key.(*ssh.Certificate); certificate {
		return true
	}
	return slices.ContainsFunc(k.db.HostKeys(name), func(known knownhosts.PublicKey) bool {
		return !known.Cert && bytes.Equal(known.Marshal(), key.Marshal())
	})
}

// explain turns the library's error into one that says what to do.
func (k *hostKeys) explain(err error, key ssh.PublicKey) error {
	e := k.newError(HostKeyRefused, err)
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	e.KeyType, e.Fingerprint = key.Type(), ssh.FingerprintSHA256(key)
	var revoked *xknownhosts.RevokedError
	var mismatch *xknownhosts.KeyError
	switch {
	case errors.As(err, &revoked):
		e.Problem = HostKeyRevoked
		e.File, e.Line = k.origin(revoked.Revoked.Line)
		e.Fix = fmt.Sprintf("sed -i %dd %s", e.Line, shellQuote(e.File))
	case errors.As(err, &mismatch) && len(mismatch.Want) > 0:
		e.Problem = HostKeyChanged
		e.File, e.Line = k.origin(mismatch.Want[0].Line)
		e.Fix = k.forget(mismatch.Want)
	case errors.As(err, &mismatch):
		e.Problem = HostKeyUnknown
		e.Fix = k.learn(key)
		e.Entry = knownhosts.Line(k.names[:1], key)
	}
	return e
}

// newError fills in what is the same for every problem of this host.
func (k *hostKeys) newError(p Problem, err error) *HostKeyError {
	return &HostKeyError{Host: k.host.Name, Addr: k.host.address(), Problem: p, File: k.host.KnownHostsFile, Err: err}
}

// noCommon explains that the server has no key of a kind that would do.
func (k *hostKeys) noCommon(err *ssh.AlgorithmNegotiationError) error {
	offered := printable(strings.Join(err.RequestedAlgorithms, ", "))
	if !slices.ContainsFunc(k.names, func(name string) bool { return len(k.db.HostKeys(name)) > 0 }) {
		return k.newError(HostKeyRefused, &reworded{fmt.Sprintf("it offers only %s, none of which is strong enough", offered), err})
	}
	return k.newError(HostKeyRefused, &reworded{fmt.Sprintf("it offers only %s, and known_hosts has %s; if the host was really given a new key, forget the old one: ssh-keygen -R %s -f %s",
		offered, strings.Join(err.SupportedAlgorithms, ", "), shellQuote(knownhosts.Normalize(k.names[0])), shellQuote(k.host.KnownHostsFile)), err})
}

// learn is the command that adds key to known_hosts.
func (k *hostKeys) learn(key ssh.PublicKey) string {
	file := shellQuote(k.host.KnownHostsFile)
	if k.behind || k.host.HostKeyAlias != "" {
		return fmt.Sprintf("echo %s >> %s", shellQuote(knownhosts.Line(k.names[:1], key)), file)
	}
	return fmt.Sprintf("ssh-keyscan -p %d -t %s %s >> %s", k.host.Port, keyscanType(key.Type()), shellQuote(strings.ToLower(k.host.Addr)), file)
}

// forget is the command that removes the entries want.
func (k *hostKeys) forget(want []xknownhosts.KnownKey) string {
	var commands []string
	for _, w := range want {
		file, _ := k.origin(w.Line)
		c := fmt.Sprintf("ssh-keygen -R %s -f %s", shellQuote(knownhosts.Normalize(k.names[0])), shellQuote(file))
		if !slices.Contains(commands, c) {
			commands = append(commands, c)
		}
	}
	return strings.Join(commands, " && ")
}

// origin says which file, and which line of it, line n of h.KnownHosts is.
func (k *hostKeys) origin(n int) (file string, line int) {
	file, line = k.host.KnownHostsFile, n
	for i, text := range strings.SplitN(k.host.KnownHosts, "\n", n) {
		if name, ok := strings.CutPrefix(text, fromFile); ok && i < n-1 {
			file, line = name, n-1-i
		}
	}
	return file, line
}

// keyscanType is ssh-keyscan's word for a key type.
func keyscanType(keyType string) string {
	switch {
	case strings.HasPrefix(keyType, "ecdsa-"):
		return "ecdsa"
	case keyType == ssh.KeyAlgoRSA:
		return "rsa"
	}
	return strings.TrimPrefix(keyType, "ssh-")
}

// shellQuote makes s one word of a shell command.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+,~", r)
	}
	if s != "" && s[0] != '~' && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
