package containers

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// created opens an engine that writes down what it is asked to create.
func created(t *testing.T, options ...string) (*Engine, *object) {
	t.Helper()
	version, info := rootful(t)
	info["SecurityOptions"] = options
	asked := new(object)
	e := fakeEngine{
		"GET /version": reply(version), "GET /info": reply(info),
		"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewDecoder(r.Body).Decode(asked)
			reply(object{"Id": "0123456789abcdef"})(w, r)
		},
		"POST /containers/0123456789abcdef/start": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	}.open(t)
	if _, err := e.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e, asked
}

func agentLabels() map[string]string {
	return map[string]string{LabelRole: RoleAgent, LabelOwner: "1000", LabelLauncher: "1:1"}
}

// pick returns the named fields of what was asked.
func pick(asked object, names ...string) object {
	got := object{}
	for _, n := range names {
		got[n] = asked[n]
	}
	return got
}

func TestAgentAsAskedOfTheEngine(t *testing.T) {
	e, asked := created(t)
	_, err := e.CreateAgent(t.Context(), AgentSpec{Name: "a", Image: "i", Holder: "h", UID: 1000, GID: 1001, TTY: true, Stdin: true, MemoryMB: 64, PidsLimit: 9, TmpMB: 7,
		Labels: agentLabels(), Binds: []Bind{{"/src", "/dst", true}}})
	if err != nil {
		t.Fatal(err)
	}
	host := (*asked)["HostConfig"].(object)
	want := object{
		"CapDrop": []any{"ALL"}, "CapAdd": nil, "Privileged": false, "SecurityOpt": []any{"no-new-privileges:true"}, "ReadonlyRootfs": true,
		"NetworkMode": "container:h", "PidMode": "", "IpcMode": "private", "UsernsMode": "", "Devices": nil, "GroupAdd": nil, "Binds": nil, "VolumesFrom": nil,
		"MaskedPaths": nil, "ReadonlyPaths": nil, // the engine's own lists
		"Tmpfs":  object{"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=7m"},
		"Memory": float64(64 << 20), "MemorySwap": float64(64 << 20), "PidsLimit": float64(9),
		"LogConfig":     object{"Type": "none", "Config": nil},
		"RestartPolicy": object{"Name": "no", "MaximumRetryCount": float64(0)},
		"Mounts": []any{object{"Type": "bind", "Source": "/src", "Target": "/dst", "ReadOnly": true,
			"BindOptions": object{"Propagation": "private", "NonRecursive": true}}},
	}
	names := []string{}
	for n := range want {
		names = append(names, n)
	}
	if diff := cmp.Diff(want, pick(host, names...)); diff != "" {
		t.Errorf("HostConfig (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(object{"User": "1000:1001", "Tty": true, "OpenStdin": true, "StdinOnce": true}, pick(*asked, "User", "Tty", "OpenStdin", "StdinOnce")); diff != "" {
		t.Errorf("Config (-want +got):\n%s", diff)
	}
}

// What the helper's file system holds: one program, which may gain NET_ADMIN,
// that only, and only by asking.
func TestHelperImageHoldsOneProgram(t *testing.T) {
	var packed bytes.Buffer
	sum := sha256.Sum256([]byte("program"))
	if err := packHelper(&packed, strings.NewReader("program"), 7, hex.EncodeToString(sum[:])); err != nil {
		t.Fatal(err)
	}
	var names []string
	for in := tar.NewReader(&packed); ; {
		h, err := in.Next()
		if err != nil {
			break
		}
		names = append(names, fmt.Sprintf("%s %o", h.Name, h.Mode))
		capability := h.PAXRecords["SCHILY.xattr.security.capability"]
		want := ""
		if h.Name == "gateway" {
			want = "\x00\x00\x00\x02" + "\x00\x10\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
		}
		if capability != want || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: capability %q, want %q; owner %d:%d", h.Name, capability, want, h.Uid, h.Gid)
		}
	}
	if got := strings.Join(names, ", "); got != "etc/ 755, etc/passwd 644, etc/group 644, tmp/ 1777, gateway 755" {
		t.Errorf("files: %s", got)
	}
}

