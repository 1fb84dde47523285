package machine

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestFacts(t *testing.T) {
	each(t, func(t *testing.T, m *Machine, s somebody) {
		f, err := m.Facts(testContext(t))
		ok(t, err)
		t.Logf("%+v", f)
		name, err := os.Hostname()
		ok(t, err)
		if f.Hostname != name || f.UID != s.uid || f.GID != s.gid || f.Home != s.home || !slices.Contains(f.Groups, s.gid) {
			t.Errorf("who and where: %+v, want %s and %+v", f, name, s)
		}
		if f.MemAvailable <= 0 || f.MemTotal < f.MemAvailable || f.Kernel == "" || f.Arch == "" || f.Cgroup == 0 {
			t.Errorf("what: %+v", f)
		}
		if f.HFHome != s.home+"/.cache/huggingface" {
			t.Errorf("HFHome %s", f.HFHome)
		}
		unshare := exec.Command("unshare", "-Urn", "true")
		if s.uid == os.Getuid() && (unshare.Run() == nil) != (f.UserNamespaces == "") {
			t.Errorf("user namespaces: %q", f.UserNamespaces)
		}
	})
}

// What is in PATH and in the environment counts.
func TestFactsEnvironment(t *testing.T) {
	s := newSomebody(t)
	bin := filepath.Join(s.home, "my bin")
	run := filepath.Join(s.home, "run")
	ok(t, os.MkdirAll(bin, 0o755))
	ok(t, os.MkdirAll(filepath.Join(run, "podman"), 0o755))
	ok(t, os.WriteFile(filepath.Join(bin, "vllm"), []byte("#!/bin/sh\n"), 0o755))
	ok(t, os.WriteFile(filepath.Join(bin, "llama-server"), nil, 0o644)) // no program
	for path, mode := range map[string]os.FileMode{filepath.Join(run, "docker.sock"): 0o600, filepath.Join(run, "podman", "podman.sock"): 0o666} {
		l, err := net.Listen("unix", path)
		ok(t, err)
		defer l.Close()
		ok(t, os.Chmod(path, mode))
	}
	m := Local(LocalOptions{Home: s.home, UID: s.uid, GID: s.gid, Environ: []string{"PATH=" + bin + ":/usr/bin:/bin", "XDG_RUNTIME_DIR=" + run, "HF_HOME=~/weights"}})
	f, err := m.Facts(testContext(t))
	ok(t, err)
	if f.Commands["vllm"] != bin+"/vllm" || f.Commands["llama-server"] == bin+"/llama-server" || f.HFHome != s.home+"/weights" {
		t.Errorf("%+v", f)
	}
	engines := map[string]EngineSocket{}
	for _, e := range f.Engines {
		engines[e.Path] = e
	}
	docker, podman := engines[run+"/docker.sock"], engines[run+"/podman/podman.sock"]
	if podman.Kind != "podman" || !podman.Usable || podman.Why != "" {
		t.Errorf("podman %+v", podman)
	}
	if docker.Kind != "docker" || docker.Usable != (os.Getuid() != 0) || (docker.Why == "") != docker.Usable { // root made it, somebody asks
		t.Errorf("docker %+v", docker)
	}
}

func TestFactsDevices(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("device files need root")
	}
	s := newSomebody(t)
	m := s.there(t, login{setup: `mount -t tmpfs -o mode=755 none /dev
for d in null:3 zero:5 urandom:9; do mknod -m 666 /dev/${d%:*} c 1 ${d#*:}; done
mkdir /dev/dri /dev/nvidia-caps /dev/dri/by-path
mknod -m 660 /dev/kfd c 1 3; mknod -m 666 /dev/dri/renderD128 c 1 3; mknod -m 660 /dev/dri/card0 c 1 3
mknod -m 666 /dev/nvidia0 c 1 3; touch /dev/nvidia1
chgrp 992 /dev/kfd /dev/dri/renderD128; chgrp 54321 /dev/dri/card0`})
	f, err := m.Facts(testContext(t))
	ok(t, err)
	want := []Device{{"/dev/kfd", 992, false}, {"/dev/dri/renderD128", 992, true}, {"/dev/dri/card0", 54321, true}, {"/dev/nvidia0", 0, true}}
	if !slices.Equal(f.Devices, want) {
		t.Errorf("devices %+v, want %+v", f.Devices, want)
	}
}

