package containers

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testServer is a small server on a real engine that runs the probe.
func testServer(t *testing.T, e *Engine, args ...string) ServerSpec {
	t.Helper()
	if _, err := e.CheckServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ServerSpec{Name: name(t, e, "server"), Image: probeImage(t, e), Cmd: args, UID: testUID, GID: testUID,
		Labels: map[string]string{LabelRole: RoleServer, LabelOwner: owner(t), LabelModel: "m"}}
}

// served runs a server to its end and returns what it wrote.
func served(t *testing.T, e *Engine, spec ServerSpec) string {
	t.Helper()
	id, err := e.CreateServer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if exit, _, err := e.Wait(t.Context(), id); err != nil || exit != 0 {
		t.Errorf("Wait = %d, %v", exit, err)
	}
	log, err := e.FollowLogs(t.Context(), id, true, -1)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(log)
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestServerIsConfined(t *testing.T) {
	e := realEngine(t)
	writable, readOnly := ownDir(t), ownDir(t)
	spec := testServer(t, e, "caps", "raise", "links", "write", "/x", "write", "/tmp/x", "execcopy", "/tmp/copy", "write", writable+"/w", "write", readOnly+"/r")
	spec.Binds = []Bind{{writable, writable, false}, {readOnly, readOnly, true}}
	spec.Groups, spec.PidsLimit, spec.MemoryMB = []int{44, 992}, 100, 128
	out := served(t, e, spec)
	wantLines(t, out, "Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000", "Groups: 44 992 1000", "NoNewPrivs: 1", "Seccomp: 2",
		"CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000", "CapInh: 0000000000000000",
		"raise : operation not permitted", "link lo", "routes 0",
		"write /x: read-only file system", "write /tmp/x: ok", "execcopy /tmp/copy: ok", "write "+writable+"/w: ok", "write "+readOnly+"/r: read-only file system")
	if strings.Contains(out, "link eth") {
		t.Errorf("the server has a network:\n%s", out)
	}
}

func TestServerWeakenedAsAsked(t *testing.T) {
	e := realEngine(t)
	spec := testServer(t, e, "caps", "links", "write", "/tmp/x")
	spec.Labels[LabelRole] = RolePull // no model server gets a network
	spec.Network, spec.SeccompUnconfined, spec.IPCHost, spec.Writable = "default", true, true, true
	out := served(t, e, spec)
	wantLines(t, out, "NoNewPrivs: 1", "Seccomp: 0", "CapBnd: 0000000000000000", "link eth0")
}

func TestServerOutlivesItsLauncher(t *testing.T) {
	e := realEngine(t)
	spec := testServer(t, e, "wait")
	spec.Labels[LabelLauncher] = "7:7"
	id, err := e.CreateServer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var taken *NameTakenError
	if _, err := e.CreateServer(t.Context(), spec); !errors.As(err, &taken) {
		t.Errorf("a second server of the name: %v", err)
	}
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner(t))
	if swept, err := e.Sweep(t.Context(), uid, func(string) bool { return false }); err != nil || len(swept) != 0 {
		t.Errorf("swept %+v, %v", swept, err)
	}
	s, err := e.ServerByName(t.Context(), spec.Name)
	if err != nil || s.ID != id || s.State != "running" || s.Network != "none" || s.Image != spec.Image || s.Started.IsZero() || !s.Finished.IsZero() {
		t.Errorf("ServerByName = %+v, %v", s, err)
	}
	if err := e.StopContainer(t.Context(), id, time.Minute); err != nil {
		t.Fatal(err)
	}
	s, err = e.ServerByName(t.Context(), spec.Name)
	if err != nil || s.State != "exited" || s.ExitCode != 0 || s.Finished.IsZero() {
		t.Errorf("ServerByName after its end = %+v, %v", s, err)
	}
	if size, err := e.ImageSize(t.Context(), spec.Image); err != nil || size < 1<<20 {
		t.Errorf("ImageSize = %d, %v", size, err)
	}
}

func TestServerMissesABindThatIsNotThere(t *testing.T) {
	e := realEngine(t)
	spec := testServer(t, e)
	gone := ownDir(t) + "/gone"
	spec.Binds = []Bind{{gone, "/gone", true}}
	if _, err := e.CreateServer(t.Context(), spec); err == nil {
		t.Error("CreateServer made up a missing folder")
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the engine made the missing folder")
	}
}

// The same engine by a way of one's own makes servers and nothing else.
func TestOpenDialOnARealEngine(t *testing.T) {
	local := realEngine(t)
	e, err := OpenDial(t.Context(), "strix", func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", local.Socket())
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() }) // after the removals
	var refused *UnsupportedError
	if _, err := e.Check(t.Context()); !errors.As(err, &refused) {
		t.Errorf("Check: %v", err)
	}
	wantLines(t, served(t, e, testServer(t, e, "links")), "link lo", "routes 0")
}
