package wall

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tproxyPort = 15001 // the TCP listeners' port, one listener per interface
	dnsPort    = 53    // an answer must leave from the socket bound to port 53
	delivered  = 1     // mark of packets for our listeners; policy routing delivers them here
)

// The NFLOG groups. A flood in one cannot crowd out what another logs; strays share
// that of SYNs, and are told in the order in which both came.
const (
	groupFirst = 7 + iota // the first packet of each destination
	groupSYN              // first segments of connections that went to a listener, and stray segments
	groupRest
	groupEnd
)

// What refused a packet, as the rules mark it while it is counted and logged.
const (
	ruleSpoof    = 2 + iota // a source address that is not the interface's
	rulePort                // TCP to the port of the listeners themselves
	ruleSYN                 // nothing: a connection begins; the gateway tells which never come to be
	ruleClosed              // a SYN while no gateway listens
	ruleStray               // a TCP segment of no connection
	ruleFragment            // a piece of a datagram: nothing is put together here
	ruleOptions             // IP options or extension headers before TCP or UDP
	ruleAddress             // DNS to an address that the kernel delivers nothing to
	ruleOther               // every other protocol, and UDP but for port 53
	ruleFrame               // a frame that is no IP packet to the wall
	ruleMarker              // nothing: the wall's own packet, see packetQueue.compare
)

var ruleNames = map[uint32]string{ruleSpoof: "spoof", rulePort: "port", ruleSYN: "syn", ruleClosed: "closed",
	ruleStray: "stray", ruleFragment: "fragment", ruleOptions: "options", ruleAddress: "address", ruleOther: "other", ruleFrame: "frame"}

// The bounds of the sets.
const (
	maxSeen   = 1 << 16          // destinations remembered; those beyond log to the last group
	seenTime  = 30 * time.Second // how long
	maxCounts = 1 << 20          // a counter for each rule of each interface that there ever was
)

// Of packets like one that was told lately, this many of each interface are told.
// Beyond that only their number is: the kernel could log a hundred times as many,
// and they would take the processor from other sandboxes.
const (
	restRate  = 4000 // a second
	restBurst = queueLength / 2
)

// ICMPv6 types, RFC 2710 and RFC 3810.
const (
	icmpMLDReport  = 131
	icmpMLDDone    = 132
	icmpMLD2Report = 143
)

