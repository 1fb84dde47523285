package proxy

import (
	"bytes"
	"io"
	"net/http"
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

// BenchmarkModelEvent is the way of one event through the model endpoint, over
// loopback, with one stream.
func BenchmarkModelEvent(b *testing.B) {
	event := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\" word\"}}\n\n")
	next := make(chan struct{})
	addr := httpOrigin(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for range next {
			_, _ = w.Write(event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	l := newLedger()
	resp, err := http.Post("http://"+start(b, modelTo(l, addr))+"/v1/messages", "application/json", bytes.NewReader([]byte(small)))
	if err != nil {
		b.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	got := make([]byte, len(event))
	b.ReportAllocs()
	for b.Loop() {
		next <- struct{}{}
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			b.Fatal(err)
		}
	}
	close(next)
}
