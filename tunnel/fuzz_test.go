package tunnel

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// fixedKey is the same key each time, so that a seed can hold it.
func fixedKey(t testing.TB, seed byte) ssh.PublicKey {
	t.Helper()
	public, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, 32)).Public())
	ok(t, err)
	return public
}

// A key is accepted only where a slow reader of known_hosts, who knows no more
// than sshd(8), finds a line that has it for this host and none that revokes it.
func FuzzKnownHosts(f *testing.F) {
	key, other := fixedKey(f, 1), fixedKey(f, 2)
	mine, others := text(key), text(other)
	salt := []byte("0123456789abcdefghij")
	for _, s := range []string{
		"strix.example " + mine, "STRIX.example,10.0.0.1 " + mine, "[strix.example]:22 " + mine, "*.example,!strix.example " + mine, "strix.example " + others + "\n* " + mine,
		"@revoked * " + mine + "\nstrix.example " + mine, "@cert-authority * " + mine, "# strix.example " + mine, "strix.exampl? " + mine + " a comment",
		hashedName(salt, "strix.example") + " " + mine, hashedName(salt, "other.example") + " " + mine, "|1|x|y " + mine, "strix.example ssh-rsa " + strings.Fields(mine)[1],
		fromFile + "/k\nstrix.example " + mine + "\n\n\tstrix.example\t" + mine + "\r", "strix.example " + mine[:40], "@other strix.example " + mine,
		"strix.example " + mine[:40] + "\r" + mine[40:], "strix.example\v " + mine, "@revoked * \r" + mine + "\nstrix.example " + mine + "\r",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, known string) {
		if strings.Count(known, "\n") > 100 {
			return
		}
		k, err := newHostKeys(Host{Name: "strix", Addr: "strix.example", Port: 22, KnownHosts: known, KnownHostsFile: "/k"}, false)
		if err != nil {
			return
		}
		if len(k.algorithms()) == 0 {
			t.Error("no kind of key would be asked for")
		}
		for _, shown := range []ssh.PublicKey{key, other} {
			if err := k.check("ignored.example:1", &net.TCPAddr{}, shown); err != nil {
				if said := err.Error(); strings.ContainsFunc(said, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
					t.Errorf("error %q", said)
				}
				continue
			}
			if why := slowKnown(known, shown); why != "" {
				t.Errorf("%q accepts %s: %s", known, text(shown), why)
			}
		}
	})
}

