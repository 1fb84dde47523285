package verify

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const insideNetns = "SALLYPORT_TEST_NETNS"

// inNetns runs the test again in a network namespace of its own, from which no
// packet can leave, and says whether this is that run.
func inNetns(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideNetns) == t.Name() {
		loopbackUp(t)
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideNetns+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
	return false
}

func loopbackUp(t *testing.T) {
	t.Helper()
	ifreq(t, "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}

// address gives lo one more address; the kernel makes a /8, /16 or /24 of it.
func address(t *testing.T, label, addr string) {
	t.Helper()
	ifreq(t, label, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(addr).To4()) })
}

func ifreq(t *testing.T, name string, request uint, set func(*unix.Ifreq) error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = set(r)
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, request, r)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestProbesWithoutAWayOut(t *testing.T) {
	if !inNetns(t) {
		return
	}
	d := Defaults{Proxy: "127.0.0.1:9", Resolver: "127.0.0.1:9"}
	for _, a := range DemoAttempts("198.51.100.1:7") {
		a, err := ParseAttempt(a.Args(), d)
		if err != nil {
			t.Fatal(err)
		}
		if r := Probe(t.Context(), a); !r.Outcome.Closed() || r.Seconds > 1 {
			t.Errorf("%s (%.1f s)", r, r.Seconds)
		}
	}
}

func TestICMPThatIsAnswered(t *testing.T) {
	if !inNetns(t) {
		return
	}
	for _, a := range []Attempt{{Kind: "icmp", Target: "127.0.0.1"}, {Kind: "icmpv6", Target: "::1"}} {
		if r := Probe(t.Context(), a); r.Outcome != Reached {
			t.Errorf("got %s", r)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err == nil {
		if r := Probe(t.Context(), Attempt{Kind: "icmp", Target: "127.0.0.1"}); r.Outcome != Reached {
			t.Errorf("by a datagram socket: %s", r)
		}
	}
	if r := Probe(t.Context(), Attempt{Kind: "raw", Target: "127.0.0.1"}); r.Outcome != Blocked && r.Outcome != Reached {
		t.Errorf("a raw socket that exists: %s", r) // lo returns it or refuses the protocol
	}
}

func TestWithoutCapabilitiesICMPStopsInside(t *testing.T) {
	if !inNetns(t) {
		return
	}
	dropCapabilities(t)
	for _, a := range []Attempt{{Kind: "icmp", Target: "127.0.0.1"}, {Kind: "icmpv6", Target: "::1"}, {Kind: "raw", Target: "127.0.0.1"}, {Kind: "raw", Target: "::1"}} {
		if r := Probe(t.Context(), a); r.Outcome != StoppedInside || !strings.Contains(r.Detail, "not permitted") {
			t.Errorf("got %s", r)
		}
	}
}

// dropCapabilities takes them from the calling thread, which ends with the test.
func dropCapabilities(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
}

// TestQuick stands in for the wall with addresses of lo: its ports, its DNS, and
// a 203.0.113.0/24 that refuses.
func TestQuick(t *testing.T) {
	if !inNetns(t) {
		return
	}
	address(t, "lo:1", "10.213.0.1")
	address(t, "lo:2", "203.0.113.1")
	address(t, "lo:3", "203.0.113.53")
	conn, err := net.ListenPacket("udp", "203.0.113.53:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go sinkhole(t, conn)
	listen := func(addr string, h http.HandlerFunc) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: h}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { srv.Close() })
	}
	var health, proxy int
	listen("10.213.0.1:8000", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(health) })
	listen("10.213.0.1:3128", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(proxy) })
	spec := QuickSpec{Gateway4: netip.MustParseAddr("10.213.0.1"), ModelPort: 8000, ProxyPort: 3128, Root: goodRoot()}

	health, proxy = 200, 403
	if results := Quick(t.Context(), spec); !Passed(results) {
		t.Errorf("a good sandbox fails: %+v", results)
	}
	health, proxy = 503, 502
	wantFailures(t, "model and proxy", Quick(t.Context(), spec), "the model endpoint answers", "the proxy refuses proof.example")
	health, proxy = 200, 403
	conn.Close()
	wantFailures(t, "no DNS", Quick(t.Context(), spec), "DNS at 203.0.113.53 is the sinkhole")
	bad := spec
	bad.Root = fstest.MapFS{}
	wantFailures(t, "nothing to read", Quick(t.Context(), bad), checks[0].name, checks[1].name, checks[2].name, checks[3].name, checks[4].name, "DNS at 203.0.113.53 is the sinkhole")
	outside(t, spec)
}

// outside answers where nothing should: a leak.
func outside(t *testing.T, spec QuickSpec) {
	l, err := net.Listen("tcp", "203.0.113.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("leak"))
			c.Close()
		}
	}()
	u, err := net.ListenPacket("udp", "203.0.113.1:9") // and silence
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	wantFailures(t, "a leak", Quick(t.Context(), spec), "TCP to 203.0.113.1 is refused", "UDP to 203.0.113.1 fails at once", "DNS at 203.0.113.53 is the sinkhole")
}

func sinkhole(t *testing.T, conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(reply(t, buf[:n], dnsmessage.RCodeNameError, 0, true), from)
	}
}

func wantFailures(t *testing.T, what string, results []Result, names ...string) {
	t.Helper()
	var failed []string
	for _, r := range results {
		if !r.OK {
			failed = append(failed, r.Name)
		}
	}
	if strings.Join(failed, ";") != strings.Join(sortedLike(names), ";") {
		t.Errorf("%s: failed %q, want %q (%+v)", what, failed, names, results)
	}
}

// sortedLike puts names in the order of checks.
func sortedLike(names []string) []string {
	var list []string
	for _, c := range checks {
		for _, n := range names {
			if n == c.name {
				list = append(list, n)
			}
		}
	}
	return list
}
