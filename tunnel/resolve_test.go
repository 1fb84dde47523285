package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// options are those of a user "local" who has the files in ~/.ssh, and no ssh.
func options(t testing.TB, files map[string]string) Options {
	t.Helper()
	dir := home(t, files)
	return Options{
		Home: dir, User: "local", ConfigFiles: []string{filepath.Join(dir, ".ssh", "config")},
		LookPath: func(string) (string, error) { return "", exec.ErrNotFound },
	}
}

// way is a host and its jump hosts in short.
func way(h Host) string {
	var hops []string
	for _, hop := range h.hops() {
		hops = append(hops, hop.User+"@"+hop.address())
	}
	return strings.Join(hops, " ")
}

func TestResolveWay(t *testing.T) {
	const config = `
Host strix
  HostName %h.lan
  Port 2222
  User me
Host pct
  HostName a%%b
Host six
  HostName fe80::1%%eth0
Host far
  ProxyJump bastion
Host bastion
  HostName 10.0.0.1
  User jump
Host chain
  ProxyJump you@gate:2200,ssh://[::1]:23
Host nested
  ProxyJump far
Host second
  ProxyJump gate,far
Host none far2
  ProxyJump none
Host command
  ProxyCommand nc %h %p
Host nocommand
  ProxyCommand none
Host loop1
  ProxyJump loop2
Host loop2
  ProxyJump loop1
Host badport
  Port 70000
Host badname
  HostName -oProxyCommand=x
Host revokes
  RevokedHostKeys ~/.ssh/revoked
Host maybe
  IdentitiesOnly maybe
`
	for _, tt := range []struct{ alias, want string }{
		{"strix", "me@strix.lan:2222"},
		{"you@strix", "you@strix.lan:2222"},
		{"you@strix:1", "you@strix.lan:1"},
		{"ssh://strix/", "me@strix.lan:2222"},
		{"Plain.Example", "local@plain.example:22"},
		{"me@plain.example:23", "me@plain.example:23"},
		{"me@dom@plain.example", "me@dom@plain.example:22"},
		{"[::1]:22", "local@[::1]:22"},
		{"me@[::1]", "me@[::1]:22"},
		{"::1", "local@[::1]:22"},
		{"pct", "local@a%b:22"},
		{"six", "local@[fe80::1%eth0]:22"},
		{"far", "jump@10.0.0.1:22 local@far:22"},
		{"chain", "you@gate:2200 local@[::1]:23 local@chain:22"},
		{"nested", "jump@10.0.0.1:22 local@far:22 local@nested:22"},
		{"second", "local@gate:22 local@far:22 local@second:22"}, // far's own ProxyJump is overridden
		{"none", "local@none:22"},
		{"nocommand", "local@nocommand:22"},
		{"command", "ProxyCommand is not supported"},
		{"loop1", "in a circle: loop1 → loop2 → loop1;"},
		{"badport", `port "70000"`},
		{"badname", "begins with -"},
		{"revokes", "RevokedHostKeys"},
		{"maybe", "neither yes nor no"},
		{"", "is empty"},
		{"-oProxyCommand=x", "begins with -"},
		{"me@", "is empty"},
		{"@x", "no user"},
		{"x:", "no port"},
		{"x:0", "port"},
		{"[::1", "not closed"},
		{"a b", "no name has"},
		{"$(reboot)", "no name has"},
	} {
		h, err := Resolve(t.Context(), tt.alias, options(t, map[string]string{"config": config}))
		got := way(h)
		if err != nil {
			if got = err.Error(); strings.Contains(got, tt.want) {
				continue
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.alias, got, tt.want)
		}
		if err == nil && h.Name != tt.alias {
			t.Errorf("%s is called %s", tt.alias, h.Name)
		}
	}
}