// TCP flags, RFC 9293 §3.1.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// applyRules replaces all tables, whoever made them, in one transaction.
//
//	table inet wall {
//	  set seen { typeof meta iif . meta mark . meta l4proto . th dport . ip6 daddr; size 65536; timeout 30s; }
//	  set counts { typeof meta iif . meta mark; counter; }
//	  set rates { typeof meta iif; limit; }
//	  chain fragments { type filter hook prerouting priority -450;    # before the kernel puts them together
//	    ip frag-off & 0x3fff != 0 counter meta mark set fragment goto refuse
//	    exthdr frag exists counter meta mark set fragment goto refuse
//	  }
//	  chain pre { type filter hook prerouting priority mangle; policy drop;
//	    iifname "lo" udp dport 9 meta mark set marker log first log syn log rest drop
//	    iifname "lo" accept
//	    ip6 daddr ff02::/16 ip6 hoplimit 1 icmpv6 type { mld kinds } counter drop   # the kernel's own, no attempt
//	    fib saddr . iif oif missing counter meta mark set spoof goto refuse
//	    tcp dport 15001 counter meta mark set port goto refuse
//	    meta l4proto { tcp, udp } ip hdrlength != 5 counter meta mark set options goto refuse
//	    meta l4proto { tcp, udp } ip6 nexthdr != meta l4proto counter meta mark set options goto refuse
//	    meta l4proto tcp socket transparent 1 meta mark set delivered accept
//	    tcp flags & (fin|syn|rst|ack) == syn counter tproxy to :15001 meta mark set syn goto refuse
//	    tcp flags & (fin|syn|rst|ack) == syn counter meta mark set closed goto refuse
//	    udp dport 53 ip daddr { 127.0.0.0/8, 224.0.0.0/4 } counter meta mark set address goto refuse   # ip6: ff00::/8
//	    udp dport 53 counter tproxy to :53 meta mark set delivered accept
//	    meta l4proto tcp counter meta mark set stray goto refuse
//	    counter meta mark set other goto refuse
//	  }
//	  chain refuse {
//	    update @counts { meta iif . meta mark counter }
//	    meta mark syn log syn goto end
//	    # and the same for IPv6, and for protocols without ports; strays here and below: log syn, behind the segments before them
//	    meta iif . meta mark . meta l4proto . th dport . ip daddr != @seen add @seen { that } log first goto end
//	    update @rates { meta iif limit rate over 4000/second burst 16384 } goto end
//	    log rest goto end
//	  }
//	  chain end {
//	    meta mark syn meta mark set delivered accept
//	    meta mark { spoof, fragment } drop
//	    meta l4proto tcp reject with tcp reset
//	    reject with icmpx admin-prohibited
//	  }
//	  chain forward { type filter hook forward priority filter; policy drop; }
//	}
//
// There is no route out of the namespace: a bug in here can cost a record, not a
// leak. It returns the sets that count packets by interface and rule. The plugs are
// to be covered then: see addFrameTable.
func applyRules(c *nftables.Conn) (counters []*nftables.Set, err error) {
	c.FlushRuleset()
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "wall"})
	counts := countsOf(table)
	seen := &nftables.Set{Table: table, Name: "seen", Dynamic: true, Concatenation: true, Size: maxSeen,
		HasTimeout: true, Timeout: seenTime, KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex,
			nftables.TypeMark, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIP6Addr)}
	rates := &nftables.Set{Table: table, Name: "rates", Dynamic: true, Size: maxCounts, KeyType: nftables.TypeIFIndex}
	if err := errors.Join(c.AddSet(counts, nil), c.AddSet(seen, nil), c.AddSet(rates, nil)); err != nil {
		return nil, rulesError(err)
	}
	for _, chain := range []struct {
		name     string
		hook     *nftables.ChainHook // nil: others go to it
		priority *nftables.ChainPriority
		rules    [][]expr.Any
	}{
		{"end", nil, nil, endRules()},
		{"refuse", nil, nil, refuseRules(counts, seen, rates)},
		{"fragments", nftables.ChainHookPrerouting, nftables.ChainPriorityRef(-450), fragmentRules()},
		{"pre", nftables.ChainHookPrerouting, nftables.ChainPriorityMangle, rules()},
		{"forward", nftables.ChainHookForward, nftables.ChainPriorityFilter, nil},
	} {
		added := &nftables.Chain{Name: chain.name, Table: table}
		if chain.hook != nil {
			added.Type, added.Hooknum, added.Priority = nftables.ChainTypeFilter, chain.hook, chain.priority
			policy := nftables.ChainPolicyDrop
			if chain.name == "fragments" {
				policy = nftables.ChainPolicyAccept // of whole packets, to pre
			}
			added.Policy = &policy
		}
		c.AddChain(added)
		for _, exprs := range chain.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: exprs})
		}
	}
	frames, err := addFrameTable(c)
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		return nil, rulesError(err)
	}
	return []*nftables.Set{counts, frames}, nil
}

func countsOf(table *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: table, Name: "counts", Dynamic: true, Concatenation: true, Size: maxCounts,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeMark)}
}

// rulesError names the kernel module whose absence the kernel reports as ENOENT
// or EOPNOTSUPP without saying which.
func rulesError(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this kernel lacks an nf_tables module that the wall needs (%w); hint: "+
			"as root, modprobe nft_tproxy nft_socket nft_fib_inet nft_reject_inet nft_log nft_limit nfnetlink_log; "+
			"kernel options CONFIG_NFT_TPROXY, CONFIG_NFT_SOCKET, CONFIG_NFT_LIMIT, CONFIG_NFT_FIB_INET, CONFIG_NF_TABLES_NETDEV", err)
	}
	return fmt.Errorf("apply the wall's rules: %w", err)
}

