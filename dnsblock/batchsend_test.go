package dnsblock

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"github.com/sallyport/sallyport/audit"
)

// Each answer of a batch comes from the server that was asked, on a socket of both
// families.
func TestBatchOfServers(t *testing.T) {
	asked := []string{"203.0.113.1:53", "203.0.113.2:53", "203.0.113.2:53", "[fd00::53]:53", "203.0.113.1:53", "[fd00::54]:53", "[fd00::53]:53"}
	var server, client *net.UDPConn
	inNamespace(t, func() (err error) {
		if server, err = wallSocket("udp", "[::]:53"); err == nil {
			client, err = net.ListenUDP("udp", nil)
		}
		return err
	})
	defer client.Close()
	for n, to := range asked {
		if _, err := client.WriteToUDPAddrPort(numbered(n), netip.MustParseAddrPort(to)); err != nil {
			t.Fatal(err)
		}
	}
	s, b := newBatchServer()
	stop := serveUDP(t, s, server)
	if err := client.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	for range asked {
		n, from, err := client.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if m := unpack(t, buf[:n]); unmapped(from).String() != asked[m.Id] {
			t.Errorf("%s was asked, the answer came from %v", asked[m.Id], from)
		}
	}
	stop()
	for _, e := range b.all() {
		var n int
		if _, err := fmt.Sscanf(e.Host, "name%d.example", &n); err != nil || e.Dst != asked[n] || e.Port != 53 {
			t.Errorf("event %+v", e)
		}
	}
}

// An answer that cannot be sent does not keep the others of its batch from it.
func TestBatchSends(t *testing.T) {
	server, client := pair(t)
	b := newBatch(4)
	for i := range b.out {
		b.out[i].Buffers[0], b.out[i].Addr = numbered(i), client.LocalAddr()
	}
	nowhere := *client.LocalAddr().(*net.UDPAddr)
	nowhere.Port = 0
	b.out[0].Addr, b.out[2].Addr = &nowhere, &nowhere
	b.send(ipv4.NewPacketConn(server), 4, slog.New(slog.DiscardHandler))
	buf := make([]byte, 512)
	for _, want := range []int{1, 3} {
		n, err := client.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], numbered(want)) {
			t.Errorf("%x, %v; want %d", buf[:n], err, want)
		}
	}
}

// Under a flood each query is recorded once or counted as lost.
func TestBatchFlood(t *testing.T) {
	const queries = 20_000
	server, client := pair(t)
	if err := server.SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s, b := newBatchServer()
	var lost int64
	s.Record = func(e audit.Event) error { lost += e.Lost; return nil } // by the one goroutine that counts
	recorded := make(chan struct{}, 1)
	s.RecordAll = func(es []audit.Event) error {
		defer func() {
			select {
			case recorded <- struct{}{}:
			default:
			}
		}()
		return b.recordAll(es)
	}
	stop := serveUDP(t, s, server)
	for n := range queries {
		if _, err := client.Write(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
	late := time.After(30 * time.Second)
	for missing := queries; missing > 0; {
		select {
		case <-recorded:
		case <-late:
			t.Fatalf("%d queries are missing", missing)
		}
		n, err := dropped(raw)
		if err != nil {
			t.Fatal(err)
		}
		missing = queries - len(b.all()) - int(n)
	}
	stop()
	names := map[string]bool{}
	for _, e := range b.all() {
		names[e.Host] = true
	}
	if len(names) != len(b.all()) || len(names)+int(lost) != queries {
		t.Errorf("%d events of %d names, %d lost, of %d queries", len(b.all()), len(names), lost, queries)
	}
}

func TestBatchAllocates(t *testing.T) {
	s, _ := newBatchServer()
	b := newBatch(1)
	query := pack(t, withEDNS(question("api.example.com.", dns.TypeA)))
	b.in[0].N = copy(b.in[0].Buffers[0], query)
	b.in[0].Addr = &net.UDPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 40000}
	if n := testing.AllocsPerRun(100, func() { s.judge(b, 0) }); n != 1 { // the name
		t.Errorf("%.0f allocations", n)
	}
}
