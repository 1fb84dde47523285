package machine

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// somebody is the user that tests run scripts as: when root tests, not root.
type somebody struct {
	uid, gid int
	name     string
	home     string
}

func newSomebody(t testing.TB) somebody {
	t.Helper()
	home, err := os.MkdirTemp("", "machine") // t.TempDir lies in a folder that others may not enter
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(home) })
	s := somebody{uid: os.Getuid(), gid: os.Getgid(), home: home}
	if s.uid == 0 {
		s.uid, s.gid, s.name = 54321, 54321, "somebody"
		ok(t, os.Chown(home, s.uid, s.gid))
		return s
	}
	me, err := user.Current()
	ok(t, err)
	s.name = me.Username
	return s
}

func (s somebody) here() *Machine {
	return Local(LocalOptions{Home: s.home, UID: s.uid, GID: s.gid, Environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}})
}

// login is how somebody's SSH logins are.
type login struct {
	shell string    // login shell; empty: /bin/sh
	root  bool      // it is root who logs in; only if root tests
	setup string    // what root does in the mount namespace of sshd's own, before it starts; only if root tests
	drop  chan bool // a value breaks the connections that there are; nil: none does
	conf  []string
}

// there is a machine behind a real sshd on the loopback.
func (s somebody) there(t testing.TB, l login) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshd")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	ok(t, os.Chmod(dir, 0o755))
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	hostPEM, hostKey := newKey(t)
	clientPEM, clientKey := newKey(t)
	conf := append(l.conf, "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes", "LogLevel VERBOSE",
		"HostKey "+write("host", string(hostPEM), 0o600), "AuthorizedKeysFile "+write("authorized", string(ssh.MarshalAuthorizedKey(clientKey)), 0o644),
		"SetEnv HOME="+s.home)
	if l.shell == "" {
		l.shell = "/bin/sh"
	}
	var wrap []string
	name := s.name
	if os.Getuid() == 0 {
		ok(t, os.MkdirAll("/run/sshd", 0o755)) // Debian's sshd wants it
		if l.root {
			name = "root"
		}
		passwd := write("passwd", fmt.Sprintf("root:x:0:0::%s:%s\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nsomebody:x:%d:%d::%s:%s\n",
			s.home, l.shell, s.uid, s.gid, s.home, l.shell), 0o644)
		script := `mount --bind "$0" /etc/passwd; eval "$1"; shift; exec "$@"`
		wrap = []string{"unshare", "--mount", "sh", "-ec", script, passwd, l.setup}
	} else {
		conf = append(conf, `ForceCommand exec `+l.shell+` -c "$SSH_ORIGINAL_COMMAND"`)
	}
	port := startSSHD(t, wrap, func(port int) string {
		return write("config", strings.Join(append(conf, fmt.Sprint("Port ", port)), "\n")+"\n", 0o600)
	})
	if l.drop != nil {
		port = relay(t, port, l.drop)
	}
	c, err := tunnel.New(tunnel.Host{Name: "gpu", Addr: "127.0.0.1", Port: uint16(port), User: name,
		KnownHosts: fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(hostKey)),
		Keys:       []tunnel.Key{{Path: "id_test", PEM: clientPEM, Public: clientKey.Marshal()}}}, slog.New(slog.DiscardHandler))
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		ok(t, <-ended)
	})
	return Remote("gpu", c)
}

func newKey(t testing.TB) ([]byte, ssh.PublicKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	block, err := ssh.MarshalPrivateKey(key, "test")
	ok(t, err)
	public, err := ssh.NewPublicKey(key.Public())
	ok(t, err)
	return pem.EncodeToMemory(block), public
}

// startSSHD runs OpenSSH's server at a free port until the test ends.
func startSSHD(t testing.TB, wrap []string, config func(port int) string) int {
	t.Helper()
	for range 5 { // the port may be taken between our look and sshd's
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		argv := append(append([]string{}, wrap...), "/usr/sbin/sshd", "-D", "-e", "-f", config(port))
		cmd := exec.Command(argv[0], argv[1:]...)
		stderr, err := cmd.StderrPipe()
		ok(t, err)
		ok(t, cmd.Start())
		listening, read := make(chan bool, 2), make(chan struct{})
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
			if t.Failed() || !up {
				t.Logf("sshd on %s:\n%s", strconv.Itoa(port), log.String())
			}
		}
		if up {
			t.Cleanup(stop)
			return port
		}
		stop()
	}
	t.Fatal("sshd does not listen")
	return 0
}

// relay passes connections on to a port until told to drop them.
func relay(t testing.TB, to int, drop <-chan bool) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", to))
			if err != nil {
				in.Close()
				continue
			}
			ended := make(chan bool, 2)
			wg.Go(func() { io.Copy(out, in); ended <- true })
			wg.Go(func() { io.Copy(in, out); ended <- true })
			wg.Go(func() {
				select {
				case <-drop:
				case <-ended:
				}
				in.Close()
				out.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// each runs f on this machine and on one behind SSH, which are the same really.
func each(t *testing.T, f func(t *testing.T, m *Machine, s somebody)) {
	t.Run("here", func(t *testing.T) {
		s := newSomebody(t)
		f(t, s.here(), s)
	})
	t.Run("ssh", func(t *testing.T) {
		s := newSomebody(t)
		f(t, s.there(t, login{}), s)
	})
}