var (
	accept = &expr.Verdict{Kind: expr.VerdictAccept}
	drop   = &expr.Verdict{Kind: expr.VerdictDrop}
	end    = &expr.Verdict{Kind: expr.VerdictGoto, Chain: "end"}
)

func rules() [][]expr.Any {
	lo := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname("lo"))}
	rules := [][]expr.Any{
		join(lo, protocol(unix.IPPROTO_UDP), dport(markerPort), setMark(ruleMarker), nflog(groupFirst), nflog(groupSYN), nflog(groupRest), drop),
		join(lo, accept),
	}
	for _, kind := range []byte{icmpMLDReport, icmpMLDDone, icmpMLD2Report} {
		rules = append(rules, join(ipv6HopLimit(1), ipHeader(24, 2), equal([]byte{0xff, 0x02}), icmpv6Type(kind), &expr.Counter{}, drop))
	}
	rules = append(rules, join(&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true},
		equal(binaryutil.NativeEndian.PutUint32(0)), refuse(ruleSpoof)))
	rules = append(rules, join(protocol(unix.IPPROTO_TCP), dport(tproxyPort), refuse(rulePort)))
	return append(append(rules, unusualRules()...),
		join(protocol(unix.IPPROTO_TCP), &expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, equal([]byte{1}), setMark(delivered), accept),
		join(protocol(unix.IPPROTO_TCP), synOnly(), &expr.Counter{}, tproxy(tproxyPort), jump(ruleSYN)),
		join(protocol(unix.IPPROTO_TCP), synOnly(), refuse(ruleClosed)),
		join(protocol(unix.IPPROTO_UDP), dport(dnsPort), &expr.Counter{}, tproxy(dnsPort), setMark(delivered), accept),
		join(protocol(unix.IPPROTO_TCP), refuse(ruleStray)),
		refuse(ruleOther),
	)
}

// unusualRules refuse what the rules would hand to a listener and the kernel then
// drop without a word, as it does with source routes.
func unusualRules() (rules [][]expr.Any) {
	for _, number := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		rules = append(rules,
			join(nfproto(unix.NFPROTO_IPV4), protocol(number), ipHeader(0, 1), masked(0x0f), unequal(5), refuse(ruleOptions)),
			join(nfproto(unix.NFPROTO_IPV6), protocol(number), ipHeader(6, 1), unequal(number), refuse(ruleOptions)))
	}
	dns := join(protocol(unix.IPPROTO_UDP), dport(dnsPort))
	return append(rules,
		join(nfproto(unix.NFPROTO_IPV4), dns, ipHeader(16, 1), equal([]byte{127}), refuse(ruleAddress)),
		join(nfproto(unix.NFPROTO_IPV4), dns, ipHeader(16, 1), masked(0xf0), equal([]byte{224}), refuse(ruleAddress)),
		join(nfproto(unix.NFPROTO_IPV6), dns, ipHeader(24, 1), equal([]byte{0xff}), refuse(ruleAddress)))
}

// fragmentRules refuse what is not whole. The kernel would keep a fragment whose
// rest never comes, and drop it without a word.
func fragmentRules() [][]expr.Any {
	return [][]expr.Any{
		join(nfproto(unix.NFPROTO_IPV4), ipHeader(6, 2), masked(0x3f, 0xff), unequal(0, 0), refuse(ruleFragment)), // more fragments, or an offset
		join(nfproto(unix.NFPROTO_IPV6), &expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Len: 1,
			Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6}, equal([]byte{1}), refuse(ruleFragment)),
	}
}

