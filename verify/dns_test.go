package verify

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// reply makes an answer to query.
func reply(t *testing.T, query []byte, code dnsmessage.RCode, records int, ede bool) []byte {
	t.Helper()
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil {
		t.Error(err)
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RCode: code}, Questions: q.Questions}
	for range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 9}},
		})
	}
	if ede {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(1232, code, false); err != nil {
			t.Error(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 15, Data: []byte{0, 15, 'n', 'o'}}}}}}
	}
	data, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return data
}

func TestDNSVerdicts(t *testing.T) {
	for _, c := range []struct {
		name    string
		code    dnsmessage.RCode
		records int
		ede     bool
		want    Outcome
	}{
		{"the sinkhole's NXDOMAIN", dnsmessage.RCodeNameError, 0, true, Blocked},
		{"the sinkhole's NODATA", dnsmessage.RCodeSuccess, 0, true, Blocked},
		{"a real server's NXDOMAIN", dnsmessage.RCodeNameError, 0, false, Unproven},
		{"a real server's refusal", dnsmessage.RCodeRefused, 0, false, Unproven},
		{"an address", dnsmessage.RCodeSuccess, 1, false, Reached},
		{"an address with our mark", dnsmessage.RCodeSuccess, 1, true, Reached},
	} {
		answer := func(q []byte) []byte { return reply(t, q, c.code, c.records, c.ede) }
		for _, a := range []Attempt{
			{Kind: "dns", Target: "a.example", Via: dnsUDP(t, answer)},
			{Kind: "dns", Target: "a.example", Record: "TXT", Via: dnsTCP(t, answer), TCP: true},
		} {
			if r := Probe(t.Context(), a); r.Outcome != c.want {
				t.Errorf("%s: got %s", c.name, r)
			}
		}
	}
	for name, answer := range map[string]func([]byte) []byte{
		"garbage":        func([]byte) []byte { return []byte("garbage") },
		"another's id":   func(q []byte) []byte { b := reply(t, q, dnsmessage.RCodeNameError, 0, true); b[0]++; return b },
		"the query back": func(q []byte) []byte { return q },
	} {
		if r := Probe(t.Context(), Attempt{Kind: "dns", Target: "a.example", Via: dnsUDP(t, answer)}); r.Outcome != Unproven {
			t.Errorf("%s: got %s", name, r)
		}
	}
}

func dnsUDP(t *testing.T, answer func([]byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(answer(buf[:n]), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

func dnsTCP(t *testing.T, answer func([]byte) []byte) string {
	return serve(t, func(c *net.TCPConn) {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		out := answer(query)
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
	})
}
