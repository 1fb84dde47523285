package addresses

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

var anEvent = probe.Event{Proto: "tcp", Dst: "203.0.113.1:443"}

func TestMerge(t *testing.T) {
	reached, blocked := probe.Reached("got out"), probe.Blocked("refused", anEvent)
	stopped, unproven, missing := probe.Stopped(unix.EPERM, "socket"), probe.Unproven("silent"), probe.Missing("IPv6")
	for _, c := range []struct {
		name     string
		setting  probe.Setting
		findings []probe.Finding
		want     verify.Outcome
		events   int
		errno    string
		absent   bool
	}{
		{"one that got out is enough", probe.Sandbox, []probe.Finding{blocked, reached, stopped}, verify.Reached, 0, "", false},
		{"a control has to show each", probe.OwnListener, []probe.Finding{reached, blocked}, verify.Unproven, 0, "", false},
		{"a control shows each", probe.OwnListener, []probe.Finding{reached, reached}, verify.Reached, 0, "", false},
		{"what is missing is left out", probe.OwnListener, []probe.Finding{reached, missing}, verify.Reached, 0, "", false},
		{"each blocked one needs its event", probe.Sandbox, []probe.Finding{blocked, blocked, stopped}, verify.Blocked, 2, "", false},
		{"silence spoils a refusal", probe.Sandbox, []probe.Finding{blocked, unproven}, verify.Unproven, 0, "", false},
		{"all stopped", probe.Sandbox, []probe.Finding{stopped, missing, stopped}, verify.StoppedInside, 0, "EPERM", false},
		{"nothing there", probe.Sandbox, []probe.Finding{missing, missing}, verify.Unproven, 0, "", true},
		{"nothing at all", probe.Sandbox, nil, verify.Unproven, 0, "", true},
	} {
		f := merge(probe.Target{Setting: c.setting}, c.findings)
		if f.Outcome != c.want || len(f.Events) != c.events || f.Errno != c.errno || f.Absent != c.absent {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestRefusalsBySystemCall(t *testing.T) {
	for errno, want := range map[syscall.Errno]verify.Outcome{
		unix.ECONNREFUSED: verify.Blocked, unix.ECONNRESET: verify.Blocked, unix.EHOSTUNREACH: verify.Blocked, unix.EACCES: verify.Blocked,
		unix.EPERM: verify.StoppedInside, unix.EADDRNOTAVAIL: verify.StoppedInside,
		unix.EAGAIN: verify.Unproven, unix.ETIMEDOUT: verify.Unproven, unix.EINPROGRESS: verify.Unproven,
	} {
		f := refused(fmt.Errorf("connect: %w", errno), anEvent)
		if f.Outcome != want || (want == verify.Blocked) != (len(f.Events) == 1) {
			t.Errorf("%v: %+v", errno, f)
		}
	}
}

// said has a stream's other end say these pieces, one after the other, and end.
func said(t *testing.T, pieces ...string) probe.Finding {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0) // a piece a read
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	done := make(chan error, 1)
	go func() {
		for _, p := range pieces {
			if _, err := unix.Write(ends[1], []byte(p)); err != nil {
				done <- err
				return
			}
		}
		done <- unix.Close(ends[1])
	}()
	answer, err := whatIsSaid(ends[0])
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return judge(answer, anEvent)
}

func TestAnswers(t *testing.T) {
	const ours = "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Reason: no direct connection leaves the sandbox\r\n\r\nsallyport: refused\n"
	for _, c := range []struct {
		pieces []string
		want   verify.Outcome
	}{
		{[]string{ours}, verify.Blocked},
		{[]string{ours[:24], ours[24:40], ours[40:]}, verify.Blocked},
		{[]string{probe.Greeting}, verify.Reached},
		{[]string{"HTTP/1.1 403 Forbidden\r\nServer: sallyport\r\n\r\n"}, verify.Reached},
		{[]string{"HTTP/1.1 200 OK\r\nX-Sallyport-Reason: none\r\n\r\n"}, verify.Reached},
		{[]string{"SSH-2.0-", "OpenSSH\r\n"}, verify.Reached},
	} {
		if f := said(t, c.pieces...); f.Outcome != c.want {
			t.Errorf("%q: %s %s", c.pieces, f.Outcome, f.Detail)
		}
	}
}

func TestChecksum(t *testing.T) {
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) { // RFC 1071 §3
		t.Errorf("%#x", got)
	}
	if got := checksum([]byte{0xff, 0xff, 0xab}); got != ^uint16(0xab00) {
		t.Errorf("of an odd number of bytes: %#x", got)
	}
}

func TestRoutesThatAreLocal(t *testing.T) {
	const routes = "fd000ec2000000000000000000000254 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001       lo\n"
	local := strings.ReplaceAll(routes, "00000001       lo", "80200001       lo")
	addr := metadata6.Addr()
	if isLocal(routes, addr) || !isLocal(routes+local, addr) || isLocal(local, routerLocal) {
		t.Error("a prefix is not told from an address")
	}
}

// A hop that says that the time to live is over lies outside; one that says that
// this is prohibited is the wall.
func TestTimeExceeded(t *testing.T) {
	if !inNetns(t, true) {
		return
	}
	target := probe.Target{Setting: probe.Sandbox, Run: "0123abcd"}
	if _, err := onPublic(&target, 41); err != nil {
		t.Fatal(err)
	}
	hop, _ := public(42)
	if _, err := onLo(hop); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind, code byte
		want       verify.Outcome
	}{{11, 0, verify.Reached}, {3, 13, verify.Blocked}} {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		to := netip.AddrPortFrom(target.Public4, portTTL)
		listener, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan error, 1)
		go func() {
			_, from, err := listener.ReadFromUDPAddrPort(make([]byte, maxAnswer))
			if err == nil {
				datagram := udp(to.Addr(), to.Addr(), to.Port(), nil)
				datagram[0], datagram[1] = byte(from.Port()>>8), byte(from.Port())
				inner := header{src: to.Addr(), dst: to.Addr(), proto: protoUDP}.packet(datagram)
				_, err = raw(header{src: hop, dst: to.Addr(), proto: protoICMP}.packet(icmp4(c.kind, c.code, append(make([]byte, 4), inner...)...)))(ctx)
			}
			told <- err
		}()
		if f := hopsTo(ctx, target, to, 1); f.Outcome != c.want {
			t.Errorf("type %d: %s %s", c.kind, f.Outcome, f.Detail)
		}
		if err := <-told; err != nil {
			t.Error(err)
		}
		listener.Close()
		cancel()
	}
}

