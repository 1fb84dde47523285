package dnsblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
)

func BenchmarkHandle(b *testing.B) {
	s, _ := newServer()
	s.Record = func(audit.Event) error { return nil }
	query := pack(b, withEDNS(question("api.example.com.", dns.TypeA)))
	b.ReportAllocs()
	for b.Loop() {
		s.handle(query, testPeer)
	}
}

// BenchmarkServeUDP is answers over the loopback interface to one client with a
// window of unique names, and what the process takes of the processor for one, the
// client included: with a record that costs nothing, and with a real one.
func BenchmarkServeUDP(b *testing.B) {
	for _, window := range []int{1, 128} {
		b.Run(fmt.Sprintf("record=none/window=%d", window), func(b *testing.B) {
			s, _ := newServer()
			s.RecordAll = func([]audit.Event) error { return nil }
			benchmarkUDP(b, s, window)
		})
		b.Run(fmt.Sprintf("record=store/window=%d", window), func(b *testing.B) {
			store, err := audit.Open(filepath.Join(b.TempDir(), "audit.db"), audit.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			s, _ := newServer()
			s.RecordAll = func(es []audit.Event) error { _, err := store.AppendAll(es); return err }
			benchmarkUDP(b, s, window)
		})
	}
}

func benchmarkUDP(b *testing.B, s *Server, window int) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	if err := inControl(server, unix.IP_RECVORIGDSTADDR); err != nil {
		b.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.ServeUDP(ctx, server) }()
	client := newAsker(conn, window)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	if err := client.ask(b.N); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

func inControl(c *net.UDPConn, option int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, option, 1) })
	if err != nil {
		return err
	}
	return failed
}

func processorTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// asker asks for unique names, a window of them at a time.
type asker struct {
	conn    *ipv4.PacketConn
	window  int
	out, in []ipv4.Message
}

func newAsker(conn *net.UDPConn, window int) *asker {
	a := &asker{conn: ipv4.NewPacketConn(conn), window: window, out: make([]ipv4.Message, window), in: make([]ipv4.Message, window)}
	for i := range a.in {
		a.in[i].Buffers, a.out[i].Buffers = [][]byte{make([]byte, 512)}, [][]byte{nil}
	}
	return a
}

func (a *asker) ask(n int) error {
	for asked, answered := 0, 0; answered < n; {
		more := min(a.window-(asked-answered), n-asked)
		for i := range more {
			name := "name" + strconv.Itoa(asked+i)
			query := append(a.out[i].Buffers[0][:0], 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, byte(len(name)))
			binary.BigEndian.PutUint16(query, uint16(asked+i))
			query = append(append(query, name...), "\x05bench\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"...)
			a.out[i].Buffers[0] = query
		}
		for rest := a.out[:more]; len(rest) > 0; {
			sent, err := a.conn.WriteBatch(rest, 0)
			if err != nil {
				return err
			}
			rest = rest[sent:]
		}
		asked += more
		got, err := a.conn.ReadBatch(a.in, 0)
		if err != nil {
			return err
		}
		for _, m := range a.in[:got] {
			if m.N < headerSize || m.Buffers[0][3]&0xf != dns.RcodeNameError {
				return fmt.Errorf("answer %x", m.Buffers[0][:m.N])
			}
		}
		answered += got
	}
	return nil
}
