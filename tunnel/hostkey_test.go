package tunnel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// dialOnce makes a client of h, and returns what one Dial said.
func dialOnce(t *testing.T, h Host, network, addr string) error {
	t.Helper()
	conn, err := start(t, h).Dial(testContext(t), network, addr)
	if err == nil {
		roundTrip(t, conn, "hello")
		conn.Close()
	}
	return err
}

// setKnown makes text the known_hosts of h, also in its file.
func setKnown(t *testing.T, h *Host, text string) {
	t.Helper()
	ok(t, os.WriteFile(h.KnownHostsFile, []byte(text), 0o600))
	h.KnownHosts = fromFile + h.KnownHostsFile + "\n" + text
}

// runFix runs the command that an error recommends, and reads the file again.
func runFix(t *testing.T, h *Host, fix string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", fix).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", fix, err, out)
	}
	text, err := os.ReadFile(h.KnownHostsFile)
	ok(t, err)
	setKnown(t, h, string(text))
}

func hostKeyError(t *testing.T, err error, want Problem) *HostKeyError {
	t.Helper()
	var e *HostKeyError
	if !errors.As(err, &e) || e.Problem != want || errors.Is(err, ErrLinkDown) {
		t.Fatalf("got %v; want HostKeyError %d", err, want)
	}
	t.Log(err)
	return e
}

func TestHostKeyUnknownThenFixed(t *testing.T) {
	s := startSSHD(t, []string{"ecdsa", "ed25519"})
	h := s.host(t, s.port)
	setKnown(t, &h, "# nothing\nother.example "+s.hostKeys["ed25519"].authorized())
	addr := listenUnix(t, echo)
	e := hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyUnknown)
	if want := fmt.Sprintf("ssh-keyscan -p %d -t ed25519 127.0.0.1 >> %s", s.port, h.KnownHostsFile); e.Fix != want {
		t.Errorf("fix %q, want %q", e.Fix, want)
	}
	if want := ssh.FingerprintSHA256(s.hostKeys["ed25519"].public); e.Fingerprint != want {
		t.Errorf("fingerprint %s, want %s", e.Fingerprint, want)
	}
	known := h
	setKnown(t, &known, e.Entry+"\n")
	ok(t, dialOnce(t, known, "unix", addr))
	runFix(t, &h, e.Fix)
	ok(t, dialOnce(t, h, "unix", addr))
}

func TestHostKeyChangedThenFixed(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	h := s.host(t, s.port)
	addr := listenUnix(t, echo)
	setKnown(t, &h, fmt.Sprintf("# one line more\n[127.0.0.1]:%d %s", s.port, newKey(t, "ed25519").authorized()))
	e := hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyChanged)
	if e.Line != 2 || e.File != h.KnownHostsFile {
		t.Errorf("named %s:%d, want line 2 of %s", e.File, e.Line, h.KnownHostsFile)
	}
	runFix(t, &h, e.Fix)
	e = hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyUnknown)
	runFix(t, &h, e.Fix)
	ok(t, dialOnce(t, h, "unix", addr))
}

func TestHostKeyRevokedThenFixed(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	h := s.host(t, s.port)
	addr := listenUnix(t, echo)
	setKnown(t, &h, s.known("ed25519", s.port)+"@revoked * "+s.hostKeys["ed25519"].authorized())
	e := hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyRevoked)
	if e.Line != 2 {
		t.Errorf("line %d, want 2", e.Line)
	}
	runFix(t, &h, e.Fix)
	ok(t, dialOnce(t, h, "unix", addr))
}

// A host with several keys of which one kind is known shows that one; without
// that, x/crypto reports a changed key.
func TestOneKindOfHostKeyKnown(t *testing.T) {
	s := startSSHD(t, []string{"ecdsa", "rsa", "ed25519"})
	h := s.host(t, s.port)
	addr := listenUnix(t, echo)
	for kind := range s.hostKeys {
		setKnown(t, &h, s.known(kind, s.port))
		if err := dialOnce(t, h, "unix", addr); err != nil {
			t.Errorf("only %s known: %v", kind, err)
		}
	}
}

