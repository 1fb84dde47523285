package containers

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestHelperHasOneCapabilityOrNone(t *testing.T) {
	e := realEngine(t)
	tests := []struct {
		name     string
		netAdmin bool
		want     []string
	}{
		{"with NET_ADMIN it may raise that one and no other", true, []string{
			"Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000",
			"CapPrm: 0000000000001000", "CapEff: 0000000000000000", "CapBnd: 0000000000001000", "NoNewPrivs: 0", "raise : ok"}},
		{"without, the same file runs and has none", false, []string{
			"CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "raise : operation not permitted"}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := e.StartHelper(t.Context(), HelperSpec{Name: name(t, e, strconv.Itoa(i)), Image: probeImage(t, e), Cmd: []string{"caps", "raise", "write", "/x"},
				UID: testUID, GID: testUID, NetAdmin: tt.netAdmin, Labels: labels(t, RoleHolder)})
			if err != nil {
				t.Fatal(err)
			}
			if exit, _, err := e.Wait(t.Context(), id); exit != 0 || err != nil {
				t.Fatalf("Wait = %d, %v", exit, err)
			}
			out, err := e.Logs(t.Context(), id, 100)
			if err != nil {
				t.Fatal(err)
			}
			wantLines(t, string(out), append(tt.want, "write /x: read-only file system")...)
		})
	}
}

func TestHelperImageIsMadeOnce(t *testing.T) {
	e := realEngine(t)
	image := probeImage(t, e)
	if again := probeImage(t, e); again != image || !strings.HasPrefix(image, "sallyport/helper:") {
		t.Errorf("EnsureHelper = %q, then %q", image, again)
	}
}

func TestHelperSysctls(t *testing.T) {
	e := realEngine(t)
	spec := HelperSpec{Name: name(t, e, "h"), Image: probeImage(t, e), Cmd: []string{"wait"}, UID: testUID, GID: testUID, Labels: labels(t, RoleWall),
		Sysctls: map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.no_such_thing": "0"}}
	_, err := e.StartHelper(t.Context(), spec)
	var refused *SysctlError
	if !errors.As(err, &refused) || refused.IPv6() {
		t.Fatalf("StartHelper with an unknown sysctl: %v", err)
	}
	if left, err := e.List(t.Context(), map[string]string{LabelOwner: owner(t)}); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	spec.Sysctls = map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "0"}
	if _, err := e.StartHelper(t.Context(), spec); err != nil {
		t.Errorf("StartHelper: %v", err)
	}
}

func TestAgentIsConfined(t *testing.T) {
	e := realEngine(t)
	writable, readOnly := ownDir(t), ownDir(t)
	spec := agent(t, e, "caps", "raise", "write", "/x", "write", "/etc/passwd", "execcopy", "/tmp/copy", "write", writable+"/w", "write", readOnly+"/r", "read", "/etc/resolv.conf", "write", "/etc/resolv.conf")
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 10.213.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec.Binds = []Bind{{writable, writable, false}, {readOnly, readOnly, true}, {resolv, "/etc/resolv.conf", true}}
	wantLines(t, outcome(t, e, spec),
		"CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000", "CapInh: 0000000000000000", "NoNewPrivs: 1",
		"raise : operation not permitted",
		"write /x: read-only file system", "write /etc/passwd: read-only file system", "execcopy /tmp/copy: ok",
		"write "+writable+"/w: ok", "write "+readOnly+"/r: read-only file system",
		"read /etc/resolv.conf: ok", "write /etc/resolv.conf: read-only file system")
}

func TestAgentMissesABindThatIsNotThere(t *testing.T) {
	e := realEngine(t)
	spec := agent(t, e)
	gone := filepath.Join(ownDir(t), "gone")
	spec.Binds = []Bind{{gone, "/gone", true}}
	_, err := e.CreateAgent(t.Context(), spec)
	if err == nil {
		t.Error("CreateAgent made up a missing folder")
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the engine made the missing folder")
	}
}

func TestAgentLimits(t *testing.T) {
	e := realEngine(t)
	spec := agent(t, e, "eat")
	spec.MemoryMB = 32
	id, err := e.CreateAgent(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if exit, oom, err := e.Wait(t.Context(), id); exit != 137 || !oom || err != nil {
		t.Errorf("Wait = %d, %v, %v; want 137, true", exit, oom, err)
	}
}

func TestListEventsKillRemove(t *testing.T) {
	e := realEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	events, end := e.Events(ctx)
	id := holder(t, e)
	mine := map[string]string{LabelOwner: owner(t)}
	list, err := e.List(t.Context(), mine)
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].State != "running" || list[0].Labels[LabelRole] != RoleHolder {
		t.Fatalf("List = %+v, %v", list, err)
	}
	other := maps.Clone(mine)
	other[LabelRole] = RoleAgent
	if list, err := e.List(t.Context(), other); err != nil || len(list) != 0 {
		t.Fatalf("List of agents = %+v, %v", list, err)
	}
	obeys(t, e, id)
	if err := e.Kill(t.Context(), id, "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if exit, _, err := e.Wait(t.Context(), id); exit != 0 || err != nil {
		t.Fatalf("Wait = %d, %v", exit, err)
	}
	if err := errors.Join(e.Kill(t.Context(), id, ""), e.Remove(t.Context(), id), e.Remove(t.Context(), id), e.Kill(t.Context(), id, "")); err != nil {
		t.Errorf("ending what has ended: %v", err)
	}
	seen := []string{}
	for ev := range events {
		if ev.ID != id {
			continue
		}
		if ev.Labels[LabelOwner] != owner(t) {
			t.Errorf("event %s without the labels: %v", ev.Action, ev.Labels)
		}
		seen = append(seen, ev.Action)
		if ev.Action == "destroy" {
			break
		}
	}
	if got := strings.Join(seen, " "); got != "create start kill die destroy" {
		t.Errorf("events: %s", got)
	}
	cancel()
	for range events {
	}
	if err := <-end; err != nil {
		t.Errorf("end of events: %v", err)
	}
}

func TestSweepRemovesWhatADeadLauncherLeft(t *testing.T) {
	e := realEngine(t)
	start := func(what, role, launcher, owner string) string {
		l := labels(t, role)
		l[LabelLauncher], l[LabelOwner] = launcher, owner
		id, err := e.StartHelper(t.Context(), HelperSpec{Name: name(t, e, what), Image: probeImage(t, e), Cmd: []string{"wait"}, UID: testUID, GID: testUID, Labels: l})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	me := owner(t)
	deadHolder := start("dead-holder", RoleHolder, "7:7", me)
	deadModel := start("dead-model", RoleModel, "7:7", me)
	start("wall", RoleWall, "7:7", me)
	start("live", RoleHolder, "8:8", me)
	start("other", RoleHolder, "7:7", me+"0")
	spec := agent(t, e, "wait")
	spec.Holder, spec.Labels[LabelLauncher] = deadHolder, "7:7"
	deadAgent, err := e.CreateAgent(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(me)
	removed, err := e.Sweep(t.Context(), uid, func(launcher string) bool { return launcher != "7:7" })
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, c := range removed {
		got = append(got, c.ID)
	}
	if want := []string{deadAgent, deadHolder, deadModel}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("swept %v, want %v", got, want)
	}
	left, err := e.List(t.Context(), map[string]string{LabelSandbox: t.Name()})
	if err != nil || len(left) != 4 { // wall, live, other, and the agent helper's own holder
		t.Errorf("left: %+v, %v", left, err)
	}
}
