package audit

import (
	"strconv"
	"testing"
)

// benchName is a query as the DNS sinkhole refuses it.
func benchName(n int64) Event {
	name := "n" + strconv.FormatInt(n, 10) + ".flood.example"
	return Event{
		Subject: Subject{Sandbox: "3fa85f645717", Agent: "claude", Model: "gpt-oss", Project: "/home/u/src/shop"},
		Layer:   LayerDNS, Proto: "udp", Src: "10.213.0.9:53412", Dst: "10.213.0.1:53", Host: name, Method: "A",
		Rule: "default", Reason: name + " is not allowed",
	}
}

// BenchmarkAppendAll is events a second from one goroutine that has 64 at a time,
// each of another name, as the DNS sinkhole does.
func BenchmarkAppendAll(b *testing.B) {
	const batch = 64
	s := openWith(b, storePath(b), Options{})
	b.ReportAllocs()
	b.ResetTimer()
	for done := int64(0); done < int64(b.N); done += batch {
		es := make([]Event, 0, batch)
		for i := done; i < min(done+batch, int64(b.N)); i++ {
			es = append(es, benchName(i))
		}
		if _, err := s.AppendAll(es); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	perSecond(b)
}