// A server that has no key of the known kind is refused, and not asked for another.
func TestKnownKindIsGone(t *testing.T) {
	s := startSSHD(t, []string{"ecdsa"})
	h := s.host(t, s.port)
	setKnown(t, &h, fmt.Sprintf("[127.0.0.1]:%d %s", s.port, newKey(t, "ed25519").authorized()))
	err := hostKeyError(t, dialOnce(t, h, "unix", "/x"), HostKeyRefused)
	if !strings.Contains(err.Error(), "ssh-keygen -R '[127.0.0.1]:") {
		t.Errorf("no fix in %q", err)
	}
}

func TestHashedKnownHosts(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	h := s.host(t, s.port)
	if out, err := exec.Command("ssh-keygen", "-H", "-f", h.KnownHostsFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runFix(t, &h, "true")
	if strings.Contains(h.KnownHosts, "127.0.0.1") {
		t.Fatal("not hashed")
	}
	ok(t, dialOnce(t, h, "unix", listenUnix(t, echo)))
}

// As OpenSSH does: an entry without a port serves other ports, if it matches;
// and HostKeyAlias replaces name and port.
func TestOtherNamesOfAHost(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	addr := listenUnix(t, echo)
	h := s.host(t, s.port)
	setKnown(t, &h, "127.0.0.1 "+s.hostKeys["ed25519"].authorized())
	ok(t, dialOnce(t, h, "unix", addr))
	setKnown(t, &h, "127.0.0.1 "+newKey(t, "ed25519").authorized())
	hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyUnknown)
	// But the right key without a port does not excuse another one with it.
	setKnown(t, &h, fmt.Sprintf("127.0.0.1 %s[127.0.0.1]:%d %s", s.hostKeys["ed25519"].authorized(), s.port, newKey(t, "ed25519").authorized()))
	hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyChanged)
	h.HostKeyAlias = "the-box"
	setKnown(t, &h, "the-box "+s.hostKeys["ed25519"].authorized())
	ok(t, dialOnce(t, h, "unix", addr))
	setKnown(t, &h, "")
	e := hostKeyError(t, dialOnce(t, h, "unix", addr), HostKeyUnknown)
	runFix(t, &h, e.Fix)
	ok(t, dialOnce(t, h, "unix", addr))
}

// A host certificate counts if its authority is known, and only for its principal.
func TestHostCertificate(t *testing.T) {
	ca := newKey(t, "ed25519")
	addr := listenUnix(t, echo)
	for principal, want := range map[string]bool{"127.0.0.1": true, "other.example": false} {
		file := filepath.Join(t.TempDir(), "host-cert.pub")
		s := newSSHD(t, []string{"ed25519"}, "HostCertificate "+file)
		cert := &ssh.Certificate{Key: s.hostKeys["ed25519"].public, CertType: ssh.HostCert, ValidPrincipals: []string{principal}, ValidBefore: ssh.CertTimeInfinity}
		ok(t, cert.SignCert(rand.Reader, ca.signer))
		ok(t, os.WriteFile(file, ssh.MarshalAuthorizedKey(cert), 0o600))
		s.listen(t)
		h := s.host(t, s.port)
		setKnown(t, &h, fmt.Sprintf("@cert-authority [127.0.0.1]:%d %s", s.port, ca.authorized()))
		err := dialOnce(t, h, "unix", addr)
		if want {
			ok(t, err)
		} else {
			hostKeyError(t, err, HostKeyRefused)
		}
	}
}

func TestOrigin(t *testing.T) {
	k := hostKeys{host: Host{KnownHostsFile: "first", KnownHosts: fromFile + "first\na\nb\n" + fromFile + "second\nc\n"}}
	for n, want := range map[int]string{2: "first:1", 3: "first:2", 5: "second:1"} {
		if file, line := k.origin(n); fmt.Sprintf("%s:%d", file, line) != want {
			t.Errorf("line %d is %s:%d, want %s", n, file, line, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a/b-c.d": "a/b-c.d", "[h]:22": "'[h]:22'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "a b": "'a b'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}