// What the far end itself sends has not arrived there, and neither has another
// packet.
func TestTapSeesWhatArrives(t *testing.T) {
	if !inNetns(t, true) {
		return
	}
	target := probe.Target{Setting: probe.OwnListener, Run: "0123abcd"}
	if err := wired(t.Context(), &target); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+farEnd+"/disable_ipv6", []byte("1"), 0); err != nil {
		t.Log(err) // its own solicitations would be no harm
	}
	for _, c := range []struct {
		from, sent string
		want       verify.Outcome
	}{
		{nearEnd, "mark", verify.Reached}, {farEnd, "mark", verify.Blocked}, {nearEnd, "another", verify.Blocked},
	} {
		i, err := net.InterfaceByName(c.from)
		if err != nil {
			t.Fatal(err)
		}
		p := parcel{seen: holds([]byte("mark")), event: anEvent, send: func(context.Context) ([]byte, error) {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			defer unix.Close(fd)
			frame := ethernet(broadcastMAC, i.HardwareAddr, ethernetTrial, []byte(c.sent))
			return nil, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: networkOrder(ethernetTrial)})
		}}
		if f := emit(t.Context(), target, []parcel{p}); f.Outcome != c.want {
			t.Errorf("%q from %s: %s %s", c.sent, c.from, f.Outcome, f.Detail)
		}
	}
}
