package whole

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/bench/peer"
)

// Sides of the flood, beside which another sandbox's model streams.
const (
	quiet    = "nothing beside"
	spinning = "the same load, no traffic"
)

const (
	floodTCP       = 200_000
	floodUDP       = 1_000_000
	floodProcesses = 50
	floodPort      = 7001
	floodTo        = "203.0.113.99"       // RFC 5737: nobody's
	accountTime    = time.Minute          // for the record to have it all
	pace           = 2 * time.Millisecond // of the other's events
	stretch        = 1000                 // events that are read in one go
	directAt       = "18110"              // port on the bridge
	beside         = 20 * time.Second     // that is measured where no flood says how long
)

// flood is what one sandbox feels while another one does nothing but what is refused.
func flood() bench.Case {
	h := &house{}
	return bench.Case{
		Name: "flood", Title: "one sandbox makes 200,000 connections and sends 1,000,000 datagrams that are refused; events of another one's model",
		Metrics: []bench.Metric{{Name: "p50", Unit: "µs", Less: true}, {Name: "p99", Unit: "µs", Less: true}, {Name: "busy", Unit: "%"},
			{Name: "took", Unit: "s", Less: true}, {Name: "unaccounted", Less: true, Worst: true}, {Name: "lost", Less: true}, {Name: "memory", Unit: "MB", Less: true, Worst: true}},
		Sides: []bench.Side{
			{Name: bench.Direct, Start: directStream},
			h.beside(quiet, nothing),
			h.beside(spinning, spin),
			h.beside(bench.Ours, refused),
		},
		Bars: []bench.Bar{
			{Metric: "p99", Of: spinning, Base: bench.Direct, Bar: 1.5, Aim: 1.1},
			{Metric: "unaccounted", Bar: 0},
			{Metric: "memory", Bar: 128},
		},
		Notes: "An event each 2 ms, from the origin's write to the client's read. The flood comes from 50 processes; the same load are 50 processes that make " +
			"system calls (getpid) for as long. busy is the share of all processors in use. unaccounted is what was made less what is in the record, as " +
			"refused or as lost (lost: of which only the number is known). memory is the sum of the most that gateway and lookout had at any time.",
	}
}

// beside is a side where a model streams to one sandbox while another one does something.
func (h *house) beside(name string, do func(*field.Field, *field.Worker) deed) bench.Side {
	return bench.Side{Name: name, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
		if err := h.enter(ctx, f, 2, nil); err != nil {
			return nil, err
		}
		return runner{stop: h.leave, run: func(ctx context.Context, f *field.Field) (bench.Sample, error) {
			return streamBeside(ctx, f, h.workers[0], model(h.workers[0]), do(f, h.workers[1]))
		}}, nil
	}}
}

// directStream is the same stream to a container on the bridge, with nothing beside.
func directStream(ctx context.Context, f *field.Field) (bench.Runner, error) {
	at := net.JoinHostPort(f.BridgeAddr(), directAt)
	origin, err := f.Peer(ctx, peer.Spec{Name: "origin", Ready: "tcp:" + at, Command: []string{f.PeerProgram(), "origin", "-listen", "tcp:" + at}})
	if err != nil {
		return nil, err
	}
	w, err := f.Bridge(ctx)
	if err != nil {
		return nil, errors.Join(err, origin.Stop())
	}
	return runner{
		run: func(ctx context.Context, f *field.Field) (bench.Sample, error) {
			return streamBeside(ctx, f, w, "http://"+at, nothing(f, w))
		},
		stop: func(ctx context.Context) error { return errors.Join(w.Stop(ctx), origin.Stop()) },
	}, nil
}

// streamBeside reads streams while something else is done. What was read across its
// end does not count, but for a smoke's first.
func streamBeside(ctx context.Context, f *field.Field, w *field.Worker, url string, do deed) (bench.Sample, error) {
	arg := load.EventsArg{URL: url, Streams: 1, Deltas: f.Scale.N(stretch, 20), Every: pace}
	var then func() (bench.Sample, error)
	var failed error
	began, before := time.Now(), loadNow()
	done := make(chan struct{})
	go func() {
		defer close(done)
		then, failed = do(ctx)
	}()
	var all []int64
	out := bench.Sample{"unaccounted": 0, "lost": 0, "memory": 0}
	for over := false; !over; {
		times, err := nextStretch(ctx, w, arg)
		if err != nil {
			<-done
			return nil, errors.Join(err, failed)
		}
		select {
		case <-done:
			over = true
		default:
		}
		if !over || len(all) == 0 {
			all = append(all, times...)
			out["busy"], out["took"] = loadNow().share(before), time.Since(began).Seconds()
		}
	}
	out["p50"], out["p99"] = percentile(all, .5)/1e3, percentile(all, .99)/1e3
	if failed != nil || then == nil {
		return out, failed
	}
	more, err := then()
	maps.Copy(out, more)
	return out, err
}

func nextStretch(ctx context.Context, w *field.Worker, arg load.EventsArg) ([]int64, error) {
	var times load.Times
	if err := w.Do(ctx, "each-event", arg, &times); err != nil {
		return nil, err
	}
	if len(times.NS) != arg.Deltas {
		return nil, fmt.Errorf("%d events instead of %d", len(times.NS), arg.Deltas)
	}
	return times.NS, nil
}

// deed is what is done beside a stream, and what is looked at after it; nil: nothing.
type deed func(ctx context.Context) (then func() (bench.Sample, error), err error)

// besideTime is how long a deed takes that is no flood.
func besideTime(f *field.Field) time.Duration {
	if f.Scale.Smoke {
		return 100 * time.Millisecond
	}
	return beside
}

func nothing(f *field.Field, _ *field.Worker) deed {
	return func(ctx context.Context) (func() (bench.Sample, error), error) { return nil, wait(ctx, besideTime(f)) }
}

// spin has a sandbox make the load of a flood without its traffic.
func spin(f *field.Field, w *field.Worker) deed {
	return func(ctx context.Context) (func() (bench.Sample, error), error) {
		var s load.Spun
		err := w.Do(ctx, "spin", load.SpinArg{For: besideTime(f), Processes: floodProcesses}, &s)
		if err == nil && s.Calls == 0 {
			err = errors.New("nothing was busy")
		}
		return nil, err
	}
}

// refused floods, and then has the record account for each attempt.
func refused(f *field.Field, w *field.Worker) deed {
	return func(ctx context.Context) (func() (bench.Sample, error), error) {
		before, err := accounts(ctx, f, w.ID())
		if err != nil {
			return nil, err
		}
		made := map[string]int64{}
		for _, proto := range []string{"tcp", "udp"} {
			if made[proto], err = floodOf(ctx, f, w, proto); err != nil {
				return nil, err
			}
		}
		return func() (bench.Sample, error) { return accounted(ctx, f, w.ID(), before, made) }, nil
	}
}

// floodOf makes the attempts of one protocol, and says how many reached the wall.
func floodOf(ctx context.Context, f *field.Field, w *field.Worker, proto string) (int64, error) {
	n := f.Scale.N(map[string]int{"tcp": floodTCP, "udp": floodUDP}[proto], 10*floodProcesses)
	var got load.Flooded
	err := w.Do(ctx, "flood", load.FloodArg{Proto: proto, To: net.JoinHostPort(floodTo, strconv.Itoa(floodPort)), N: n, Processes: floodProcesses}, &got)
	if err == nil && got.Made < n/2 {
		err = fmt.Errorf("%s: only %d of %d attempts could be made", proto, got.Made, n)
	}
	if proto == "udp" {
		got.Made -= got.Dropped
	}
	return int64(got.Made), err
}
