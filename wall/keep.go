package wall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// keeper keeps the wall's namespace as it must be: its rules, the routing of what
// they mark, and no interface but lo and the plugs. What somebody else changed is
// put right at once. In the moment until then nothing can leave either: that there
// is no uplink and no forwarding depends on no rule, and a packet that no rule
// marks gets no further than the gate's own address, where the same listeners are.
// What cannot be put right ends the wall, and the launcher makes a new one.
type keeper struct {
	packets *packetQueue
	ipv6    bool
	nft     *nftables.Conn

	changing sync.Mutex // one change of the rules at a time

	ledger  *ledger
	stop    context.CancelFunc // ends the watches
	rules   <-chan struct{}    // somebody else has changed some
	network <-chan struct{}    // links, routes, their rules or sysctls have changed
}

// newKeeper makes the namespace as it must be. Its watches end with ctx.
func newKeeper(ctx context.Context, packets *packetQueue, ipv6 bool) (*keeper, error) {
	k := &keeper{packets: packets, ipv6: ipv6}
	ctx, k.stop = context.WithCancel(ctx)
	var err error
	if k.nft, err = nftables.New(nftables.AsLasting()); err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	own, err := k.nft.GetPortID() // by which the kernel tells who made a change
	if err != nil {
		return nil, fmt.Errorf("look for our nf_tables socket: %w", err)
	}
	if k.rules, err = watch(ctx, unix.NETLINK_NETFILTER, changesOfOthers(own), unix.NFNLGRP_NFTABLES); err != nil {
		return nil, err
	}
	if k.network, err = watch(ctx, unix.NETLINK_ROUTE, anyMessage, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF); err != nil {
		return nil, err
	}
	if _, err := routeMarked(ipv6); err != nil {
		return nil, err
	}
	counts, err := applyRules(k.nft)
	if err != nil {
		return nil, err
	}
	k.ledger, err = newLedger(counts)
	return k, err
}

// run puts right what changes, and compares counters and packets, until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	defer k.close()
	for {
		err := errUnseen
		select {
		case _, open := <-k.rules:
			if open {
				err = k.restoreRules()
			}
		case _, open := <-k.network:
			if open {
				err = k.restoreNetwork()
			}
		case <-tick.C:
			if err = k.ledger.step(k.packets); errors.Is(err, unix.ENOENT) { // its table is gone
				err = k.restoreRules()
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (k *keeper) close() {
	k.stop()
	await(k.rules)
	await(k.network)
	k.nft.CloseLasting()
	k.ledger.close()
}

// restoreRules replaces all tables. The counters begin anew.
func (k *keeper) restoreRules() error {
	k.changing.Lock()
	defer k.changing.Unlock()
	return k.putRules()
}

// putRules is the same; k.changing is held.
func (k *keeper) putRules() error {
	k.packets.restart() // before the new table can have counted anything
	counts, err := applyRules(k.nft)
	if err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		if isPlug(link) {
			if err := cover(k.nft, link.Attrs().Name); err != nil && !errors.Is(err, unix.ENOENT) { // gone again: that is told
				return err
			}
		}
	}
	k.ledger.restart(counts)
	k.packets.restored(wire.Rules)
	return nil
}

// restoreNetwork fails if a sysctl has changed: the wall cannot write any.
func (k *keeper) restoreNetwork() error {
	if _, err := checkSysctls(Sysctls(HasIPv6())); err != nil {
		return err
	}
	deleted, err := removeForeign()
	if deleted {
		k.packets.restored(wire.Interface)
	}
	if err == nil {
		var changed bool
		if changed, err = routeMarked(k.ipv6); changed {
			k.packets.restored(wire.Routing)
		}
	}
	if errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.ENETDOWN) {
		return nil // it changed again meanwhile: that is told as well
	}
	return err
}

// removeForeign deletes the interfaces that are neither lo nor a plug.
func removeForeign() (deleted bool, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if name == "lo" || isFallback(link) || isPlug(link) {
			continue
		}
		deleted = true
		if del := netlink.LinkDel(link); del != nil && !errors.Is(del, unix.ENODEV) { // with its peer, perhaps
			err = errors.Join(err, fmt.Errorf("delete the interface %q, which is not the wall's: %w", name, del))
		}
	}
	return deleted, err
}

func isPlug(link netlink.Link) bool {
	id, plug := strings.CutPrefix(link.Attrs().Name, interfaceName(""))
	return plug && wire.ValidSandbox(id)
}
