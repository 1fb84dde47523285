package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/control"
	"github.com/spf13/cobra"
)

// tryGatewayMain is a program that confines itself as gateway run does, and then
// does what its arguments say, in pairs: read FILE, write FILE, listen PORT, run
// PROGRAM, look PID ("lookout": of the lookout), policy CONFIG.
func tryGatewayMain() {
	p := process{args: os.Args[1:], environ: os.Environ, lookupenv: os.LookupEnv, stdout: os.Stdout, stderr: os.Stderr}
	if len(os.Args) > 1 && os.Args[1] == lookoutCommand {
		os.Exit(run(context.Background(), p))
	}
	do := tryGateway
	if p.getenv("TRY_HELPER") != "" {
		do = tryHelper
	}
	if err := do(p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tryHelper is tryGateway for a wall.
func tryHelper(p process) error {
	if err := confineHelper(p, quiet, []uint16{18215}); err != nil {
		return err
	}
	tryAll(p.args, &gateway{}, 0)
	held, err := confine.Held()
	fmt.Printf("%x %t\n", held.Capabilities, held.NoNewPrivileges)
	return err
}

func tryAll(args []string, g *gateway, lookout int) {
	for pair := range slices.Chunk(args, 2) {
		err := g.try(pair[0], pair[1], lookout)
		said := "done"
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			said = errno.Error()
		} else if err != nil {
			said = err.Error()
		}
		fmt.Printf("%s %s: %s\n", pair[0], pair[1], said)
	}
}

func tryGateway(p process) error {
	before, err := confined(p)
	if err != nil {
		return err
	}
	c := &cobra.Command{}
	c.Flags().String("config", p.getenv("TRY_CONFIG"), "")
	g, err := newGateway(p, c, before)
	if err != nil {
		return err
	}
	if before == nil {
		return g.confine()
	}
	defer g.lookout.Close()
	tryAll(p.args, g, before.lookoutsPID)
	fmt.Println(g.confinement())
	return assertUnprivileged()
}

func (g *gateway) try(what, on string, lookout int) error {
	switch what {
	case "read":
		f, err := os.Open(on)
		if err == nil {
			f.Close()
		}
		return err
	case "write":
		return os.WriteFile(on, nil, 0o600)
	case "temporary":
		return os.WriteFile(filepath.Join(os.TempDir(), on), nil, 0o600)
	case "run":
		return exec.Command(on).Run()
	case "look":
		if on == lookoutCommand {
			on = strconv.Itoa(lookout)
		}
		_, err := os.Readlink("/proc/" + on + "/exe")
		return err
	case "listen":
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // Landlock knows TCP alone
		l, err := plain.Listen(context.Background(), "tcp4", "127.0.0.1:"+on)
		if err == nil {
			l.Close()
		}
		return err
	case "rules":
		return g.reload()
	}
	return fmt.Errorf("no such thing to try: %s", what)
}

// Every thread of a gateway and of its lookout has no capability and gains none.
func TestEveryThreadOfTheGateway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const uid, gid = "12008", "12009"
	home := "/var/lib/sallyport-" + uid
	t.Cleanup(func() { os.RemoveAll(home) })
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "SUDO_UID=" + uid, "SUDO_GID=" + gid}
	var log bytes.Buffer
	g := exec.Command("gateway", "run")
	g.Env, g.Stderr, g.Dir = environ, &log, "/"
	g.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{12}}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	status := awaitStatus(t, environ)
	if c := status.Confinement; c.Capabilities != "none" || !c.NoNewPrivileges || (c.Landlock == 0) != (c.NoLandlock != "") {
		t.Errorf("it says %+v", c)
	}
	child, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", status.PID))
	if err != nil || len(strings.Fields(string(child))) != 1 {
		t.Fatalf("children: %q, %v", child, err)
	}
	for _, pid := range []string{strconv.Itoa(status.PID), strings.Fields(string(child))[0]} {
		threads, err := filepath.Glob("/proc/" + pid + "/task/*/status")
		if err != nil || len(threads) < 3 {
			t.Errorf("threads of %s: %q, %v", pid, threads, err)
		}
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkStatus(bytes.NewReader(text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !bytes.Contains(text, []byte("CapBnd:\t0000000000000000\n")) {
				t.Errorf("%s has a bounding set:\n%s", name, text)
			}
		}
	}
	if err := errors.Join(g.Process.Signal(syscall.SIGTERM), g.Wait()); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(child))); err == nil {
		t.Error("the gateway has ended and its lookout has not")
	}
	if want := fmt.Sprintf(" processors=%d\n", max(1, runtime.GOMAXPROCS(0)/2)); !strings.Contains(log.String(), want) {
		t.Errorf("it leaves too few processors to others, or too many; wanted%s%s", want, &log)
	}
}

