package wall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	maxReports  = 64 // that wait for the gateway to come back
	deleteTries = 10 // of an interface that is busy
	deletePause = 10 * time.Millisecond

	gatePolls    = 1000 // looks at whether the wall's end has answered
	gatePause    = 5 * time.Millisecond
	gateAskEvery = 4 // of the looks
)

// guard keeps a sandbox's namespace as it must be: lo, the one interface that the
// wall plugged with its addresses and default routes, and nothing else.
type guard struct {
	log *slog.Logger
	del func(netlink.Link) error // netlink.LinkDel

	mu      sync.Mutex
	address *wire.Address // nil: not plugged
	index   int           // of our interface; zero: not plugged
	reached int           // the interface whose other end has answered
	conn    *wire.Conn    // nil: the gateway is away
	reports []wire.Foreign
	sent    bool         // the first report, to conn, which has not taken it yet
	stuck   map[int]bool // interfaces, by index, that could not be deleted, and are reported
}

func newGuard(log *slog.Logger) *guard {
	return &guard{log: log, del: netlink.LinkDel, stuck: map[int]bool{}}
}

// run puts the namespace right now and after each change of its links, addresses
// and routes, until ctx ends. That the changes can no longer be seen is an error.
func (g *guard) run(ctx context.Context) error {
	changes, err := watch(ctx, unix.NETLINK_ROUTE, anyMessage, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	for {
		g.mu.Lock()
		err := g.reconcile()
		g.mu.Unlock()
		if err != nil {
			g.log.Warn("put the sandbox's namespace right", "err", err)
		}
		if _, ok := <-changes; !ok {
			return ignoreEnd(ctx, errUnseen)
		}
	}
}

// reportTo sets where reports go; nil keeps them.
func (g *guard) reportTo(conn *wire.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conn, g.sent = conn, false
	g.flush()
}

// taken forgets the report that was sent last, and sends the next.
func (g *guard) taken() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sent {
		g.reports, g.sent = g.reports[1:], false
	}
	g.flush()
}

// plugged takes what eth0 is to have, and sets it.
func (g *guard) plugged(address wire.Address) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	link, err := netlink.LinkByName(sandboxInterface)
	if err != nil {
		return fmt.Errorf("look for the plugged interface: %w", err)
	}
	if g.index == 0 && !g.isOurs(link) {
		return fmt.Errorf("%s is not the wall's", sandboxInterface)
	}
	g.address, g.index = &address, link.Attrs().Index
	return g.reconcile()
}

// unplug deletes eth0, whoever made it; the wall's end goes with it.
func (g *guard) unplug() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.address, g.index = nil, 0
	link, err := netlink.LinkByName(sandboxInterface)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", sandboxInterface, err)
	}
	return nil
}

// reconcile removes foreign interfaces and sets what our own lacks. It changes
// nothing that is right already, since each change calls it again.
func (g *guard) reconcile() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var ours netlink.Link
	for _, link := range links {
		switch {
		case link.Attrs().Flags&net.FlagLoopback != 0:
		case g.isOurs(link):
			ours = link
		case (isFallback(link) || g.stuck[link.Attrs().Index]) && link.Attrs().Flags&net.FlagUp == 0:
		default:
			g.report(g.remove(link))
		}
	}
	g.flush()
	switch {
	case g.address == nil:
		return nil
	case ours == nil:
		return errors.New("the sandbox's interface is gone")
	}
	return g.configure(ours)
}

// isOurs reports whether link is the interface that the wall plugged, or may be
// the one that it is plugging.
func (g *guard) isOurs(link netlink.Link) bool {
	if g.index != 0 {
		return link.Attrs().Index == g.index
	}
	return link.Attrs().Name == sandboxInterface && bytes.Equal(link.Attrs().HardwareAddr, plugMAC)
}

// report keeps what is to be told. Beyond maxReports only the number is.
func (g *guard) report(f wire.Foreign) {
	if n := len(g.reports); n >= maxReports {
		last := &g.reports[n-1]
		last.More++
		if last.Removed && !f.Removed {
			last.Removed, last.Error = false, f.Error
		}
		return
	}
	g.reports = append(g.reports, f)
}

