package machine

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what a machine may say of itself.
const (
	maxRecords = 256
	maxRecord  = 16 << 10 // bytes
	maxGroups  = 1024
	maxID      = 1<<32 - 2
)

// singleKeys are the records that come exactly once.
var singleKeys = []string{"os", "hostname", "kernel", "arch", "uid", "gid", "groups", "user", "home", "hf_home", "cache", "mem_total",
	"mem_available", "cgroup", "namespaces", "userns_clone", "userns_max", "netns_max", "userns_apparmor", "end"}

var (
	commandNames = []string{"vllm", "llama-server", "docker", "podman"}
	errMalformed = errors.New("its answer is malformed")
)

// factsParser takes factsScript's records apart; the first thing that is wrong counts.
type factsParser struct {
	single map[string]string
	facts  Facts
	err    error
}

// parseFacts is strict: the other side is our own script, so anything odd means
// that something else speaks.
func parseFacts(out []byte) (Facts, error) {
	records := bytes.Split(out, []byte{0})
	if len(records) > maxRecords || len(records[len(records)-1]) > 0 {
		return Facts{}, errMalformed
	}
	p := &factsParser{single: map[string]string{}, facts: Facts{Commands: map[string]string{}}}
	for _, r := range records[:len(records)-1] {
		p.record(r)
	}
	for _, key := range singleKeys {
		if _, ok := p.single[key]; !ok {
			p.fail("%s is missing", key)
		}
	}
	if p.err == nil && p.single["os"] != "Linux" {
		return Facts{}, fmt.Errorf("it is no Linux machine but %q", printable(p.single["os"]))
	}
	p.finish()
	if p.err != nil {
		return Facts{}, p.err
	}
	return p.facts, nil
}

func (p *factsParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: "+format, append([]any{errMalformed}, args...)...)
	}
}

// record notes one record.
func (p *factsParser) record(r []byte) {
	key, value, ok := strings.Cut(string(r), "=")
	printing := key == "namespaces" || printable(value) == value
	switch {
	case !ok || len(r) > maxRecord || !utf8.ValidString(value) || !printing:
		p.fail("a record is not as it should be")
	case key == "device":
		p.device(value)
	case key == "engine":
		p.engine(value)
	case key == "command":
		p.command(value)
	case !slices.Contains(singleKeys, key):
		p.fail("unknown record %q", printable(key[:min(len(key), 40)]))
	default:
		if _, twice := p.single[key]; twice {
			p.fail("%s comes twice", key)
		}
		p.single[key] = value
	}
}

// device notes "GID yes|no PATH".
func (p *factsParser) device(value string) {
	f := strings.SplitN(value, " ", 3)
	if len(f) != 3 || !strings.HasPrefix(f[2], "/dev/") || path.Clean(f[2]) != f[2] {
		p.fail("device %q", value)
		return
	}
	p.facts.Devices = append(p.facts.Devices, Device{Path: f[2], GID: p.id("device", f[0]), Usable: p.yes("device", f[1])})
}

// engine notes "KIND GID GROUP yes|no PATH". One path counts once.
func (p *factsParser) engine(value string) {
	f := strings.SplitN(value, " ", 5)
	if len(f) != 5 || f[0] != "docker" && f[0] != "podman" || !path.IsAbs(f[4]) {
		p.fail("engine %q", value)
		return
	}
	e := EngineSocket{Kind: f[0], Path: path.Clean(f[4]), Usable: p.yes("engine", f[3])}
	gid := p.id("engine", f[1])
	if slices.ContainsFunc(p.facts.Engines, func(other EngineSocket) bool { return other.Path == e.Path }) {
		return
	}
	switch {
	case e.Usable:
	case gid == 0:
		e.Why = fmt.Sprintf("only root may open %s", e.Path)
		if e.Kind == "podman" {
			e.Why += "; remedy: a socket of the user's own: `systemctl --user enable --now podman.socket` there"
		}
	default:
		e.Why = fmt.Sprintf("the user may not open %s, which is for group %s (%d); remedy: `sudo usermod -aG %s USER` there, then log in anew (end all SSH connections)",
			e.Path, f[2], gid, f[2])
	}
	p.facts.Engines = append(p.facts.Engines, e)
}

