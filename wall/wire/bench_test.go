package wire

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
)

// aBatch is a message as a flood makes it: as many packets as the wall puts into one.
func aBatch() Message {
	p := Packets{}
	for i := range 128 {
		data := make([]byte, 29) // a datagram of one byte
		data[0], data[20] = 0x45, byte(i)
		p.Packets = append(p.Packets, Packet{Time: int64(1795720461552933000 + i), Sandbox: "0123456789ab", Rule: "other", Data: data})
	}
	return Message{Packets: &p}
}

func BenchmarkParse(b *testing.B) {
	data, err := json.Marshal(aBatch())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSendReceive(b *testing.B) {
	for name, m := range map[string]Message{"taken": {Taken: &Taken{}}, "128-packets": aBatch()} {
		b.Run(name, func(b *testing.B) {
			client, server := pair(b)
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Send(m); err != nil {
					b.Fatal(err)
				}
				if _, _, err := server.Receive(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A connection has one buffer, whatever comes over it.
func TestReceiveAllocatesNoBufferEachTime(t *testing.T) {
	client, server := pair(t)
	exchange := func() {
		if err := client.Send(Message{Taken: &Taken{}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := server.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 100
	for range n {
		exchange()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > MaxMessage/4 {
		t.Errorf("%d bytes are allocated for each message", each)
	}
}

// What was received stays as it is when the next message comes.
func TestReceivedIsTheReceivers(t *testing.T) {
	client, server := pair(t)
	var got []Message
	for i := range 3 {
		m := Message{Packets: &Packets{Packets: []Packet{{Sandbox: fmt.Sprint(i), Rule: "other", Data: []byte{byte(i), 1, 2}}}}}
		if err := client.Send(m); err != nil {
			t.Fatal(err)
		}
		r, _, err := server.Receive()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	for i, m := range got {
		if p := m.Packets.Packets[0]; p.Sandbox != fmt.Sprint(i) || p.Rule != "other" || p.Data[0] != byte(i) {
			t.Errorf("message %d has become %+v", i, p)
		}
	}
}
