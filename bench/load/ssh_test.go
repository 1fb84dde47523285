package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestCall(t *testing.T) {
	for _, c := range []Call{{CallEcho, 0, 0}, {CallSource, 1 << 63, 1 << 40}, {CallSink, 7, 1}} {
		b := c.AppendTo(nil)
		got, err := ReadCall(bytes.NewReader(b))
		if got != c || err != nil || len(b) != CallSize {
			t.Errorf("%v became %v, %v, by way of %d bytes", c, got, err, len(b))
		}
		if _, err := ReadCall(bytes.NewReader(b[:CallSize-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a call that is cut: %v", err)
		}
	}
	if _, err := ReadCall(strings.NewReader(strings.Repeat("x", CallSize))); err == nil {
		t.Error("a call of no kind was taken")
	}
}

func TestPattern(t *testing.T) {
	const n = 3*patternSize + 100
	var sent bytes.Buffer
	if err := NewPattern(1).Send(&sent, n); err != nil || sent.Len() != n {
		t.Fatalf("sent %d bytes, %v", sent.Len(), err)
	}
	right := sent.Bytes()
	if err := NewPattern(1).Take(bytes.NewReader(right), n); err != nil {
		t.Errorf("the right bytes: %v", err)
	}
	for name, wrong := range map[string][]byte{
		"one bit":             flipped(right, n-1),
		"a block left out":    slices.Delete(slices.Clone(right), 64<<10, 96<<10),
		"a block twice":       slices.Insert(slices.Clone(right), 32<<10, right[:32<<10]...),
		"cut":                 right[:n-1],
		"the other direction": bytes.Repeat([]byte{0}, n),
	} {
		if err := NewPattern(1).Take(bytes.NewReader(wrong), n); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := NewPattern(2).Take(bytes.NewReader(right), n); !errors.Is(err, errOther) {
		t.Errorf("another stream's bytes: %v", err)
	}
}

func flipped(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 1
	return b
}

// What comes back wrong, or not at all, is a failure.
func TestWaysThatFail(t *testing.T) {
	answers := map[string]func(c net.Conn){
		"closes": func(net.Conn) {},
		"other bytes": func(c net.Conn) {
			_, _ = ReadCall(c)
			_, _ = c.Write(bytes.Repeat([]byte("x"), 1<<20))
			_, _ = io.Copy(io.Discard, c)
		},
		"too little": func(c net.Conn) {
			call, _ := ReadCall(c)
			if call.Kind == CallSource {
				_ = NewPattern(call.Seed).Send(c, call.Length-1)
				return
			}
			_, _ = io.CopyN(c, c, 100)
		},
	}
	jobs := map[string]func(address string) error{
		"round trips": func(a string) error {
			_, err := roundTrips(t.Context(), WayArg{Address: a, Clients: 2, N: 3})
			return err
		},
		"channels": func(a string) error {
			_, err := newChannels(t.Context(), WayArg{Address: a, Clients: 2, N: 200})
			return err
		},
		"down": func(a string) error {
			_, err := bulk(t.Context(), WayArg{Address: a, Clients: 2, N: 1 << 20})
			return err
		},
		"up": func(a string) error {
			_, err := bulk(t.Context(), WayArg{Address: a, Clients: 2, N: 1 << 20, Up: true})
			return err
		},
	}
	for kind, answer := range answers {
		address := answering(t, answer)
		for name, job := range jobs {
			if kind == "too little" && name == "channels" {
				continue // a byte is all that it asks for
			}
			if err := job(address); err == nil {
				t.Errorf("%s, where the far end %s: no error", name, kind)
			}
		}
	}
	if _, err := roundTrips(t.Context(), WayArg{Address: "127.0.0.1:1"}); err == nil {
		t.Error("no clients: no error")
	}
}

// answering serves f on the loopback until the test ends.
func answering(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// Thousands of connections, one after the other, may not use up a client's ports.
func TestNewChannelsLeaveNoPortWaiting(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close() // before Wait
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if _, err := ReadCall(c); err == nil {
					_, _ = io.Copy(c, c) // until it is reset
				}
			})
		}
	})
	const clients, n = 2, 20
	rate, err := newChannels(t.Context(), WayArg{Address: l.Addr().String(), Clients: clients, N: n})
	if err != nil || rate.N != clients*n {
		t.Fatalf("%d channels: %v", rate.N, err)
	}
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	server := fmt.Sprintf("0100007F:%04X 06", l.Addr().(*net.TCPAddr).Port) // 06 is TIME_WAIT, proc_net_tcp.rst
	if waiting := strings.Count(string(table), server); waiting > 0 {
		t.Errorf("of %d ports %d wait", clients*n, waiting)
	}
}