// What we read is what OpenSSH reads.
func TestResolveLikeOpenSSH(t *testing.T) {
	program, err := exec.LookPath("ssh")
	ok(t, err)
	const config = `
Include more
Host a b* !bad
  HostName %h.example
  User "me"
  Port=2022
  IdentitiesOnly yes
  HostKeyAlias alias # comment
Host bad
  Include more2
  User bad
Host *.lan
  ProxyJump x@y:3
  Match all
User last
`
	dir := home(t, map[string]string{"config": config, "more": "Host b1\nPort 1\n", "more2": "Host bad\nHostKeyAlias m\nHost *\nPort 9\n"})
	// ssh takes relative Includes from the home of the passwd file, so name them whole.
	whole := strings.NewReplacer("Include more2", "Include "+dir+"/.ssh/more2", "Include more\n", "Include "+dir+"/.ssh/more\n").Replace(config)
	file := filepath.Join(dir, ".ssh", "config")
	ok(t, os.WriteFile(file, []byte(whole), 0o600))
	for _, alias := range []string{"a", "b1", "b", "bad", "c", "x.lan", "A"} {
		o := Options{Home: dir, User: "local", ConfigFiles: []string{file}}
		r := &resolver{Options: o}
		r.Options.LookPath, r.Options.Run = exec.LookPath, run
		d, err := parseDestination(alias)
		ok(t, err)
		theirs, err := r.askSSH(t.Context(), d)
		ok(t, err)
		ours, err := readConfig(o.ConfigFiles, dir, alias)
		ok(t, err)
		a, b := (&settings{values: ours}), (&settings{values: theirs})
		for _, key := range []string{"user", "port", "identitiesonly", "hostkeyalias", "proxyjump"} {
			defaults := map[string]string{"port": "22", "identitiesonly": "no"}
			if mine := a.first(key); mine != b.first(key) && !(mine == "" && b.first(key) == defaults[key]) {
				t.Errorf("%s: %s is %q, and %s says %q", alias, key, mine, program, b.first(key))
			}
		}
	}
}

// A Match block is OpenSSH's to judge; without OpenSSH its line is named.
func TestResolveMatch(t *testing.T) {
	o := options(t, map[string]string{"config": "Host gpu\n  HostName gpu.lan\n\nMatch host gpu.lan user me\n  Port 2022\n  IdentityFile ~/.ssh/special\n"})
	_, err := Resolve(t.Context(), "me@gpu", o)
	var bad *UnreadableError
	if !errors.As(err, &bad) || bad.Line != 4 || bad.File != o.ConfigFiles[0] || !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("without ssh: %v", err)
	}
	t.Log(err)
	o.LookPath = exec.LookPath
	h, err := Resolve(t.Context(), "me@gpu", o)
	if err != nil || way(h) != "me@gpu.lan:2022" || !slices.ContainsFunc(h.Notes, func(n string) bool { return strings.Contains(n, ".ssh/special: does not exist") }) {
		t.Errorf("with ssh: %s %q, %v", way(h), h.Notes, err)
	}
	if h, err = Resolve(t.Context(), "you@gpu:5", o); err != nil || way(h) != "you@gpu.lan:5" || len(h.Notes) != 0 {
		t.Errorf("not matched: %s %q, %v", way(h), h.Notes, err)
	}
	o.Run = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("exit 255") }
	if _, err = Resolve(t.Context(), "gpu", o); !errors.As(err, &bad) || !strings.Contains(err.Error(), "exit 255") {
		t.Errorf("ssh fails: %v", err)
	}
}