func TestHelperAsAskedOfTheEngine(t *testing.T) {
	tests := []struct {
		name     string
		options  []string
		netAdmin bool
		want     object
	}{
		{"plain", nil, false, object{"CapAdd": nil, "CapDrop": []any{"ALL"}, "NetworkMode": "none", "UsernsMode": "", "SecurityOpt": []any{"no-new-privileges:true"}}},
		{"NET_ADMIN whatever the daemon's default", nil, true, object{"CapAdd": []any{"CAP_NET_ADMIN"}, "CapDrop": []any{"ALL"}, "SecurityOpt": []any{"no-new-privileges:false"}}},
		{"userns-remap", []string{"name=userns"}, true, object{"UsernsMode": "host"}},
		{"SELinux", []string{"name=selinux"}, true, object{"SecurityOpt": []any{"no-new-privileges:false", "label=disable"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, asked := created(t, tt.options...)
			l := agentLabels()
			l[LabelRole] = RoleHolder
			if _, err := e.StartHelper(t.Context(), HelperSpec{Name: "h", Image: "i", UID: 1000, GID: 1000, NetAdmin: tt.netAdmin, Labels: l}); err != nil {
				t.Fatal(err)
			}
			names := []string{}
			for n := range tt.want {
				names = append(names, n)
			}
			if diff := cmp.Diff(tt.want, pick((*asked)["HostConfig"].(object), names...)); diff != "" {
				t.Errorf("HostConfig (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUsernsRemapIsLeftByAgentsToo(t *testing.T) {
	e, asked := created(t, "name=userns")
	if _, err := e.CreateAgent(t.Context(), AgentSpec{Name: "a", Image: "i", Holder: "h", UID: 1, GID: 1, Labels: agentLabels()}); err != nil {
		t.Fatal(err)
	}
	if got := (*asked)["HostConfig"].(object)["UsernsMode"]; got != "host" {
		t.Errorf("UsernsMode = %v", got)
	}
}

func TestSpecsThatWouldWeakenAreRefused(t *testing.T) {
	e, asked := created(t)
	agentSpec := func(change func(*AgentSpec)) error {
		s := AgentSpec{Name: "a", Image: "i", Holder: "h", UID: 1000, GID: 1000, Labels: agentLabels()}
		change(&s)
		_, err := e.CreateAgent(t.Context(), s)
		return err
	}
	helperSpec := func(change func(*HelperSpec)) error {
		s := HelperSpec{Name: "h", Image: "i", UID: 1000, GID: 1000, Labels: agentLabels()}
		change(&s)
		_, err := e.StartHelper(t.Context(), s)
		return err
	}
	without := func(key string) map[string]string {
		l := maps.Clone(agentLabels())
		delete(l, key)
		return l
	}
	for name, err := range map[string]error{
		"agent as root":                   agentSpec(func(s *AgentSpec) { s.UID = 0 }),
		"agent in root's group":           agentSpec(func(s *AgentSpec) { s.GID = 0 }),
		"agent with a network of its own": agentSpec(func(s *AgentSpec) { s.Holder = "" }),
		"agent without a role":            agentSpec(func(s *AgentSpec) { s.Labels = without(LabelRole) }),
		"agent without an owner":          agentSpec(func(s *AgentSpec) { s.Labels = without(LabelOwner) }),
		"agent without a launcher":        agentSpec(func(s *AgentSpec) { s.Labels = without(LabelLauncher) }),
		"helper as root":                  helperSpec(func(s *HelperSpec) { s.UID = 0 }),
		"helper in root's group":          helperSpec(func(s *HelperSpec) { s.GID = 0 }),
		"helper on the host's network":    helperSpec(func(s *HelperSpec) { s.Network = "host" }),
		"helper on the bridge":            helperSpec(func(s *HelperSpec) { s.Network = "bridge" }),
		"helper without labels":           helperSpec(func(s *HelperSpec) { s.Labels = nil }),
		"unknown role":                    helperSpec(func(s *HelperSpec) { s.Labels[LabelRole] = "king" }),
	} {
		if err == nil {
			t.Errorf("%s: created", name)
		}
	}
	if *asked != nil {
		t.Errorf("the engine was asked for %v", *asked)
	}
}

func TestRefusedSysctlsHaveAType(t *testing.T) {
	for text, want := range map[string]string{
		`OCI runtime create failed: write sysctl key net.ipv6.conf.all.disable_ipv6: open /proc/sys/net/ipv6/conf/all/disable_ipv6: no such file or directory`: "ipv6",
		`failed to create task: open sysctl net.ipv4.conf.all.x file: unsafe procfs detected: openat2 /proc/./sys/net/ipv4/conf/all/x: no such file`:           "other",
		`sysctl "net.ipv4.ip_forward" not allowed in host network namespace`:                                                                                   "other",
		`no space left on device`: "",
	} {
		err := asSysctl("wall", errors.New(text))
		var refused *SysctlError
		got := ""
		if errors.As(err, &refused) {
			got = "other"
			if refused.IPv6() {
				got = "ipv6"
			}
		}
		if got != want || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// An engine that gives more than it was asked for: what is not ours stays.
func TestSweepTrustsNoFilter(t *testing.T) {
	c := func(id, role, owner, launcher string) object {
		return object{"Id": id, "Names": []string{"/" + id}, "Labels": map[string]string{LabelRole: role, LabelOwner: owner, LabelLauncher: launcher}}
	}
	var removed []string
	f := fakeEngine{"GET /containers/json": reply([]object{
		c("model", RoleModel, "1000", "1:1"), c("holder", RoleHolder, "1000", "1:1"), c("agent", RoleAgent, "1000", "1:1"),
		c("wall", RoleWall, "1000", "1:1"), c("theirs", RoleAgent, "1001", "1:1"), c("unlabelled", RoleAgent, "1000", ""), c("stranger", "", "1000", "1:1"), c("live", RoleAgent, "1000", "2:2"),
	})}
	for _, id := range []string{"model", "holder", "agent", "wall", "theirs", "unlabelled", "stranger", "live"} {
		f["DELETE /containers/"+id] = func(w http.ResponseWriter, _ *http.Request) {
			removed = append(removed, id)
			w.WriteHeader(http.StatusNoContent)
		}
	}
	if _, err := f.open(t).Sweep(t.Context(), 1000, func(l string) bool { return l == "2:2" }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(removed, " "); got != "agent holder model" {
		t.Errorf("removed %s", got)
	}
	if _, err := f.open(t).Sweep(t.Context(), 1000, nil); err == nil {
		t.Error("Sweep without alive passed")
	}
}
