package addresses

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const insideNetns = "SALLYPORT_TEST_NETNS"

// inNetns runs the test again in a network namespace of its own, from which no
// packet can leave, and says whether this is that run. It runs as root of the
// namespace, or as nobody.
func inNetns(t *testing.T, root bool) bool {
	t.Helper()
	if os.Getenv(insideNetns) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideNetns+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	inside := 0
	if !root {
		inside = 65534
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getgid(), Size: 1}}
	} else if !root {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(inside), Gid: uint32(inside)}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
	return false
}

// try makes one attempt. It is short: what waits for the record has no record here.
func try(t *testing.T, p probe.Probe, target probe.Target) probe.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	return p.Try(ctx, target)
}

// missing are attempts that this kernel may not know.
func missing(f probe.Finding) bool {
	return f.Outcome == verify.StoppedInside && (f.Errno == "EPROTONOSUPPORT" || f.Errno == "ESOCKTNOSUPPORT")
}

// Each attempt succeeds where nothing forbids it.
func TestControls(t *testing.T) {
	if !inNetns(t, true) {
		return
	}
	for _, p := range Probes() {
		t.Run(p.Name, func(t *testing.T) {
			target := probe.Target{Setting: probe.OwnListener, Run: "0123abcd", Root: true}
			if p.Own != nil {
				if err := p.Own(t.Context(), &target); err != nil {
					t.Fatal(err)
				}
			}
			switch f := try(t, p, target); {
			case f.Outcome == verify.Reached:
			case missing(f):
				t.Skipf("this kernel has no such thing: %s", f.Detail)
			default:
				t.Errorf("%s: %s", f.Outcome, f.Detail)
			}
		})
	}
}

// Where nobody listens, nothing is reached, and what was sent names its events.
func TestRefused(t *testing.T) {
	if !inNetns(t, true) {
		return
	}
	target := probe.Target{}
	if err := wired(t.Context(), &target); err != nil {
		t.Fatal(err)
	}
	if _, err := onPublic(&target, 40); err != nil {
		t.Fatal(err)
	}
	target.Setting, target.Run, target.Root = probe.Sandbox, "0123abcd", true
	for _, p := range Probes() {
		if p.Own == nil { // the kernel lets root do it
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			f := try(t, p, target)
			if f.Outcome == verify.Reached && !strings.Contains("icmp-echo icmpv6-echo raw-protocol-253", p.Name) { // lo answers these
				t.Errorf("%s: %s", f.Outcome, f.Detail)
			}
			if f.Outcome == verify.Blocked && len(f.Events) == 0 {
				t.Errorf("no events: %s", f.Detail)
			}
			for _, e := range f.Events {
				if e.Layer == "" || e.Proto == "" && e.Dst == "" {
					t.Errorf("an event that matches anything: %+v", e)
				}
			}
		})
	}
}

// Without a network and without capabilities everything ends inside.
func TestNothingThere(t *testing.T) {
	if !inNetns(t, false) {
		return
	}
	addr4, addr6 := public(40)
	target := probe.Target{Setting: probe.Sandbox, Run: "0123abcd", Public4: addr4, Public6: addr6, Gate4: near4.Addr().Next(),
		Own4: near4.Addr(), Own6: near6.Addr(), Gate6: near6.Addr().Next(), Other4: netip.MustParseAddr("198.51.100.250")}
	for _, p := range Probes() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			if f := try(t, p, target); !f.Outcome.Closed() && !f.Absent {
				t.Errorf("%s: %s", f.Outcome, f.Detail)
			}
		})
	}
}

// On an engine's network only what verify itself listens on is aimed at.
func TestOrdinarySettingsAreSpared(t *testing.T) {
	spared := 0
	for _, setting := range []probe.Setting{probe.Ordinary, probe.Unconfined} {
		for _, p := range Probes() {
			if p.Own == nil || strings.HasPrefix(p.Name, "tcp-") || strings.HasPrefix(p.Name, "udp-") && p.Name != "udp-lite" {
				continue
			}
			target := probe.Target{Setting: setting, Own4: near4.Addr(), Own6: near6.Addr(), Gate4: near4.Addr().Next(), Gate6: near6.Addr().Next()}
			if f := try(t, p, target); !f.Absent {
				t.Errorf("%s in an %s: %s", p.Name, setting, f.Detail)
			}
			spared++
		}
	}
	if spared < 50 {
		t.Errorf("%d probes looked at", spared)
	}
}

func TestProbesAreDescribed(t *testing.T) {
	names := map[string]bool{}
	for _, p := range Probes() {
		if names[p.Name] || p.Name == "" {
			t.Errorf("%q is twice there", p.Name)
		}
		names[p.Name] = true
		if p.Group != probe.Addresses && p.Group != probe.Host || p.Why == "" || p.Source == "" || p.Try == nil {
			t.Errorf("%s is not described: %+v", p.Name, p)
		}
		if strings.ContainsAny(p.Why+p.Source, "\n") {
			t.Errorf("%s: more than one line", p.Name)
		}
	}
	if len(names) < 30 {
		t.Errorf("%d probes", len(names))
	}
}
