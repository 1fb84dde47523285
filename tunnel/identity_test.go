package tunnel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// locked is a private key with the passphrase "secret", in OpenSSH's format or
// the old one, and its public half.
func locked(t *testing.T, old bool) (private string, public ssh.PublicKey) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	args := []string{"-q", "-t", "ecdsa", "-a", "1", "-N", "secret", "-f", file}
	if old {
		args = append(args, "-m", "PEM")
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	ok(t, err)
	pub := readPublic(file, nil)
	return string(text), pub
}

func TestPassphrase(t *testing.T) {
	for _, old := range []bool{false, true} {
		private, public := locked(t, old)
		for _, tt := range []struct {
			name    string
			answers []string // "" is an error
			asked   int
			note    string
		}{
			{"at once", []string{"secret"}, 1, ""},
			{"third try", []string{"a", "b", "secret"}, 3, ""},
			{"never", []string{"a", "b", "c", "secret"}, 3, "wrong 3 times"},
			{"refused", []string{""}, 1, "no terminal"},
			{"nobody to ask", nil, 0, "ssh-add"},
		} {
			t.Run(fmt.Sprintf("%s, old format %v", tt.name, old), func(t *testing.T) {
				o := options(t, map[string]string{"config": "Host hop\n ProxyJump none\nHost *\n IdentityFile ~/.ssh/id\n ProxyJump hop\n", "id": private})
				asked := 0
				var phrase []byte
				if tt.answers != nil {
					o.Passphrase = func(path string) ([]byte, error) {
						if path != filepath.Join(o.Home, ".ssh", "id") {
							t.Errorf("asked for %s", path)
						}
						asked++
						if tt.answers[asked-1] == "" {
							return nil, errors.New("no terminal")
						}
						phrase = []byte(tt.answers[asked-1])
						return phrase, nil
					}
				}
				h, err := Resolve(t.Context(), "gpu", o)
				ok(t, err)
				if strings.Trim(string(phrase), "\x00") != "" {
					t.Error("the passphrase was left in memory")
				}
				if asked != tt.asked {
					t.Errorf("asked %d times, want %d (once for both hosts)", asked, tt.asked)
				}
				if notes := strings.Join(h.Notes, "; "); tt.note == "" && notes != "" || !strings.Contains(notes, tt.note) {
					t.Errorf("notes %q, want %q", notes, tt.note)
				}
				if tt.note != "" {
					return
				}
				signer, err := ssh.ParsePrivateKey(h.Keys[0].PEM)
				if err != nil || string(signer.PublicKey().Marshal()) != string(public.Marshal()) || len(h.Jump[0].Keys[0].PEM) == 0 {
					t.Errorf("not unlocked: %v", err)
				}
			})
		}
	}
}

func TestIdentities(t *testing.T) {
	ca, plain, other := newKey(t, "ed25519"), newKey(t, "ed25519"), newKey(t, "rsa")
	private, public := locked(t, false)
	private2, _ := locked(t, false)
	cert := string(ssh.MarshalAuthorizedKey(userCert(t, ca, plain.public, "me")))
	sock, a := startAgent(t)
	key, err := ssh.ParseRawPrivateKeyWithPassphrase([]byte(private), []byte("secret"))
	ok(t, err)
	ok(t, a.Add(agent.AddedKey{PrivateKey: key}))
	o := options(t, map[string]string{
		"plain": string(plain.pem), "plain-cert.pub": cert, "other": string(other.pem), "other.crt": cert,
		"locked": private, "half.pub": string(ssh.MarshalAuthorizedKey(public)), "junk": "junk",
		"id_ed25519": string(plain.pem), "id_rsa": private, "id_ecdsa": private2,
		"config": "Host cert\n IdentityFile ~/.ssh/plain\nHost two\n IdentityFile ~/.ssh/other\n IdentityFile %d/.ssh/plain\n IdentitiesOnly yes\n" +
			"Host crt\n IdentityFile none\n CertificateFile ~/.ssh/other.crt\nHost locked\n IdentityFile ~/.ssh/locked\nHost half\n IdentityFile ~/.ssh/half.pub\n" +
			"Host junk\n IdentityFile ~/.ssh/junk\n CertificateFile ~/.ssh/junk\n IdentityFile ~/.ssh/missing\nHost none\n IdentityFile none\n",
	})
	o.Passphrase = func(path string) ([]byte, error) {
		t.Errorf("asked for the passphrase of %s", path)
		return nil, errors.New("not now")
	}
	o.AgentSock = sock
	for _, tt := range []struct{ alias, want string }{
		{"cert", "plain+private+cert"},
		{"two", "other+private plain+private+cert"},
		{"crt", "other.crt+cert"},
		{"locked", "locked"}, // the agent has it
		{"half", "half.pub"},
		{"default", "! id_ecdsa not asked for since the ssh agent has keys"},
		{"junk", "! junk missing not a user certificate"},
		{"none", ""},
	} {
		h, err := Resolve(t.Context(), tt.alias, o)
		ok(t, err)
		var got []string
		for _, k := range h.Keys {
			s := filepath.Base(k.Path)
			if len(k.PEM) > 0 {
				s += "+private"
			}
			if len(k.Certificate) > 0 {
				s += "+cert"
			}
			got = append(got, s)
		}
		if want, isNote := strings.CutPrefix(tt.want, "! "); isNote {
			for _, w := range strings.SplitN(want, " ", 3) {
				if !strings.Contains(strings.Join(h.Notes, "\n"), w) {
					t.Errorf("%s: no %q in notes %q", tt.alias, w, h.Notes)
				}
			}
			continue
		}
		if s := strings.Join(got, " "); s != tt.want || len(h.Notes) > 0 {
			t.Errorf("%s: got %q, notes %q; want %q", tt.alias, s, h.Notes, tt.want)
		}
	}
}

// A default key with a passphrase is asked for if there is no agent with keys.
func TestDefaultKeyIsAskedFor(t *testing.T) {
	private, _ := locked(t, false)
	o := options(t, map[string]string{"id_ecdsa": private})
	o.Passphrase = func(string) ([]byte, error) { return []byte("secret"), nil }
	h, err := Resolve(t.Context(), "gpu", o)
	if err != nil || len(h.Keys) != 1 || len(h.Keys[0].PEM) == 0 {
		t.Errorf("%v, %v", h.Keys, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Passphrase = func(string) ([]byte, error) { cancel(); return nil, errors.New("interrupted") }
	if _, err = Resolve(ctx, "gpu", o); !errors.Is(err, context.Canceled) {
		t.Errorf("Ctrl-C at the question: %v", err)
	}
}
