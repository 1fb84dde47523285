package wall

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tproxyPort = 15001 // the TCP listeners' port, one listener per interface
	dnsPort    = 53    // an answer must leave from the socket bound to port 53
	nflogGroup = 7
	mark       = 1 // packets for our listeners; policy routing delivers them here
)

// The prefixes of the NFLOG messages: which rule refused.
const (
	ruleSpoof  = "spoof"  // a source address that is not the interface's
	rulePort   = "port"   // TCP to the port of the listeners themselves
	ruleSYN    = "syn"    // none: a connection begins; the gateway tells which never come to be
	ruleClosed = "closed" // a SYN while no gateway listens
	ruleStray  = "stray"  // a TCP segment of no connection
	ruleOther  = "other"  // every other protocol, and UDP but for port 53
)

// ICMPv6 types, RFC 4861 and RFC 3810.
const (
	icmpRouterSolicit   = 133
	icmpNeighborSolicit = 135
	icmpNeighborAdvert  = 136
	icmpMLDReport       = 131
	icmpMLDDone         = 132
	icmpMLD2Report      = 143
)

// TCP flags, RFC 9293 §3.1.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// applyRules replaces the whole table in one transaction.
//
//	table inet wall {
//	  chain pre { type filter hook prerouting priority mangle; policy drop;
//	    iifname "lo" accept
//	    ip6 hoplimit 255 icmpv6 type { neighbour solicitation, advertisement } accept
//	    icmpv6 type { router solicitation, mld kinds } counter drop     # the kernel's own, no attempt
//	    fib saddr . iif oif missing counter log "spoof" drop
//	    tcp dport 15001 counter log "port" reject with tcp reset
//	    meta l4proto tcp socket transparent 1 meta mark set 1 accept
//	    tcp flags & (fin|syn|rst|ack) == syn counter tproxy to :15001 log "syn" meta mark set 1 accept
//	    tcp flags & (fin|syn|rst|ack) == syn counter log "closed" reject with tcp reset
//	    udp dport 53 counter tproxy to :53 meta mark set 1 accept
//	    meta l4proto tcp counter log "stray" reject with tcp reset
//	    counter log "other" reject with icmpx admin-prohibited
//	  }
//	  chain forward { type filter hook forward priority filter; policy drop; }
//	}
//
// There is no route out of the namespace: a bug in here can cost a record, not a
// leak.
func applyRules() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "wall"}
	c.AddTable(table) // so that the deletion does not fail the first time
	c.DelTable(table)
	c.AddTable(table)
	drop := nftables.ChainPolicyDrop
	pre := c.AddChain(&nftables.Chain{Name: "pre", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &drop})
	c.AddChain(&nftables.Chain{Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	for _, exprs := range rules() {
		c.AddRule(&nftables.Rule{Table: table, Chain: pre, Exprs: exprs})
	}
	if err := c.Flush(); err != nil {
		return rulesError(err)
	}
	return nil
}

// rulesError names the kernel module whose absence the kernel reports as ENOENT
// or EOPNOTSUPP without saying which.
func rulesError(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this kernel lacks an nf_tables module that the wall needs (%w); hint: "+
			"as root, modprobe nft_tproxy nft_socket nft_fib_inet nft_reject_inet nft_log nfnetlink_log; "+
			"kernel options CONFIG_NFT_TPROXY, CONFIG_NFT_SOCKET, CONFIG_NFT_FIB_INET", err)
	}
	return fmt.Errorf("apply the wall's rules: %w", err)
}

func rules() [][]expr.Any {
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	tcpReset := &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}
	prohibited := &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}
	rules := [][]expr.Any{
		{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname("lo")), accept},
	}
	for _, kind := range []byte{icmpNeighborSolicit, icmpNeighborAdvert} {
		rules = append(rules, join(ipv6HopLimit255(), icmpv6Type(kind), accept))
	}
	for _, kind := range []byte{icmpRouterSolicit, icmpMLDReport, icmpMLDDone, icmpMLD2Report} {
		rules = append(rules, join(icmpv6Type(kind), &expr.Counter{}, drop))
	}
	return append(rules,
		[]expr.Any{&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
			equal(binaryutil.NativeEndian.PutUint32(0)), &expr.Counter{}, nflog(ruleSpoof), drop},
		join(protocol(unix.IPPROTO_TCP), dport(tproxyPort), &expr.Counter{}, nflog(rulePort), tcpReset),
		join(protocol(unix.IPPROTO_TCP), &expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, equal([]byte{1}), setMark(), accept),
		join(protocol(unix.IPPROTO_TCP), synOnly(), &expr.Counter{}, tproxy(tproxyPort), nflog(ruleSYN), setMark(), accept),
		join(protocol(unix.IPPROTO_TCP), synOnly(), &expr.Counter{}, nflog(ruleClosed), tcpReset),
		join(protocol(unix.IPPROTO_UDP), dport(dnsPort), &expr.Counter{}, tproxy(dnsPort), setMark(), accept),
		join(protocol(unix.IPPROTO_TCP), &expr.Counter{}, nflog(ruleStray), tcpReset),
		[]expr.Any{&expr.Counter{}, nflog(ruleOther), prohibited},
	)
}

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{number})}
}

// dport matches the destination port, which stands at the same place in TCP and UDP.
func dport(port uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(port))}
}

// synOnly matches the first segment of a connection: SYN without FIN, RST, ACK.
func synOnly() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpFIN | tcpSYN | tcpRST | tcpACK}, Xor: []byte{0}},
		equal([]byte{tcpSYN}),
	}
}

func icmpv6Type(kind byte) []expr.Any {
	return append(protocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equal([]byte{kind}))
}

func ipv6HopLimit255() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{unix.NFPROTO_IPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 7, Len: 1}, equal([]byte{255}),
	}
}

// tproxy hands the packet to the listener of this port that is bound to the
// interface it came in on; without one the rule does not match.
func tproxy(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	}
}

func setMark() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

func nflog(rule string) *expr.Log {
	return &expr.Log{Group: nflogGroup, Snaplen: snapLen, Data: []byte(rule),
		Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_PREFIX}
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// join strings expressions and groups of them together into one rule.
func join(parts ...any) []expr.Any {
	var rule []expr.Any
	for _, part := range parts {
		switch part := part.(type) {
		case []expr.Any:
			rule = append(rule, part...)
		case expr.Any:
			rule = append(rule, part)
		}
	}
	return rule
}
