package proxy

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// exchanged is what both ends of a tunnel got, and its event.
type exchanged struct {
	toOrigin, toClient []byte
	event              audit.Event
}

// throughTunnel has client and origin send parts, each of them whole before the next,
// and end. The origin ends first or last.
func throughTunnel(t *testing.T, f *Forward, l *ledger, up, down [][]byte) (got exchanged) {
	t.Helper()
	received := make(chan []byte, 1)
	addr := origin(t, func(c *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, part := range down {
				_, _ = c.Write(part)
			}
			_ = c.CloseWrite()
		})
		b, _ := io.ReadAll(c)
		wg.Wait()
		received <- b
	})
	f.Dial = dialTo(addr)
	c := connect(t, start(t, f))
	c.send(connectLine("ok.example:8443"))
	c.response("CONNECT")
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, part := range up {
			_, _ = c.Write(part)
		}
		_ = c.CloseWrite()
	})
	s, err := c.rest()
	if err != nil {
		t.Error(err)
	}
	wg.Wait()
	got.toClient, got.toOrigin, got.event = []byte(s), <-received, l.next(t)
	return got
}

// Parts of any size pass a tunnel, and are counted, as if io.Copy copied them: those
// of a byte as well as those that are spliced.
func TestPumpCopiesAsIOCopy(t *testing.T) {
	source := rand.NewChaCha8([32]byte{1})
	random := rand.New(source)
	parts := func() (all [][]byte) {
		for range 1 + random.IntN(6) {
			size := []int{1, 100, pumpBuffer - 1, pumpBuffer, pumpBuffer + 1, pumpChunk + 1, 1<<20 + 7}[random.IntN(7)]
			part := make([]byte, size)
			_, _ = source.Read(part) // never fails
			part[0] = 'x'            // no TLS
			all = append(all, part)
		}
		return all
	}
	for range 8 {
		up, down := parts(), parts()
		var both [2]exchanged
		for i, slow := range []bool{false, true} {
			l := newLedger()
			f := forwardTo(t, l, "")
			f.slow = slow
			both[i] = throughTunnel(t, f, l, up, down)
			e := &both[i].event
			e.Src, e.Dst, e.Duration = "", "", 0
		}
		if !bytes.Equal(both[0].toOrigin, bytes.Join(up, nil)) || !bytes.Equal(both[0].toClient, bytes.Join(down, nil)) {
			t.Errorf("%d of %d bytes went up, %d of %d down", len(both[0].toOrigin), len(bytes.Join(up, nil)), len(both[0].toClient), len(bytes.Join(down, nil)))
		}
		if !reflect.DeepEqual(both[0], both[1]) {
			t.Errorf("pumped %+v\ncopied %+v", both[0].event, both[1].event)
		}
	}
}

// wrapped hides a TCP connection as the gateway's connections do.
type wrapped struct{ *net.TCPConn }

func (w wrapped) NetConn() net.Conn { return w.TCPConn }

func TestPumpFindsTheTCPConnection(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	tcp := &net.TCPConn{}
	for conn, want := range map[net.Conn]*net.TCPConn{tcp: tcp, wrapped{tcp}: tcp, &clientConn{Conn: wrapped{tcp}}: tcp, a: nil, &clientConn{Conn: a}: nil} {
		if got := tcpOf(conn); got != want {
			t.Errorf("%T: %p, want %p", conn, got, want)
		}
	}
}

// The bytes that pass keep a tunnel open, spliced or not; what does not pass TLS with
// the granted name is not spliced by.
func TestPumpKeepsTheGateClosed(t *testing.T) {
	l := newLedger()
	got := make(chan []byte, 1)
	f := forwardTo(t, l, origin(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		got <- b
	}))
	c := connect(t, start(t, f))
	c.send(connectLine("ok.example:443"))
	c.response("CONNECT")
	_, _ = c.Write(append(clientHello(t, "evil.example"), make([]byte, 4<<20)...))
	_, _ = c.rest()
	if b := <-got; len(b) > 0 {
		t.Errorf("%d bytes passed the gate", len(b))
	}
	if e := l.next(t); e.Verdict != policy.Deny.String() || e.SNI != "evil.example" {
		t.Errorf("event %+v", e)
	}
}

// A piece of what passes makes no garbage.
func TestPumpAllocates(t *testing.T) {
	l := listen(t)
	defer l.Close()
	pair := func() (near, far *net.TCPConn) {
		near, _ = func() (*net.TCPConn, error) {
			c, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return c.(*net.TCPConn), nil
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = near.SetDeadline(time.Now().Add(time.Minute))
		return near, c.(*net.TCPConn)
	}
	client, in := pair()
	out, server := pair()
	for _, c := range []*net.TCPConn{client, in, out, server} {
		defer c.Close()
	}
	p := &pump{buffers: &sync.Pool{New: func() any { return new([pumpBuffer]byte) }}, src: in, write: out.Write, dst: out}
	var err error
	if p.raw, err = in.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	p.wait = p.fill
	message, got := []byte("a message"), make([]byte, 9)
	n := testing.AllocsPerRun(100, func() {
		_, _ = client.Write(message)
		if _, err := p.piece(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(server, got)
	})
	if string(got) != "a message" || n > 1 { // a collection empties the pool
		t.Errorf("%q, %v allocations", got, n)
	}
}