// flush sends the first report that waits, unless it is sent already.
func (g *guard) flush() {
	if g.conn == nil || g.sent || len(g.reports) == 0 {
		return
	}
	if err := g.conn.Send(wire.Message{Foreign: &g.reports[0]}); err != nil {
		g.conn.Close() // so that what waits goes to the next one
		g.conn = nil
		return
	}
	g.sent = true
}

// remove sets link down and deletes it; one that is gone by itself, with its peer,
// is deleted. Where it cannot be, the gateway ends the sandbox.
func (g *guard) remove(link netlink.Link) wire.Foreign {
	f := wire.Foreign{Name: link.Attrs().Name, Kind: link.Type()}
	down := netlink.LinkSetDown(link)
	deleted := g.del(link)
	for try := 1; errors.Is(deleted, unix.EBUSY) && try < deleteTries; try++ {
		time.Sleep(deletePause)
		deleted = g.del(link)
	}
	f.Removed = deleted == nil || errors.Is(deleted, unix.ENODEV)
	if !f.Removed {
		f.Error = errors.Join(down, deleted).Error()
		g.stuck[link.Attrs().Index] = true
	}
	return f
}

func (g *guard) configure(link netlink.Link) error {
	// Before the interface is up: a process that is there must not have the kernel ask.
	if err := setNeighbour(link, g.address.Gate6, wallMAC); err != nil {
		return err
	}
	if err := setAddresses(link, []netip.Prefix{g.address.Addr4, g.address.Addr6}); err != nil {
		return err
	}
	if g.reached != g.index {
		if err := awaitGate(link, g.address.Gate4); err != nil {
			return err
		}
		g.reached = g.index
	}
	for _, gate := range []netip.Addr{g.address.Gate4, g.address.Gate6} {
		if err := errors.Join(setNeighbour(link, gate, wallMAC), setDefaultRoute(link, gate)); err != nil {
			return err
		}
	}
	return nil
}

// awaitGate waits until the wall's end answers. Both kernels' ends drop what is
// sent in the moment after the interface was set up, without a word; the kernel
// itself would ask again after a second (retrans_time_ms, arp(7)).
func awaitGate(link netlink.Link, gate netip.Addr) error {
	const use = 1 // NTF_USE, linux/neighbour.h: look for it now
	ask := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET, Flags: use, IP: gate.AsSlice()}
	for n := range gatePolls {
		known, err := netlink.NeighList(link.Attrs().Index, unix.AF_INET)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		if slices.ContainsFunc(known, func(n netlink.Neigh) bool { return n.IP.Equal(ask.IP) && n.State&netlink.NUD_REACHABLE != 0 }) {
			return nil
		}
		if n%gateAskEvery == 0 {
			if err := netlink.NeighDel(ask); err != nil && !errors.Is(err, unix.ENOENT) { // or it would wait on
				return fmt.Errorf("look for the wall's end anew: %w", err)
			}
			if err := netlink.NeighSet(ask); err != nil {
				return fmt.Errorf("look for the wall's end: %w", err)
			}
		}
		time.Sleep(gatePause)
	}
	return errors.New("the wall's end of the plug does not answer")
}

// setDefaultRoute sends everything to gate, unless that is so already. An invalid
// gate is passed over.
func setDefaultRoute(link netlink.Link, gate netip.Addr) error {
	if !gate.IsValid() {
		return nil
	}
	family := unix.AF_INET
	if gate.Is6() {
		family = unix.AF_INET6
	}
	routes, err := netlink.RouteList(link, family)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	if slices.ContainsFunc(routes, func(r netlink.Route) bool { return isDefault(r) && r.Gw.Equal(gate.AsSlice()) }) {
		return nil
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gate.AsSlice()}); err != nil {
		return fmt.Errorf("set the default route via %s: %w", gate, err)
	}
	return nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