// command notes "NAME PATH". A name that is no file, as a function, is left out.
func (p *factsParser) command(value string) {
	name, file, _ := strings.Cut(value, " ")
	if !slices.Contains(commandNames, name) {
		p.fail("command %q", value)
		return
	}
	if path.IsAbs(file) {
		p.facts.Commands[name] = file
	}
}

func (p *factsParser) id(what, text string) int {
	n := p.number(what, text, maxID)
	return int(n)
}

func (p *factsParser) number(what, text string, limit int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > limit {
		p.fail("%s: %q is no number in its range", what, text)
		return 0
	}
	return n
}

func (p *factsParser) yes(what, text string) bool {
	if text != "yes" && text != "no" {
		p.fail("%s: %q is neither yes nor no", what, text)
	}
	return text == "yes"
}

// finish fills in what single records say.
func (p *factsParser) finish() {
	if p.err != nil {
		return
	}
	f, s := &p.facts, p.single
	f.Hostname, f.Kernel, f.Arch, f.User = s["hostname"], s["kernel"], s["arch"], s["user"]
	f.UID, f.GID = p.id("uid", s["uid"]), p.id("gid", s["gid"])
	groups := strings.Fields(s["groups"])
	if len(groups) > maxGroups {
		p.fail("%d groups", len(groups))
		return
	}
	for _, g := range groups {
		f.Groups = append(f.Groups, p.id("groups", g))
	}
	f.MemTotal = p.number("mem_total", s["mem_total"], 1<<50) << 10
	f.MemAvailable = p.number("mem_available", s["mem_available"], 1<<50) << 10
	f.Cgroup = int(p.number("cgroup", s["cgroup"], 2))
	if f.Home = path.Clean(s["home"]); !path.IsAbs(f.Home) {
		p.fail("HOME is %q, which is not absolute", s["home"])
	}
	f.HFHome = HFHome(f.Home, func(name string) string {
		return map[string]string{"HF_HOME": s["hf_home"], "XDG_CACHE_HOME": s["cache"]}[name]
	})
	f.UserNamespaces = namespacesWhy(s, f.UID)
	if s["end"] != "facts" {
		p.fail("it ends in %q", s["end"])
	}
}

// HFHome is HF_HOME as huggingface_hub's constants.py has it, for a login with that
// home folder: the variable, else huggingface in the cache folder. What is not
// absolute is left out.
func HFHome(home string, getenv func(string) string) string {
	expand := func(s string) string {
		if rest, ok := strings.CutPrefix(s, "~/"); ok {
			s = path.Join(home, rest)
		}
		return s
	}
	if v := expand(getenv("HF_HOME")); path.IsAbs(v) {
		return path.Clean(v)
	}
	if c := expand(getenv("XDG_CACHE_HOME")); path.IsAbs(c) {
		return path.Join(c, "huggingface")
	}
	return path.Join(home, ".cache/huggingface")
}

// namespacesWhy says why no user and network namespace can be made, and the remedy.
func namespacesWhy(s map[string]string, uid int) string {
	tried, _ := strings.CutPrefix(s["namespaces"], "no: ")
	if tried = strings.ReplaceAll(lastLines([]byte(tried)), "\n", "; "); tried == "yes" {
		return ""
	}
	forbidden := func(setting, value string) string {
		return fmt.Sprintf("the kernel forbids user namespaces to ordinary users (%s); remedy: `sudo sysctl -w %s` there, and the same line in /etc/sysctl.d/ to keep it, "+
			"or runtime: docker or podman", setting, value)
	}
	switch {
	case uid != 0 && s["userns_clone"] == "0": // Debian's and Arch's kernels
		return forbidden("kernel.unprivileged_userns_clone is 0", "kernel.unprivileged_userns_clone=1")
	case s["userns_max"] == "0":
		return forbidden("user.max_user_namespaces is 0", "user.max_user_namespaces=15000")
	case s["netns_max"] == "0":
		return forbidden("user.max_net_namespaces is 0", "user.max_net_namespaces=15000")
	case uid != 0 && s["userns_apparmor"] == "1": // Ubuntu since 23.10
		return "AppArmor keeps user namespaces from programs without a profile (kernel.apparmor_restrict_unprivileged_userns is 1): " + tried +
			"; remedy: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` there, and the same line in /etc/sysctl.d/ to keep it, or runtime: docker or podman"
	}
	return "a user and network namespace could not be made: " + tried +
		"; if the machine is a container itself, its seccomp profile forbids it; remedy: allow it there, or runtime: docker or podman"
}
