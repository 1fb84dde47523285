package sandbox

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

var (
	pool4 = netip.MustParsePrefix("10.213.0.0/16")
	pool6 = netip.MustParsePrefix("fd53:616c:6c79::/112")
)

func id(n int) string { return fmt.Sprintf("%012x", n) }

func registration(n int) Registration {
	return Registration{Token: strings.Repeat(id(n), 3), Subject: audit.Subject{Sandbox: id(n), Agent: "a", Model: "m", Project: "/p"}}
}

func load(t *testing.T, path string, pool4, pool6 netip.Prefix) *registry {
	t.Helper()
	r, err := loadRegistry(path, pool4, pool6)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustRegister(t *testing.T, r *registry, n int) *Registration {
	t.Helper()
	reg, err := r.add(registration(n))
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestRegistryIsKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registrations.json")
	r := load(t, path, pool4, pool6)
	reg := registration(1)
	reg.Endpoints = []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}}
	reg.Upstream = Upstream{Name: "gpt-oss", Aliases: []string{"g"}, Host: "strix", Network: "unix", Address: "/s", Token: "secret", Controlled: true}
	stored, err := r.add(reg)
	if err != nil {
		t.Fatal(err)
	}
	want := Addresses{netip.MustParseAddr("10.213.0.0"), netip.MustParseAddr("10.213.0.1"),
		netip.MustParseAddr("fd53:616c:6c79::"), netip.MustParseAddr("fd53:616c:6c79::1")}
	if stored.Addresses != want {
		t.Errorf("addresses: %+v", stored.Addresses)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	again := load(t, path, pool4, pool6)
	if !reflect.DeepEqual(again.Sandboxes, r.Sandboxes) || again.Next != r.Next {
		t.Errorf("read again: %+v, wanted %+v", again, r)
	}
	if err := again.remove(id(1)); err != nil {
		t.Fatal(err)
	}
	if last := load(t, path, pool4, pool6); len(last.Sandboxes) != 0 || last.Next != 1 {
		t.Errorf("after removal: %+v", last)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// No pair is given out again before every other was, also over a restart.
func TestAddressesAreNotReusedBeforeThePoolIsThrough(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	small := netip.MustParsePrefix("10.0.0.0/29") // four pairs
	var got []string
	for n := range 6 {
		r := load(t, path, small, netip.Prefix{})
		reg := mustRegister(t, r, n)
		if reg.Addresses.Sandbox6.IsValid() || reg.Addresses.Gate6.IsValid() {
			t.Error("an IPv6 address without a pool")
		}
		got = append(got, reg.Addresses.Sandbox4.String())
		if err := r.remove(id(n)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "10.0.0.0 10.0.0.2 10.0.0.4 10.0.0.6 10.0.0.0 10.0.0.2"; strings.Join(got, " ") != want {
		t.Errorf("got %v, wanted %s", got, want)
	}
}

func TestPoolIsUsedUp(t *testing.T) {
	r := load(t, filepath.Join(t.TempDir(), "r"), netip.MustParsePrefix("10.0.0.0/30"), pool6)
	mustRegister(t, r, 1)
	mustRegister(t, r, 2)
	if _, err := r.add(registration(3)); err == nil || !strings.Contains(err.Error(), "all 2 address pairs of 10.0.0.0/30 are in use; hint: ") {
		t.Errorf("%v", err)
	}
	if err := r.remove(id(1)); err != nil {
		t.Fatal(err)
	}
	if reg := mustRegister(t, r, 3); reg.Addresses.Gate4.String() != "10.0.0.1" {
		t.Errorf("%+v", reg.Addresses)
	}
}

func TestPoolOfOnePair(t *testing.T) {
	r := load(t, filepath.Join(t.TempDir(), "r"), netip.MustParsePrefix("10.0.0.6/31"), netip.MustParsePrefix("fd00::/127"))
	for n := range 3 {
		if reg := mustRegister(t, r, n); reg.Addresses.Sandbox4.String() != "10.0.0.6" || reg.Addresses.Gate6.String() != "fd00::1" {
			t.Errorf("%+v", reg.Addresses)
		}
		if _, err := r.add(registration(9)); err == nil {
			t.Error("a second sandbox got the same addresses")
		}
		if err := r.remove(id(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolsAreChecked(t *testing.T) {
	for _, c := range []struct{ four, six string }{
		{"", ""}, {"10.0.0.0/32", ""}, {"fd00::/64", ""}, {"10.0.0.0/16", "fd00::/120"}, {"10.0.0.0/16", "10.0.0.0/16"},
	} {
		var four, six netip.Prefix
		if c.four != "" {
			four = netip.MustParsePrefix(c.four)
		}
		if c.six != "" {
			six = netip.MustParsePrefix(c.six)
		}
		if _, err := loadRegistry(filepath.Join(t.TempDir(), "r"), four, six); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	r := load(t, filepath.Join(t.TempDir(), "r"), pool4, pool6)
	mustRegister(t, r, 1)
	for want, change := range map[string]func(*Registration){
		"hexadecimal digits": func(reg *Registration) { reg.Sandbox = "../../../etc" },
		"registered already": func(reg *Registration) { reg.Sandbox = id(1) },
		"at least 32 bytes":  func(reg *Registration) { reg.Token = "short" },
		"token is in use":    func(reg *Registration) { reg.Token = registration(1).Token },
	} {
		reg := registration(2)
		change(&reg)
		if _, err := r.add(reg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if len(r.Sandboxes) != 1 {
		t.Errorf("%d are registered", len(r.Sandboxes))
	}
}

// What cannot be kept is not registered.
func TestAddFailsWithoutAFile(t *testing.T) {
	r := load(t, filepath.Join(t.TempDir(), "gone", "r"), pool4, pool6)
	if _, err := r.add(registration(1)); err == nil || len(r.Sandboxes) != 0 {
		t.Errorf("%v, %d", err, len(r.Sandboxes))
	}
}

func TestCorruptFileIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut": `{"next":1,"sandboxes":{`, "another type": `{"next":"x"}`, "a list": `[]`,
		"no registration": `{"sandboxes":{"` + id(1) + `":null}}`,
		"another id":      `{"sandboxes":{"` + id(1) + `":{"sandbox":"` + id(2) + `","token":"` + strings.Repeat("x", 32) + `"}}}`,
		"no token":        `{"sandboxes":{"` + id(1) + `":{"sandbox":"` + id(1) + `"}}}`,
		"no id":           `{"sandboxes":{"x":{"sandbox":"x","token":"` + strings.Repeat("x", 32) + `"}}}`,
	} {
		path := filepath.Join(t.TempDir(), "r")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadRegistry(path, pool4, pool6); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpstreamString(t *testing.T) {
	if got := (Upstream{Network: "unix", Address: "/run/x"}).String(); got != "unix:///run/x" {
		t.Error(got)
	}
	if got := (Upstream{Network: "tcp", Address: "127.0.0.1:8", Host: "strix", Token: "secret"}).String(); got != "strix (tcp://127.0.0.1:8)" {
		t.Error(got)
	}
}
