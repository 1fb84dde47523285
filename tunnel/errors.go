package tunnel

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// ErrLinkDown is what errors.Is finds in the error of a stream whose SSH
// connection was lost, and of a Dial that got no connection in its time.
var ErrLinkDown = errors.New("ssh link down")

// LinkError says that there is no connection to a host, or no more.
type LinkError struct {
	Host string // as the user named it
	Err  error  // why
}

func (e *LinkError) Error() string { return fmt.Sprintf("ssh link to %s is down: %v", e.Host, e.Err) }

// Unwrap makes both ErrLinkDown and the cause findable.
func (e *LinkError) Unwrap() []error { return []error{ErrLinkDown, e.Err} }

// Problem says what is wrong with a server's host key.
type Problem uint8

// The problems. The zero value is the one that says least: no key was accepted.
const (
	HostKeyRefused Problem = iota // a certificate that does not hold, or no kind of key that known_hosts has
	HostKeyUnknown                // known_hosts has no key of this host
	HostKeyChanged                // known_hosts has another key: perhaps somebody in the middle
	HostKeyRevoked                // known_hosts says @revoked
)

// HostKeyError says that the server could not prove to be the host that was
// meant. Nothing was sent to it but the client's half of the key exchange.
type HostKeyError struct {
	Host        string  // as the user named it
	Addr        string  // host:port
	Problem     Problem // what is wrong
	KeyType     string  // of the key that the server showed, e.g. "ssh-ed25519"; empty if none
	Fingerprint string  // of that key, "SHA256:…"; empty if none
	File        string  // the known_hosts file concerned
	Line        int     // of the entry in File; zero: no entry
	Fix         string  // command that the user can run once sure that the key is right; empty: none
	Entry       string  // of an unknown key: the line that makes known_hosts know it; empty: it is no unknown key
	Err         error   // detail; may be nil
}

func (e *HostKeyError) Error() string {
	key := strings.TrimSpace(e.KeyType + " " + e.Fingerprint)
	at := fmt.Sprintf("%s (%s)", e.Host, e.Addr)
	switch e.Problem {
	case HostKeyUnknown:
		return fmt.Sprintf("host key of %s is not known: %s; compare it with what the host's owner says (there: ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub), then: %s",
			at, key, keyscanType(e.KeyType), e.Fix)
	case HostKeyChanged:
		return fmt.Sprintf("host key of %s has CHANGED: it is now %s, other than %s:%d; somebody may be in the middle. If the host was really given a new key, forget the old one: %s",
			at, key, e.File, e.Line, e.Fix)
	case HostKeyRevoked:
		return fmt.Sprintf("host key of %s is REVOKED by %s:%d: %s; if that line is wrong, delete it: %s", at, e.File, e.Line, key, e.Fix)
	default:
		return fmt.Sprintf("host key of %s was refused: %v (%s)", at, e.Err, e.File)
	}
}

// Unwrap returns the detail.
func (e *HostKeyError) Unwrap() error { return e.Err }

// AuthError says that the server, known to be the right one, let nobody in.
type AuthError struct {
	Host    string   // as the user named it
	Login   string   // user@host:port
	Offered []string // what was offered, in order, one line each
	Notes   []string // what could not be offered, and why
	Methods []string // what the server accepts; nil if it did not say
	Err     error    // as the SSH library says it
}

func (e *AuthError) Error() string {
	offered := "no key"
	if len(e.Offered) > 0 {
		offered = strings.Join(e.Offered, ", ")
	}
	s := fmt.Sprintf("ssh login %s (%s) was refused: offered %s", e.Login, e.Host, offered)
	if len(e.Methods) > 0 {
		s += "; the server accepts " + strings.Join(e.Methods, ", ")
	}
	if len(e.Notes) > 0 {
		s += "; not offered: " + strings.Join(e.Notes, ", ")
	}
	return s + "; put one of your public keys into authorized_keys there, or load the right key: ssh-add FILE"
}

// Unwrap returns what the SSH library said.
func (e *AuthError) Unwrap() error { return e.Err }

// TargetError says that the link is fine, and what lies behind it is not.
type TargetError struct {
	Host    string // the SSH host that was asked, as the user named it
	Network string // "tcp" or "unix"
	Addr    string // host:port, or path on Host
	Message string // what the server said: printable, bounded
	Hint    string // what to look at
	Err     error  // *ssh.OpenChannelError, or the context's error
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("%s cannot reach %s %s: %s; %s", e.Host, e.Network, e.Addr, e.Message, e.Hint)
}

// Unwrap returns the cause.
func (e *TargetError) Unwrap() error { return e.Err }

// targetError explains why host did not open a stream to its target.
func targetError(host, network, addr string, err *ssh.OpenChannelError) *TargetError {
	e := &TargetError{Host: host, Network: network, Addr: addr, Message: printable(err.Message), Err: err}
	option := "AllowTcpForwarding (and PermitOpen)"
	if network == "unix" { // OpenSSH 9.2 obeys all three for unix sockets
		option = "AllowStreamLocalForwarding and AllowTcpForwarding (and no PermitOpen)"
	}
	switch {
	case err.Reason == ssh.Prohibited:
		e.Message = "administratively prohibited: " + e.Message
		e.Hint = "its sshd forbids this: set " + option + " in sshd_config there, or remove the restrictions of this key (authorized_keys) or certificate"
	case err.Reason == ssh.UnknownChannelType:
		e.Hint = "its SSH server does not know this kind of forwarding: OpenSSH does"
	case err.Reason == ssh.ResourceShortage:
		e.Hint = "its SSH server is short of resources"
	case network == "unix":
		// sshd says the same for a missing socket, a forbidden one, and forwarding turned off,
		// which OpenSSH 9.2 also does for AllowTcpForwarding and any PermitOpen.
		e.Hint = "is the model server running, may the login open this socket, and does sshd there allow it (AllowStreamLocalForwarding, AllowTcpForwarding, no PermitOpen; permit-port-forwarding of this key or certificate)?"
	default:
		e.Hint = "is the model server running there?"
	}
	return e
}

// permanent says whether trying again, with nothing changed, is pointless.
func permanent(err error) bool {
	var key *HostKeyError
	var auth *AuthError
	var old *ssh.AlgorithmNegotiationError
	return errors.As(err, &key) || errors.As(err, &auth) || errors.As(err, &old)
}

// isNetwork tells a broken transport from a refusal by the other side.
func isNetwork(err error) bool {
	var n net.Error
	return errors.Is(err, ErrLinkDown) || errors.As(err, &n) || isEOF(err)
}

// reworded is err in other words: the library's repeat what a server said,
// whatever that was and however long.
type reworded struct {
	text string
	err  error
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.err }

// maxPeerText bounds what an error repeats of the server's words, in bytes.
const maxPeerText = 200

// printable makes a server's words safe for a terminal, and short.
func printable(s string) string {
	if len(s) > maxPeerText {
		s = s[:maxPeerText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
