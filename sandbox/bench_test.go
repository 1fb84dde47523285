package sandbox

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
)

func BenchmarkParseHeader(b *testing.B) {
	for name, data := range map[string][]byte{"tcp4": with(v4, "06", "03e8 01bb 01020304"), "udp6-behind-options": with(v6, "00", "1100 000000000000 03e8 0035")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := parseHeader(data); !ok {
					b.Fatal("it is not parsed")
				}
			}
		})
	}
}

func TestParseHeaderAllocatesNothing(t *testing.T) {
	for name, data := range map[string][]byte{"IPv4": with(v4, "06", "03e8 01bb 01020304"), "IPv6": with(v6, "00", "1100 000000000000 03e8 0035")} {
		if n := testing.AllocsPerRun(100, func() { parseHeader(data) }); n != 0 {
			t.Errorf("%s: %g allocations", name, n)
		}
	}
}

// aFlood is what the wall tells at once of a flood to one place, from some ports.
func aFlood(ports int) []wire.Packet {
	packets := make([]wire.Packet, 128)
	for i := range packets {
		data := with(v4, "11", "03e8 0035 0008 0000")
		data[21] = byte(i % ports)
		packets[i] = wire.Packet{Time: time.Now().UnixNano(), Sandbox: "0123456789ab", Rule: "other", Data: data}
	}
	return packets
}

func nobody(string) sender { return sender{subject: audit.Subject{Sandbox: "0123456789ab"}} }

func BenchmarkBatch(b *testing.B) {
	for name, ports := range map[string]int{"1-flow": 1, "50-flows": 50} {
		b.Run(name, func(b *testing.B) {
			packets := aFlood(ports)
			b.ReportAllocs()
			for b.Loop() {
				if events := batch(packets, nobody); len(events) != ports {
					b.Fatalf("%d events", len(events))
				}
			}
		})
	}
}

// A packet of a flow that is known already costs nothing but its count.
func TestBatchAllocatesByFlow(t *testing.T) {
	one := testing.AllocsPerRun(20, func() { batch(aFlood(1)[:1], nobody) }) - testing.AllocsPerRun(20, func() { aFlood(1) })
	all := testing.AllocsPerRun(20, func() { batch(aFlood(1), nobody) }) - testing.AllocsPerRun(20, func() { aFlood(1) })
	if all > one {
		t.Errorf("%g allocations for 128 packets of a flow, %g for one", all, one)
	}
}

func BenchmarkHalfOpen(b *testing.B) {
	o := newHalfOpen()
	packets := aFlood(128)
	for i := range packets {
		packets[i].Data[9] = protoTCP
		packets[i].Rule = ruleSYN
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range packets {
			o.begin(p, now)
		}
		o.overdue(now.Add(time.Hour))
	}
}
