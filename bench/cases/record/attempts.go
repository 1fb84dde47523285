package record

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// atOnce is how many events are stored together, as the DNS server does.
const atOnce = 64

var subject = audit.Subject{Sandbox: "3fa85f645717", Agent: "claude", Model: "gpt-oss", Project: "/home/u/src/shop"}

// refused is the n-th of attempts that differ all: a name that nothing allows.
func refused(n int) audit.Event {
	name := "n" + strconv.FormatUint(uint64(n)*0x9e3779b97f4a7c15, 36) + ".flood.example" // in no order
	return audit.Event{
		Subject: subject, Layer: audit.LayerDNS, Proto: "udp", Src: "10.213.0.9:53412", Dst: "10.213.0.1:53",
		Host: name, Method: "A", Verdict: policy.Deny.String(), Rule: "default", Reason: name + " is not on the allow list",
	}
}

// usual is the n-th attempt of an agent that works: most are at one of 500 hosts,
// and one in 30 at a host of its own, which is refused.
func usual(n int) audit.Event {
	if n%30 == 0 {
		return refused(n)
	}
	return audit.Event{
		Subject: subject, Layer: audit.LayerProxy, Proto: "tcp", Src: "10.213.0.9:53412",
		Host: "host" + strconv.Itoa(n*7%500) + ".example", Port: 443, Method: "CONNECT", Verdict: policy.Allow.String(),
		Rule: "*.example", Reason: "a mirror", BytesIn: 1200, BytesOut: int64(n), Duration: 0.25,
		Process: &audit.Process{PID: 100 + n%40, UID: 1000, Exe: "/usr/bin/curl", Command: "curl -s https://host.example/",
			Parents: []audit.Parent{{PID: 12, Name: "bash"}, {PID: 1, Name: "claude"}}},
	}
}

// store stores attempts from number from, up to number to, atOnce together.
func store(s *audit.Store, attempt func(int) audit.Event, from, to int) error {
	batch := make([]audit.Event, 0, atOnce)
	for n := from; n < to; n++ {
		batch = append(batch, attempt(n))
		if len(batch) < atOnce && n < to-1 {
			continue
		}
		if _, err := s.AppendAll(batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return nil
}
