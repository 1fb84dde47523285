package wall

import (
	"errors"
	"fmt"
	"iter"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var frameTable = &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "wall"}

// addFrameTable adds what counts and logs frames that are no IP packets to us, of
// which the rules for packets never hear. The chain of each plug is added by cover.
//
//	table netdev wall {
//	  set counts { typeof meta iif . meta mark; counter; }
//	  set seen { typeof meta iif . meta protocol; size 65536; timeout 30s; }
//	  chain sp0123456789ab { type filter hook ingress device sp0123456789ab priority filter; policy drop;
//	    meta pkttype != other ether type { ip, ip6 } accept    # a VLAN's tag is a type of its own
//	    ether saddr { the plug's } ether type arp meta length 28 @nh,0,224 { its kernel asks for us } accept
//	    counter meta mark set frame goto refuse
//	  }
//	  chain refuse {
//	    update @counts { meta iif . meta mark counter }
//	    meta iif . meta protocol != @seen add @seen { that } log first drop
//	    log rest drop
//	  }
//	}
func addFrameTable(c *nftables.Conn) (counts *nftables.Set, err error) {
	const first = unix.NFT_REG32_00
	c.AddTable(frameTable)
	counts = countsOf(frameTable)
	seen := &nftables.Set{Table: frameTable, Name: "seen", Dynamic: true, Concatenation: true, Size: maxSeen,
		HasTimeout: true, Timeout: seenTime, KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeEtherType)}
	if err := errors.Join(c.AddSet(counts, nil), c.AddSet(seen, nil)); err != nil {
		return nil, err
	}
	refuse := c.AddChain(&nftables.Chain{Name: "refuse", Table: frameTable})
	for _, rule := range [][]expr.Any{
		count(counts),
		{&expr.Meta{Key: expr.MetaKeyIIF, Register: first}, &expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: first + 1},
			&expr.Lookup{SourceRegister: first, SetName: seen.Name, SetID: seen.ID, Invert: true},
			&expr.Dynset{SrcRegKey: first, SetName: seen.Name, SetID: seen.ID, Operation: unix.NFT_DYNSET_OP_ADD},
			nflog(groupFirst), drop},
		{nflog(groupRest), drop},
	} {
		c.AddRule(&nftables.Rule{Table: frameTable, Chain: refuse, Exprs: rule})
	}
	return counts, nil
}

// cover has every frame looked at that comes in by a plug. One that is gone
// meanwhile needs it no more.
func cover(c *nftables.Conn, name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", name, err)
	}
	addrs, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	policy := nftables.ChainPolicyDrop
	chain := c.AddChain(&nftables.Chain{Name: name, Table: frameTable, Type: nftables.ChainTypeFilter, Device: name,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	c.FlushChain(chain)
	for _, rule := range frameRules(addrs) {
		c.AddRule(&nftables.Rule{Table: frameTable, Chain: chain, Exprs: rule})
	}
	if err = c.Flush(); err == nil {
		return nil
	}
	if _, gone := netlink.LinkByName(name); gone != nil {
		return nil
	}
	return rulesError(err)
}

// frameRules are those of a plug whose end here has addrs. A sandbox's kernel asks
// for that address while it is plugged: see awaitGate. What is like that to the
// byte goes unrecorded at any time.
func frameRules(addrs []netlink.Addr) (rules [][]expr.Any) {
	const otherHost = 3 // PACKET_OTHERHOST, linux/if_packet.h
	for _, kind := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} {
		rules = append(rules, join(&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1}, unequal(otherHost),
			frame(12, binaryutil.BigEndian.PutUint16(kind)), accept))
	}
	for _, addr := range addrs {
		gate := addr.IP.To4()
		question := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, plugMAC...) // RFC 826
		question = append(append(question, gate[0], gate[1], gate[2], gate[3]-1), 0, 0, 0, 0, 0, 0)
		question = append(question, gate...)
		rules = append(rules, join(frame(6, append(append([]byte(nil), plugMAC...), 8, 6)), &expr.Meta{Key: expr.MetaKeyLEN, Register: 1},
			equal(binaryutil.NativeEndian.PutUint32(uint32(len(question)))),
			ipHeader(0, 16), equal(question[:16]), ipHeader(16, 12), equal(question[16:]), accept))
	}
	return append(rules, refuse(ruleFrame))
}

// frame matches a part of the Ethernet header.
func frame(offset uint32, want []byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: uint32(len(want))}, equal(want)}
}

// anyFamily has go-nflog read messages of the family netdev: it takes none for one
// that it does not know (v2.2.0, checkHeader), but those of bridge.
type anyFamily struct{ *mdlayher.Conn }

func (f anyFamily) Send(m mdlayher.Message) error {
	_, err := f.Conn.Send(m)
	return err
}

func (f anyFamily) SendMessages(m []mdlayher.Message) error {
	_, err := f.Conn.SendMessages(m)
	return err
}

// ReceiveIter waits for messages.
func (f anyFamily) ReceiveIter() iter.Seq2[mdlayher.Message, error] {
	return func(yield func(mdlayher.Message, error) bool) {
		for m, err := range f.Conn.ReceiveIter() {
			if m.Header.Type>>8 == unix.NFNL_SUBSYS_ULOG && len(m.Data) > 0 && m.Data[0] == unix.NFPROTO_NETDEV {
				m.Data[0] = unix.NFPROTO_BRIDGE
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// plugged covers a plug. Where its table is gone, all is put back.
func (k *keeper) plugged(sandbox string) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	err := cover(k.nft, interfaceName(sandbox))
	if errors.Is(err, unix.ENOENT) {
		return k.putRules()
	}
	return err
}

// unplugged removes the chain of a plug, which newer kernels keep.
func (k *keeper) unplugged(sandbox string) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.nft.DelChain(&nftables.Chain{Name: interfaceName(sandbox), Table: frameTable})
	if err := k.nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the rules of a plug: %w", err)
	}
	return nil
}
