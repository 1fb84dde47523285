package origin

import (
	"net/netip"
	"testing"
)

func TestFind(t *testing.T) {
	w := newWorld(t)
	_, four := w.listen(t, "127.0.0.1:0")
	_, six := w.listen(t, "[::1]:0")
	udp4, udp6 := "127.0.0.1:9", "[::1]:9"
	rows := []struct {
		name, way, proto string
		depth            int
		to, from         string
	}{
		{"a child", "plain", "tcp", 2, four.String(), ""},
		{"the first process", "plain", "tcp", 0, four.String(), ""},
		{"deep", "plain", "tcp", 5, four.String(), ""},
		{"IPv6", "plain", "tcp", 1, six.String(), ""},
		{"IPv4 from a socket of IPv6", "plain", "tcp", 1, four.String(), "[::]:0"},
		{"after exec", "exec", "tcp", 1, four.String(), ""},
		{"a thread with descriptors of its own", "thread", "tcp", 1, four.String(), ""},
		{"whose first thread ended", "leader", "tcp", 1, four.String(), ""},
		{"in a namespace of its own", "namespace", "tcp", 1, four.String(), ""},
		{"UDP", "plain", "udp", 1, udp4, ""},
		{"UDP bound to an address", "plain", "udp", 1, udp4, "127.0.0.1:0"},
		{"UDP from a socket of IPv6", "plain", "udp", 1, udp4, "[::]:0"},
		{"UDP over IPv6", "plain", "udp", 1, udp6, ""},
		{"connected UDP", "plain", "connected", 1, udp4, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			args := []string{row.way, row.proto, row.to}
			if row.from != "" {
				args = append(args, row.from)
			}
			_, did := w.agent(t, testUID, row.depth, args...)
			q := question{Proto: "udp", Src: did.Src, Dst: netip.MustParseAddrPort(row.to)}
			if row.proto == "tcp" {
				q.Proto = "tcp"
			}
			for range 3 { // also of what it remembers
				wantFound(t, w.gateway.ask(t, q), did)
			}
		})
	}
}
