package tunnel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// startAgent runs OpenSSH's ssh-agent in the foreground.
func startAgent(t *testing.T) (sock string, client agent.ExtendedAgent) {
	t.Helper()
	sock = filepath.Join(t.TempDir(), "agent.sock")
	cmd := exec.Command("ssh-agent", "-D", "-a", sock)
	stdout, err := cmd.StdoutPipe() // it prints the socket's name once it listens
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	_, err = stdout.Read(make([]byte, 512))
	ok(t, err)
	conn, err := net.Dial("unix", sock)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	return sock, agent.NewClient(conn)
}

// userCert signs a login certificate for pub.
func userCert(t *testing.T, ca keyPair, pub ssh.PublicKey, user string) *ssh.Certificate {
	t.Helper()
	cert := &ssh.Certificate{Key: pub, CertType: ssh.UserCert, KeyId: "test", ValidPrincipals: []string{user}, ValidBefore: ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-port-forwarding": ""}}}
	ok(t, cert.SignCert(rand.Reader, ca.signer))
	return cert
}

// sshdWithCA trusts certificates of ca, and no key.
func sshdWithCA(t *testing.T, ca keyPair) *sshd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pub")
	ok(t, os.WriteFile(file, []byte(ca.authorized()), 0o600))
	s := newSSHD(t, []string{"ed25519"}, "TrustedUserCAKeys "+file)
	s.write(t, "authorized", "")
	s.listen(t)
	return s
}

func raw(t *testing.T, k keyPair) any {
	t.Helper()
	key, err := ssh.ParseRawPrivateKey(k.pem)
	ok(t, err)
	return key
}

func TestAgentLogsIn(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	sock, a := startAgent(t)
	h := s.host(t, s.port)
	h.Keys, h.AgentSocket = nil, sock
	addr := listenUnix(t, echo)
	c := start(t, h)
	_, err := c.Dial(testContext(t), "unix", addr)
	var auth *AuthError
	if !errors.As(err, &auth) || len(auth.Offered) != 0 {
		t.Fatalf("an empty agent: %v", err)
	}
	// The agent is asked anew at each attempt, so loading a key is enough.
	rsa := newKey(t, "rsa")
	s.write(t, "authorized", rsa.authorized())
	ok(t, a.Add(agent.AddedKey{PrivateKey: raw(t, rsa)}))
	ok(t, dialOnce(t, h, "unix", addr))
}

func TestCertificateInAgent(t *testing.T) {
	ca := newKey(t, "ed25519")
	s := sshdWithCA(t, ca)
	sock, a := startAgent(t)
	ok(t, a.Add(agent.AddedKey{PrivateKey: raw(t, s.client), Certificate: userCert(t, ca, s.client.public, s.user)}))
	h := s.host(t, s.port)
	h.Keys, h.AgentSocket = nil, sock
	ok(t, dialOnce(t, h, "unix", listenUnix(t, echo)))
}

// A certificate in a file goes with a key in the agent, or with a key file.
func TestCertificateFile(t *testing.T) {
	ca := newKey(t, "rsa")
	s := sshdWithCA(t, ca)
	sock, a := startAgent(t)
	ok(t, a.Add(agent.AddedKey{PrivateKey: raw(t, s.client)}))
	addr := listenUnix(t, echo)
	h := s.host(t, s.port)
	h.Keys[0].Certificate = userCert(t, ca, s.client.public, s.user).Marshal()
	ok(t, dialOnce(t, h, "unix", addr))
	h.AgentSocket, h.IdentitiesOnly, h.Keys[0].PEM = sock, true, nil
	ok(t, dialOnce(t, h, "unix", addr))
}

// A server closes after some wrong keys: the configured one goes first, and
// IdentitiesOnly keeps the others back.
func TestManyKeysInAgent(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"}, "MaxAuthTries 3")
	sock, a := startAgent(t)
	for i := range 8 {
		ok(t, a.Add(agent.AddedKey{PrivateKey: raw(t, newKey(t, "ed25519")), Comment: fmt.Sprintf("key %d", i)}))
	}
	ok(t, a.Add(agent.AddedKey{PrivateKey: raw(t, s.client)}))
	addr := listenUnix(t, echo)
	h := s.host(t, s.port)
	h.AgentSocket, h.Keys[0].PEM = sock, nil
	ok(t, dialOnce(t, h, "unix", addr))

	h.Keys = nil
	err := dialOnce(t, h, "unix", addr)
	var auth *AuthError
	if !errors.As(err, &auth) || len(auth.Offered) == 0 || len(auth.Offered) > 4 || !strings.Contains(auth.Offered[0], "key 0") {
		t.Errorf("all of the agent's keys: %v", err)
	}
	t.Log(err)

	h.IdentitiesOnly = true
	if err = dialOnce(t, h, "unix", addr); !errors.As(err, &auth) || len(auth.Offered) != 0 || !strings.Contains(err.Error(), "IdentitiesOnly") {
		t.Errorf("IdentitiesOnly without keys: %v", err)
	}
}

func TestLoginRefused(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	h := s.host(t, s.port)
	h.AgentSocket = filepath.Join(t.TempDir(), "gone.sock")
	h.Notes = []string{"key file id_other: has a passphrase"}
	other := newKey(t, "rsa")
	h.Keys = []Key{{Path: "id_wrong", PEM: other.pem, Public: other.public.Marshal()}}
	err := dialOnce(t, h, "unix", "/x")
	var auth *AuthError
	if !errors.As(err, &auth) || errors.Is(err, ErrLinkDown) {
		t.Fatalf("got %v; want an AuthError", err)
	}
	for _, want := range []string{"id_wrong (SHA256:", "accepts publickey", "gone.sock", "id_other: has a passphrase", s.user + "@127.0.0.1:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", h, h), "PRIVATE") {
		t.Error("a private key was printed")
	}
}

// A server that can do nothing better than SHA-1 is refused at once.
func TestWeakServer(t *testing.T) {
	for _, weak := range [][]string{
		{"KexAlgorithms diffie-hellman-group14-sha1"},
		{"MACs hmac-sha1", "Ciphers aes128-ctr"},
		{"HostKeyAlgorithms ssh-rsa"},
	} {
		s := startSSHD(t, []string{"rsa"}, weak...)
		err := dialOnce(t, s.host(t, s.port), "unix", "/x")
		var none *ssh.AlgorithmNegotiationError
		if !errors.As(err, &none) || errors.Is(err, ErrLinkDown) {
			t.Errorf("%s: %v", weak[0], err)
		}
		t.Log(err)
	}
}

// No RSA key of ours signs with SHA-1.
func TestNoSHA1(t *testing.T) {
	k := newKey(t, "rsa")
	cert, err := ssh.NewCertSigner(userCert(t, k, k.public, "me"), k.signer)
	ok(t, err)
	for _, s := range []ssh.Signer{k.signer, cert} {
		for _, algo := range modern(s).(ssh.MultiAlgorithmSigner).Algorithms() {
			if algo == ssh.KeyAlgoRSA {
				t.Errorf("%s would sign with SHA-1", s.PublicKey().Type())
			}
		}
	}
}
