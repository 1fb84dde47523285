package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models"
	"github.com/sallyport/sallyport/tunnel"
	"golang.org/x/sys/unix"
)

func says(f finding) func(int, context.Context) finding {
	return func(int, context.Context) finding { return f }
}

// A check whose need did not come to anything is skipped, and so is what needs it.
func TestExamineNeeds(t *testing.T) {
	table := []check[int]{
		{name: "good", run: says(fine("yes"))},
		{name: "poor", run: says(warned("", "so so"))},
		{name: "bad", run: says(failed(errors.New("no")))},
		{name: "nothing", run: says(finding{})},
		{name: "after-poor", needs: []string{"good", "poor"}, run: says(fine("yes"))},
		{name: "after-bad", needs: []string{"good", "bad"}, run: says(fine("no"))},
		{name: "after-after", needs: []string{"after-bad"}, run: says(fine("no"))},
		{name: "after-nothing", needs: []string{"nothing"}, run: says(fine("no"))},
		{name: "after-unknown", needs: []string{"unknown"}, run: says(fine("no"))},
	}
	var told []string
	list := examine(t.Context(), "here", table, 0, func(what string) { told = append(told, what) })
	var got []string
	for _, f := range list {
		got = append(got, f.Check+" "+string(f.Verdict)+" "+f.Because)
	}
	want := []string{"good ok ", "poor warn ", "bad fail ", "nothing  ", "after-poor ok ", "after-bad skip bad", "after-after skip bad",
		"after-nothing skip nothing", "after-unknown skip unknown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(told) != 5 {
		t.Errorf("told of %d", len(told))
	}
	// A check that says nothing has failed.
	if c := count(list); c != (tally{OK: 2, Warned: 1, Failed: 2, Skipped: 4}) {
		t.Errorf("%+v", c)
	}
}

// A check that hangs ends at its limit, and a host at its own.
func TestExamineLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(_ int, ctx context.Context) finding {
			<-ctx.Done()
			return failed(fmt.Errorf("ask it: %w", ctx.Err()))
		}
		table := []check[int]{{name: "hangs", run: hang}, {name: "next", run: says(fine("yes"))}, {name: "long", run: hang, limit: 2 * hostTime}, {name: "last", run: says(fine("yes"))}}
		ctx, cancel := context.WithTimeoutCause(t.Context(), hostTime, errTooLong)
		defer cancel()
		list := examine(ctx, "here", table, 0, func(string) {})
		if f := list[0]; f.Verdict != verdictFail || f.Text != "no answer in 10s" || !strings.Contains(f.Detail[0], "ask it") {
			t.Errorf("%+v", f)
		}
		if list[1].Verdict != verdictOK || list[2].Verdict != verdictFail || list[3].Verdict != verdictSkip {
			t.Errorf("%+v", list[1:])
		}
	})
}

func TestTablesAreWhole(t *testing.T) {
	whole(t, configChecks())
	whole(t, laptopChecks())
	whole(t, append(openChecks(), serverChecks()...))
	whole(t, append(sshChecks(true), serverChecks()...))
	whole(t, append(sshChecks(false), initChecks()...))
	whole(t, modelChecks())
	whole(t, theirChecks())
}

// whole fails unless each check is named once, says what it looks at, and needs
// only what stands above it.
func whole[S any](t *testing.T, table []check[S]) {
	t.Helper()
	var names []string
	for _, c := range table {
		if c.name == "" || c.what == "" || c.run == nil || len(c.name) > 9 || slices.Contains(names, c.name) {
			t.Errorf("check %q is not whole, or there twice", c.name)
		}
		for _, need := range c.needs {
			if !slices.Contains(names, need) {
				t.Errorf("check %q needs %q, which does not stand above it", c.name, need)
			}
		}
		names = append(names, c.name)
	}
}

