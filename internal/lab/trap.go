package lab

import (
	"fmt"
	"net"
	"testing"
)

// Trap listens on a host for what must not come: TCP connections and UDP
// datagrams to these ports of any of its addresses, until the test ends. The
// function that it returns says how many came.
func (h *Host) Trap(t testing.TB, ports ...int) (caught func() int) {
	t.Helper()
	s := &servers{asked: make(map[string]int), conns: make(map[net.Conn]struct{})}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	for _, number := range ports {
		l, err := h.Listen("tcp", fmt.Sprintf("[::]:%d", number))
		if err != nil {
			t.Fatal(err)
		}
		s.accept(l, "trap", func(net.Conn) {})
		if err := s.packets(h, fmt.Sprintf("[::]:%d", number), "trap"); err != nil {
			t.Fatal(err)
		}
	}
	return func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.asked["trap"] + s.asked["udp trap"]
	}
}
