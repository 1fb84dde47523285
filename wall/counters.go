package wall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/sallyport/sallyport/wall/wire"
)

// markerPort is the port, of lo alone, that the wall sends its markers to.
const markerPort = 9

// source is what packets are counted by.
type source struct{ index, rule uint32 } // interface, and rule as it is marked

// readCounts returns how many packets the rules have counted so far.
func readCounts(c *nftables.Conn, sets []*nftables.Set) (map[source]uint64, error) {
	counts := map[source]uint64{}
	for _, set := range sets {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("read the wall's counters: %w", err)
		}
		for _, e := range elements {
			if len(e.Key) != 8 || e.Counter == nil {
				return nil, fmt.Errorf("read the wall's counters: an element of %d bytes", len(e.Key))
			}
			counts[source{binaryutil.NativeEndian.Uint32(e.Key), binaryutil.NativeEndian.Uint32(e.Key[4:])}] = e.Counter.Packets
		}
	}
	return counts, nil
}

// ledger tells the packets that are lost: those that the rules counted and NFLOG
// did not deliver. Some are under way at any time. So it reads the counters, then
// sends a marker after what they counted, and compares only once the marker has
// come back in each group: what was to come has come.
type ledger struct {
	nft     *nftables.Conn // stays open: a wall at rest does little else than read the counters; nil: none is
	sets    []*nftables.Set
	counted map[source]uint64 // to be compared; nil: nothing is
	settled map[source]uint64 // what was compared last
	number  uint64            // of the marker
	marker  net.Conn
}

func newLedger(sets []*nftables.Set) (*ledger, error) {
	marker, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", markerPort))
	if err != nil {
		return nil, fmt.Errorf("open the socket of markers: %w", err)
	}
	return &ledger{sets: sets, marker: marker}, nil
}

// restart begins anew, with the counters of other tables.
func (l *ledger) restart(sets []*nftables.Set) { l.sets, l.counted, l.settled = sets, nil, nil }

// step goes on by one step: reads and marks, or compares, or marks once more.
func (l *ledger) step(q *packetQueue) error {
	if l.counted != nil && q.seen(l.number) {
		q.compare(l.counted)
		l.settled, l.counted = l.counted, nil
	}
	if l.counted == nil {
		counted, err := l.read()
		if err != nil || maps.Equal(counted, l.settled) {
			return err
		}
		l.counted, l.number = counted, l.number+1
	}
	if _, err := l.marker.Write(binary.BigEndian.AppendUint64(nil, l.number)); err != nil {
		return fmt.Errorf("send a marker: %w", err)
	}
	return nil
}

// read reads the counters. After a failure the next read is over a new connection:
// answers to the last one may still be on their way.
func (l *ledger) read() (map[source]uint64, error) {
	if l.nft == nil {
		var err error
		if l.nft, err = nftables.New(nftables.AsLasting()); err != nil {
			l.nft = nil
			return nil, fmt.Errorf("open nf_tables: %w", err)
		}
	}
	counted, err := readCounts(l.nft, l.sets)
	if err != nil {
		return nil, errors.Join(err, l.forget())
	}
	return counted, nil
}

// forget closes the connection to nf_tables, if there is one.
func (l *ledger) forget() error {
	if l.nft == nil {
		return nil
	}
	c := l.nft
	l.nft = nil
	return c.CloseLasting()
}

func (l *ledger) close() error { return errors.Join(l.forget(), l.marker.Close()) }

// markerNumber is the number in a marker, as NFLOG delivers it.
func markerNumber(packet []byte) uint64 {
	const headers = 20 + 8 // IPv4 and UDP
	if len(packet) < headers+8 {
		return 0
	}
	return binary.BigEndian.Uint64(packet[headers:])
}

// seen reports whether the marker has come back in each group.
func (q *packetQueue) seen(number uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, last := range q.markers {
		if last < number {
			return false
		}
	}
	return true
}

// compare counts what the rules counted and was not kept.
func (q *packetQueue) compare(counted map[source]uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s, n := range counted {
		n += q.base[s]
		if s.rule == ruleSYN {
			q.syns[s] = max(n, q.syns[s]) // an accepted connection needs no packet told: see Begun
		} else if kept := q.kept[s]; n > kept {
			q.lost[s] += n - kept
			q.kept[s] = n
		}
	}
	begun := map[string]uint64{}
	for s, n := range q.syns {
		begun[q.sandboxes[s.index]] += n
	}
	for sandbox, n := range begun {
		if b := q.begun[sandbox]; b.Segments != n {
			q.begun[sandbox] = wire.Begun{Sandbox: sandbox, Segments: n, Settled: b.Settled}
			q.unsaid[sandbox] = true
		}
	}
	q.signal()
}

// restart takes note that the counters begin anew. Packets under way from before
// count as later ones: of those as many may be lost without being counted.
func (q *packetQueue) restart() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.base = maps.Clone(q.kept)
	for s, n := range q.syns {
		q.base[s] = max(n, q.kept[s])
	}
}

// restored counts what the keeper put right, for the gateway to record.
func (q *packetQueue) restored(what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changes[what]++
	q.signal()
}

// settled keeps what the gateway said, for the next one.
func (q *packetQueue) settled(s wire.Settled) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b, ok := q.begun[s.Sandbox]; ok {
		b.Settled = s.Segments
		q.begun[s.Sandbox] = b
	}
}

// plugged tells which sandbox an interface leads to. An index is not used again
// in the life of a namespace.
func (q *packetQueue) plugged(sandbox string) error {
	link, err := net.InterfaceByName(interfaceName(sandbox))
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", interfaceName(sandbox), err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.named(uint32(link.Index), sandbox)
	return nil
}

func (q *packetQueue) named(index uint32, sandbox string) {
	q.sandboxes[index] = sandbox
	if _, known := q.begun[sandbox]; !known {
		q.begun[sandbox] = wire.Begun{Sandbox: sandbox}
	}
}
