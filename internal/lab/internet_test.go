//go:build lab

package lab_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lab"
)

// inContainer runs a bash script in a container on the laptop's ordinary bridge.
func inContainer(t *testing.T, l *lab.Lab, script string) string {
	t.Helper()
	out, err := l.Laptop.Docker(t.Context(), "run", "--rm", "--volume", "/bin/busybox:/bin/busybox:ro",
		"debian:12-slim", "bash", "-c", script)
	if err != nil {
		t.Error(err)
	}
	return out
}

// TestLabPositiveControl shows that what a container sends does reach the
// internet and is counted, protocol by protocol: without this, a test that
// counts nothing would show nothing.
func TestLabPositiveControl(t *testing.T) {
	const udp = `exec 3<>/dev/udp/%s && echo hello >&3 && timeout 5 head -c 15 <&3`
	const tcp = `exec 3<>/dev/tcp/%s && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && timeout 5 head -c 12 <&3`
	cases := []struct {
		name, script, answer string
		count                func(lab.Counters) int
	}{
		{"tcp 80", fmt.Sprintf(tcp, "203.0.113.10/80"), "HTTP/1.0 200", func(c lab.Counters) int { return c.TCP }},
		{"tcp 22", `exec 3<>/dev/tcp/203.0.113.77/22 && timeout 5 head -c 14 <&3`, "SSH-2.0-sp_lab", func(c lab.Counters) int { return c.TCP }},
		{"tcp 8443", fmt.Sprintf(tcp, "203.0.113.10/8443"), "HTTP/1.0 400", func(c lab.Counters) int { return c.TCP }},
		{"tcp6 80", fmt.Sprintf(tcp, "2001:db8::10/80"), "HTTP/1.0 200", func(c lab.Counters) int { return c.TCP }},
		{"udp 443", fmt.Sprintf(udp, "203.0.113.10/443"), "sp-lab internet", func(c lab.Counters) int { return c.UDP }},
		{"udp 4433", fmt.Sprintf(udp, "203.0.113.10/4433"), "sp-lab internet", func(c lab.Counters) int { return c.UDP }},
		{"udp 123", fmt.Sprintf(udp, "203.0.113.10/123"), "sp-lab internet", func(c lab.Counters) int { return c.UDP }},
		{"udp6 443", fmt.Sprintf(udp, "2001:db8::10/443"), "sp-lab internet", func(c lab.Counters) int { return c.UDP }},
		{"icmp", `busybox ping -c 1 -W 5 203.0.113.9`, "1 packets received", func(c lab.Counters) int { return c.ICMP }},
		{"icmp6", `busybox ping -6 -c 1 -W 5 2001:db8:7::9`, "1 packets received", func(c lab.Counters) int { return c.ICMPv6 }},
		{"dns", `getent ahostsv4 api.example`, "203.0.113.10", func(c lab.Counters) int { return c.UDP }},
		{"dns asked directly", `busybox nslookup api.example 203.0.113.53`, "203.0.113.10", func(c lab.Counters) int { return c.UDP }},
		{"dns6", `busybox nslookup api.example 2001:db8::53`, "2001:db8::10", func(c lab.Counters) int { return c.UDP }},
	}
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				before := l.Before(t)
				if out := inContainer(t, l, c.script); !strings.Contains(out, c.answer) {
					t.Errorf("the container got %q; want %q in it", out, c.answer)
				}
				if since := l.Before(t).Sub(before); c.count(since) == 0 {
					t.Errorf("nothing was counted: %+v", since)
				}
			})
		}
		served := l.Internet.Served()
		for _, what := range []string{"tcp 80", "tcp 22", "tcp 8443", "udp 443", "udp 4433", "udp 123", "dns A api.example."} {
			if served[what] == 0 {
				t.Errorf("the internet did not serve %q: %v", what, served)
			}
		}
	})
}

// recorder is a testing.TB that only remembers whether a test would have failed.
type recorder struct {
	testing.TB
	failed string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Errorf(format string, args ...any) { r.failed += fmt.Sprintf(format, args...) }

func TestNoLeakSeesALeak(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		before := l.Before(t)
		r := &recorder{TB: t}
		if l.NoLeak(r, before); r.failed != "" {
			t.Errorf("silence was taken for a leak: %s", r.failed)
		}
		// An address that is nowhere, a protocol that nobody speaks.
		const raw = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 99)
s.sendto(b"leak", ("203.0.113.200", 0))`
		if out, err := l.GPUHost.CommandRoot(t.Context(), "python3", "-c", raw).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		inContainer(t, l, `echo leak >/dev/udp/198.18.0.1/5000`)
		if l.NoLeak(r, before); !strings.Contains(r.failed, "Other:1") || !strings.Contains(r.failed, "UDP:1") ||
			!strings.Contains(r.failed, "198.18.0.1:5000") {
			t.Errorf("two leaked packets were reported as %q", r.failed)
		}
	})
}

func TestTrap(t *testing.T) {
	onBoth(t, func(t *testing.T, l *lab.Lab) {
		caught := l.Laptop.Trap(t, 8080)
		if n := caught(); n != 0 {
			t.Errorf("%d came before anything was sent", n)
		}
		inContainer(t, l, `timeout 5 cat </dev/tcp/172.17.0.1/8080; exec 3<>/dev/udp/172.17.0.1/8080; echo x >&3; timeout 5 head -c 1 <&3`)
		if n := caught(); n != 2 {
			t.Errorf("the trap caught %d; want a connection and a datagram", n)
		}
	})
}
