package dnsblock

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
)

func FuzzHandle(f *testing.F) {
	f.Add(wire("api", "example", "com"))
	f.Add(wire("\x00\xff.", "example"))
	f.Add(pack(f, withEDNS(question("x.example.", dns.TypeHTTPS))))
	f.Add(pack(f, new(dns.Msg).SetUpdate("x.example.")))
	f.Add(pack(f, new(dns.Msg).SetAxfr("x.example.")))
	f.Add([]byte{1, 2, 3})
	f.Add(append(wire("x"), 0xc0, 12, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > maxDatagram {
			return
		}
		s, b := newServer()
		before := bytes.Clone(message)
		answer := s.handle(message, testPeer)
		if !bytes.Equal(message, before) {
			t.Error("the message was changed")
		}
		events := b.all()
		if len(events) != 1 || events[0].Verdict != "denied" || len(events[0].Host) > 1020 || len(events[0].Reason) > 100 {
			t.Errorf("events %+v", events)
		}
		silent := len(message) < headerSize || message[2]&0x80 != 0
		if silent != (answer == nil) {
			t.Fatalf("answer %x", answer)
		}
		if silent {
			return
		}
		m := unpack(t, answer)
		if !m.Response || !bytes.Equal(answer[:2], message[:2]) || len(answer) > 512 || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("answer %x\n%v", answer, m)
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	s, _ := newServer()
	s.Record = func(audit.Event) error { return nil }
	query := pack(b, withEDNS(question("api.example.com.", dns.TypeA)))
	for b.Loop() {
		s.handle(query, testPeer)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}

func FuzzAsked(f *testing.F) {
	f.Add(unix.PktInfo4(&unix.Inet4Pktinfo{}))
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 53, 203, 0, 113, 53, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, control []byte) {
		if server := asked(control); server.IsValid() != (from(server) != nil) {
			t.Errorf("server %v", server)
		}
	})
}
