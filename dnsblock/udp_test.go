package dnsblock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sallyport/sallyport/audit"
)

// The answer comes from the server that was asked, which is also the one that is
// recorded; a connected client takes no other.
func TestUDP(t *testing.T) {
	tests := []struct {
		network, listen, client, server string
	}{
		{"udp", "[::]:53", "127.0.0.1", "127.0.0.1:53"},
		{"udp", "[::]:53", "127.0.0.1", "127.0.0.2:53"},
		{"udp", "[::]:53", "127.0.0.9", "127.10.20.30:53"},
		{"udp", "[::]:53", "::1", "[::1]:53"},
		{"udp", "[::]:53", "::1", "[fd00::53]:53"},
		{"udp", "[::]:53", "127.0.0.1", "203.0.113.53:53"},
		{"udp4", "0.0.0.0:53", "127.0.0.1", "203.0.113.53:53"}, // a host without IPv6
	}
	for _, tt := range tests {
		t.Run(tt.listen+" "+tt.server, func(t *testing.T) {
			var server, client *net.UDPConn
			inNamespace(t, func() (err error) {
				if server, err = wallSocket(tt.network, tt.listen); err != nil {
					return err
				}
				local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(tt.client), 0))
				client, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tt.server)))
				return err
			})
			defer client.Close()
			s, b := newServer()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.ServeUDP(ctx, server) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			askUDP(t, client)
			e := b.all()
			if len(e) != 1 || e[0].Dst != tt.server || e[0].Src != client.LocalAddr().String() || e[0].Proto != "udp" || e[0].Host != "x.example" {
				t.Errorf("events %+v", e)
			}
		})
	}
}

func askUDP(t *testing.T, client *net.UDPConn) {
	t.Helper()
	query := question("x.example.", dns.TypeA)
	if _, err := client.Write(pack(t, query)); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := client.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if m := unpack(t, buf[:n]); m.Rcode != dns.RcodeNameError || m.Id != query.Id {
		t.Errorf("answer %v", m)
	}
}

// Messages without an answer, and an empty datagram, do not end the service.
func TestUDPGoesOn(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, b := newServer()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.ServeUDP(ctx, server) }()
	for _, message := range []string{"", "x", "\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00", string(make([]byte, 60000))} {
		if _, err := client.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := client.Read(make([]byte, 100)); n != headerSize || err != nil { // of the last one
		t.Errorf("read %d, %v", n, err)
	}
	askUDP(t, client)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if e := b.all(); len(e) != 5 {
		t.Errorf("events %+v", e)
	}
}

// overrun is a server's socket to which more queries were sent than it has room
// for, and the socket that they came from.
func overrun(t *testing.T, queries int) (server, client *net.UDPConn) {
	t.Helper()
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	client, err = net.DialUDP("udp", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	for i := range queries {
		query := question("x.example.", dns.TypeA)
		query.Id = uint16(i + 1)
		if _, err := client.Write(pack(t, query)); err != nil {
			t.Fatal(err)
		}
	}
	return server, client
}

// Queries that find no room are counted, to the last: what is recorded and what is
// lost is what was sent. The number is told when serving ends, though no query came
// after them.
func TestUDPDropped(t *testing.T) {
	const queries = 500
	server, _ := overrun(t, queries)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want, err := dropped(raw)
	if err != nil || want == 0 || want >= queries {
		t.Fatalf("%d dropped, %v", want, err)
	}
	s, b := newServer()
	s.dropTime = time.Hour
	b.added = make(chan struct{}, queries)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.ServeUDP(ctx, server) }()
	for range queries - int(want) {
		select {
		case <-b.added:
		case <-time.After(5 * time.Second):
			t.Fatalf("%d events of %d queries, %d dropped", len(b.all()), queries, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	events := b.all()
	if len(events) != queries-int(want)+1 {
		t.Fatalf("%d events of %d queries, %d dropped", len(events), queries, want)
	}
	if e := events[len(events)-1]; e.Lost != int64(want) || e.Rule != "lost" || e.Count != 0 || e.Sandbox != "s1" || e.Verdict != "denied" || e.Layer != "dns" {
		t.Errorf("%+v", e)
	}
}

// Drops between all queries are not an event each: a flood would fill the record
// with them.
func TestUDPDropsAreFewEvents(t *testing.T) {
	const queries = 50
	server, client := overrun(t, 2*queries)
	s, b := newServer()
	s.dropTime = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	answered, lost := 0, 0
	s.Record = func(e audit.Event) error {
		if e.Lost > 0 {
			lost++
			return b.record(e)
		}
		for range 2 { // one has room
			if _, err := client.Write(wire("x", "example")); err != nil {
				t.Error(err)
			}
		}
		if answered++; answered == queries {
			cancel()
		}
		return b.record(e)
	}
	if err := s.ServeUDP(ctx, server); err != nil {
		t.Error(err)
	}
	if lost != 1 || answered < queries {
		t.Errorf("%d events of dropped queries, %d answered", lost, answered)
	}
}

// Drops are told while the service goes on, and once, also where the record
// refuses them: it counts what it refused.
func TestUDPDropsAreToldOnce(t *testing.T) {
	server, _ := overrun(t, 100)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want, err := dropped(raw)
	if err != nil || want == 0 {
		t.Fatalf("%d dropped, %v", want, err)
	}
	s, _ := newServer()
	s.dropTime = time.Millisecond
	told := make(chan int64, 100)
	s.Record = func(e audit.Event) error {
		if e.Lost > 0 {
			told <- e.Lost
		}
		return errors.New("disk full")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.ServeUDP(ctx, server) }()
	sum := int64(0)
	select {
	case sum = <-told:
	case <-time.After(5 * time.Second):
		t.Error("nothing was told while it served")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(told)
	for n := range told {
		sum += n
	}
	if sum != int64(want) {
		t.Errorf("%d told of %d", sum, want)
	}
}
