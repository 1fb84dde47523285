package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// streamBuffer is longer than any line of a stream, in bytes.
const streamBuffer = 16 << 10

// newStreamClient connects to one server, with no bound on connections.
func newStreamClient(keep int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: keep, DisableCompression: true}}
}

// EventsArg says which streams to read at once.
type EventsArg struct {
	URL     string        `json:"url"` // without a path
	Streams int           `json:"streams"`
	Deltas  int           `json:"deltas"` // of each stream
	Every   time.Duration `json:"every"`
	Warm    int           `json:"warm"` // of them, the first ones that do not count
	// Together: all streams have their events at the same times, as the requests have
	// that a model server works on in one batch. Otherwise their events are spread
	// evenly over Every.
	Together bool `json:"together"`
}

// opening is how long it is from the first stream's request to the first event. How
// long a side takes to open streams then does not say how close their events are.
const opening = 200 * time.Millisecond

// EventTimes are how long deltas took from the origin's write to the client's read,
// in nanoseconds.
type EventTimes struct {
	N   int   `json:"n"`
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

// events reads streams at once and times their deltas.
func events(ctx context.Context, arg EventsArg) (EventTimes, error) {
	client := newStreamClient(arg.Streams)
	defer client.CloseIdleConnections()
	times := make([][]int64, arg.Streams)
	first, err := Monotonic()
	if err != nil {
		return EventTimes{}, err
	}
	first += int64(opening)
	tasks, ctx := errgroup.WithContext(ctx)
	for i := range arg.Streams {
		tasks.Go(func() error {
			after := time.Duration(i) * arg.Every / time.Duration(arg.Streams)
			err := pauseFor(ctx, after)
			if err != nil {
				return err
			}
			due := first
			if !arg.Together {
				due += int64(after)
			}
			times[i], err = timeStream(ctx, client, arg, due)
			return err
		})
	}
	if err := tasks.Wait(); err != nil {
		return EventTimes{}, err
	}
	all := slices.Concat(times...)
	if len(all) == 0 {
		return EventTimes{}, errors.New("no delta counts")
	}
	slices.Sort(all)
	return EventTimes{N: len(all), P50: all[len(all)/2], P99: all[len(all)*99/100], Max: all[len(all)-1]}, nil
}

// timeStream reads one stream, whose first delta is due at first; zero: Every after
// its request.
func timeStream(ctx context.Context, client *http.Client, arg EventsArg, first int64) ([]int64, error) {
	s := Script{Deltas: arg.Deltas, Every: arg.Every, First: first}
	resp, err := openStream(ctx, client, arg.URL, s, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or failed
	times := make([]int64, 0, arg.Deltas)
	err = readStream(bufio.NewReaderSize(resp.Body, streamBuffer), s, func(ns int64) { times = append(times, ns) })
	if err != nil {
		return nil, err
	}
	return times[min(arg.Warm, len(times)):], nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// BurstArg says how many streams of mixed size to read, and by how many clients.
type BurstArg struct {
	URL     string `json:"url"` // without a path
	N       int    `json:"n"`
	Clients int    `json:"clients"`
	Seed    uint64 `json:"seed"` // of the sizes
}

// Burst is what came of it. Done, Lost, Cut and Wrong add up to N.
type Burst struct {
	Done    int     `json:"done"`
	Lost    int     `json:"lost"`
	Cut     int     `json:"cut"`
	Wrong   int     `json:"wrong"`
	First   string  `json:"first"` // the first failure; empty: none
	Seconds float64 `json:"seconds"`
}

// burst reads streams one after the other by each client.
func burst(ctx context.Context, arg BurstArg) (Burst, error) {
	client := newStreamClient(arg.Clients)
	defer client.CloseIdleConnections()
	var (
		mu  sync.Mutex
		out Burst
		all sync.WaitGroup
	)
	began := time.Now()
	for c := range arg.Clients {
		random := rand.New(rand.NewPCG(arg.Seed, uint64(c)))
		all.Go(func() {
			for range arg.N/arg.Clients + min(1, max(0, arg.N%arg.Clients-c)) {
				err := mixedStream(ctx, client, arg.URL, random)
				mu.Lock()
				out.count(err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	out.Seconds = time.Since(began).Seconds()
	return out, ctx.Err()
}

// mixedStream reads one stream: mostly a short one for a small request, now and then
// one of 250 kB, or for a request of 130 kB.
func mixedStream(ctx context.Context, client *http.Client, url string, random *rand.Rand) error {
	s := Script{Deltas: 1 << random.IntN(7), Fill: 1<<random.IntN(13) - 1, Early: true}
	resp, err := openStream(ctx, client, url, s, 1<<random.IntN(18))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or failed
	return readStream(bufio.NewReaderSize(resp.Body, streamBuffer), s, nil)
}

func (b *Burst) count(err error) {
	switch {
	case err == nil:
		b.Done++
		return
	case errors.Is(err, ErrLost):
		b.Lost++
	case errors.Is(err, ErrCut):
		b.Cut++
	default:
		b.Wrong++
	}
	if b.First == "" {
		b.First = err.Error()
	}
}

// HoldArg says how many silent streams to open, and how long after the last one was
// opened all of them end.
type HoldArg struct {
	URL     string        `json:"url"` // without a path
	Streams int           `json:"streams"`
	For     time.Duration `json:"for"`
}

// Held is how many are open.
type Held struct {
	Open int `json:"open"`
}

// hold opens streams, reads the first delta of each and leaves them open.
func hold(ctx context.Context, arg HoldArg) (Held, error) {
	ctx, cancel := context.WithCancel(ctx)
	client := newStreamClient(0)
	s := Script{Deltas: 1, Hold: true}
	for i := range arg.Streams {
		err := holdOne(ctx, client, arg.URL, s)
		if err != nil {
			cancel()
			return Held{}, fmt.Errorf("stream %d of %d: %w", i, arg.Streams, err)
		}
	}
	time.AfterFunc(arg.For, cancel) // the streams outlive the job
	return Held{Open: arg.Streams}, nil
}

func holdOne(ctx context.Context, client *http.Client, url string, s Script) error {
	resp, err := openStream(ctx, client, url, s, 0)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = resp.Body.Close() }) // nothing more of it is wanted
	return readStream(bufio.NewReaderSize(resp.Body, 4<<10), s, nil)
}
