package load

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// sinkhole answers each query with what answer makes of it; nil: it does not.
func sinkhole(t *testing.T, answer func(query []byte) []byte) (address string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := answer(buf[:n]); a != nil {
				_, _ = c.WriteTo(a, from) // the client tells
			}
		}
	})
	t.Cleanup(func() { c.Close(); serving.Wait() })
	return c.LocalAddr().String()
}

func nxdomain(query []byte) []byte {
	query[2] |= 0x80
	query[3] = 3
	return query
}

func TestNames(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	arg := NamesArg{Clients: 2, Window: 16, For: 20 * time.Millisecond, Zone: "run7.example", Server: sinkhole(t, func(q []byte) []byte {
		mu.Lock()
		seen[string(q[12:])]++
		mu.Unlock()
		return nxdomain(q)
	})}
	got, err := names(t.Context(), arg)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if int64(len(seen)) != got.Answered || got.Answered < 32 || got.N > got.Answered || got.Again != 0 || got.NS != int64(arg.For) {
		t.Errorf("%+v of %d names", got, len(seen))
	}
	if seen["\x011\x02c0\x04run7\x07example\x00\x00\x01\x00\x01"] != 1 {
		t.Errorf("asked for %d names, and not for 1.c0.run7.example", len(seen))
	}
}

// Each wrong answer is an error, and none a fast one.
func TestNamesChecks(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(q []byte) []byte
		want   string
	}{
		"another id":       {func(q []byte) []byte { q[0] ^= 1; return nxdomain(q) }, "nobody asked"},
		"no error":         {func(q []byte) []byte { q[2] |= 0x80; return q }, "NXDOMAIN"},
		"SERVFAIL":         {func(q []byte) []byte { q = nxdomain(q); q[3] = 2; return q }, "NXDOMAIN"},
		"not an answer":    {func(q []byte) []byte { q[3] = 3; return q }, "NXDOMAIN"},
		"another question": {func(q []byte) []byte { q = nxdomain(q); q[13]++; return q }, "another question"},
		"no question":      {func(q []byte) []byte { return nxdomain(q)[:12] }, "another question"},
		"twice":            {nil, "nobody asked"},
		"short":            {func(q []byte) []byte { return q[:5] }, "5 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := tt.answer
			if answer == nil {
				first := []byte(nil)
				answer = func(q []byte) []byte {
					if first == nil {
						first = append(first, nxdomain(q)...)
						return first
					}
					return first
				}
			}
			arg := NamesArg{Clients: 1, Window: 4, For: time.Hour, Zone: "x.example", Server: sinkhole(t, answer)}
			if _, err := names(t.Context(), arg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %s", err, tt.want)
			}
		})
	}
}

// What is lost is asked for again, and told.
func TestNamesLost(t *testing.T) {
	n := 0
	arg := NamesArg{Clients: 1, Window: 4, For: time.Millisecond, Zone: "x.example", Server: sinkhole(t, func(q []byte) []byte {
		if n++; n == 2 {
			return nil
		}
		return nxdomain(q)
	})}
	if got, err := names(t.Context(), arg); err != nil || got.Again != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNamesEnd(t *testing.T) {
	if _, err := names(t.Context(), NamesArg{Clients: 1, Window: 3}); err == nil {
		t.Error("a window of 3 was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	arg := NamesArg{Clients: 1, Window: 4, For: time.Hour, Zone: "x.example", Server: sinkhole(t, func(q []byte) []byte {
		cancel()
		return nxdomain(q)
	})}
	if got, err := names(ctx, arg); err != nil || got.Answered < 4 {
		t.Errorf("%+v, %v", got, err)
	}
}
