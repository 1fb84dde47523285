package wall

import (
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	nfl "github.com/florianl/go-nflog/v2"
	"github.com/sallyport/sallyport/wall/wire"
)

// newQueue has interface 2, of a sandbox.
func newQueue() *packetQueue {
	q := newPacketQueue()
	q.named(2, "0123456789ab")
	return q
}

// told is what NFLOG delivers.
func told(index, mark uint32, data ...byte) nfl.Attribute {
	return nfl.Attribute{InDev: &index, Mark: &mark, Payload: &data}
}

// What does not fit into the queue is left to the counters, to the packet, however
// often they are compared, and what waits is bounded.
func TestQueueIsBounded(t *testing.T) {
	q := newQueue()
	for range queueLength + 7 {
		q.add(0, told(2, ruleOther))
	}
	q.add(2, told(2, ruleStray))
	for range 2 {
		q.compare(map[source]uint64{{2, ruleOther}: queueLength + 7, {2, ruleStray}: 3, {9, ruleSpoof}: 5})
	}
	if len(q.packets[0]) != queueLength {
		t.Errorf("%d packets are kept", len(q.packets[0]))
	}
	packets, lost := 0, map[wire.Lost]int{}
	for b := q.take(); !b.empty(); b = q.take() {
		packets += len(b.Packets.Packets)
		for _, l := range b.Lost {
			lost[l]++
		}
	}
	if want := map[wire.Lost]int{{Sandbox: "0123456789ab", Rule: "other", Packets: 7}: 1, {Sandbox: "0123456789ab", Rule: "stray", Packets: 2}: 1,
		{Rule: "spoof", Packets: 5}: 1}; packets != queueLength+1 || !maps.Equal(lost, want) {
		t.Errorf("%d packets, lost: %v", packets, lost)
	}
}

// A packet that comes after its counter was compared is not counted twice.
func TestPacketThatIsLate(t *testing.T) {
	q := newQueue()
	s := source{2, ruleOther}
	q.compare(map[source]uint64{s: 1})
	q.add(0, told(2, ruleOther))
	q.compare(map[source]uint64{s: 2})
	q.compare(map[source]uint64{s: 4})
	if q.lost[s] != 3 { // 4 counted, one came
		t.Errorf("%d lost, not 3", q.lost[s])
	}
}

// Packets of the first group go before what waits in the others.
func TestFirstPacketsGoFirst(t *testing.T) {
	q := newQueue()
	for range 2 * batchLength {
		q.add(groupRest-groupFirst, told(2, ruleOther))
	}
	q.take()
	q.add(0, told(2, ruleStray))
	if b := q.take(); len(b.Packets.Packets) != 1 || b.Packets.Packets[0].Rule != "stray" {
		t.Errorf("%+v", b)
	}
}

// Connections are numbers to the gateway, with what it said of them before.
func TestBegunConnections(t *testing.T) {
	q := newQueue()
	q.settled(wire.Settled{Sandbox: "000000000000", Segments: 99}) // of what never was
	q.named(3, "0123456789ab")                                     // plugged again
	q.settled(wire.Settled{Sandbox: "0123456789ab", Segments: 1})  // before anything was compared
	counted := map[source]uint64{{2, ruleSYN}: 4, {3, ruleSYN}: 2}
	q.compare(counted)
	want := wire.Begun{Sandbox: "0123456789ab", Segments: 6, Settled: 1}
	if b := q.take(); len(b.Begun) != 1 || b.Begun[0] != want || len(b.Lost) != 0 {
		t.Errorf("%+v", b)
	}
	q.settled(wire.Settled{Sandbox: "0123456789ab", Segments: 5})
	q.compare(counted)
	if b := q.take(); !b.empty() {
		t.Errorf("nothing has changed: %+v", b)
	}
	if b := q.begun["0123456789ab"]; b.Settled != 5 || len(q.begun) != 1 {
		t.Errorf("%+v", q.begun)
	}
}

// A message of NFLOG without what it must have is passed over.
func TestStrangeMessages(t *testing.T) {
	q := newQueue()
	q.add(0, nfl.Attribute{})
	q.add(0, told(1, ruleMarker))
	q.add(0, told(1, ruleMarker, make([]byte, 35)...))
	if b := q.take(); !b.empty() || q.seen(1) || !q.seen(0) {
		t.Errorf("%+v", b)
	}
	for group := range groups {
		q.add(group, told(1, ruleMarker, append(make([]byte, 28), 0, 0, 0, 0, 0, 0, 0, 7)...))
		if q.seen(7) != (group == groups-1) || q.seen(8) {
			t.Errorf("after group %d", group)
		}
	}
}

// What a gateway did not say it has taken goes to the next one.
func TestQueueKeepsWhatWasNotTaken(t *testing.T) {
	q := newQueue()
	q.add(0, told(2, ruleOther))
	q.compare(map[source]uint64{{2, ruleOther}: 4, {2, ruleSYN}: 1})
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
		if err != nil || len(m.Packets.Packets) != 1 || len(m.Packets.Begun) != 1 {
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
			if len(left.Lost) != 1 || left.Lost[0].Packets != 3 {
				t.Errorf("left after it was not taken: %+v", left)
			}
			q.putBack(left)
		} else if !left.empty() {
			t.Errorf("left after it was taken: %+v", left)
		} else {
			q.add(0, told(2, ruleStray))
		}
	}
}

// A gateway that cannot be sent to is left: the connection is closed, so that the
// next one gets what waits.
func TestQueueLeavesAGatewayThatIsGone(t *testing.T) {
	q := newQueue()
	q.add(0, told(2, ruleOther))
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
	if left := q.take(); len(left.Packets.Packets) != 1 {
		t.Errorf("left: %+v", left)
	}
}