// answer is what a machine says, with records changed; "-" leaves one out.
func answer(changes map[string]string, more ...string) []byte {
	records := map[string]string{"os": "Linux", "hostname": "strix", "kernel": "6.12.1", "arch": "x86_64", "uid": "1000", "gid": "1000", "groups": "1000 44 992",
		"user": "me", "home": "/home/me", "hf_home": "", "cache": "", "mem_total": "131000000", "mem_available": "120000000", "cgroup": "2",
		"namespaces": "yes", "userns_clone": "", "userns_max": "500000", "netns_max": "500000", "userns_apparmor": "", "end": "facts"}
	for k, v := range changes {
		records[k] = v
	}
	var b strings.Builder
	for _, k := range singleKeys {
		if records[k] != "-" {
			b.WriteString(k + "=" + records[k] + "\x00")
		}
	}
	for _, r := range more {
		b.WriteString(r + "\x00")
	}
	return []byte(b.String())
}

func TestParseFacts(t *testing.T) {
	f, err := parseFacts(answer(nil, "device=992 yes /dev/kfd", "device=44 no /dev/dri/card1", "engine=docker 998 docker no /var/run/docker.sock",
		"engine=podman 0 root no /run/podman/podman.sock", "engine=podman 1000 me yes /run/user/1000/podman/podman.sock",
		"engine=podman 1000 me yes /run/user/1000/podman/podman.sock", "command=vllm /opt/a b/vllm", "command=docker docker"))
	ok(t, err)
	if f.MemTotal != 131000000<<10 || !slices.Equal(f.Groups, []int{1000, 44, 992}) || f.HFHome != "/home/me/.cache/huggingface" || f.UserNamespaces != "" {
		t.Errorf("%+v", f)
	}
	if !slices.Equal(f.Devices, []Device{{"/dev/kfd", 992, true}, {"/dev/dri/card1", 44, false}}) {
		t.Errorf("devices %+v", f.Devices)
	}
	if len(f.Engines) != 3 || !strings.Contains(f.Engines[0].Why, "usermod -aG docker") || !strings.Contains(f.Engines[1].Why, "systemctl --user") || !f.Engines[2].Usable {
		t.Errorf("engines %+v", f.Engines)
	}
	if len(f.Commands) != 1 || f.Commands["vllm"] != "/opt/a b/vllm" {
		t.Errorf("commands %v", f.Commands)
	}
}

// What our script cannot have said is refused.
func TestParseFactsRefuses(t *testing.T) {
	many := slices.Repeat([]string{"device=1 yes /dev/kfd"}, maxRecords)
	for name, out := range map[string][]byte{
		"empty":               nil,
		"a shell's greeting":  []byte("Welcome!\n"),
		"cut short":           answer(nil)[:200],
		"no end":              answer(map[string]string{"end": "-"}),
		"wrong end":           answer(map[string]string{"end": "x"}),
		"missing":             answer(map[string]string{"gid": "-"}),
		"twice":               answer(nil, "uid=0"),
		"unknown":             answer(nil, "evil=1"),
		"no key":              answer(nil, "evil"),
		"escape":              answer(map[string]string{"hostname": "a\x1b]52;c;x\a"}),
		"newline":             answer(map[string]string{"user": "a\nb"}),
		"bidi":                answer(map[string]string{"hostname": "a\u202eb"}),
		"not UTF-8":           answer(map[string]string{"hostname": "\xff"}),
		"negative":            answer(map[string]string{"uid": "-1"}),
		"huge":                answer(map[string]string{"mem_total": "99999999999999999999"}),
		"words":               answer(map[string]string{"gid": "users"}),
		"relative home":       answer(map[string]string{"home": "me"}),
		"no home":             answer(map[string]string{"home": ""}),
		"cgroup 3":            answer(map[string]string{"cgroup": "3"}),
		"too long":            answer(map[string]string{"user": strings.Repeat("x", maxRecord)}),
		"too many":            answer(nil, many...),
		"too many groups":     answer(map[string]string{"groups": strings.Repeat("1 ", maxGroups+1)}),
		"device elsewhere":    answer(nil, "device=1 yes /etc/passwd"),
		"device by dots":      answer(nil, "device=1 yes /dev/../etc/passwd"),
		"device without path": answer(nil, "device=1 yes"),
		"device of no group":  answer(nil, "device=x yes /dev/kfd"),
		"device perhaps":      answer(nil, "device=1 perhaps /dev/kfd"),
		"engine of no kind":   answer(nil, "engine=lxd 1 x yes /x"),
		"engine nowhere":      answer(nil, "engine=docker 1 x yes x"),
		"other command":       answer(nil, "command=rm /bin/rm"),
	} {
		if f, err := parseFacts(out); !errors.Is(err, errMalformed) || f.Hostname != "" {
			t.Errorf("%s: %+v, %v", name, f, err)
		} else if printable(err.Error()) != err.Error() {
			t.Errorf("%s: error %q", name, err)
		}
	}
	if _, err := parseFacts(answer(map[string]string{"os": "Darwin"})); err == nil || !strings.Contains(err.Error(), `no Linux machine but "Darwin"`) {
		t.Errorf("another system: %v", err)
	}
}

