package names

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

func TestProbesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if seen[p.Name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(p.Name) {
			t.Errorf("name %q", p.Name)
		}
		seen[p.Name] = true
		if p.Why == "" || strings.Contains(p.Why, "\n") || p.Source == "" || p.Try == nil || p.Own == nil || p.Group != probe.DNS {
			t.Errorf("%s is not whole", p.Name)
		}
	}
}

// Against its own control each attempt succeeds, so that a failure elsewhere counts.
func TestEachCanSucceed(t *testing.T) {
	if !inNetns(t) {
		return
	}
	for _, p := range patiently() {
		ctx, cancel := context.WithCancel(t.Context())
		target := probe.Target{Setting: probe.OwnListener, Run: "0badcafe"}
		if err := p.Own(ctx, &target); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if f := p.Try(ctx, target); f.Outcome != verify.Reached {
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
		cancel()
	}
}

// A peer that says its greeting, whatever it is asked, has been reached too.
func TestThePeerIsReached(t *testing.T) {
	if !inNetns(t) {
		return
	}
	greeting := []byte(probe.Greeting)
	target := serving(t, func([]byte) []byte { return greeting }, open.Greet)
	target.Setting, target.Resolver, target.Rebinds = probe.Ordinary, netip.AddrPort{}, nil
	list := patiently()
	for i, f := range tryAll(t, list, target) {
		name := list[i].Name
		if own := strings.HasPrefix(name, "dns-sinkhole") || name == "dns-docker-resolver" || name == "dns-docker-names" || name == "dns-allowed-name"; own != f.Absent || !own && f.Outcome != verify.Reached {
			t.Errorf("%s: %s %s", name, f.Outcome, f.Detail)
		}
	}
}

// serving is a target at all of whose addresses answer and stream serve: datagrams and
// connections.
func serving(t *testing.T, answer func([]byte) []byte, stream func(net.Conn)) probe.Target {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	four, six, err := open.Somewhere(ctx)
	if err != nil {
		t.Fatal(err)
	}
	target := probe.Target{Setting: probe.Sandbox, Run: "0badcafe", Public4: four, Public6: six, Resolver: netip.AddrPortFrom(four, 53), Rebinds: []string{"rebind.example"}}
	addrs := []netip.Addr{four, six}
	for _, last := range []byte{101, 102, 103} {
		addrs = append(addrs, quiet(target, last).Addr())
		if err := open.Address(ctx, quiet(target, last).Addr()); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range addrs {
		if err := open.Datagrams(ctx, netip.AddrPortFrom(addr, 53), answer); err != nil {
			t.Fatal(err)
		}
		for _, port := range []uint16{53, 443, 853} {
			if _, err := open.Listen(ctx, netip.AddrPortFrom(addr, port), stream); err != nil {
				t.Fatal(err)
			}
		}
	}
	return target
}

// framed answers queries over TCP.
func framed(answer func([]byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if n, err := io.ReadFull(c, query); err != nil {
			query = query[:n] // TLS is no DNS
		}
		a := answer(query)
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
	}
}

// reply makes an answer of a code, without the question, and with one record where wanted.
func reply(query []byte, code byte, answers, authorities byte, mark bool) []byte {
	if len(query) < headerSize {
		return nil
	}
	b := []byte{query[0], query[1], query[2] | 0x80, 0x80 | code, 0, 0, 0, answers, 0, authorities, 0, flag(mark)}
	if answers+authorities > 0 {
		b = append(b, 0, 0, typeA, 0, classIN, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9)
	}
	if mark {
		blocked := option(optionError, []byte{0, errorBlocked, 'n', 'o'})
		b = append(b, 0, 0, typeOPT, 4, 208, 0, 0, 0, 0, 0, byte(len(blocked)))
		b = append(b, blocked...)
	}
	return b
}

func TestWhatARefusalIs(t *testing.T) {
	for _, c := range []struct {
		name            string
		answer          func(query []byte) []byte
		marked, without verify.Outcome
	}{
		{"the sinkhole's NXDOMAIN", func(q []byte) []byte { return reply(q, 3, 0, 0, true) }, verify.Blocked, verify.Blocked},
		{"its answer without records", func(q []byte) []byte { return reply(q, 0, 0, 0, true) }, verify.Blocked, verify.Blocked},
		{"a NXDOMAIN of somebody's", func(q []byte) []byte { return reply(q, 3, 0, 0, false) }, verify.Unproven, verify.Blocked},
		{"a format error", func(q []byte) []byte { return reply(q, 1, 0, 0, false) }, verify.Unproven, verify.Blocked},
		{"no records, of somebody's", func(q []byte) []byte { return reply(q, 0, 0, 0, false) }, verify.Unproven, verify.Unproven},
		{"a failure", func(q []byte) []byte { return reply(q, 2, 0, 0, false) }, verify.Unproven, verify.Unproven},
		{"an address", func(q []byte) []byte { return reply(q, 0, 1, 0, false) }, verify.Reached, verify.Reached},
		{"an address with the mark", func(q []byte) []byte { return reply(q, 0, 1, 0, true) }, verify.Reached, verify.Reached},
		{"a referral", func(q []byte) []byte { return reply(q, 3, 0, 1, true) }, verify.Reached, verify.Reached},
		{"the query back", func(q []byte) []byte { return q }, verify.Unproven, verify.Unproven},
		{"another's answer", func(q []byte) []byte { b := reply(q, 3, 0, 0, true); b[0]++; return b }, verify.Unproven, verify.Unproven},
		{"too little", func([]byte) []byte { return []byte("no") }, verify.Unproven, verify.Unproven},
	} {
		query := ask("a.example", typeA).pack()
		for want, outcome := range map[expectation]verify.Outcome{marked: c.marked, unmarked: c.without} {
			if f := judge(c.answer(query), want, probe.Event{Host: "a.example"}); f.Outcome != outcome || (len(f.Events) == 1) != (outcome == verify.Blocked) {
				t.Errorf("%s (%d): %+v", c.name, want, f)
			}
		}
	}
}

// Against a strict resolver every message is refused, but those that are answered and
// should not be.
func TestAgainstAStrictResolver(t *testing.T) {
	if !inNetns(t) {
		return
	}
	strict := func(q []byte) []byte { return reply(q, 3, 0, 0, true) }
	target := serving(t, strict, framed(strict))
	list := patiently()
	for i, f := range tryAll(t, list, target) {
		name := list[i].Name
		want := verify.Blocked
		switch {
		case name == "dns-docker-resolver":
			want = verify.StoppedInside
		case name == "dns-not-dns" || name == "dns-response": // nothing should come
			want = verify.Unproven
			if name == "dns-response" {
				want = verify.Blocked // its mark is on it
			}
		case strings.HasPrefix(name, "dns-over-"): // it is none for TLS
			want = verify.Unproven
		}
		if f.Outcome != want {
			t.Errorf("%s: %s, not %s: %s", name, f.Outcome, want, f.Detail)
		}
		if (len(f.Events) > 0) != (f.Outcome == verify.Blocked) || (f.Errno != "") != (f.Outcome == verify.StoppedInside) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Who says nothing has refused nothing, but where silence is what a refusal is.
func TestSilenceIsNoRefusal(t *testing.T) {
	if !inNetns(t) {
		return
	}
	target := serving(t, func([]byte) []byte { return nil }, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, p := range Probes() {
		if f := p.Try(ctx, target); f.Outcome == verify.Blocked || f.Outcome == verify.Reached || len(f.Events) > 0 {
			t.Errorf("%s: %s %s", p.Name, f.Outcome, f.Detail)
		}
	}
}

func TestNothingToAsk(t *testing.T) {
	for _, p := range Probes() {
		if f := p.Try(t.Context(), probe.Target{Setting: probe.Ordinary}); !f.Absent || f.Outcome != verify.Unproven {
			t.Errorf("%s without a target: %+v", p.Name, f)
		}
	}
}
