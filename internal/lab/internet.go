package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Internet is everything that is not the laptop or the GPU host. Every address
// of 203.0.113.0/24 and 2001:db8::/32 is its own and answers pings; see serve for
// what it serves. It runs no program.
type Internet struct {
	*Host

	captures map[string]*capture // by the host at the other end
	servers  *servers
	markers  int
}

// Counters says how many packets reached the internet, of both hosts together.
// Address resolution and neighbour discovery are not counted.
type Counters struct {
	TCP, UDP, ICMP, ICMPv6, Other int
	Lost                          int // arrived, but were too many to keep
}

// Sum is the number of all packets.
func (c Counters) Sum() int { return c.TCP + c.UDP + c.ICMP + c.ICMPv6 + c.Other + c.Lost }

// Sub says what was counted since before.
func (c Counters) Sub(before Counters) Counters {
	return Counters{
		TCP: c.TCP - before.TCP, UDP: c.UDP - before.UDP, ICMP: c.ICMP - before.ICMP,
		ICMPv6: c.ICMPv6 - before.ICMPv6, Other: c.Other - before.Other, Lost: c.Lost - before.Lost,
	}
}

func newInternet(h *Host) (*Internet, error) {
	i := &Internet{Host: h, captures: make(map[string]*capture)}
	for from, address := range map[string]string{"laptop": internetToLaptop, "gpuhost": internetToGPU} {
		link, err := h.links.LinkByName(from)
		if err != nil {
			return nil, err
		}
		err = h.Do(func() error {
			marker := netip.AddrPortFrom(netip.MustParseAddr(address), discard)
			c, err := newCapture(from, link.Attrs().Index, marker)
			if err == nil {
				i.captures[from] = c
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var err error
	i.servers, err = serve(h)
	return i, err
}

// Packets lists what arrived so far, host by host. See Lab.Settle.
func (i *Internet) Packets() ([]Packet, error) {
	var all []Packet
	for _, c := range i.captures {
		seen, _, err := c.drain()
		if err != nil {
			return nil, err
		}
		all = append(all, seen...)
	}
	return all, nil
}

// Counters counts what arrived so far. See Lab.Settle.
func (i *Internet) Counters() (Counters, error) {
	var sum Counters
	for _, c := range i.captures {
		seen, lost, err := c.drain()
		if err != nil {
			return Counters{}, err
		}
		sum.Lost += lost
		for _, p := range seen {
			sum.count(p)
		}
	}
	return sum, nil
}

func (c *Counters) count(p Packet) {
	switch p.Proto {
	case unix.IPPROTO_TCP:
		c.TCP++
	case unix.IPPROTO_UDP:
		c.UDP++
	case unix.IPPROTO_ICMP:
		c.ICMP++
	case unix.IPPROTO_ICMPV6:
		c.ICMPv6++
	default:
		c.Other++
	}
}

// Served is what the internet's servers were asked so far, sorted by name: "tcp
// 443", "udp 123", "dns A api.example.", and how often.
func (i *Internet) Served() map[string]int { return i.servers.counts() }

func (i *Internet) close() {
	if i.servers != nil {
		_ = i.servers.close() // nothing depends on it any more
	}
	for _, c := range i.captures {
		_ = unix.Close(c.fd)
	}
	i.Host.close()
}

// settleTime bounds one marker's way, which takes microseconds.
const settleTime = 10 * time.Second

// discard is the port that markers are sent to.
const discard = 9

// Settle waits until every packet that the laptop and the GPU host sent so far is
// counted: marker packets have to arrive behind it, two rounds from each
// processor, as a packet from a container is queued twice on its way. So it proves
// too that the counters count. Markers themselves are not counted.
func (l *Lab) Settle() error {
	for _, h := range []*Host{l.Laptop.Host, l.GPUHost.Host} {
		for range 2 {
			for cpu := range runtime.NumCPU() {
				if err := l.Internet.mark(h, cpu); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// mark sends a marker from a host and waits until it is there.
func (i *Internet) mark(from *Host, cpu int) error {
	i.markers++
	text := fmt.Sprintf("sp-lab marker %d", i.markers)
	c := i.captures[from.Name]
	err := from.Do(func() error { return onCPU(cpu, func() error { return sendMarker(c.marker, text) }) })
	if err != nil {
		return fmt.Errorf("lab: %s sends a marker: %w", from.Name, err)
	}
	for deadline := time.Now().Add(settleTime); ; {
		if _, _, err := c.drain(); err != nil {
			return err
		}
		if c.saw(text) {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("lab: the internet's counters do not see packets of %s: a leak would not be seen", from.Name)
		}
		poll := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func sendMarker(to netip.AddrPort, text string) error {
	c, err := net.Dial("udp", to.String())
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(text))
	return errors.Join(err, c.Close())
}

// onCPU runs f with the calling thread on one processor; one that this process
// may not use is passed over.
func onCPU(cpu int, f func() error) error {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if one.Set(cpu); !before.IsSet(cpu) || unix.SchedSetaffinity(0, &one) != nil {
		return f()
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}

// Before is where NoLeak counts from.
func (l *Lab) Before(t testing.TB) Counters {
	t.Helper()
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Internet.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// NoLeak fails the test if a single packet reached the internet since before.
func (l *Lab) NoLeak(t testing.TB, before Counters) {
	t.Helper()
	since := l.Before(t).Sub(before)
	if since.Sum() == 0 {
		return
	}
	packets, err := l.Internet.Packets()
	if err != nil {
		t.Error(err)
	}
	var lines strings.Builder
	for _, p := range packets[max(0, len(packets)-20):] {
		fmt.Fprintf(&lines, "\n  %s", p)
	}
	t.Errorf("%d packets reached the internet: %+v; the last of all:%s", since.Sum(), since, lines.String())
}
