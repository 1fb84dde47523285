// Package ssh measures the way to a GPU host: our tunnel beside OpenSSH's `ssh -L`,
// both to a unix socket there, and beside no SSH at all.
package ssh

import (
	"context"
	"math"
	"net"
	"slices"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
)

// Names of sides. OpenSSH prefers ChaCha20 wherever it runs; our client prefers AES,
// for which nearly every processor has instructions. So it is measured with both.
const (
	openSSH = "ssh -L"
	openAES = "ssh -L, aes128-gcm"
	tunnel  = "sallyport's tunnel"
)

// Cases are the cases of the way to a GPU host.
func Cases() []bench.Case {
	return []bench.Case{firstEvent(), roundTrips(), channels(), bulk(1, 0.75), bulk(8, 0.45)}
}

func firstEvent() bench.Case {
	return bench.Case{
		Name:  "ssh-ttfe",
		Title: "time to the first event of a model on a GPU host",
		Metrics: []bench.Metric{
			{Name: "p50", Unit: "µs", Less: true}, {Name: "p99", Unit: "µs", Less: true},
			{Name: "new p50", Unit: "µs", Less: true},
		},
		Sides: models(func(ctx context.Context, f *field.Field, w way) (bench.Sample, error) { return w.first(ctx, f) }),
		Bars: []bench.Bar{
			{Metric: "p50", Of: openSSH, Bar: 1.25, Aim: 1},
			{Metric: "new p50", Of: openSSH, Bar: 1.25, Aim: 1},
		},
		Notes: "From the request to the first bytes of the answer's first event; the model server answers at once, " +
			"and there are 20 ms between two requests. p50 and p99 are of requests on one connection, as an agent sends them; new p50 is of requests with a connection each. " +
			"`ssh -L` passes bytes on; the gateway reads the request, checks its fields, and records it.",
	}
}

func roundTrips() bench.Case {
	return bench.Case{
		Name:    "ssh-round-trips",
		Title:   "round trips of 128 bytes over SSH",
		Metrics: []bench.Metric{{Name: "1", Unit: "/s"}, {Name: "8", Unit: "/s"}},
		Sides: ways(func(ctx context.Context, f *field.Field, w way) (bench.Sample, error) {
			return w.rates(ctx, map[string]job{
				"1": {"ssh-round-trips", load.WayArg{Clients: 1, N: f.Scale.N(20000, 50)}},
				"8": {"ssh-round-trips", load.WayArg{Clients: 8, N: f.Scale.N(5000, 20)}},
			})
		}),
		Bars:  bars([]string{"1", "8"}, 0.85),
		Notes: "One message after the other over each of 1 and of 8 connections; each comes back with what was sent.",
	}
}

func channels() bench.Case {
	return bench.Case{
		Name:    "ssh-channels",
		Title:   "new connections over SSH, each with a round trip of a byte",
		Metrics: []bench.Metric{{Name: "1", Unit: "/s"}, {Name: "8", Unit: "/s"}},
		Sides: ways(func(ctx context.Context, f *field.Field, w way) (bench.Sample, error) {
			return w.rates(ctx, map[string]job{
				"1": {"ssh-channels", load.WayArg{Clients: 1, N: f.Scale.N(3000, 20)}},
				"8": {"ssh-channels", load.WayArg{Clients: 8, N: f.Scale.N(1000, 5)}},
			})
		}),
		Bars:  bars([]string{"1", "8"}, 0.75),
		Notes: "By 1 and by 8 clients. Each connection is a channel of its own, and a connection to the socket on the host.",
	}
}

// bulk is what passes in one direction with a number of streams.
func bulk(streams int, bar float64) bench.Case {
	name := map[int]string{1: "1 stream", 8: "8 streams"}[streams]
	return bench.Case{
		Name:    map[int]string{1: "ssh-bulk-1", 8: "ssh-bulk-8"}[streams],
		Title:   "bytes through SSH, " + name,
		Metrics: []bench.Metric{{Name: "down", Unit: "MB/s"}, {Name: "up", Unit: "MB/s"}},
		Sides: ways(func(ctx context.Context, f *field.Field, w way) (bench.Sample, error) {
			arg := load.WayArg{Clients: streams, N: f.Scale.N(512<<20, 4<<20) / streams}
			up := arg
			up.Up = true
			s, err := w.rates(ctx, map[string]job{"down": {"ssh-bulk", arg}, "up": {"ssh-bulk", up}})
			for k := range s {
				s[k] /= 1e6
			}
			return s, err
		}),
		Bars:  bars([]string{"down", "up"}, bar),
		Notes: "Down is from the GPU host, up to it. Every byte is compared with what was sent, at both ends.",
	}
}

// bars ask of our tunnel, in each metric, a share of OpenSSH's rate as it is set up,
// and aim at its fastest.
func bars(metrics []string, share float64) (out []bench.Bar) {
	for _, m := range metrics {
		out = append(out, bench.Bar{Metric: m, Side: tunnel, Of: openSSH, Bar: share, Aim: 1, AimOf: openAES})
	}
	return out
}

// job is one of the load program's, about a way.
type job struct {
	name string
	arg  load.WayArg
}

// rates does jobs over w, in the order of their names, and gives the rate of each.
func (w way) rates(ctx context.Context, jobs map[string]job) (bench.Sample, error) {
	s := bench.Sample{}
	names := make([]string, 0, len(jobs))
	for name := range jobs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		j := jobs[name]
		j.arg.Address = w.address
		var rate load.Rate
		if err := w.worker.Do(ctx, j.name, j.arg, &rate); err != nil {
			return nil, err
		}
		s[name] = rate.PerSecond()
	}
	return s, nil
}

// first measures the time to the first event over w.
func (w way) first(ctx context.Context, f *field.Field) (bench.Sample, error) {
	var kept, fresh load.Times
	arg := load.FirstArg{URL: "http://" + w.address, N: f.Scale.N(300, 10)}
	if err := w.worker.Do(ctx, "ssh-first-events", arg, &kept); err != nil {
		return nil, err
	}
	arg.Fresh = true
	if err := w.worker.Do(ctx, "ssh-first-events", arg, &fresh); err != nil {
		return nil, err
	}
	return bench.Sample{"p50": quantile(kept.NS, 0.5), "p99": quantile(kept.NS, 0.99), "new p50": quantile(fresh.NS, 0.5)}, nil
}

// quantile is in µs.
func quantile(ns []int64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(ns))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Microsecond)
}

// at is an address of the laptop on the workers' bridge.
func at(f *field.Field, port string) string { return net.JoinHostPort(f.BridgeAddr(), port) }
