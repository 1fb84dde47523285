package wall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	nfl "github.com/florianl/go-nflog/v2"
	"github.com/mdlayher/netlink"
	"github.com/sallyport/sallyport/wall/wire"
	"golang.org/x/sys/unix"
)

const (
	queueLength = 4096 // packets kept while the gateway is away; more are counted
	batchLength = 128  // packets in one message: well under wire.MaxMessage
	nflogBuffer = 4 << 20
)

// packetQueue holds refused packets until the gateway takes them.
type packetQueue struct {
	mu      sync.Mutex
	packets []wire.Packet
	lost    uint64
	wake    chan struct{} // of length one: there is something to send
}

func newPacketQueue() *packetQueue { return &packetQueue{wake: make(chan struct{}, 1)} }

// read takes packets from NFLOG until ctx ends.
func (q *packetQueue) read(ctx context.Context) error {
	// The reader's goroutines end with ctx. Its own Close races with their start, and
	// would wait for ever where ctx goes on: hence Con.Close below.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, err := nfl.Open(&nfl.Config{Group: nflogGroup, Copymode: nfl.CopyPacket, Bufsize: snapLen, QThresh: 32, Timeout: 1, Flags: nfl.FlagSeq})
	if err != nil {
		return fmt.Errorf("open NFLOG: %w; hint: as root, modprobe nfnetlink_log", err)
	}
	if err := reader.Con.SetReadBuffer(nflogBuffer); err != nil {
		return errors.Join(fmt.Errorf("size the NFLOG buffer: %w", err), reader.Con.Close())
	}
	names, gap := interfaceNames{}, gaps{}
	hook := func(a nfl.Attribute) int {
		if a.Seq != nil {
			q.addLost(gap.before(*a.Seq))
		}
		q.add(packet(a, names))
		return 0
	}
	failed := make(chan error, 1)
	onError := func(err error) int {
		var op *netlink.OpError
		if errors.As(err, &op) && errors.Is(op.Err, unix.ENOBUFS) {
			q.addLost(gap.overrun())
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

// gaps counts the packets that NFLOG dropped, by their sequence numbers.
type gaps struct {
	next    uint32
	counted uint64 // lost already said, before the next number tells how many
}

// overrun is how many are known to be lost when the kernel says that some were.
func (g *gaps) overrun() uint64 {
	g.counted++
	return 1
}

// before is how many were lost before seq, without those that overrun told.
func (g *gaps) before(seq uint32) uint64 {
	lost := uint64(seq - g.next)
	lost -= min(lost, g.counted)
	g.next, g.counted = seq+1, 0
	return lost
}

// interfaceNames caches interface names by index: one look-up each, since an
// index is not used again in the life of a namespace.
type interfaceNames map[uint32]string

func (n interfaceNames) sandbox(index uint32) string {
	name, ok := n[index]
	if !ok {
		if i, err := net.InterfaceByIndex(int(index)); err == nil {
			name = i.Name
			n[index] = name
		}
	}
	id, ours := strings.CutPrefix(name, "sp")
	if !ours || !wire.ValidSandbox(id) {
		return ""
	}
	return id
}

func packet(a nfl.Attribute, names interfaceNames) wire.Packet {
	p := wire.Packet{Time: time.Now().UnixNano()}
	if a.InDev != nil {
		p.Sandbox = names.sandbox(*a.InDev)
	}
	if a.Prefix != nil {
		p.Rule = strings.TrimRight(*a.Prefix, "\x00 ")
	}
	if a.Payload != nil {
		data := *a.Payload
		p.Data = append([]byte(nil), data[:min(len(data), snapLen)]...)
	}
	return p
}

func (q *packetQueue) add(p wire.Packet) {
	q.mu.Lock()
	if len(q.packets) < queueLength {
		q.packets = append(q.packets, p)
	} else {
		q.lost++
	}
	q.mu.Unlock()
	q.signal()
}

func (q *packetQueue) addLost(n uint64) {
	if n == 0 {
		return
	}
	q.mu.Lock()
	q.lost += n
	q.mu.Unlock()
	q.signal()
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
	q.signal()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for {
			batch := q.take()
			if len(batch.Packets) == 0 && batch.Lost == 0 {
				break
			}
			if err := conn.Send(wire.Message{Packets: &batch}); err != nil {
				q.putBack(batch)
				conn.Close()
				return
			}
			select {
			case <-taken:
			case <-ctx.Done():
				q.putBack(batch)
				return
			}
		}
	}
}

func (q *packetQueue) take() wire.Packets {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.packets), batchLength)
	batch := wire.Packets{Packets: q.packets[:n:n], Lost: q.lost}
	q.packets, q.lost = q.packets[n:], 0
	if len(q.packets) == 0 {
		q.packets = nil
	}
	return batch
}

func (q *packetQueue) putBack(batch wire.Packets) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.packets = append(batch.Packets, q.packets...)
	q.lost += batch.Lost
}