func TestExplain(t *testing.T) {
	key := &tunnel.HostKeyError{Host: "strix", Addr: "strix:22", Problem: tunnel.HostKeyUnknown, KeyType: "ssh-ed25519", Fingerprint: "SHA256:x", Fix: "FIX"}
	changed := *key
	changed.Problem, changed.File, changed.Line = tunnel.HostKeyChanged, "/known", 3
	for _, tt := range []struct {
		err                 error
		text, detail, hints string
	}{
		{errors.New("it broke; hint: mend it"), "it broke", "", "mend it"},
		{errors.New("it broke\nhint: mend it"), "it broke", "", "mend it"},
		{errors.New("nothing can run it:\n  docker: no; hint: a\n  process: no; remedy: b"), "nothing can run it", "docker: no|process: no", "a|b"},
		{fmt.Errorf("GPU host: %w", key), "the host key of strix (strix:22) is not known: ssh-ed25519 SHA256:x", "",
			"compare it with what the host's owner says (there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: FIX"},
		{&changed, "the host key of strix (strix:22) has CHANGED: it is now ssh-ed25519 SHA256:x, other than /known:3; somebody may be in the middle", "",
			"if the host was really given a new key, forget the old one: FIX"},
		{&tunnel.AuthError{Host: "strix", Login: "me@strix:22", Err: errors.New("x")}, "ssh login me@strix:22 (strix) was refused: offered no key", "",
			"put one of your public keys into authorized_keys there, or load the right key: ssh-add FILE"},
		{&tunnel.TargetError{Host: "strix", Network: "unix", Addr: "/s", Message: "no", Hint: "look"}, "strix cannot reach unix /s: no", "", "look"},
		{&tunnel.ForwardError{Host: "strix", Path: "/s", Err: errors.New("refused"), Hint: "look"}, "strix does not listen at /s for us: refused", "", "look"},
	} {
		f := explain(tt.err)
		if f.Text != tt.text || strings.Join(f.Detail, "|") != tt.detail || strings.Join(f.Hints, "|") != tt.hints {
			t.Errorf("%v\n%+v", tt.err, f)
		}
	}
}

func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""}, {&tunnel.HostKeyError{}, "hostkey"}, {fmt.Errorf("x: %w", &tunnel.AuthError{}), "login"}, {&unreachableError{"refused"}, "reach"},
		{&tunnel.LinkError{Err: errors.New("x")}, "reach"}, {fmt.Errorf("x: %w", context.DeadlineExceeded), "reach"}, {&machine.ShError{Code: 1}, "shell"},
	} {
		if got := refusal(tt.err); got != tt.want {
			t.Errorf("%v: %q", tt.err, got)
		}
	}
}

// Nothing that a machine says reaches the terminal raw.
func TestFindingsArePrintable(t *testing.T) {
	evil := "\x1b]52;c;x\a\u202e\r\n"
	var out bytes.Buffer
	printGroups(&out, []finding{
		{Where: "a" + evil, Check: "x", Verdict: verdictFail, Text: evil, Detail: []string{evil}, Hints: []string{evil}},
		{Where: "b", Check: "y", Verdict: verdictWarn, Text: evil, Hints: []string{evil}},
	}, false)
	if strings.ContainsAny(out.String(), "\x1b\a\r\u202e") || strings.Count(out.String(), "\n") != 7 {
		t.Errorf("%q", out.String())
	}
}

func TestDevices(t *testing.T) {
	open := []machine.Device{{Path: "/dev/kfd", GID: 992, Usable: true}, {Path: "/dev/dri/renderD128", GID: 992, Usable: true}}
	closed := []machine.Device{{Path: "/dev/kfd", GID: 992}, {Path: "/dev/dri/card0", GID: 44}}
	rootful := hosting{engine: new(containers.Engine)}
	rootless := rootful
	rootless.info.Rootless = true
	for _, tt := range []struct {
		name    string
		devices []machine.Device
		in      hosting
		set     models.Hardware
		want    verdict
		says    string
	}{
		{"open", open, hosting{}, "", verdictOK, "strix-halo: /dev/kfd /dev/dri/renderD128"},
		{"closed, process", closed, hosting{}, "", verdictFail, "may not open /dev/kfd /dev/dri/card0"},
		{"closed, rootless", closed, rootless, "", verdictFail, "may not open"},
		{"closed, rootful", closed, rootful, "", verdictOK, "strix-halo"},
		{"none", nil, rootful, "", verdictWarn, "no GPU"},
		{"none, as set", nil, rootful, models.CPU, verdictOK, "none"},
		{"none, against what is set", nil, rootful, models.StrixHalo, verdictFail, "hardware: strix-halo is set"},
	} {
		f := devices(machine.Facts{User: "me", Devices: tt.devices}, tt.in, tt.set)
		if f.Verdict != tt.want || !strings.Contains(f.Text, tt.says) {
			t.Errorf("%s: %+v", tt.name, f)
		}
		if strings.HasPrefix(tt.name, "closed, process") && !slices.Equal(f.Hints, []string{"sudo usermod -aG 992,44 me, and log in again"}) {
			t.Errorf("%s: %q", tt.name, f.Hints)
		}
	}
}