// A capability that an ordinary user started the gateway with is given up too.
func TestGatewayGivesUpWhatItWasStartedWith(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	home, err := os.MkdirTemp("/tmp", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Chown(home, scriptUser, scriptUser); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("trygateway", "write", filepath.Join(home, "x"))
	c.Env, c.Dir, c.Stderr = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, "/", os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: scriptUser, Gid: scriptUser}, AmbientCaps: []uintptr{2, 12}} // DAC_READ_SEARCH, NET_ADMIN
	out, err := c.Output()
	if err != nil || !strings.HasSuffix(string(out), ", no new privileges, capabilities: none\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// A wall or a holder has NET_ADMIN, and the kernel's own files to read.
func TestHelperIsConfined(t *testing.T) {
	if kernel, err := confine.Ask(); os.Geteuid() != 0 || kernel.ABI == 0 {
		t.Skip("needs root, and Landlock: ", kernel.Why, err)
	}
	for _, test := range []struct {
		caps []uintptr
		want string
	}{
		{[]uintptr{12}, "1000 true"},
		{[]uintptr{12, 21, 2}, "1000 true"}, // NET_ADMIN, SYS_ADMIN, DAC_READ_SEARCH
		{[]uintptr{2}, "0 true"},
		{nil, "0 true"},
	} {
		c := exec.Command("trygateway", "read", "/proc/sys/net/ipv4/ip_forward", "read", "/etc/passwd", "read", "/",
			"write", "/tmp/sallyport-x", "write", "/proc/self/comm", "run", "/bin/true", "look", "1", "listen", "18215", "listen", "18216", "listen", "0")
		c.Env, c.Dir, c.Stderr = []string{"TRY_HELPER=1", "PATH=" + os.Getenv("PATH")}, "/", os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: scriptUser, Gid: scriptUser}, AmbientCaps: test.caps}
		out, err := c.Output()
		want := "read /proc/sys/net/ipv4/ip_forward: done\nread /etc/passwd: permission denied\nread /: permission denied\n" +
			"write /tmp/sallyport-x: permission denied\nwrite /proc/self/comm: permission denied\nrun /bin/true: permission denied\nlook 1: permission denied\n" +
			"listen 18215: done\nlisten 18216: permission denied\nlisten 0: permission denied\n" + test.want + "\n"
		if err != nil || string(out) != want {
			t.Errorf("capabilities %v: %v\n%s\nwant\n%s", test.caps, err, out, want)
		}
	}
}

// The variable by which a program knows that it is confined is held against the kernel.
func TestConfinedIsNotBelieved(t *testing.T) {
	kernel, err := confine.Ask()
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"":                                     "not ours",
		"yes":                                  "not ours",
		fmt.Sprintf("%d,-1,0", kernel.ABI+1):   "speaks of Landlock",
		fmt.Sprintf("%d,-1,0", kernel.ABI):     "not in force",
		fmt.Sprintf("%d,3,100,x", kernel.ABI):  "not in force",
		fmt.Sprintf("%d,three,0", kernel.ABI):  "not ours",
		fmt.Sprintf("-%d,-1,0", kernel.ABI+10): "speaks of Landlock",
	} {
		p := process{lookupenv: func(name string) (string, bool) { return value, name == confinedVariable }}
		if before, err := confined(p); before != nil && err == nil || kernel.ABI > 0 && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %+v, %v, want %q", value, before, err, want)
		}
	}
	if before, err := confined(process{lookupenv: func(string) (string, bool) { return "", false }}); before != nil || err != nil {
		t.Errorf("not set: %+v, %v", before, err)
	}
}

func TestSinkPlace(t *testing.T) {
	home := t.TempDir()
	sinks := filepath.Join(home, "sinks")
	if err := os.Mkdir(sinks, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ sink, want, warning string }{
		{sinks + "/e.jsonl", sinks, ""},
		{home + "/e.jsonl", home, "holds your home"},
		{filepath.Dir(home) + "/e.jsonl", filepath.Dir(home), "holds your home"},
		{home + "/none/e.jsonl", "", "is not there"},
		{"/e-that-is-not-there.jsonl", "", "root folder"},
	} {
		var log bytes.Buffer
		g := &gateway{process: process{lookupenv: func(string) (string, bool) { return home, true }}, log: slog.New(slog.NewTextHandler(&log, nil))}
		got := strings.Join(g.sinkPlace(test.sink), " ")
		if got != test.want || !strings.Contains(log.String(), test.warning) || (test.warning == "") != (log.Len() == 0) {
			t.Errorf("%s: %q, %s", test.sink, got, &log)
		}
	}
}

// No rule is for the user's home, nor for anything that all users share.
func TestGatewaysRules(t *testing.T) {
	home := "/home/me"
	g := &gateway{process: process{lookupenv: func(string) (string, bool) { return home, true }}, log: quiet,
		paths: control.PathsFor(1<<30, home, nil), config: &config.Config{Web: config.Web{Serve: config.ServeLoopback, Port: 8213}}}
	r := g.rules()
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(r.Bind, []uint16{8213}) || !r.Connect || len(r.Run) > 0 {
		t.Errorf("ports %v, programs %q", r.Bind, r.Run)
	}
	if want := []string{home + "/.local/state/sallyport", home + "/.local/state/sallyport/run", "/dev/null", "/proc/self/comm"}; !slices.Equal(r.Write, want) {
		t.Errorf("writes %q", r.Write)
	}
	for _, path := range r.Read {
		if path == "/" || strings.HasPrefix(path, "/home") || path == "/root" || path == "/var" || path == "/run" || path == "/tmp" {
			t.Errorf("reads %s", path)
		}
	}
	g.config.Web.Serve = config.ServeNever
	if r := g.rules(); len(r.Bind) > 0 {
		t.Errorf("without a page it listens on %v", r.Bind)
	}
}
