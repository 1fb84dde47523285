package inside

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

func TestRing(t *testing.T) {
	if !inChild(t, false) {
		return
	}
	to := target(probe.Sandbox, false)
	to.Public4 = netip.MustParseAddr("203.0.113.10")
	if f := connectByRing(t.Context(), to); f.Outcome != verify.StoppedInside || f.Errno != "ENETUNREACH" {
		t.Errorf("without a route: %+v", f)
	}
	ifreq(t, "lo:1", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(to.Public4.AsSlice()) })
	event := probe.Event{Layer: audit.LayerIntercept, Proto: "tcp", Dst: "203.0.113.10:443", Host: "io-uring-connect-0a1b2c3d.example"}
	if f := connectByRing(t.Context(), to); f.Outcome != verify.Blocked || f.Events[0] != event {
		t.Errorf("refused: %+v", f)
	}
	for _, c := range []struct {
		name, answer string
		want         verify.Outcome
	}{
		{"the peer's greeting", probe.Greeting, verify.Reached},
		{"another's refusal", "HTTP/1.1 403 Forbidden\r\n\r\n", verify.Reached},
		{"the gateway's refusal", "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Reason: no\r\n\r\n", verify.Blocked},
		{"a reset", "", verify.Blocked},
	} {
		served := serve(t, c.answer)
		f := connectByRing(t.Context(), to)
		<-served
		if f.Outcome != c.want || (c.want == verify.Blocked) != (len(f.Events) == 1 && f.Events[0] == event) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

// serve answers one connection, or resets it.
func serve(t *testing.T, answer string) (served chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "203.0.113.10:443")
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan struct{})
	go func() {
		defer close(served)
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if answer == "" {
			_ = conn.(*net.TCPConn).SetLinger(0)
			return
		}
		request := make([]byte, 512)
		if _, err := conn.Read(request); err == nil {
			_, _ = conn.Write([]byte(answer))
		}
	}()
	return served
}
