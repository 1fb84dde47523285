package dnsblock

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/sallyport/sallyport/audit"
)

// book is an audit record in memory.
type book struct {
	mu      sync.Mutex
	events  []audit.Event
	batches []int // how large those of recordAll were
	broken  bool
	added   chan struct{} // one for each event; nil: nobody waits
}

func (b *book) record(e audit.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return errors.New("disk full")
	}
	b.events = append(b.events, e)
	if b.added != nil {
		b.added <- struct{}{}
	}
	return nil
}

func (b *book) all() []audit.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]audit.Event(nil), b.events...)
}

func newServer() (*Server, *book) {
	b := new(book)
	return &Server{Subject: audit.Subject{Sandbox: "s1"}, Record: b.record, Log: slog.New(slog.DiscardHandler)}, b
}

var testPeer = peer{proto: "udp", src: netip.MustParseAddrPort("10.213.0.1:40000"), dst: netip.MustParseAddrPort("203.0.113.53:53")}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer %x: %v", b, err)
	}
	return m
}

func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype)
}

func withEDNS(m *dns.Msg) *dns.Msg {
	return m.SetEdns0(4096, true)
}

// extended returns the answer's extended error, nil if it has none.
func extended(m *dns.Msg) *dns.EDNS0_EDE {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			return e
		}
	}
	return nil
}
