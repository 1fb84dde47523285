package tunnel

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sshdBinary is OpenSSH's server; these tests are nothing without it.
const sshdBinary = "/usr/sbin/sshd"

// keyPair is a private key, as PEM, and its public half.
type keyPair struct {
	pem    []byte
	public ssh.PublicKey
	signer ssh.Signer
}

func newKey(t testing.TB, kind string) keyPair {
	t.Helper()
	var raw crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		raw, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		raw, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		_, raw, err = ed25519.GenerateKey(rand.Reader)
	}
	ok(t, err)
	block, err := ssh.MarshalPrivateKey(raw, "test")
	ok(t, err)
	signer, err := ssh.NewSignerFromKey(raw)
	ok(t, err)
	return keyPair{pem.EncodeToMemory(block), signer.PublicKey(), signer}
}

// authorized is the key's line in authorized_keys.
func (k keyPair) authorized() string { return string(ssh.MarshalAuthorizedKey(k.public)) }

// sshd is a real server on the loopback.
type sshd struct {
	dir      string
	port     uint16
	hostKeys map[string]keyPair
	client   keyPair
	user     string
	conf     []string
	passwd   string // file that takes the place of /etc/passwd for this server; empty: none does
}

// startSSHD starts sshd with host keys of the kinds, and config lines on top of
// a minimal configuration (first line wins).
func startSSHD(t testing.TB, kinds []string, config ...string) *sshd {
	t.Helper()
	s := newSSHD(t, kinds, config...)
	s.listen(t)
	return s
}

// newSSHD is startSSHD up to the files that the server reads.
func newSSHD(t testing.TB, kinds []string, config ...string) *sshd {
	t.Helper()
	me, err := user.Current()
	ok(t, err)
	if os.Getuid() == 0 {
		ok(t, os.MkdirAll("/run/sshd", 0o755)) // Debian's sshd wants it
	}
	s := &sshd{dir: t.TempDir(), hostKeys: map[string]keyPair{}, client: newKey(t, "ed25519"), user: me.Username}
	s.conf = append(config, "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "LogLevel VERBOSE", "AuthorizedKeysFile "+s.path("authorized"))
	for _, kind := range kinds {
		k := newKey(t, kind)
		s.hostKeys[kind] = k
		s.write(t, "host_"+kind, string(k.pem))
		s.conf = append(s.conf, "HostKey "+s.path("host_"+kind))
	}
	s.write(t, "authorized", s.client.authorized())
	return s
}

// listen starts the server at a free port.
func (s *sshd) listen(t testing.TB) {
	t.Helper()
	for range 5 { // the port may be taken between our look and sshd's
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		s.port = uint16(l.Addr().(*net.TCPAddr).Port)
		l.Close()
		s.write(t, "config", strings.Join(append(s.conf, fmt.Sprintf("Port %d", s.port)), "\n")+"\n")
		if s.run(t) {
			return
		}
	}
	t.Fatal("sshd does not listen")
}

func (s *sshd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(t testing.TB, name, text string) string {
	t.Helper()
	ok(t, os.WriteFile(s.path(name), []byte(text), 0o600))
	return s.path(name)
}

// run starts sshd and waits until it listens.
func (s *sshd) run(t testing.TB) bool {
	t.Helper()
	argv := []string{sshdBinary, "-D", "-e", "-f", s.path("config")}
	if s.passwd != "" {
		argv = append([]string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" /etc/passwd; exec "$@"`, s.passwd}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	stderr, err := cmd.StderrPipe()
	ok(t, err)
	ok(t, cmd.Start())
	listening := make(chan bool, 1)
	read := make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(read)
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			log.WriteString(sc.Text() + "\n")
			if strings.Contains(sc.Text(), "Server listening") {
				listening <- true
			}
		}
		listening <- false
	}()
	up := <-listening
	stop := func() {
		cmd.Process.Kill()
		cmd.Wait()
		stderr.Close()
		<-read
	}
	if !up {
		stop()
		t.Logf("sshd: %s", log.String())
		return false
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("sshd on %d:\n%s", s.port, log.String())
		}
	})
	return true
}

// startUserSSHD is startSSHD for a login that is not root, which sshd treats
// apart, with a plain shell.
func startUserSSHD(t testing.TB, config ...string) *sshd {
	t.Helper()
	s := newSSHD(t, []string{"ed25519"}, config...)
	if os.Getuid() == 0 {
		const uid = 54321
		s.user = "somebody"
		s.passwd = s.write(t, "passwd", fmt.Sprintf("root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nsomebody:x:%d:%d::%s:/bin/sh\n", uid, uid, s.dir))
		ok(t, os.Chown(s.path("authorized"), uid, uid))
		for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
			ok(t, os.Chmod(dir, 0o755))
		}
	}
	s.listen(t)
	return s
}

// known is the known_hosts line for the server's key of a kind, at port.
func (s *sshd) known(kind string, port uint16) string {
	return fmt.Sprintf("[127.0.0.1]:%d %s", port, s.hostKeys[kind].authorized())
}

// host is a Host for the server, reached at port (its own, or a relay's).
func (s *sshd) host(t testing.TB, port uint16) Host {
	t.Helper()
	var known strings.Builder
	for kind := range s.hostKeys {
		known.WriteString(s.known(kind, port))
	}
	file := s.write(t, "known_hosts", known.String())
	return Host{
		Name: "gpu", Addr: "127.0.0.1", Port: port, User: s.user,
		KnownHosts: fromFile + file + "\n" + known.String(), KnownHostsFile: file,
		Keys: []Key{{Path: "id_test", PEM: s.client.pem, Public: s.client.public.Marshal()}},
	}
}

// start makes a client of h run until the test ends.
func start(t testing.TB, h Host) *Client {
	t.Helper()
	c, err := New(h, testLogger(t))
	ok(t, err)
	runClient(t, c)
	return c
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testLogger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(testLog{t}, nil)) }
