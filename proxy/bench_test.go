package proxy

import (
	"bytes"
	"testing"
)

func BenchmarkCheckBody(b *testing.B) {
	one := claude(b)
	turn := []byte(`{"role":"assistant","content":[{"type":"text","text":"` + string(bytes.Repeat([]byte("some words of an answer, "), 40)) + `"}]},`)
	long := bytes.Replace(one, []byte(`"messages": [`), append([]byte(`"messages": [`), bytes.Repeat(turn, 500)...), 1)
	for name, body := range map[string][]byte{"5kB": one, "500kB": long} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := checkBody(body, "messages"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEventScanner(b *testing.B) {
	event := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n")
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	var s eventScanner
	for b.Loop() {
		s.feed(event)
	}
}