func text(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func hashedName(salt []byte, name string) string {
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return fmt.Sprintf("|1|%s|%s", base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// slowKnown says why known does not have key for strix.example; empty: it has.
func slowKnown(known string, key ssh.PublicKey) string {
	found := "no line has it"
	for line := range strings.SplitSeq(known, "\n") {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' }) // a CR in base64 is read over
		marker := ""
		if len(words) > 0 && strings.HasPrefix(words[0], "@") {
			marker, words = words[0], words[1:]
		}
		if len(words) < 3 || strings.HasPrefix(words[0], "#") {
			continue
		}
		blob, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil || words[1] != key.Type() || string(blob) != string(key.Marshal()) || !namesStrix(words[0]) {
			continue
		}
		switch marker {
		case "@revoked":
			return "a line revokes it"
		case "":
			found = ""
		}
	}
	return found
}

// namesStrix says whether a line's first field names strix.example at port 22.
func namesStrix(field string) bool {
	if parts := strings.Split(field, "|"); strings.HasPrefix(field, "|1|") && len(parts) == 4 {
		salt, err := base64.StdEncoding.DecodeString(parts[2])
		return err == nil && hashedName(salt, "strix.example") == field
	}
	named := false
	for pattern := range strings.SplitSeq(field, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if host, port, err := net.SplitHostPort(pattern); err == nil && port == "22" {
			pattern = host
		}
		if is, err := path.Match(strings.NewReplacer(`\`, `\\`, "[", `\[`).Replace(pattern), "strix.example"); err == nil && is {
			if negated {
				return false
			}
			named = true
		}
	}
	return named
}

// A quoted word is that word to a shell, and a command of it has nothing else.
func FuzzShellQuote(f *testing.F) {
	for _, s := range []string{"", "a/b", "it's", "$(x)", "a b\n", "~", "-rf", `\'"`, "é\xff", "a#b", "~x", "=", "{a,b}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := shellQuote(s)
		if words, ok := slowWords(quoted + " end"); !ok || len(words) != 2 || words[0] != s {
			t.Errorf("%q is quoted %s, which a shell reads as %q", s, quoted, words)
		}
	})
}

// slowWords splits a command as sh(1) does where nothing is to be expanded. ok is
// false where something is, or where a quote does not end.
func slowWords(s string) (words []string, ok bool) {
	var word strings.Builder
	quoted, escaped, begun := false, false, false
	for _, c := range []byte(s) {
		switch {
		case escaped, quoted && c != '\'':
			word.WriteByte(c)
			escaped = false
		case c == '\'':
			quoted, begun = !quoted, true
		case c == '\\':
			escaped, begun = true, true
		case c == ' ' && begun:
			words = append(words, word.String())
			word.Reset()
			begun = false
		case c < 0x21 || c >= 0x7f || strings.IndexByte("\"$`&;|<>(){}[]*?!#", c) >= 0, c == '~' && !begun:
			return nil, false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	return append(words, word.String()), !quoted && !escaped
}

// Of a path of the ssh configuration nothing is left to be expanded, and what is
// put in comes from the tokens, the home or a variable.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"~/.ssh/%h", "%%", "%", "${SET}/x", "${UNSET}", "${", "~other/x", "~", "/a/%d/%n%", "a${SET}${SET}"} {
		f.Add(s)
	}
	tokens := map[byte]string{'h': "host%n", 'd': "/home/me"}
	getenv := func(name string) string { return map[string]string{"SET": "${UNSET}%h"}[name] }
	f.Fuzz(func(t *testing.T, s string) {
		got, err := expand(s, tokens, "/home/50%h", getenv)
		plain := !strings.ContainsAny(s, "%$~")
		switch {
		case plain && (err != nil || got != s):
			t.Errorf("%q became %q, %v", s, got, err)
		case err != nil:
			return
		case strings.HasPrefix(s, "~") && !strings.HasPrefix(got, "/home/50%h"):
			t.Errorf("%q became %q", s, got)
		}
		want := s
		if strings.HasPrefix(s, "~") {
			want = "/home/50%%h" + s[1:]
		}
		want = strings.NewReplacer("%%", "%", "%h", "host%n", "%d", "/home/me", "${SET}", "${UNSET}%h").Replace(want)
		if got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
	})
}

// The hops of a ProxyJump are as many as it says, each of them a destination.
func FuzzJump(f *testing.F) {
	for _, s := range []string{"none", "", "a", "me@a:22,b", "a,,b", " a , ssh://b:1 ", "-oProxyCommand=x", "[::1]:22,a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hops, err := parseJump(s)
		if err != nil {
			return
		}
		if len(hops) == 0 {
			if only := strings.TrimSpace(s); only != "" && !strings.EqualFold(only, "none") {
				t.Errorf("%q leads straight there", s)
			}
			return
		}
		var again []string
		for _, hop := range hops {
			if hop.host == "" || hop.host[0] == '-' || strings.HasPrefix(hop.user, "-") {
				t.Errorf("%q has the hop %+v", s, hop)
			}
			again = append(again, hop.String())
		}
		if second, err := parseJump(strings.Join(again, ",")); err != nil || !slices.Equal(second, hops) || len(hops) != strings.Count(s, ",")+1 {
			t.Errorf("%q has the hops %+v, which are written %q and read %+v, %v", s, hops, again, second, err)
		}
	})
}
