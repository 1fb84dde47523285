package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// gpuHost is OpenSSH's server on the loopback, where the scripts' user logs in
// with the key in home/.ssh. It is this machine really.
type gpuHost struct {
	login string // user@127.0.0.1:port
	known string // line of known_hosts
	print string // fingerprint of its key
	home  string // of the login
	stop  func()
}

// TestSSHScripts has a GPU host behind a real sshd.
func TestSSHScripts(t *testing.T) {
	runScriptsWith(t, "testdata/ssh", "/tmp", func(e *testscript.Env) error {
		if err := setUpScript(e); err != nil {
			return err
		}
		work := e.Getenv("WORK")
		h, err := startGPUHost(work)
		if err != nil {
			return err
		}
		e.Defer(h.stop)
		closed, err := startGPUHost(work, "AllowStreamLocalForwarding local")
		if err != nil {
			return err
		}
		e.Defer(closed.stop)
		e.Setenv("USER", "me")
		for name, value := range map[string]string{"GPU": h.login, "KNOWN": h.known, "PRINT": h.print, "THERE": h.home, "CLOSED": closed.login, "KNOWN2": closed.known} {
			e.Setenv(name, value)
		}
		return chownAll(work)
	})
}

// startGPUHost starts a server with further settings. Its files lie in work, the
// login's home too; work/home/.ssh gets the key that it lets in.
func startGPUHost(work string, settings ...string) (*gpuHost, error) {
	dir, err := os.MkdirTemp(work, "sshd")
	if err != nil {
		return nil, err
	}
	h := &gpuHost{home: filepath.Join(work, "gpu")}
	keys := filepath.Join(work, "home", ".ssh")
	err = errors.Join(os.Chmod(dir, 0o755), os.MkdirAll(h.home, 0o755), os.MkdirAll(keys, 0o700))
	hostKey, keyErr := writeKey(filepath.Join(dir, "host"))
	client, clientErr := writeKey(filepath.Join(keys, "id_ed25519"))
	if err := errors.Join(err, keyErr, clientErr); err != nil {
		return nil, err
	}
	authorized := filepath.Join(work, "authorized")
	f, err := os.OpenFile(authorized, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(ssh.MarshalAuthorizedKey(client))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	conf := append(settings, "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no", "LogLevel VERBOSE",
		"HostKey "+filepath.Join(dir, "host"), "AuthorizedKeysFile "+authorized, "SetEnv HOME="+h.home+" PATH="+work+"/bin:/usr/local/bin:/usr/bin:/bin")
	name, wrap, err := asLogin(dir, h.home)
	if err != nil {
		return nil, err
	}
	port, stop, err := startSSHD(filepath.Join(dir, "config"), conf, wrap)
	if err != nil {
		return nil, err
	}
	h.login, h.print, h.stop = fmt.Sprintf("%s@127.0.0.1:%d", name, port), ssh.FingerprintSHA256(hostKey), stop
	h.known = fmt.Sprintf("[127.0.0.1]:%d %s", port, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey))))
	return h, nil
}

// asLogin is who logs in; root's sshd has a passwd(5) of its own.
func asLogin(dir, home string) (name string, wrap []string, err error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return "", nil, err
		}
		return u.Username, nil, nil
	}
	passwd := filepath.Join(dir, "passwd")
	text := fmt.Sprintf("root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nsomebody:x:%d:%d::%s:/bin/sh\n", scriptUser, scriptUser, home)
	err = errors.Join(os.MkdirAll("/run/sshd", 0o755), os.WriteFile(passwd, []byte(text), 0o644)) // Debian's sshd wants the folder
	return "somebody", []string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" /etc/passwd; exec "$@"`, passwd}, err
}

// writeKey makes a key, unless the file has one, and returns its public half.
func writeKey(file string) (ssh.PublicKey, error) {
	if text, err := os.ReadFile(file); err == nil {
		signer, err := ssh.ParsePrivateKey(text)
		if err != nil {
			return nil, err
		}
		return signer.PublicKey(), nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(key.Public())
}

// startSSHD runs OpenSSH's server at a free port.
func startSSHD(config string, conf, wrap []string) (port int, stop func(), err error) {
	for range 5 { // the port may be taken between our look and sshd's
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, nil, err
		}
		port = l.Addr().(*net.TCPAddr).Port
		text := strings.Join(append(conf, fmt.Sprint("Port ", port)), "\n") + "\n"
		if err := errors.Join(l.Close(), os.WriteFile(config, []byte(text), 0o600)); err != nil {
			return 0, nil, err
		}
		argv := append(append([]string{}, wrap...), "/usr/sbin/sshd", "-D", "-e", "-f", config)
		cmd := exec.Command(argv[0], argv[1:]...)
		stderr, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return 0, nil, err
		}
		listening, read := make(chan bool, 2), make(chan struct{})
		go func() {
			defer close(read)
			for sc := bufio.NewScanner(stderr); sc.Scan(); {
				if strings.Contains(sc.Text(), "Server listening") {
					listening <- true
				}
			}
			listening <- false
		}()
		stop = func() {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
			<-read
		}
		select {
		case ok := <-listening:
			if ok {
				return port, stop, nil
			}
		case <-time.After(30 * time.Second):
		}
		stop()
	}
	return 0, nil, errors.New("sshd does not listen")
}
