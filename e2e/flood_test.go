//go:build lab

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	floodTCP       = 200_000
	floodUDP       = 1_000_000
	floodProcesses = 50
	mostMemory     = 128 << 20 // bytes, of the gateway
	mostGrowth     = 2 << 20   // bytes, of the store
)

// TestFlood has an agent flood the wall: what it did is what is recorded or known
// to be lost, an attempt in its midst has its event, and neither the gateway's
// memory nor the store grow with it.
func TestFlood(t *testing.T) {
	l := shared.Get(t, lab.Engine28)
	u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	u.ctx = ctx
	before := l.Before(t)
	buildFlood(u)
	sh := openShell(u)
	if out, err := l.Laptop.Docker(ctx, "update", "--cpus", "0.5", "sallyport-agent-"+sh.id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	size := sh.storeSize()

	made, _ := sh.flood("tcp", 7001, floodTCP)
	sh.accounted("tcp", 7001, made)
	sh.event("tcp", 7002)

	counted := sh.counted()
	made, dropped := sh.flood("udp", 7003, floodUDP)
	sh.eventually("the wall's counter", func() error {
		if n := sh.counted() - counted; n+dropped != made+1 { // and the one in their midst
			return fmt.Errorf("the wall counted %d and the veth dropped %d of %d datagrams", n, dropped, made+1)
		}
		return nil
	})
	sh.accounted("udp", 7003, made-dropped)
	sh.event("udp", 7004)

	most := sh.memory()
	if most > mostMemory {
		t.Errorf("the gateway has had %d bytes of memory", most)
	}
	l.NoLeak(t, before)
	sh.screen.send("exit\n")
	sh.screen.end()
	if out, err := u.command("gateway", "down").CombinedOutput(); err != nil { // what is in the write-ahead log goes into the store
		t.Fatalf("gateway down: %v\n%s", err, out)
	}
	grown := sh.storeSize() - size
	if grown > mostGrowth {
		t.Errorf("the store has grown by %d bytes", grown)
	}
	t.Logf("store: %d kB more; gateway: %d MB at most", grown>>10, most>>20)
	if out, err := u.command("gateway", "audit", "verify").CombinedOutput(); err != nil {
		t.Errorf("gateway audit verify: %v\n%s", err, out)
	}
}

// TestFloodOutlivesTheGateway kills the gateway in the midst of a flood: what it
// had accepted and not recorded is told by the next one, as at most so many.
func TestFloodOutlivesTheGateway(t *testing.T) {
	const attempts = 20_000
	l := shared.Get(t, lab.Engine28)
	u := setUp(t, l, "unix://"+standIn(t, l, toolTurns))
	buildFlood(u)
	sh := openShell(u)
	if out, err := l.Laptop.Docker(u.ctx, "update", "--cpus", "0.5", "sallyport-agent-"+sh.id); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid := sh.gatewayPID()
	at := sh.screen.at
	sh.screen.send(fmt.Sprintf("./flood tcp %s:7005 %d 50 %[1]s:7006; echo FLO''OD ended\n", lab.Web, attempts))
	u.eventually("the flood's first event", func() error {
		if !slices.ContainsFunc(u.events(sh.id), func(e audit.Event) bool { return e.Port == 7005 }) {
			return errors.New("none yet")
		}
		return nil
	})
	if out, err := u.command("kill", "-9", pid).CombinedOutput(); err != nil {
		t.Fatalf("kill the gateway: %v %s", err, out)
	}
	sh.screen.expect(`FLOOD ended`)
	m := regexp.MustCompile(`made=([0-9]+)`).FindStringSubmatch(sh.screen.Text()[at:])
	if m == nil {
		t.Fatalf("the flood failed:\n%s", sh.screen.Text()[at:])
	}
	made, _ := strconv.ParseInt(m[1], 10, 64)
	var recorded, lost int64
	u.eventually("what became of the flood", func() error {
		recorded, lost = 0, 0
		for _, e := range u.events(sh.id) {
			if e.Port == 7005 {
				recorded += e.Count
			}
			lost += e.Lost
		}
		if recorded+lost < made {
			return fmt.Errorf("%d recorded and %d lost of %d", recorded, lost, made)
		}
		return nil
	})
	t.Logf("%d made; %d recorded, at most %d lost", made, recorded, lost)
	if over := recorded + lost - made; over > attempts/10 {
		t.Errorf("%d more are told of than were made", over)
	}
	sh.screen.send("exit\n")
	sh.screen.end()
	if out, err := u.command("gateway", "audit", "verify").CombinedOutput(); err != nil {
		t.Errorf("gateway audit verify: %v\n%s", err, out)
	}
}

func buildFlood(u *user) {
	u.Helper()
	program := filepath.Join(u.TempDir(), "flood")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/flood")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		u.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		u.Fatal(err)
	}
	relative, err := filepath.Rel(u.lab.Laptop.Home, filepath.Join(u.project, "flood"))
	if err == nil {
		err = u.lab.Laptop.WriteFile(relative, text, 0o755)
	}
	if err != nil {
		u.Fatal(err)
	}
}

