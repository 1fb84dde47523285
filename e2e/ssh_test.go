//go:build lab

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
)

// question is a request for one message, as a program in the sandbox makes it.
const question = `curl -sS -m 60 "http://$(sed -n 's/nameserver //p' /etc/resolv.conf):8000/v1/messages" -H 'Content-Type: application/json' -d '{"model":"gpt-oss","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}' -w ' status=%{http_code}'; echo`

// A key with a passphrase is unlocked by the launcher, on its terminal, and is
// handed over again to a gateway that was killed, without asking twice.
func TestPassphrase(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		key := filepath.Join(l.Laptop.Home, ".ssh/id_ed25519")
		change := func(from, to string) {
			t.Helper()
			if out, err := l.Laptop.Command(u.ctx, "ssh-keygen", "-q", "-p", "-f", key, "-P", from, "-N", to).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		change("", "open sesame")
		defer change("open sesame", "")
		s := u.terminal("launcher", "shell", "gpt-oss")
		s.expect(`passphrase of .*id_ed25519`)
		s.send("open sesame\n")
		s.expect(`\$ `)
		id := u.sandboxID()
		s.send(question + "\n")
		s.expect(`status=200`)
		u.root("kill", "-KILL", u.pgrep("gateway run"))
		u.ready(id)
		s.send(question + "\n")
		s.expect(`status=200`)
		s.send("exit\n")
		if code := s.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Text())
		}
	})
}

// A link that drops fails what is under way with an error that says so, and the
// next request works as soon as it is back.
func TestLinkDrops(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
		s := u.terminal("launcher", "shell", "gpt-oss")
		s.expect(`\$ `)
		s.send(question + "\n")
		s.expect(`status=200`)
		if err := l.GPUHost.StopSSH(); err != nil {
			t.Fatal(err)
		}
		s.send(question + "\n")
		s.expect(`strix`) // the error names the host
		s.expect(`status=502`)
		if err := l.GPUHost.StartSSH(u.ctx); err != nil {
			t.Fatal(err)
		}
		s.send(question + "\n")
		s.expect(`status=200`)
		s.send("exit\n")
		if code := s.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Text())
		}
	})
}
