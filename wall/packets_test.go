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
	"golang.org/x/sys/unix"
)

// newQueue has interface 2, of a sandbox.
func newQueue() *packetQueue {
	q := newPacketQueue()
	q.named(2, "0123456789ab")
	return q
}

// told is what NFLOG delivers.
func told(index, mark uint32, data ...byte) nfl.Attribute {
	kind := uint16(unix.ETH_P_IP)
	return nfl.Attribute{InDev: &index, Mark: &mark, HwProtocol: &kind, Payload: &data}
}

// What does not fit into the queue is left to the counters, to the packet, however
// often they are compared, and what waits is bounded.
func TestQueueIsBounded(t *testing.T) {
	q := newQueue()
	const half = queueLength / 2
	for range half + 7 {
		q.add(0, told(2, ruleOther))
	}
	q.add(2, told(2, ruleStray))
	for range 2 {
		q.compare(map[source]uint64{{2, ruleOther}: half + 7, {2, ruleStray}: 3, {9, ruleSpoof}: 5})
	}
	if len(q.packets[0]) != half {
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
		{Rule: "spoof", Packets: 5}: 1}; packets != half+1 || !maps.Equal(lost, want) {
		t.Errorf("%d packets, lost: %v", packets, lost)
	}
}

// A sandbox that floods leaves room for others, and gets its own back once packets
// are taken.
func TestFloodLeavesRoomInTheQueue(t *testing.T) {
	q := newQueue()
	q.named(3, "ba9876543210")
	for range queueLength {
		q.add(0, told(2, ruleOther))
	}
	for range queueLength / 4 {
		q.add(0, told(3, ruleOther))
	}
	if flood, other := q.waiting[0]["0123456789ab"], q.waiting[0]["ba9876543210"]; flood != queueLength/2 || other != queueLength/4 {
		t.Fatalf("%d of the flood and %d others wait", flood, other)
	}
	q.putBack(q.take())
	for b := q.take(); !b.empty(); b = q.take() {
	}
	if len(q.waiting[0]) != 0 {
		t.Errorf("nothing waits, but %v", q.waiting[0])
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
	q.add(0, told(2, rulePort))
	if b := q.take(); len(b.Packets.Packets) != 1 || b.Packets.Packets[0].Rule != "port" {
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

// When the table was made anew its counters begin at zero: nothing is counted
// twice, nothing less than before.
func TestCountersOfAnotherTable(t *testing.T) {
	q := newQueue()
	other, syn := source{2, ruleOther}, source{2, ruleSYN}
	want := func(when string, lost, segments uint64) {
		t.Helper()
		if got := q.begun["0123456789ab"].Segments; q.lost[other] != lost || got != segments {
			t.Errorf("%s: %d lost, not %d; %d connections begun, not %d", when, q.lost[other], lost, got, segments)
		}
	}
	add := func(times int, rule uint32) {
		for range times {
			q.add(0, told(2, rule))
		}
	}
	add(3, ruleOther)
	q.compare(map[source]uint64{other: 5, syn: 4})
	want("at first", 2, 4)
	add(6, ruleSYN) // of which two were not compared
	q.restart()
	add(1, ruleOther)
	q.compare(map[source]uint64{other: 1, syn: 1})
	want("of another table", 2, 7)
	q.compare(map[source]uint64{other: 4, syn: 3})
	want("later", 5, 9)
	q.restart()
	q.compare(map[source]uint64{})
	want("of a third", 5, 9)
	q.compare(map[source]uint64{other: 1, syn: 1})
	want("of a third, later", 6, 10)

	l := ledger{counted: map[source]uint64{other: 9}, settled: map[source]uint64{other: 8}}
	l.restart(nil)
	if l.counted != nil || l.settled != nil {
		t.Errorf("it would compare what the old table counted: %+v", l)
	}
}

// What was put right is told until it is taken.
func TestRestoredIsToldUntilItIsTaken(t *testing.T) {
	q := newQueue()
	q.restored(wire.Rules)
	q.restored(wire.Rules)
	b := q.take()
	if want := (wire.Restored{What: wire.Rules, Times: 2}); len(b.Restored) != 1 || b.Restored[0] != want || !q.take().empty() {
		t.Errorf("%+v", b)
	}
	q.putBack(b)
	q.restored(wire.Rules)
	if b := q.take(); len(b.Restored) != 1 || b.Restored[0].Times != 3 {
		t.Errorf("%+v", b)
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
