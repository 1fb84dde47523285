package wall

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	nfl "github.com/florianl/go-nflog/v2"
	"github.com/mdlayher/netlink"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

const (
	queueLength   = 32768 // packets of one group kept while the gateway is away; more are lost, and counted
	batchLength   = 128   // packets in one message, and numbers of each kind: well under wire.MaxMessage
	netlinkBuffer = 4 << 20
	compareEvery  = time.Second
	groups        = groupEnd - groupFirst
)

// packetQueue holds what the rules tell until the gateway takes it: packets, those
// of the first group before others, and numbers where there is no packet.
type packetQueue struct {
	mu        sync.Mutex
	packets   [groups][]wire.Packet
	waiting   [groups]map[string]int // how many of them are of each sandbox
	markers   [groups]uint64         // the last one that came back
	sandboxes map[uint32]string      // by interface
	kept      map[source]uint64      // packets that are accounted for: told, or lost
	lost      map[source]uint64      // not told yet
	base      map[source]uint64      // what counters of earlier tables had
	syns      map[source]uint64      // of ruleSYN, as they were compared last
	begun     map[string]wire.Begun  // by sandbox
	unsaid    map[string]bool        // of begun: what this gateway was not told
	changes   map[string]int64       // what was put right and is not told yet, by wire.Restored.What
	wake      chan struct{}          // of length one: there is something to send
}

func newPacketQueue() *packetQueue {
	q := &packetQueue{sandboxes: map[uint32]string{}, kept: map[source]uint64{}, lost: map[source]uint64{}, syns: map[source]uint64{},
		begun: map[string]wire.Begun{}, unsaid: map[string]bool{}, changes: map[string]int64{}, wake: make(chan struct{}, 1)}
	for group := range q.waiting {
		q.waiting[group] = map[string]int{}
	}
	return q
}

// read takes packets from one group of NFLOG until ctx ends. What the kernel drops
// of it the counters tell.
func (q *packetQueue) read(ctx context.Context, group uint16) error {
	// The reader's goroutines end with ctx. Its own Close races with their start, and
	// would wait for ever where ctx goes on: hence Con.Close below.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config := nfl.Config{Group: group, Copymode: nfl.CopyPacket, Bufsize: snapLen, QThresh: 32, Timeout: 1}
	if group == groupFirst {
		config.QThresh = 1 // told at once, while its sender is still there to be found
	}
	reader, err := nfl.Open(&config)
	if err != nil {
		return fmt.Errorf("open NFLOG: %w; hint: as root, modprobe nfnetlink_log", err)
	}
	if err := reader.Con.SetReadBuffer(netlinkBuffer); err != nil {
		return errors.Join(fmt.Errorf("size the NFLOG buffer: %w", err), reader.Con.Close())
	}
	reader.Con = netlink.NewConn(anyFamily{reader.Con}, reader.Con.PID())
	hook := func(a nfl.Attribute) int {
		q.add(int(group-groupFirst), a)
		return 0
	}
	failed := make(chan error, 1)
	onError := func(err error) int {
		var op *netlink.OpError
		if errors.As(err, &op) && errors.Is(op.Err, unix.ENOBUFS) {
			return 0
		}
		select {
		case failed <- err:
		default:
		}
		return 1
	}
	if err := reader.RegisterWithErrorFunc(ctx, hook, onError); err != nil {
		return errors.Join(fmt.Errorf("read NFLOG: %w", err), reader.Con.Close())
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
		err = fmt.Errorf("read NFLOG: %w", err)
	}
	return errors.Join(err, reader.Con.Close())
}

// add takes what NFLOG delivered. A packet for which there is no room is left to
// the counters. A sandbox may have as many waiting as there is room for more: one
// that floods has half of it, and leaves the other half to others.
func (q *packetQueue) add(group int, a nfl.Attribute) {
	if a.InDev == nil || a.Mark == nil || a.HwProtocol == nil {
		return
	}
	s, data := source{*a.InDev, *a.Mark}, []byte(nil)
	if a.Payload != nil { // a frame may have none
		data = *a.Payload
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case s.rule == ruleMarker:
		q.markers[group] = max(q.markers[group], markerNumber(data))
	case q.waiting[group][q.sandboxes[s.index]] < queueLength-len(q.packets[group]):
		q.kept[s]++
		p := wire.Packet{Time: time.Now().UnixNano(), Sandbox: q.sandboxes[s.index],
			Rule: ruleNames[s.rule], Data: append([]byte(nil), data[:min(len(data), snapLen)]...)}
		if s.rule == ruleFrame {
			p.EtherType = *a.HwProtocol
		}
		q.packets[group] = append(q.packets[group], p)
		q.waiting[group][p.Sandbox]++
		q.signal()
	}
}

func (q *packetQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// send passes on what is queued, as it comes, until ctx ends or the connection
// fails, which it then closes. What the gateway did not say it has taken stays in
// the queue: a packet may be told twice, but not never.
func (q *packetQueue) send(ctx context.Context, conn *wire.Conn, taken <-chan struct{}) {
	q.mu.Lock()
	for sandbox := range q.begun {
		q.unsaid[sandbox] = true
	}
	q.mu.Unlock()
	q.signal()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for {
			batch := q.take()
			if batch.empty() {
				break
			}
			if err := conn.Send(wire.Message{Packets: &batch.Packets}); err != nil {
				q.putBack(batch)
				conn.Close()
				return
			}
			select {
			case <-taken:
				continue
			case <-ctx.Done():
			}
			select {
			case <-taken: // just before the end
			default:
				q.putBack(batch)
			}
			return
		}
	}
}

// batch is one message, and where it was taken from.
type batch struct {
	wire.Packets
	group int
	lost  map[source]uint64
}

func (b batch) empty() bool {
	return len(b.Packets.Packets)+len(b.Lost)+len(b.Begun)+len(b.Restored) == 0
}

func (q *packetQueue) take() batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := batch{lost: map[source]uint64{}}
	for b.group = range q.packets {
		if waiting := q.packets[b.group]; len(waiting) > 0 {
			n := min(len(waiting), batchLength)
			b.Packets.Packets, q.packets[b.group] = waiting[:n:n], waiting[n:]
			q.wait(b, -1)
			break
		}
	}
	for s, n := range q.lost {
		if len(b.Lost) == batchLength {
			break
		}
		b.lost[s] = n
		b.Lost = append(b.Lost, wire.Lost{Sandbox: q.sandboxes[s.index], Rule: ruleNames[s.rule], Packets: n})
		delete(q.lost, s)
	}
	for sandbox := range q.unsaid {
		if len(b.Begun) == batchLength {
			break
		}
		b.Begun = append(b.Begun, q.begun[sandbox])
		delete(q.unsaid, sandbox)
	}
	for what, n := range q.changes {
		b.Restored = append(b.Restored, wire.Restored{What: what, Times: n})
	}
	clear(q.changes)
	return b
}

func (q *packetQueue) putBack(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.packets[b.group] = append(b.Packets.Packets, q.packets[b.group]...)
	q.wait(b, 1)
	for s, n := range b.lost {
		q.lost[s] += n
	}
	for _, r := range b.Restored {
		q.changes[r.What] += r.Times
	}
	// What was begun is said to each gateway anew.
}

// wait counts the packets of a batch as waiting, or (-1) as waiting no more.
func (q *packetQueue) wait(b batch, sign int) {
	for _, p := range b.Packets.Packets {
		if q.waiting[b.group][p.Sandbox] += sign; q.waiting[b.group][p.Sandbox] == 0 {
			delete(q.waiting[b.group], p.Sandbox)
		}
	}
}
