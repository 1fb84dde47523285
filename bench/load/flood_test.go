package load

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestAttempts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	for _, proto := range []string{"tcp", "udp"} {
		made, err := attempts(t.Context(), proto, closed, 10)
		// Of two datagrams to a closed port every second one fails with what the first one met.
		if err != nil || proto == "tcp" && made != 10 || proto == "udp" && made < 5 {
			t.Errorf("%s: %d made, %v", proto, made, err)
		}
	}
	for _, bad := range []FloodArg{{Proto: "icmp", To: "127.0.0.1:1"}, {Proto: "tcp", To: "[::1]:1"}, {Proto: "tcp", To: "nowhere"}} {
		if got, err := flood(t.Context(), bad); err == nil {
			t.Errorf("%+v: %+v", bad, got)
		}
	}
}

func TestSpin(t *testing.T) {
	s, err := spin(t.Context(), SpinArg{For: time.Millisecond})
	if err != nil || s.Calls == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
