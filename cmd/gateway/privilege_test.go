package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/control"
)

const harmless = `Name:	gateway
Uid:	1000	1000	1000	1000
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapBnd:	000001ffffffffff
CapAmb:	0000000000000000
NoNewPrivs:	1
`

func TestStatusOfAGatewayThatMayRun(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"ordinary", "", "", ""},
		{"effective", "CapEff:	0000000000000000", "CapEff:	0000000000001000", "CapEff is 0000000000001000"},
		{"permitted", "CapPrm:	0000000000000000", "CapPrm:	0000000000001000", "CapPrm is"},
		{"inheritable", "CapInh:	0000000000000000", "CapInh:	0000000000001000", "CapInh is"},
		{"ambient", "CapAmb:	0000000000000000", "CapAmb:	0000000000001000", "CapAmb is"},
		{"may gain", "NoNewPrivs:	1", "NoNewPrivs:	0", "NoNewPrivs is 0"},
		{"root", "Uid:	1000	1000	1000	1000", "Uid:	0	0	0	0", "does not run as root"},
		{"root saved", "Uid:	1000	1000	1000	1000", "Uid:	1000	1000	0	1000", "does not run as root"},
		{"real root", "Uid:	1000	1000	1000	1000", "Uid:	0	1000	1000	1000", "does not run as root"},
		{"no uid", "Uid:	1000	1000	1000	1000\n", "", "does not say"},
		{"no ambient", "CapAmb:	0000000000000000\n", "", "does not say"},
		{"empty", harmless, "", "does not say"},
	}
	for _, test := range tests {
		err := checkStatus(strings.NewReader(strings.Replace(harmless, test.old, test.new, 1)))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestOrdinaryUser(t *testing.T) {
	folder := t.TempDir()
	sudo := map[string]string{"SUDO_UID": "12004", "SUDO_GID": "12005"}
	byRoot := map[string]string{"SUDO_UID": "0", "SUDO_GID": "0"}
	owner := "1000:1000"
	if os.Geteuid() == 0 {
		if err := os.Chown(folder, 12006, 12007); err != nil {
			t.Fatal(err)
		}
		owner = "12006:12007"
	} else {
		owner = fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	}
	for _, test := range []struct {
		name, as, folder string
		env              map[string]string
		want             string // empty: refused
	}{
		{"asked for", "12001:12002", folder, sudo, "12001:12002"},
		{"sudo", "", folder, sudo, "12004:12005"},
		{"sudo by root", "", folder, byRoot, owner},
		{"owner", "", folder, nil, owner},
		{"folder of root", "", "/", nil, "1000:1000"},
		{"no folder", "", folder + "/none", nil, "1000:1000"},
		{"root", "0:0", folder, nil, ""},
		{"root's group", "1000:0", folder, nil, ""},
		{"negative", "-1:-1", folder, nil, ""},
		{"no group", "1000", folder, nil, ""},
		{"a name", "me:me", folder, nil, ""},
	} {
		u, err := ordinaryUser(test.as, test.folder, func(name string) string { return test.env[name] })
		if got := fmt.Sprintf("%d:%d", u.UID, u.GID); err == nil && got != test.want || err != nil && test.want != "" {
			t.Errorf("%s: %s, %v", test.name, got, err)
		}
	}
}

func TestHomeOfAUserWithoutOne(t *testing.T) {
	if got := control.UserOf(3999999, 3999999).Home; got != "/var/lib/sallyport-3999999" {
		t.Error(got)
	}
}

func TestRootIsNeverKept(t *testing.T) {
	for _, u := range []control.User{{}, {UID: 0, GID: 1000, Home: "/"}, {UID: 1000, GID: 0, Home: "/"}, {UID: -1, GID: -1, Home: "/"}} {
		if err := becomeUser(u, nil); err == nil || !strings.Contains(err.Error(), "does not run as root") {
			t.Errorf("%v: %v", u, err)
		}
	}
}

// Root's gateway is another process by the same pid: it can gain nothing and has
// nothing of root's.
func TestRootBecomesOrdinary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const uid, gid = "12002", "12003"
	home := "/var/lib/sallyport-" + uid
	t.Cleanup(func() { os.RemoveAll(home) })
	secret, err := os.Create(filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "XDG_STATE_HOME=/root/state", "SUDO_UID=" + uid, "SUDO_GID=" + gid}
	var log bytes.Buffer
	g := exec.Command("gateway", "run")
	// An inheritable capability, as old engines give it to containers' root.
	if _, err := exec.LookPath("setpriv"); err == nil {
		g = exec.Command("setpriv", "--inh-caps", "+net_admin", "gateway", "run")
	}
	g.Env, g.Stderr, g.ExtraFiles, g.Dir = environ, &log, []*os.File{secret}, "/"
	g.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{0, 5}}}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	status := awaitStatus(t, environ)
	if status.PID != g.Process.Pid {
		t.Errorf("pid %d, not %d", status.PID, g.Process.Pid)
	}
	proc := fmt.Sprintf("/proc/%d/", g.Process.Pid)
	text, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Name:\tgateway\n",
		"Uid:\t12002\t12002\t12002\t12002\n", "Gid:\t12003\t12003\t12003\t12003\n", "Groups:\t \n", "NoNewPrivs:\t1\n",
		"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	env, err := os.ReadFile(proc + "environ")
	names := strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")
	if err != nil || !slices.Contains(names, "HOME="+home) || strings.Contains(string(env), "XDG_") || strings.Contains(string(env), "SUDO_") {
		t.Errorf("environment %q, %v", names, err)
	}
	files, _ := filepath.Glob(proc + "fd/*")
	for _, f := range files {
		if to, _ := os.Readlink(f); to == secret.Name() {
			t.Error("a file of root's is open in the gateway")
		}
	}
	if info, err := os.Stat(control.PathsFor(12002, home, nil).ControlFolder()); err != nil || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != 12002 {
		t.Errorf("control folder: %v, %v", info, err)
	}
	if err := g.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
}

// awaitStatus asks for the status until there is one.
func awaitStatus(t *testing.T, environ []string) control.Status {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		c := exec.Command("gateway", "status", "--json")
		c.Env, c.Dir = environ, "/"
		out, err := c.Output()
		var status control.Status
		if err == nil && json.Unmarshal(out, &status) == nil {
			return status
		}
		select {
		case <-time.After(10 * time.Millisecond): // another process is looked at
		case <-deadline:
			t.Fatalf("no status: %v", err)
		}
	}
}
