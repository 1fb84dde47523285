package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// home makes a home folder whose ~/.ssh has the files.
func home(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(dir, ".ssh"), 0o700))
	for name, text := range files {
		ok(t, os.WriteFile(filepath.Join(dir, ".ssh", name), []byte(text), 0o600))
	}
	return dir
}

func read(dir, host string) (values, error) {
	return readConfig([]string{filepath.Join(dir, ".ssh", "config")}, dir, host)
}

// show renders values in one line.
func show(v values) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(v)) {
		for _, args := range v[key] {
			out = append(out, key+"="+strings.Join(args, ","))
		}
	}
	return strings.Join(out, " ")
}

func TestReadConfig(t *testing.T) {
	for _, tt := range []struct {
		name, config, want string
	}{
		{"first value wins is the caller's", "Host a\n Port 1\nHost *\n Port 2\n", "port=1 port=2"},
		{"before any Host", "User me\nHost b\n User you\n", "user=me"},
		{"several patterns, tabs", "Host\tb\ta\n\tUser\tme\n", "user=me"},
		{"negated", "Host * !a\n User me\n", ""},
		{"wildcard", "Host ?\n", "UNREADABLE 1"},
		{"prefix is no match", "Host aa\n User me\n", ""},
		{"dot is not any character", "Host .\n User me\n", ""},
		{"equals signs", "Host=a\nUser = me\nPort=22\n", "port=22 user=me"},
		{"upper case keyword", "HOST a\nUSER me\n", "user=me"},
		{"comments", "# Host b\nHost a # mine\n User me # or not\n", "user=me"},
		{"hash inside a value", "Host a\n IdentityFile ~/id#1\n", "UNREADABLE 2"},
		{"hash inside a value of no interest", "Host a\n SetEnv X=a#b\n User me\n", "user=me"},
		{"quotes", "Host a\n IdentityFile \"~/my keys/id\"\n", "identityfile=~/my keys/id"},
		{"quoted host", "Host \"a\"\n User me\n", "user=me"},
		{"open quote", "Host a\n User \"me\n", "UNREADABLE 2"},
		{"backslash", "Host a\n IdentityFile a\\ b\n", "UNREADABLE 2"},
		{"carriage returns", "Host a\r\n User me\r\n", "user=me"},
		{"no newline at the end", "Host a\n User me", "user=me"},
		{"several files in one line", "Host a\n UserKnownHostsFile x y\n", "userknownhostsfile=x,y"},
		{"no value", "Host a\n User\n", "UNREADABLE 2"},
		{"no Host pattern", "Host\n User me\n", "UNREADABLE 1"},

		{"Match all", "Match all\n User me\n", "user=me"},
		{"Match ALL, quoted", "match \"ALL\"\n User me\n", "user=me"},
		{"Match all ends a block", "Host b\nMatch all\n User me\n", "user=me"},
		{"Match host", "Match host a\n User me\n", "UNREADABLE 1"},
		{"Match host and user", "Match host a user bob\n User me\n", "UNREADABLE 1"},
		{"Match host list", "Match host a,b\n User me\n", "UNREADABLE 1"},
		{"Match exec", "Match exec \"true\"\n User me\n", "UNREADABLE 1"},
		{"Match all with more", "Match all host b\n User me\n", "UNREADABLE 1"},
		{"Match originalhost, after our block", "Host a\n User me\n\nMatch originalhost b\n Port 1\n", "UNREADABLE 4"},
		{"Match without anything that matters", "Host a\n User me\nMatch host b exec \"x y\"\n ForwardX11 yes\nHost *\n Port 1\n", "port=1 user=me"},
		{"Match final", "Host a\n User me\nMatch final all\n ForwardX11 yes\n", "UNREADABLE 3"},
		{"Match canonical", "Match canonical\n ForwardX11 yes\n", "UNREADABLE 1"},
		{"Match with equals", "Match=all\n User me\n", "user=me"},
		{"Match of a block for another host", "Host b\n Match user x\n User me\n", "UNREADABLE 2"},

		{"Include", "Include inc\nHost a\n Port 2\n", "identityfile=inc port=1 port=2"},
		{"Include in our block", "Host a\n Include inc\n User me\n", "identityfile=inc port=1 user=me"},
		{"Include in another block", "Host b\n Include inc\nHost *\n User me\n", "user=me"},
		{"the block goes on after an Include", "Host b\n Include inc\n User me\n", ""},
		{"Include in a Match block", "Match user x\n Include inc\n", "UNREADABLE 1"},
		{"Include of what does not matter in a Match block", "Match user x\n Include dull\nHost *\n User me\n", "user=me"},
		{"Include with a Match", "Include matched\n", "UNREADABLE matched:2"},
		{"Include of nothing", "Include none*\nUser me\n", "user=me"},
		{"Include with a variable", "Include ${X}/y\n", "UNREADABLE 1"},
		{"Include of itself", "Include config\n", "deeper than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := home(t, map[string]string{
				"config":  tt.config,
				"inc":     "IdentityFile inc\nHost a\n Port 1\nHost c\n Port 3\n",
				"dull":    "Host *\n ForwardX11 yes\n",
				"matched": "User me\nMatch user x\n Port 1\n",
			})
			v, err := read(dir, "a")
			got := show(v)
			var bad *UnreadableError
			switch {
			case errors.As(err, &bad):
				got = fmt.Sprintf("UNREADABLE %s:%d", filepath.Base(bad.File), bad.Line)
				if tt.want, _ = strings.CutPrefix(tt.want, "UNREADABLE "); !strings.Contains(tt.want, ":") {
					tt.want = "config:" + tt.want
				}
				tt.want = "UNREADABLE " + tt.want
			case err != nil && strings.Contains(err.Error(), tt.want):
				return
			case err != nil:
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The user's file goes before the system's; a missing one is nothing.
func TestSystemConfig(t *testing.T) {
	dir := home(t, map[string]string{"config": "Host a\n User me\nHost b\n Port 1\n", "system": "User you\nHost *\n Port 7\n"})
	at := func(name string) string { return filepath.Join(dir, ".ssh", name) }
	v, err := readConfig([]string{at("config"), at("missing"), at("system")}, dir, "a")
	ok(t, err)
	if got := show(v); got != "port=7 user=me user=you" {
		t.Error(got)
	}
}

// Whatever the file says: no panic, nothing that is not wanted, no value that
// the file does not have, and no setting out of a Match block but `Match all`.
func FuzzReadConfig(f *testing.F) {
	for _, seed := range []string{
		"Host a\n User me\n", "Match host a user b\n Port 1\n", "Host * !b\n IdentityFile \"x y\" # c\n",
		"Include inc\nHost=a\nPort = 1\n", "Match final all\n", "Host ?\n", "a\x1fb c\x1fd\nUser \x1f\n", "User a\x00\nHost \xff\n",
	} {
		f.Add(seed, "a")
	}
	dir := home(f, map[string]string{"inc": "Host a\n Port 1\n"})
	f.Fuzz(func(t *testing.T, text, host string) {
		ok(t, os.WriteFile(filepath.Join(dir, ".ssh", "config"), []byte(text), 0o600))
		v, err := read(dir, host)
		if err != nil {
			return
		}
		for key, lines := range v {
			if !wanted(key) {
				t.Errorf("key %q", key)
			}
			for _, args := range lines {
				for _, a := range args {
					if !strings.Contains(text+"1", a) {
						t.Errorf("%s has %q, which is nowhere in the file", key, a)
					}
				}
			}
		}
		inMatch := false
		for _, line := range strings.Split(text, "\n") {
			key, args, _ := splitLine(line)
			switch {
			case key == "host":
				inMatch = false
			case key == "match":
				inMatch = len(args) != 1 || !strings.EqualFold(args[0], "all")
			case inMatch && wanted(key):
				t.Errorf("%q was read in a Match block: %s", line, show(v))
			}
		}
	})
}

func FuzzParseDestination(f *testing.F) {
	for _, seed := range []string{"strix", "me@strix.lan:22", "[::1]:22", "::1", "me@[fe80::1%eth0]", "ssh://a@b:1/", "a@b@c", "-oProxyCommand=x", "[", "x:", "@"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDestination(s)
		if err != nil {
			return
		}
		if d.host == "" || d.host[0] == '-' || strings.ContainsAny(d.host+d.user, " '\"`$;&|<>\n") {
			t.Errorf("%q gives %+v", s, d)
		}
		if again, err := parseDestination(d.String()); err != nil || again != d {
			t.Errorf("%q gives %+v, which is written %q and read %+v, %v", s, d, d, again, err)
		}
	})
}
