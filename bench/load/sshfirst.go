package load

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"time"
)

// FirstArg is about streams of a model, one after the other.
type FirstArg struct {
	URL   string `json:"url"` // without a path
	N     int    `json:"n"`
	Fresh bool   `json:"fresh,omitempty"` // a connection for each; else one for all
}

// firstPause is between two streams. Nobody asks a model again at once; what is still
// to do for a stream whose end the client has seen is no part of the next one's time.
const firstPause = 20 * time.Millisecond

// firstEvents asks for streams, and times each from the request to the first bytes of
// its first event. Each is read to its end, and must be the right one.
func firstEvents(ctx context.Context, arg FirstArg) (Times, error) {
	client := newStreamClient(1)
	client.Transport.(*http.Transport).DisableKeepAlives = arg.Fresh
	defer client.CloseIdleConnections()
	if _, err := firstEvent(ctx, client, arg.URL); err != nil { // the way is warm
		return Times{}, err
	}
	times := Times{NS: make([]int64, 0, arg.N)}
	for i := range arg.N {
		if err := pauseFor(ctx, firstPause); err != nil {
			return Times{}, err
		}
		took, err := firstEvent(ctx, client, arg.URL)
		if err != nil {
			return Times{}, fmt.Errorf("stream %d: %w", i, err)
		}
		times.NS = append(times.NS, int64(took))
	}
	return times, nil
}

func firstEvent(ctx context.Context, client *http.Client, url string) (time.Duration, error) {
	s := Script{Deltas: 1}
	began := time.Now()
	resp, err := openStream(ctx, client, url, s, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or failed
	body := bufio.NewReaderSize(resp.Body, streamBuffer)
	if _, err := body.Peek(1); err != nil {
		return 0, fmt.Errorf("%w: before its first event: %w", ErrCut, err)
	}
	took := time.Since(began)
	return took, readStream(body, s, nil)
}
