package sandbox

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/sallyport/sallyport/audit"
)

// What the record says of a refused packet is what another reader of headers
// finds in it.
func FuzzParseHeader(f *testing.F) {
	for _, data := range [][]byte{
		with(v4, "06", "03e8 01bb 01020304"), with(v4, "11", "03e8 0035"), with(v4, "01", "0800"), with(v4, "2f", "0000 0800"),
		with(v6, "00", "1100 000000000000 03e8 0035"), with(v6, "2c", "1100 0001 00000001 03e8 0035"), with(v6, "3a", "8000"),
		with(v6, "2b", "2c01 0000000000000000000000000000 0600 0000 00000001 03e8 01bb 01020304"), with(v6, "84", "03e8 0035")[:41],
		append([]byte{0x4f}, with(v4, "11", "01010101")[1:]...),
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ok := parseHeader(data)
		if ok != h.dst.IsValid() || ok != h.src.IsValid() {
			t.Fatalf("ok %v with %+v", ok, h)
		}
		if want, is := slowHeader(data); is != ok || want != h {
			t.Fatalf("%x is read as %+v, %v; another reader has %+v, %v", data, h, ok, want, is)
		}
		e := packetEvent(somebody("x"), flowKey{"x", "other", h}, epoch, 1)
		if e.Verdict != "denied" || e.Proto == "" {
			t.Fatalf("event %+v", e)
		}
		if _, err := audit.Encode(e); err != nil {
			t.Errorf("event %+v: %v", e, err)
		}
	})
}

// A frame is never read beyond its end, and what is said of it can be recorded.
func FuzzParseFrame(f *testing.F) {
	question := unhex("0001 0800 06 04 0001 020000000077 0ad50000 000000000000 0ad50001")
	for _, data := range [][]byte{question, question[:27], append(unhex("0001 86dd"), question[4:]...), nil} {
		f.Add(uint16(etherARP), data)
		f.Add(uint16(0x88b5), data)
	}
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		h := parseFrame(kind, data)
		arp := kind == etherARP && len(data) >= 28 && string(data[:6]) == string(question[:6])
		if h.dst.IsValid() != arp || h.src.IsValid() != arp || arp && string(h.dst.AsSlice()) != string(data[24:28]) {
			t.Fatalf("%04x %x is read as %+v", kind, data, h)
		}
		e := packetEvent(somebody("x"), flowKey{"x", ruleFrame, h}, epoch, 1)
		if e.Verdict != "denied" || (e.Proto == "arp") != (kind == etherARP) || e.Rule != "frame" || (e.Dst != "") != arp {
			t.Fatalf("event %+v", e)
		}
		if _, err := audit.Encode(e); err != nil {
			t.Errorf("event %+v: %v", e, err)
		}
	})
}

// slowHeader reads the same with x/net's parsers; what follows a fragment's first
// piece, or more than eight extension headers, it leaves alone too.
func slowHeader(data []byte) (h header, ok bool) {
	if len(data) == 0 {
		return h, false
	}
	switch data[0] >> 4 {
	case 4:
		if len(data) < 20 || data[0]&0xf < 5 {
			return h, false
		}
		whole := slices.Clone(data) // x/net wants all options to be there
		whole = append(whole, make([]byte, max(0, int(data[0]&0xf)*4-len(data)))...)
		p, err := ipv4.ParseHeader(whole)
		if err != nil {
			return h, false
		}
		h.proto, h.src, h.dst = uint8(p.Protocol), netip.AddrFrom4([4]byte(p.Src.To4())), netip.AddrFrom4([4]byte(p.Dst.To4()))
		if p.FragOff == 0 && p.Len < len(data) {
			slowTransport(&h, data[p.Len:])
		}
		return h, true
	case 6:
		p, err := ipv6.ParseHeader(data)
		if err != nil {
			return h, false
		}
		h.proto, h.src, h.dst = uint8(p.NextHeader), netip.AddrFrom16([16]byte(p.Src)), netip.AddrFrom16([16]byte(p.Dst))
		slowExtensions(&h, data[40:], 8)
		return h, true
	}
	return h, false
}

func slowExtensions(h *header, rest []byte, most int) {
	if !slices.Contains([]uint8{0, 43, 44, 60}, h.proto) {
		if most > 0 {
			slowTransport(h, rest)
		}
		return
	}
	switch {
	case most == 0, len(rest) < 2, h.proto != 44 && len(rest) < 8*(1+int(rest[1])), h.proto == 44 && len(rest) < 8,
		h.proto == 44 && binary.BigEndian.Uint16(rest[2:])>>3 != 0:
		return
	}
	length := 8
	if h.proto != 44 {
		length = 8 * (1 + int(rest[1]))
	}
	h.proto = rest[0]
	slowExtensions(h, rest[length:], most-1)
}

func slowTransport(h *header, data []byte) {
	word := func(at int) uint16 { return binary.BigEndian.Uint16(data[at:]) }
	switch h.proto {
	case 6, 17, 33, 132, 136:
		if len(data) >= 4 {
			h.sport, h.dport = word(0), word(2)
		}
		if h.proto == 6 && len(data) >= 8 {
			h.sequence = uint32(word(4))<<16 | uint32(word(6))
		}
	case 1, 58:
		if len(data) >= 2 {
			h.dport = word(0)
		}
	}
}
