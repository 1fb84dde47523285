package verify

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	devHead   = "Inter-|   Receive\n face |bytes\n"
	routeHead = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
	default4  = "eth0\t00000000\t0100D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" // by 10.213.0.1
	onLink4   = "eth0\t0000D50A\t00000000\t0001\t0\t0\t0\tFEFFFFFF\t0\t0\t0\n"
	zeros     = "00000000000000000000000000000000"
	gate6     = "fd000000000000000000000000000000"
	status    = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	mounts    = "1 0 0:1 / / ro - overlay overlay ro\n2 1 0:2 /home/u/src /home/u/src rw - ext4 /dev/x rw\n"
)

func line6(dest, prefix, via, flags, dev string) string {
	return fmt.Sprintf("%s %s %s 00 %s 00000400 00000001 00000000 %s %8s\n", dest, prefix, zeros, via, flags, dev)
}

func goodRoot() fstest.MapFS { return rootWith("", "") }

// rootWith is a sandbox's /proc and /etc, with one file changed; text "-" takes
// the file away.
func rootWith(name, text string) fstest.MapFS {
	files := map[string]string{
		"proc/net/dev": devHead + "  eth0: 1 2\n    lo: 0 0\n", "proc/net/route": routeHead + default4 + onLink4, "proc/self/status": status,
		"proc/self/mountinfo": mounts, "etc/resolv.conf": "nameserver 10.213.0.1\n",
		"proc/net/ipv6_route": line6(zeros, "00", zeros, "00200200", "lo"), // the kernel's own unreachable
	}
	if name != "" {
		files[name] = text
	}
	root := fstest.MapFS{}
	for n, data := range files {
		if data != "-" {
			root[n] = &fstest.MapFile{Data: []byte(data)}
		}
	}
	return root
}

// Each row is a sandbox with one thing wrong; the check that finds it is named.
func TestInspection(t *testing.T) {
	good := status
	change := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for _, c := range []struct {
		check, file, text, want string
	}{
		{"only lo", "proc/net/dev", devHead + "  eth0: 1\n lo: 0\n  eth1: 1\n", `"eth1"`},
		{"only lo", "proc/net/dev", devHead + " lo: 0\n", `["lo"]`},
		{"only lo", "proc/net/dev", "-", "not exist"},
		{"every route", "proc/net/route", routeHead + onLink4, "no default route"},
		{"every route", "proc/net/route", routeHead + default4 + "eth0\t00000000\t0200D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", "by way of 10.213.0.2"},
		{"every route", "proc/net/route", routeHead + default4 + "eth0\t0071CB00\t0200D50A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "by way of 10.213.0.2"},
		{"every route", "proc/net/route", routeHead + strings.Replace(default4, "eth0", "eth1", 1), "at eth1"},
		{"every route", "proc/net/route", routeHead + default4 + "eth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", "by way of 0.0.0.0"},
		{"every route", "proc/net/route", routeHead + "short\n", "cannot read"},
		{"every route", "proc/net/ipv6_route", line6(zeros, "00", gate6, "00000003", "eth0"), "IPv6 route by way of fd00::"},
		{"every route", "proc/net/ipv6_route", line6(zeros, "00", zeros, "00000001", "eth0"), "IPv6 route by way of ::"},
		{"no capability", "proc/self/status", change("CapEff:\t0000000000000000", "CapEff:\t0000000000003000"), "CapEff"},
		{"no capability", "proc/self/status", change("CapBnd:\t0000000000000000", "CapBnd:\t0000000000001000"), "CapBnd"},
		{"no capability", "proc/self/status", change("CapAmb:\t0000000000000000\n", ""), "CapAmb"},
		{"no capability", "proc/self/status", change("NoNewPrivs:\t1", "NoNewPrivs:\t0"), "NoNewPrivs"},
		{"no capability", "proc/self/status", change("\t1000\t1000\t1000\t1000", "\t1000\t0\t1000\t1000"), "uid"},
		{"no capability", "proc/self/status", "", "CapInh"},
		{"only the gateway", "etc/resolv.conf", "nameserver 10.213.0.1\nnameserver 127.0.0.11\n", "127.0.0.11"},
		{"only the gateway", "etc/resolv.conf", "search x\n", "no server"},
		{"no engine", "proc/self/mountinfo", mounts + "3 1 0:3 /docker.sock /tmp/x rw - tmpfs tmpfs rw\n", "/tmp/x"},
		{"no engine", "proc/self/mountinfo", mounts + "3 1 0:3 /a /var/run/docker.sock rw - tmpfs tmpfs rw\n", "docker.sock"},
		{"no engine", "proc/self/mountinfo", mounts + "3 1 0:3 /a /run/user/1000/sallyport/control rw - tmpfs tmpfs rw\n", "control"},
		{"no engine", "run/docker.sock", "", "exists"},
		{"no engine", "proc/self/mountinfo", "", "empty"},
	} {
		spec := QuickSpec{Gateway4: netip.MustParseAddr("10.213.0.1"), Forbidden: []string{"/run/user/1000/sallyport"}, Root: rootWith(c.file, c.text)}
		for _, k := range checks {
			if !strings.HasPrefix(k.name, c.check) {
				continue
			}
			if detail, err := k.run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s with %s %q: %q, %v; want %q", k.name, c.file, c.text, detail, err, c.want)
			}
		}
	}
}

func TestInspectionOfAGoodSandbox(t *testing.T) {
	spec := QuickSpec{Gateway4: netip.MustParseAddr("10.213.0.1"), Root: goodRoot()}
	six := QuickSpec{Gateway4: spec.Gateway4, Gateway6: netip.MustParseAddr("fd00::"), Root: rootWith("proc/net/ipv6_route", line6(zeros, "00", gate6, "00000003", "eth0")+line6(gate6, "7f", zeros, "00000001", "eth0"))}
	root := QuickSpec{Gateway4: spec.Gateway4, AllowRoot: true, Root: rootWith("proc/self/status", strings.ReplaceAll(status, "1000", "0"))}
	for _, s := range []QuickSpec{spec, six, root} {
		for _, k := range checks[:5] {
			if _, err := k.run(t.Context(), s); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		}
	}
	six.Root = goodRoot()
	if _, err := checkRoutes(t.Context(), six); err == nil {
		t.Error("no IPv6 route, and nobody noticed")
	}
}

func TestPassedNeedsEveryCheck(t *testing.T) {
	if Passed(nil) || Passed([]Result{{OK: true}}) || Passed(make([]Result, len(checks))) {
		t.Error("passed without the checks")
	}
	if results := Quick(t.Context(), QuickSpec{}); Passed(results) || len(results) != len(checks) {
		t.Errorf("an empty spec: %+v", results)
	}
}
