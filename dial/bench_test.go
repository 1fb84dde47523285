package dial

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// BenchmarkMachineAddresses is what each Dial of the gateway asks the kernel before it
// resolves.
func BenchmarkMachineAddresses(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := MachineAddresses(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDial is a Dial without the kernel: its own cost beside that of Connect.
func BenchmarkDial(b *testing.B) {
	at := netip.MustParseAddr("203.0.113.7")
	d := &Dialer{
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{at}, nil },
		Connect: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
			return placed{remote: net.TCPAddrFromAddrPort(to), local: &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 1}}, nil
		},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Dial(context.Background(), "ok.example", 443); err != nil {
			b.Fatal(err)
		}
	}
}

// placed is a connection that has addresses and nothing else.
type placed struct {
	net.Conn
	remote, local net.Addr
}

func (p placed) RemoteAddr() net.Addr { return p.remote }
func (p placed) LocalAddr() net.Addr  { return p.local }