func TestResolveKnownHosts(t *testing.T) {
	o := options(t, map[string]string{
		"config":      "Host a\n UserKnownHostsFile ~/.ssh/k1 %d/.ssh/%n-%p-%r\n GlobalKnownHostsFile none\n HostKeyAlias box\nHost n\n UserKnownHostsFile none\n GlobalKnownHostsFile none\n",
		"known_hosts": "default\n", "k1": "one\n", "a-22-local": "two",
	})
	h, err := Resolve(t.Context(), "a", o)
	ok(t, err)
	dir := filepath.Join(o.Home, ".ssh") + "/"
	want := fromFile + dir + "k1\none\n" + fromFile + dir + "a-22-local\ntwo\n"
	if h.KnownHosts != want || h.KnownHostsFile != dir+"k1" || h.HostKeyAlias != "box" {
		t.Errorf("got %q, %s, %s", h.KnownHosts, h.KnownHostsFile, h.HostKeyAlias)
	}
	if h, err = Resolve(t.Context(), "other", o); err != nil || !strings.Contains(h.KnownHosts, "default\n") || h.KnownHostsFile != dir+"known_hosts" {
		t.Errorf("default: %q %s %v", h.KnownHosts, h.KnownHostsFile, err)
	}
	if h, err = Resolve(t.Context(), "n", o); err != nil || h.KnownHosts != "" {
		t.Errorf("none: %q %v", h.KnownHosts, err)
	}
}

func TestResolveAgentSocket(t *testing.T) {
	o := options(t, map[string]string{"config": "Host a\n IdentityAgent ~/a.sock\nHost n\n IdentityAgent none\nHost v\n IdentityAgent $V\nHost w\n IdentityAgent ${V}/x\nHost s\n IdentityAgent SSH_AUTH_SOCK\nHost t\n IdentityAgent %Z\n"})
	o.AgentSock = "/nowhere/sock"
	o.Getenv = func(name string) string { return map[string]string{"V": "/v"}[name] }
	for alias, want := range map[string]string{"a": o.Home + "/a.sock", "n": "", "v": "/v", "w": "/v/x", "s": "/nowhere/sock", "x": "/nowhere/sock"} {
		if h, err := Resolve(t.Context(), alias, o); err != nil || h.AgentSocket != want {
			t.Errorf("%s: %q, %v; want %q", alias, h.AgentSocket, err, want)
		}
	}
	if _, err := Resolve(t.Context(), "t", o); err == nil {
		t.Error("an unknown token was accepted")
	}
}

// From an alias to a round trip: what the launcher resolves is all that the
// gateway gets, as JSON; and without secrets it holds none.
func TestResolveThenDial(t *testing.T) {
	s, hop := startSSHD(t, []string{"ed25519"}), startSSHD(t, []string{"ecdsa"})
	o := options(t, map[string]string{
		"id": string(s.client.pem), "id2": string(hop.client.pem),
		"known_hosts": s.known("ed25519", s.port) + hop.known("ecdsa", hop.port),
		"config": "Host gpu\n HostName 127.0.0.1\n Port " + strconv.Itoa(int(s.port)) + "\n User " + s.user + "\n IdentityFile ~/.ssh/id\n ProxyJump hop\n" +
			"Host hop\n HostName 127.0.0.1\n Port " + strconv.Itoa(int(hop.port)) + "\n User " + s.user + "\n IdentityFile ~/.ssh/id2\n",
	})
	h, err := Resolve(t.Context(), "gpu", o)
	ok(t, err)
	text, err := json.Marshal(h)
	ok(t, err)
	ok(t, os.RemoveAll(o.Home))
	var got Host
	ok(t, json.Unmarshal(text, &got))
	if !reflect.DeepEqual(got, h) {
		t.Error("the Host did not survive JSON")
	}
	ok(t, dialOnce(t, got, "unix", listenUnix(t, echo)))

	public, err := json.Marshal(h.WithoutSecrets())
	ok(t, err)
	if strings.Contains(string(public), `"pem"`) || len(h.Keys[0].PEM) == 0 || len(h.Jump[0].Keys[0].PEM) == 0 {
		t.Error("WithoutSecrets keeps a private key, or took it from the original")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, h) + fmt.Sprintf(verb, h.Keys[0]); strings.Contains(out, "PRIVATE") || strings.Contains(out, "45 45 45") {
			t.Errorf("%s prints a private key", verb)
		}
	}
}
