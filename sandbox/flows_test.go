package sandbox

import (
	"encoding/binary"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/wall/wire"
)

var epoch = time.Unix(1_700_000_000, 0)

// record is an audit store that can fail.
type record struct {
	events []audit.Event
	err    error
	failed chan struct{} // told of a failure; nil: nobody waits
}

func (r *record) append(e audit.Event) (audit.Event, error) {
	if r.err != nil {
		return e, r.err
	}
	e.ID = "id" + strconv.Itoa(len(r.events))
	r.events = append(r.events, e)
	return e, nil
}

func (r *record) appendAll(es []audit.Event) ([]audit.Event, error) {
	if r.err != nil {
		if r.failed != nil {
			close(r.failed)
			r.failed = nil
		}
		return nil, r.err
	}
	for i := range es {
		es[i], _ = r.append(es[i])
	}
	return es, nil
}

// total is the number of attempts that the record tells of.
func (r *record) total() (n int64) {
	for _, e := range r.events {
		n += e.Count + e.Lost
	}
	return n
}

// udp is a refused packet of flow n, after that time.
func udp(n int, after time.Duration) wire.Packet {
	data := with(v4, "11", "0000 007b 0008 0000")
	binary.BigEndian.PutUint16(data[20:], uint16(n))
	binary.BigEndian.PutUint16(data[14:], uint16(n>>16)) // of the source address
	return wire.Packet{Time: epoch.Add(after).UnixNano(), Sandbox: "0123456789ab", Rule: "other", Data: data}
}

func somebody(id string) sender {
	return sender{subject: audit.Subject{Sandbox: id, Agent: "a"}}
}

// The packets of a flow are one event of each batch, in order, with their number.
func TestBatchBecomesFlows(t *testing.T) {
	events := batch([]wire.Packet{udp(2, 0), udp(1, time.Second), udp(2, 2*time.Second), udp(2, 3*time.Second)}, somebody)
	if len(events) != 2 || events[0].Count != 3 || events[1].Count != 1 {
		t.Fatalf("%+v", events)
	}
	first := events[0]
	if first.Src != "10.213.0.0:2" || first.Dst != "203.0.113.5:123" || first.Port != 123 || first.Proto != "udp" || first.Verdict != "denied" ||
		first.Agent != "a" || first.Sandbox != "0123456789ab" || !first.Time.Equal(epoch) || first.Process != nil || first.RepeatOf != "" {
		t.Errorf("event %+v", first)
	}
}

// What a wall makes up, and what has no header, has an event and no more.
func TestPacketWithoutAHeader(t *testing.T) {
	events := batch([]wire.Packet{{Rule: "stray"}, {Rule: "\x1b[2J" + "x", Data: []byte{0xff}}}, somebody)
	if len(events) != 2 || events[0].Dst != "" || events[1].Rule != "other" {
		t.Errorf("%+v", events)
	}
}

func TestDNSWithoutAGatewayIsNotAnOtherProtocol(t *testing.T) {
	p := udp(1, 0)
	binary.BigEndian.PutUint16(p.Data[22:], 53)
	if e := batch([]wire.Packet{p}, somebody)[0]; e.Rule != "closed" || e.Reason != "the gateway was not running" {
		t.Errorf("%+v", e)
	}
}

// Segments of one connection differ in their sequence numbers and are one flow.
func TestSegmentsAreOneFlow(t *testing.T) {
	var packets []wire.Packet
	for n := range 3 {
		data := with(v4, "06", "03e8 01bb 0000 0000 0000 0000 5010 0400 0000 0000")
		data[27] = byte(n)
		packets = append(packets, wire.Packet{Rule: "stray", Data: data})
	}
	if events := batch(packets, somebody); len(events) != 1 || events[0].Count != 3 {
		t.Errorf("%+v", events)
	}
}

// What cannot be recorded waits, and comes in order, once.
func TestFlowsWhileTheRecordFails(t *testing.T) {
	r := record{err: errors.New("disk full")}
	f := flows{append: r.appendAll}
	for i := range 3 {
		if err := f.record(batch([]wire.Packet{udp(i, 0)}, somebody)); err == nil {
			t.Error("no error")
		}
	}
	r.err = nil
	for range 2 {
		if err := f.record(nil); err != nil || r.total() != 3 || r.events[0].Src != "10.213.0.0:0" {
			t.Errorf("%v, %+v", err, r.events)
		}
	}
}