func TestUserNamespacesWhy(t *testing.T) {
	for _, tt := range []struct {
		changes map[string]string
		want    string
	}{
		{map[string]string{"namespaces": "yes", "userns_apparmor": "1"}, ""},
		{map[string]string{"namespaces": "no: x", "userns_clone": "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{map[string]string{"namespaces": "no: x", "userns_max": "0"}, "sysctl -w user.max_user_namespaces="},
		{map[string]string{"namespaces": "no: x", "netns_max": "0"}, "sysctl -w user.max_net_namespaces="},
		{map[string]string{"namespaces": "no: unshare: write failed /proc/self/uid_map: Operation not permitted", "userns_apparmor": "1"},
			"uid_map: Operation not permitted; remedy: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"},
		{map[string]string{"namespaces": "no: unshare: unshare failed:\n\x1b[31mOperation not permitted"}, "unshare failed:; ?[31mOperation not permitted; if the machine is a container"},
		{map[string]string{"namespaces": "no: there is no command unshare to try it with"}, "no command unshare"},
		{map[string]string{"namespaces": "no: x", "uid": "0", "userns_clone": "0"}, "could not be made: x"},
		{map[string]string{"namespaces": "no: "}, "could not be made"},
		{map[string]string{"namespaces": ""}, "could not be made"},
	} {
		f, err := parseFacts(answer(tt.changes))
		if err != nil || (tt.want == "") != (f.UserNamespaces == "") || !strings.Contains(f.UserNamespaces, tt.want) {
			t.Errorf("%v: %q, %v", tt.changes, f.UserNamespaces, err)
		}
	}
}

func TestHFHome(t *testing.T) {
	for _, tt := range [][3]string{
		{"", "", "/home/me/.cache/huggingface"},
		{"/data/hf/", "", "/data/hf"},
		{"/data/hf", "/cache", "/data/hf"},
		{"", "/cache", "/cache/huggingface"},
		{"~/hf", "", "/home/me/hf"},
		{"hf", "cache", "/home/me/.cache/huggingface"},
	} {
		if got := HFHome("/home/me", func(name string) string { return map[string]string{"HF_HOME": tt[0], "XDG_CACHE_HOME": tt[1]}[name] }); got != tt[2] {
			t.Errorf("%q: %s", tt, got)
		}
	}
}

func FuzzParseFacts(f *testing.F) {
	f.Add(answer(nil, "device=992 yes /dev/kfd", "engine=docker 998 docker no /var/run/docker.sock", "command=vllm /bin/vllm"))
	f.Add([]byte("os=Linux\x00"))
	f.Fuzz(func(t *testing.T, out []byte) {
		facts, err := parseFacts(out)
		if err != nil {
			if len(err.Error()) > 4*maxRecord || printable(err.Error()) != err.Error() {
				t.Errorf("error %q", err)
			}
			return
		}
		said := []string{facts.Hostname, facts.User, facts.Home, facts.HFHome, facts.Kernel, facts.Arch, facts.UserNamespaces}
		for _, e := range facts.Engines {
			said = append(said, e.Path, e.Why)
		}
		for _, d := range facts.Devices {
			said = append(said, d.Path)
		}
		for _, s := range said {
			if printable(s) != s {
				t.Errorf("%s is not printable", strconv.Quote(s))
			}
		}
		if facts.UID < 0 || facts.MemTotal < 0 || facts.MemAvailable < 0 || len(facts.Devices) > maxRecords {
			t.Errorf("%+v", facts)
		}
	})
}

func FuzzAfterMark(f *testing.F) {
	f.Add([]byte("Welcome\n"), []byte("\x1esallyport 12 0\x1eout"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var got strings.Builder
		m := &afterMark{w: &got}
		for _, p := range [][]byte{a, b} {
			if _, err := m.Write(p); err != nil {
				return
			}
		}
		all := string(a) + string(b)
		if !m.found && got.Len() > 0 || !strings.HasSuffix(all, got.String()) || m.found && m.pid <= 1 {
			t.Errorf("%q became %q, %+v", all, got.String(), m)
		}
	})
}
