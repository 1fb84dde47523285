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

func newSubject(agent string) func(string) audit.Subject {
	return func(id string) audit.Subject { return audit.Subject{Sandbox: id, Agent: agent} }
}

// record is an audit log that can fail.
type record struct {
	events []audit.Event
	err    error
}

func (r *record) append(e audit.Event) (audit.Event, error) {
	if r.err != nil {
		return e, r.err
	}
	e.ID = "id" + strconv.Itoa(len(r.events))
	r.events = append(r.events, e)
	return e, nil
}

func (r *record) total() (n int64) {
	for _, e := range r.events {
		n += e.Count
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

func mustAdd(t *testing.T, f *flows, packets ...wire.Packet) {
	t.Helper()
	for _, p := range packets {
		if err := f.add(p); err != nil {
			t.Fatal(err)
		}
	}
}

// A flow is one event at once and one of its repeats, whose counts add up.
func TestFlowCountsAddUp(t *testing.T) {
	var r record
	f := newFlows(newSubject("a"), r.append)
	mustAdd(t, f, udp(1, 0))
	if len(r.events) != 1 || r.events[0].Count != 1 || r.events[0].RepeatOf != "" {
		t.Fatalf("at the first packet: %+v", r.events)
	}
	mustAdd(t, f, udp(1, time.Second), udp(1, 2*time.Second), udp(2, 2*time.Second))
	if err := f.expire(epoch.Add(flowWindow - 1)); err != nil || len(r.events) != 2 {
		t.Fatalf("within the window: %v, %+v", err, r.events)
	}
	if err := f.expire(epoch.Add(flowWindow)); err != nil || len(r.events) != 3 {
		t.Fatalf("after the window: %v, %+v", err, r.events)
	}
	first, repeats := r.events[0], r.events[2]
	if repeats.RepeatOf != first.ID || repeats.Count != 2 || repeats.ID == first.ID || !repeats.Time.IsZero() {
		t.Errorf("repeats %+v of %+v", repeats, first)
	}
	if first.Src != "10.213.0.0:1" || first.Dst != "203.0.113.5:123" || first.Port != 123 || first.Proto != "udp" || first.Verdict != "denied" ||
		first.Agent != "a" || !first.Time.Equal(epoch) {
		t.Errorf("event %+v", first)
	}
	mustAdd(t, f, udp(1, flowWindow+time.Second)) // a new attempt
	if last := r.events[3]; last.RepeatOf != "" || last.Count != 1 {
		t.Errorf("a new window: %+v", last)
	}
}

// A packet after the window, before anybody looked, closes the flow and begins another.
func TestFlowWindowWithoutExpire(t *testing.T) {
	var r record
	f := newFlows(newSubject(""), r.append)
	mustAdd(t, f, udp(1, 0), udp(1, 1), udp(1, flowWindow))
	if len(r.events) != 3 || r.events[1].RepeatOf != r.events[0].ID || r.events[2].RepeatOf != "" || r.total() != 3 {
		t.Errorf("%+v", r.events)
	}
}

// Flows beyond the bound are counted together, by rule, and none is lost.
func TestFlowsAreBounded(t *testing.T) {
	var r record
	f := newFlows(newSubject(""), r.append)
	const packets = 3 * maxFlows
	for i := range packets {
		mustAdd(t, f, udp(i, 0))
	}
	stray := udp(packets, 0)
	stray.Rule = "stray"
	mustAdd(t, f, stray)
	for i := range 1000 { // a wall that makes rules up
		p := udp(packets+i, 0)
		p.Rule = "rule" + strconv.Itoa(i)
		mustAdd(t, f, p)
	}
	if len(f.open) > maxFlows+2 {
		t.Errorf("%d flows are remembered", len(f.open))
	}
	if len(r.events) > maxFlows+2 {
		t.Errorf("%d events", len(r.events))
	}
	if err := f.expire(epoch.Add(time.Hour)); err != nil || len(f.open) != 0 || r.total() != packets+1001 {
		t.Errorf("%v; %d open; %d of %d counted", err, len(f.open), r.total(), packets+1001)
	}
}

// What cannot be recorded is kept and recorded later, whatever comes meanwhile.
func TestFlowsWhileTheRecordFails(t *testing.T) {
	r := record{err: errors.New("disk full")}
	f := newFlows(newSubject(""), r.append)
	for _, p := range []wire.Packet{udp(1, 0), udp(2, 0), udp(1, flowWindow)} {
		if err := f.add(p); err == nil {
			t.Error("no error")
		}
	}
	mustAdd(t, f, udp(2, 1)) // within the window: counted only
	if err := f.expire(epoch.Add(time.Hour)); err == nil {
		t.Error("expire: no error")
	}
	r.err = nil
	if err := f.expire(epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if r.total() != 4 || len(f.open) != 0 {
		t.Errorf("%d of 4 packets: %+v", r.total(), r.events)
	}
	for _, e := range r.events {
		if e.RepeatOf != "" {
			t.Errorf("a repeat of what was never recorded: %+v", e)
		}
	}
	// The first is recorded, the repeats fail.
	mustAdd(t, f, udp(3, 0), udp(3, 1))
	r.err = errors.New("disk full")
	if err := f.expire(epoch.Add(time.Hour)); err == nil {
		t.Error("expire: no error")
	}
	r.err = nil
	if err := f.expire(epoch.Add(time.Hour)); err != nil || r.total() != 6 {
		t.Errorf("%v, %d of 6", err, r.total())
	}
}

func TestFlowsInherit(t *testing.T) {
	r := record{err: errors.New("disk full")}
	heir := newFlows(newSubject(""), r.append)
	for i := range maxFlows {
		heir.add(udp(i, 0))
	}
	ended := newFlows(newSubject("a"), r.append)
	for i := range 10 {
		ended.add(udp(maxFlows+i, 0))
	}
	heir.inherit(ended)
	r.err = nil
	if err := heir.expire(epoch.Add(time.Hour)); err != nil || r.total() != maxFlows+10 {
		t.Errorf("%v, %d of %d", err, r.total(), maxFlows+10)
	}
	if len(r.events) > maxFlows+1 {
		t.Errorf("%d events", len(r.events))
	}
}

func TestDNSWithoutAGatewayIsNotAnOtherProtocol(t *testing.T) {
	var r record
	f := newFlows(newSubject(""), r.append)
	p := udp(1, 0)
	binary.BigEndian.PutUint16(p.Data[22:], 53)
	mustAdd(t, f, p)
	if e := r.events[0]; e.Rule != "closed" || e.Reason != "the gateway was not running" {
		t.Errorf("%+v", e)
	}
}

func TestPacketWithoutAHeader(t *testing.T) {
	var r record
	f := newFlows(newSubject(""), r.append)
	mustAdd(t, f, wire.Packet{Rule: "stray"}, wire.Packet{Rule: "\x1b[2J" + "x", Data: []byte{0xff}})
	if len(r.events) != 2 || r.events[0].Dst != "" || r.events[1].Rule != "other" {
		t.Errorf("%+v", r.events)
	}
}
