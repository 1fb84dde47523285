package wall

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sys/unix"
)

// other is a second sandbox over the same wall.
func (b *box) other(t *testing.T) *box {
	t.Helper()
	o := &box{gateway: b.gateway, id: "ba9876543210", ns: newNamespace(t, nil), wallNS: b.wallNS, wall: b.wall}
	o.token, o.addr = b.register(o.id)
	o.holder = o.ns.startHolder(t, b.socket, o.token)
	b.await(o.id, sandbox.Ready)
	return o
}

// floodSYN sends first segments that no connection follows, each of a new port,
// until stop is closed, and returns how many were taken.
func (b *box) floodSYN(t *testing.T, host byte, stop <-chan struct{}) (sent int64) {
	t.Helper()
	b.ns.in(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dst := netip.AddrFrom4([4]byte{203, 0, 113, host})
		p := packet4(unix.IPPROTO_TCP, b.addr.Sandbox4, dst, segment(0, 443, tcpSYN))
		for port := uint16(1); ; port++ {
			select {
			case <-stop:
				return nil
			default:
			}
			binary.BigEndian.PutUint16(p[20:], port)
			binary.BigEndian.PutUint32(p[24:], uint32(sent))
			setTCPChecksum(p)
			if unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: dst.As4()}) == nil {
				sent++
			}
		}
	})
	return sent
}

// neverReset keeps the sandbox's kernel from answering what it knows nothing of: so
// does a process whose socket has a filter that drops all.
func (b *box) neverReset(t *testing.T) {
	t.Helper()
	b.ns.in(t, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "test"})
		out := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput,
			Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: join(protocol(unix.IPPROTO_TCP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}, equal([]byte{tcpRST}), drop)})
		return c.Flush()
	})
}

// setTCPChecksum of an IPv4 packet without options, RFC 9293 §3.1.
func setTCPChecksum(p []byte) {
	p[36], p[37] = 0, 0
	sum := uint32(unix.IPPROTO_TCP+len(p)-20) + uint32(onesSum(p[12:])) // both addresses, and the segment
	binary.BigEndian.PutUint16(p[36:], ^uint16(sum>>16+sum&0xffff))
}

// onesSum is the sum of RFC 1071, of an even number of bytes.
func onesSum(p []byte) uint16 {
	sum := uint32(0)
	for ; len(p) > 0; p = p[2:] {
		sum += uint32(binary.BigEndian.Uint16(p))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// A flood of half-open connections from one sandbox costs another nothing: each of
// its connections is accepted at its first try and answered, and what it tries by
// the way has its event.
func TestFloodOfHalfOpenConnectionsCostsOthersNothing(t *testing.T) {
	b := newBox(t)
	o := b.other(t)
	b.neverReset(t)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var sent atomic.Int64
	for i := range 2 {
		flood.Go(func() { sent.Add(b.floodSYN(t, byte(i+1), stop)) })
	}
	until(t, "the flood is on", func() bool { return b.counted(t)[ruleSYN] > 4*backlog })
	const tries = 50
	for i := range tries {
		addr := "203.0.113.99:" + itoa(1000+i)
		c, line, err := o.dial(t, addr)
		if err != nil || !strings.HasPrefix(line, o.id) {
			t.Errorf("%s: %q, %v", addr, line, err)
			continue
		}
		if n := retransmissions(t, c); n != 0 {
			t.Errorf("%s: %d segments were sent again", addr, n)
		}
		o.sendRaw(t, packet4(unix.IPPROTO_UDP, o.addr.Sandbox4, netip.MustParseAddr("203.0.113.98"), []byte{3, 232, 9, byte(i), 0, 9, 0, 0, 'x'}))
	}
	if _, line, err := b.dial(t, "203.0.113.99:7"); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("who floods has a full queue of its own: %q, %v", line, err)
	}
	close(stop)
	flood.Wait()
	t.Logf("%d first segments in the flood", sent.Load())
	for i := range tries {
		b.want(1, "a datagram", packetTo(o.id, "other", "203.0.113.98:"+itoa(9<<8+i)))
	}
}

// sendDatagrams sends n datagrams to one place and returns how many were taken.
func (b *box) sendDatagrams(t *testing.T, n int, to netip.AddrPort) (sent int64) {
	t.Helper()
	b.ns.in(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range n {
			sent += sendUDP(fd, to)
		}
		return nil
	})
	return sent
}

// Of what a sandbox repeats much of only the number is told. Another's repeats are
// told all the same.
func TestFloodOfRepeatsCostsOthersNothing(t *testing.T) {
	b := newBox(t)
	o := b.other(t)
	to := netip.MustParseAddrPort("203.0.113.99:7")
	flood := b.sendDatagrams(t, 8*restBurst, to)
	few := o.sendDatagrams(t, 100, to)
	b.wantAttempts(t, flood-b.dropped(t)+few)
	told, lost := map[string]int64{}, map[string]int64{}
	for _, e := range b.all() {
		told[e.Sandbox] += e.Count
		lost[e.Sandbox] += e.Lost
	}
	if told[o.id] != few || lost[o.id] != 0 {
		t.Errorf("of %d others %d are told, %d lost", few, told[o.id], lost[o.id])
	}
	// How many are lost depends on how long the flood took; without a limit none would
	// be, or many more.
	if told[b.id] < restBurst || lost[b.id] == 0 {
		t.Errorf("of the flood %d are told, %d lost", told[b.id], lost[b.id])
	}
}

// retransmissions is how many segments of a connection were sent again.
func retransmissions(t *testing.T, c net.Conn) (n uint32) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		if infoErr != nil {
			err = infoErr
			return
		}
		n = info.Total_retrans
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
