package wall

import (
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// counted sums up what the wall's rules counted, by rule.
func (b *box) counted(t *testing.T) map[uint32]int64 {
	t.Helper()
	counts := map[uint32]int64{}
	b.wallNS.in(t, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		all, err := readCounts(c, []*nftables.Set{{Table: &nftables.Table{Name: "wall", Family: nftables.TableFamilyINet}, Name: "counts"}})
		for s, n := range all {
			counts[s.rule] += int64(n)
		}
		return err
	})
	return counts
}

// dropped is what the sandbox's end of the veth could not pass on.
func (b *box) dropped(t *testing.T) (n int64) {
	t.Helper()
	b.ns.in(t, func() error {
		link, err := netlink.LinkByName(sandboxInterface)
		if err == nil {
			n = int64(link.Attrs().Statistics.TxDropped)
		}
		return err
	})
	return n
}

// attempts is what the record has: by its events, and as lost.
func (b *box) attempts() (recorded, lost int64) {
	for _, e := range b.all() {
		recorded += e.Count
		lost += e.Lost
	}
	return recorded, lost
}

// wantAttempts waits until as many are accounted for, and no more.
func (b *box) wantAttempts(t *testing.T, want int64) {
	t.Helper()
	recorded, lost := int64(0), int64(0)
	for deadline := time.After(8 * patient); ; {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if recorded, lost = b.attempts(); recorded+lost >= want {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d recorded and %d lost are not %d", recorded, lost, want)
		}
	}
	rules := map[string]int64{}
	for _, e := range b.all() {
		rules[e.Rule] += e.Count + e.Lost
	}
	t.Logf("by rule: %v", rules)
	t.Logf("%d recorded in %d events, %d lost, of %d", recorded, len(b.all()), lost, want)
	if recorded+lost != want {
		t.Errorf("%d recorded and %d lost are not %d", recorded, lost, want)
	}
}

// sendUDP sends one datagram and returns how many were taken.
func sendUDP(fd int, to netip.AddrPort) int64 {
	sockaddr := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	if unix.Sendto(fd, []byte("x"), 0, sockaddr) != nil {
		return 0
	}
	return 1
}

// Of a flood of datagrams each is recorded or counted as lost, and one that goes
// somewhere else in the midst of it has its event.
func TestFloodOfDatagrams(t *testing.T) {
	b := newBox(t)
	const senders, each = 4, 50_000
	var sent atomic.Int64
	single := netip.MustParseAddrPort("203.0.113.99:999")
	var flood errgroup.Group
	for n := range senders {
		flood.Go(func() error {
			b.ns.in(t, func() error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 7)
				for i := range each {
					sent.Add(sendUDP(fd, to))
					if n == 0 && i == each/2 {
						sent.Add(sendUDP(fd, single))
					}
				}
				return nil
			})
			return nil
		})
	}
	flood.Wait()
	counted, dropped := b.counted(t), b.dropped(t)
	t.Logf("%d sent, %v counted, %d dropped by the veth", sent.Load(), counted, dropped)
	if counted[ruleOther]+dropped != sent.Load() {
		t.Errorf("%d counted and %d dropped are not %d", counted[ruleOther], dropped, sent.Load())
	}
	b.wantAttempts(t, counted[ruleOther])
	b.want(1, "the single one", packetTo(b.id, "other", single.String()))
}

// connects makes so many connections from the sandbox, each of which it ends at
// once, and returns how many connect() it called.
func (b *box) connects(t *testing.T, workers, each int, to netip.AddrPort, flags int) int64 {
	t.Helper()
	var calls atomic.Int64
	var flood errgroup.Group
	for range workers {
		flood.Go(func() error {
			b.ns.in(t, func() error {
				for range each {
					fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
					if err != nil {
						return err
					}
					err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME-WAIT
					if err == nil {
						calls.Add(1)
						_ = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
					}
					if err := unix.Close(fd); err != nil {
						return err
					}
				}
				return nil
			})
			return nil
		})
	}
	flood.Wait()
	return calls.Load()
}

// Of a flood of connections each is recorded or counted as lost, whether a gateway
// takes them, none is there, or the senders do not wait.
func TestFloodOfConnections(t *testing.T) {
	b := newBox(t)
	b.records.Store(true)
	to := netip.MustParseAddrPort("203.0.113.1:443")
	calls := b.connects(t, 20, 250, to, 0)
	calls += b.connects(t, 20, 250, to, unix.SOCK_NONBLOCK)
	b.wantAttempts(t, calls)
	b.stop()
	calls += b.connects(t, 20, 500, to, 0)
	b.start()
	b.await(b.id, sandbox.Ready)
	b.wantAttempts(t, calls)
}

// Connections that the kernel had accepted when a gateway ended are not forgotten:
// it records them where it still can, else the next one counts them, as lost.
func TestConnectionsThatNobodyTook(t *testing.T) {
	for name, dies := range map[string]bool{"the gateway stops": false, "the gateway dies": true} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.stop()
			b.deaf.Store(true)
			b.start()
			b.await(b.id, sandbox.Ready)
			calls := b.connects(t, 3, 100, netip.MustParseAddrPort("203.0.113.1:443"), unix.SOCK_NONBLOCK)
			until(t, "the wall has counted them", func() bool { return b.counted(t)[ruleSYN] == calls })
			if dies { // then it records nothing and tells the wall nothing any more
				b.setFail(os.ErrInvalid)
			}
			b.stop()
			b.setFail(nil)
			b.deaf.Store(false)
			b.start()
			b.wantAttempts(t, calls)
			for _, e := range b.all() {
				if e.Lost > 0 && !e.About || e.Sandbox != b.id || e.Agent != "test" {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// The same ports are used again before the wall has told of the connection that had
// them: each counts once.
func TestConnectionsThatAreToldLate(t *testing.T) {
	b := newBox(t)
	b.records.Store(true)
	if err := b.wall.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	calls := b.connects(t, 20, 500, netip.MustParseAddrPort("203.0.113.1:443"), 0)
	if err := b.wall.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.wantAttempts(t, calls)
	b.stop() // which records what it has left
	b.wantAttempts(t, calls)
}