// flood makes n attempts at a port, and one at the next.
func (sh *shell) flood(proto string, port, n int) (made, dropped int64) {
	sh.Helper()
	at := sh.screen.at
	sh.screen.send(fmt.Sprintf("./flood %s %s:%d %d %d %s:%d; echo FLO''OD ended\n", proto, lab.Web, port, n, floodProcesses, lab.Web, port+1))
	sh.screen.expect(`FLOOD ended`)
	m := regexp.MustCompile(`made=([0-9]+) dropped=([0-9]+)`).FindStringSubmatch(sh.screen.Text()[at:])
	if m == nil {
		sh.Fatalf("the flood failed:\n%s", sh.screen.Text()[at:])
	}
	made, _ = strconv.ParseInt(m[1], 10, 64)
	dropped, _ = strconv.ParseInt(m[2], 10, 64)
	return made, dropped
}

// accounted waits until the attempts at a port are recorded or known to be lost,
// exactly.
func (sh *shell) accounted(proto string, port uint16, made int64) {
	sh.Helper()
	var recorded, lost int64
	var count int
	byRule := map[string]int64{}
	sum := func() {
		recorded, lost, count = 0, 0, 0
		clear(byRule)
		for _, e := range sh.events(sh.id) {
			if e.Proto == proto && e.Port == port {
				byRule[string(e.Layer)+" "+e.Rule] += e.Count
				if e.Rule == "stray" { // a late segment; what was made are connections
					continue
				}
				recorded += e.Count
				count++
			} else if e.Lost > 0 && (e.Proto == proto || e.Proto == "") {
				lost += e.Lost
			}
		}
	}
	sh.eventually("what became of the flood", func() error {
		if sum(); recorded+lost < made {
			return fmt.Errorf("%d recorded and %d lost of %d", recorded, lost, made)
		}
		return nil
	})
	if recorded+lost != made {
		sh.Errorf("%s: %d recorded and %d lost are not the %d that were made: %v", proto, recorded, lost, made, byRule)
	}
	sh.Logf("%s: %d made, %d recorded in %d events, %d lost: %v", proto, made, recorded, count, lost, byRule)
}

// event checks that the one attempt in a flood's midst is in the record.
func (sh *shell) event(proto string, port uint16) {
	sh.Helper()
	is := func(e audit.Event) bool { return e.Proto == proto && e.Port == port && e.Count == 1 }
	if !slices.ContainsFunc(sh.events(sh.id), is) {
		sh.Errorf("the attempt at port %d (%s) in the flood's midst has no event", port, proto)
	}
}

// counted is what the wall's rules have counted.
func (sh *shell) counted() (n int64) {
	sh.Helper()
	out, err := sh.lab.Laptop.Docker(sh.ctx, "ps", "-q", "--filter", "label=dev.sallyport.role=wall")
	if err == nil {
		out, err = sh.lab.Laptop.Docker(sh.ctx, "inspect", "-f", "{{.State.Pid}}", out)
	}
	if err != nil {
		sh.Fatal(err, out)
	}
	ns, err := os.Open(sh.lab.Laptop.Outside("/proc/" + out + "/ns/net"))
	if err != nil {
		sh.Fatal(err)
	}
	defer ns.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		sh.Fatal(err)
	}
	elements, err := c.GetSetElements(&nftables.Set{Table: &nftables.Table{Name: "wall", Family: nftables.TableFamilyINet}, Name: "counts"})
	if err != nil {
		sh.Fatal(err)
	}
	for _, e := range elements {
		n += int64(e.Counter.Packets)
	}
	return n
}

func (sh *shell) storeSize() int64 {
	sh.Helper()
	info, err := os.Stat(filepath.Join(sh.lab.Laptop.Home, ".local/state/sallyport/audit.db"))
	if err != nil {
		sh.Fatal(err)
	}
	return info.Size()
}

// memory is the most that the gateway has had in memory: VmHWM of proc(5).
func (sh *shell) memory() int64 {
	sh.Helper()
	text, err := sh.command("cat", "/proc/"+sh.gatewayPID()+"/status").Output()
	if err != nil {
		sh.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kB, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		sh.Fatal(err)
	}
	return kB << 10
}

func (sh *shell) gatewayPID() string {
	sh.Helper()
	out, err := sh.command("gateway", "status", "--json").Output()
	if err != nil {
		sh.Fatal(err)
	}
	pid := regexp.MustCompile(`"pid": ([0-9]+)`).FindSubmatch(out)
	if pid == nil {
		sh.Fatalf("gateway status --json: %s", out)
	}
	return string(pid[1])
}
