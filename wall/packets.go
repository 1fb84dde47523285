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
	queueLength  = 16384 // packets of one group kept while the gateway is away; more are lost, and counted
	batchLength  = 128   // packets in one message, and numbers of each kind: well under wire.MaxMessage
	nflogBuffer  = 4 << 20
	compareEvery = time.Second
	groups       = groupEnd - groupFirst
)

// packetQueue holds what the rules tell until the gateway takes it: packets, those
// of the first group before others, and numbers where there is no packet.
type packetQueue struct {
	mu        sync.Mutex
	packets   [groups][]wire.Packet
	markers   [groups]uint64        // the last one that came back
	sandboxes map[uint32]string     // by interface
	kept      map[source]uint64     // packets that are accounted for: told, or lost
	lost      map[source]uint64     // not told yet
	begun     map[string]wire.Begun // by sandbox
	unsaid    map[string]bool       // of begun: what this gateway was not told
	wake      chan struct{}         // of length one: there is something to send
}

func newPacketQueue() *packetQueue {
	return &packetQueue{sandboxes: map[uint32]string{}, kept: map[source]uint64{}, lost: map[source]uint64{},
		begun: map[string]wire.Begun{}, unsaid: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// account compares counters and packets again and again until ctx ends.
func (q *packetQueue) account(ctx context.Context, l *ledger) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	defer l.marker.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := l.step(q); err != nil {
				return err
			}
		}
	}
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
	if err := reader.Con.SetReadBuffer(nflogBuffer); err != nil {
		return errors.Join(fmt.Errorf("size the NFLOG buffer: %w", err), reader.Con.Close())
	}
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
// the counters.
func (q *packetQueue) add(group int, a nfl.Attribute) {
	if a.InDev == nil || a.Mark == nil || a.Payload == nil {
		return
	}
	s, data := source{*a.InDev, *a.Mark}, *a.Payload
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case s.rule == ruleMarker:
		q.markers[group] = max(q.markers[group], markerNumber(data))
	case len(q.packets[group]) < queueLength:
		q.kept[s]++
		q.packets[group] = append(q.packets[group], wire.Packet{Time: time.Now().UnixNano(), Sandbox: q.sandboxes[s.index],
			Rule: ruleNames[s.rule], Data: append([]byte(nil), data[:min(len(data), snapLen)]...)})
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

func (b batch) empty() bool { return len(b.Packets.Packets)+len(b.Lost)+len(b.Begun) == 0 }

func (q *packetQueue) take() batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := batch{lost: map[source]uint64{}}
	for b.group = range q.packets {
		if waiting := q.packets[b.group]; len(waiting) > 0 {
			n := min(len(waiting), batchLength)
			b.Packets.Packets, q.packets[b.group] = waiting[:n:n], waiting[n:]
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
	return b
}

func (q *packetQueue) putBack(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.packets[b.group] = append(b.Packets.Packets, q.packets[b.group]...)
	for s, n := range b.lost {
		q.lost[s] += n
	}
	// What was begun is said to each gateway anew.
}