// refuseRules count and log what is marked. No expression that may fail stands
// before a verdict that matters: whatever happens, the last rule goes to the end.
func refuseRules(counts, seen, rates *nftables.Set) [][]expr.Any {
	const first = unix.NFT_REG32_00 // of a concatenation; the rest follows
	iif, marked := &expr.Meta{Key: expr.MetaKeyIIF, Register: first}, &expr.Meta{Key: expr.MetaKeyMARK, Register: first + 1}
	rules := [][]expr.Any{
		count(counts),
		join(isMarked(ruleSYN), nflog(groupSYN), end),
	}
	zero := func(register, length uint32) expr.Any {
		return &expr.Immediate{Register: register, Data: make([]byte, length)}
	}
	for _, daddr := range []*expr.Payload{
		{DestRegister: first + 4, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		{DestRegister: first + 4, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
	} {
		family := byte(unix.NFPROTO_IPV4)
		if daddr.Len == 16 {
			family = unix.NFPROTO_IPV6
		}
		unseen := func(group uint16) []expr.Any {
			return join(iif, marked, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: first + 2}, zero(first+4, 16), daddr,
				&expr.Lookup{SourceRegister: first, SetName: seen.Name, SetID: seen.ID, Invert: true},
				&expr.Dynset{SrcRegKey: first, SetName: seen.Name, SetID: seen.ID, Operation: unix.NFT_DYNSET_OP_ADD},
				nflog(group), end)
		}
		port := &expr.Payload{DestRegister: first + 3, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
		rules = append(rules,
			join(isMarked(ruleStray), nfproto(family), zero(first+3, 4), port, unseen(groupSYN)),
			join(nfproto(family), protocol(unix.IPPROTO_TCP), zero(first+3, 4), port, unseen(groupFirst)),
			join(nfproto(family), protocol(unix.IPPROTO_UDP), zero(first+3, 4), port, unseen(groupFirst)),
			join(nfproto(family), notProtocol(unix.IPPROTO_TCP), notProtocol(unix.IPPROTO_UDP), zero(first+3, 4), unseen(groupFirst)))
	}
	// One sandbox's flood costs others little more than its packets do.
	beyond := &expr.Limit{Type: expr.LimitTypePkts, Rate: restRate, Burst: restBurst, Unit: expr.LimitTimeSecond, Over: true}
	return append(rules,
		join(iif, &expr.Dynset{SrcRegKey: first, SetName: rates.Name, SetID: rates.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{beyond}}, end),
		join(isMarked(ruleStray), nflog(groupSYN), end),
		join(nflog(groupRest), end))
}

// count counts a packet by interface and mark.
func count(counts *nftables.Set) []expr.Any {
	const first = unix.NFT_REG32_00
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIF, Register: first}, &expr.Meta{Key: expr.MetaKeyMARK, Register: first + 1},
		&expr.Dynset{SrcRegKey: first, SetName: counts.Name, SetID: counts.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{&expr.Counter{}}}}
}

// endRules are what becomes of a packet that was counted and logged.
func endRules() [][]expr.Any {
	return [][]expr.Any{
		join(isMarked(ruleSYN), setMark(delivered), accept),
		join(isMarked(ruleSpoof), drop),
		join(isMarked(ruleFragment), drop),
		join(protocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}),
		{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}},
	}
}

// refuse counts and ends a packet, for the reason that rule is.
func refuse(rule uint32) []expr.Any { return join(&expr.Counter{}, jump(rule)) }

func jump(rule uint32) []expr.Any {
	return join(setMark(rule), &expr.Verdict{Kind: expr.VerdictGoto, Chain: "refuse"})
}

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

func unequal(data ...byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data}
}

func masked(mask ...byte) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// ipHeader loads a part of the IP header, of which version is to be known.
func ipHeader(offset, length uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{number})}
}

func notProtocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, unequal(number)}
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
		masked(tcpFIN | tcpSYN | tcpRST | tcpACK),
		equal([]byte{tcpSYN}),
	}
}

func icmpv6Type(kind byte) []expr.Any {
	return append(protocol(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equal([]byte{kind}))
}

func nfproto(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{family})}
}

func ipv6HopLimit(hops byte) []expr.Any {
	return join(nfproto(unix.NFPROTO_IPV6), ipHeader(7, 1), equal([]byte{hops}))
}

// tproxy hands the packet to the listener of this port that is bound to the
// interface it came in on; without one the rule does not match.
func tproxy(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	}
}

func setMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

func isMarked(mark uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(binaryutil.NativeEndian.PutUint32(mark))}
}

func nflog(group uint16) *expr.Log {
	return &expr.Log{Group: group, Snaplen: snapLen, Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN}
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