func TestReadKernel(t *testing.T) {
	root := t.TempDir()
	if _, err := readKernel(root); !errors.Is(err, errNoModules) {
		t.Errorf("%v", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	folder := "lib/modules/" + unix.ByteSliceToString(u.Release[:])
	write(folder+"/modules.builtin", "kernel/net/netfilter/nf_tables.ko\n")
	write(folder+"/modules.dep", "kernel/net/netfilter/nft_log.ko.zst: kernel/net/netfilter/nf_tables.ko.zst\nkernel/drivers/net/some-name.ko.xz:\n")
	write("proc/modules", "veth 49152 0 - Live 0x0000000000000000\n")
	k, err := readKernel(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"nf_tables": true, "nft_log": true, "veth": true, "some_name": true, "nft_tproxy": false, "": false} {
		if k.has(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

func TestFolderTrouble(t *testing.T) {
	dir := t.TempDir()
	look := func(path string, uid int) string {
		info, err := os.Lstat(path)
		why, hint := folderTrouble(info, err, uid, path)
		if (why == "") != (hint == "") {
			t.Errorf("%s: %q, %q", path, why, hint)
		}
		return why
	}
	own := filepath.Join(dir, "own")
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(own, 0o700), os.WriteFile(file, nil, 0o600), os.Symlink("own", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if why := look(own, os.Getuid()); why != "" {
		t.Error(why)
	}
	if err := os.Chmod(own, 0o750); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{own: "mode 0750", file: "no folder", filepath.Join(dir, "link"): "no folder", filepath.Join(dir, "none"): "no such file"} {
		if why := look(path, os.Getuid()); !strings.Contains(why, want) {
			t.Errorf("%s: %q", path, why)
		}
	}
	if why := look(own, os.Getuid()+1); !strings.Contains(why, "belongs to") {
		t.Error(why)
	}
}

// A socket that is forwarded must bring the same byte back.
func TestRoundTrip(t *testing.T) {
	listen := func() (net.Listener, string) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l, path
	}
	l, path := listen()
	if err := roundTrip(t.Context(), l, func() (net.Conn, error) { return net.Dial("unix", path) }); err != nil {
		t.Error(err)
	}
	l, _ = listen()
	if err := roundTrip(t.Context(), l, func() (net.Conn, error) { return nil, errors.New("refused") }); err == nil || err.Error() != "refused" {
		t.Error(err)
	}
	// Somebody else listens there.
	l, _ = listen()
	other, otherPath := listen()
	go func() {
		if c, err := other.Accept(); err == nil {
			defer c.Close()
			_, _ = io.CopyN(io.Discard, c, 1)
			_, _ = c.Write([]byte("x"))
		}
	}()
	if err := roundTrip(t.Context(), l, func() (net.Conn, error) { return net.Dial("unix", otherPath) }); err == nil {
		t.Error("an answer of somebody else's was taken")
	}
	// Nobody accepts, and the time is over.
	l, _ = listen()
	_, silentPath := listen()
	ctx, cancel := context.WithCancel(t.Context())
	err := roundTrip(ctx, l, func() (net.Conn, error) {
		c, err := net.Dial("unix", silentPath)
		cancel()
		return c, err
	})
	if err == nil {
		t.Error("silence was taken for an answer")
	}
}
