package wall

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
)

func TestGaps(t *testing.T) {
	var g gaps
	var lost uint64
	for _, step := range []struct {
		overrun bool
		seq     uint32
		want    uint64 // in all
	}{
		{seq: 0, want: 0}, {seq: 1, want: 0}, {seq: 5, want: 3}, {overrun: true, want: 4}, {overrun: true, want: 5},
		{seq: 16, want: 13}, {overrun: true, want: 14}, {seq: 18, want: 14}, {seq: 19, want: 14}, {overrun: true, want: 15},
	} {
		if step.overrun {
			lost += g.overrun()
		} else {
			lost += g.before(step.seq)
		}
		if lost != step.want {
			t.Fatalf("%+v: %d lost", step, lost)
		}
	}
	g = gaps{next: 1<<32 - 1}
	if n := g.before(1<<32-1) + g.before(0) + g.before(2); n != 1 {
		t.Errorf("around the end of the numbers: %d lost", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newPacketQueue()
	for range queueLength + 7 {
		q.add(wire.Packet{})
	}
	if len(q.packets) != queueLength {
		t.Errorf("%d packets are kept", len(q.packets))
	}
	total := uint64(0)
	for {
		batch := q.take()
		if len(batch.Packets) == 0 && batch.Lost == 0 {
			break
		}
		total += uint64(len(batch.Packets)) + batch.Lost
		if total == batchLength+7 && batch.Lost != 7 {
			t.Errorf("lost: %d", batch.Lost)
		}
	}
	if total != queueLength+7 {
		t.Errorf("%d of %d are accounted for", total, queueLength+7)
	}
}

// What a gateway did not say it has taken goes to the next one.
func TestQueueKeepsWhatWasNotTaken(t *testing.T) {
	q := newPacketQueue()
	q.add(wire.Packet{Rule: "first"})
	q.addLost(3)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, answers := range []bool{false, true, true} {
		client, err := wire.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		server := wire.NewConn(c)
		defer time.AfterFunc(patient, func() { server.Close() }).Stop()
		ctx, cancel := context.WithCancel(t.Context())
		taken := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() { q.send(ctx, client, taken) })
		m, _, err := server.Receive()
		if err != nil || len(m.Packets.Packets) != 1 || m.Packets.Lost > 3 {
			t.Fatalf("%+v, %v", m, err)
		}
		if answers {
			taken <- struct{}{}
		}
		cancel()
		sender.Wait()
		client.Close()
		server.Close()
		if left := q.take(); !answers {
			q.putBack(left)
		} else if len(left.Packets) != 0 || left.Lost != 0 {
			t.Errorf("left after it was taken: %+v", left)
		} else {
			q.add(wire.Packet{Rule: "next"})
		}
	}
}

// A gateway that cannot be sent to is left: the connection is closed, so that the
// next one gets what waits.
func TestQueueLeavesAGatewayThatIsGone(t *testing.T) {
	q := newPacketQueue()
	q.add(wire.Packet{Rule: "first"})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := wire.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.CloseRead()
	q.send(t.Context(), client, nil)
	if err := client.Send(wire.Message{Taken: &wire.Taken{}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is open: %v", err)
	}
	if left := q.take(); len(left.Packets) != 1 {
		t.Errorf("left: %+v", left)
	}
}
