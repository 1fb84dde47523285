// Package names measures the DNS sinkhole: answers a second, with every name recorded.
package names

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
)

// The peers' names as sides.
const (
	coredns = "coredns"
	unbound = "unbound"
	dnsmasq = "dnsmasq"
)

// Cases are those of one client, and of two.
func Cases() []bench.Case { return []bench.Case{sinkhole(1), sinkhole(2)} }

func sinkhole(clients int) bench.Case {
	title := "DNS answers, unique names, all recorded: 1 client"
	if clients > 1 {
		title = fmt.Sprintf("DNS answers, unique names, all recorded: %d clients", clients)
	}
	return bench.Case{
		Name:  fmt.Sprintf("sinkhole-%d", clients),
		Title: title,
		Metrics: []bench.Metric{
			{Name: "rate", Unit: "/s"},
			{Name: "again", Less: true}, // of a hundred thousand queries, how many were sent again
		},
		Sides: []bench.Side{
			side(bench.Ours, clients, openOurs),
			side(bench.Alone, clients, openAlone),
			side(coredns, clients, openCoreDNS),
			side(unbound, clients, openUnbound),
			side(dnsmasq, clients, openDnsmasq),
		},
		Bars: []bench.Bar{{Metric: "rate", Of: coredns, Bar: 1.2, Aim: 1, AimOf: unbound}},
		Notes: "Each client has 128 queries for A without EDNS in flight on a socket of its own; each answer's id, question and NXDOMAIN " +
			"are checked, and that the record (a peer's log) has every name that was answered. What has no answer after a second " +
			"is sent again and told of as `again`, per 100,000 names. A peer's log is a line of text in a file that nobody syncs; our record is " +
			"a chained event in a database, with the process that asked.",
	}
}

const (
	window  = 128 // queries of a client in flight
	runTime = 4 * time.Second
	smoke   = 200 * time.Millisecond
)

// sink is a side that is ready.
type sink struct {
	clients int
	worker  *field.Worker
	server  string // address:port
	record  record
	stops   []func(ctx context.Context) error
	runs    int
}

// record tells how many names that end with a zone are recorded. It counts from where
// the last call ended.
type record interface {
	count(ctx context.Context, zone string) (int64, error)
}

func side(name string, clients int, open func(context.Context, *field.Field, *sink) error) bench.Side {
	return bench.Side{Name: name, Start: func(ctx context.Context, f *field.Field) (bench.Runner, error) {
		s := &sink{clients: clients}
		if err := open(ctx, f, s); err != nil {
			return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
		return s, nil
	}}
}

// Run measures once.
func (s *sink) Run(ctx context.Context, f *field.Field) (bench.Sample, error) {
	s.runs++
	arg := load.NamesArg{
		Server: s.server, Clients: s.clients, Window: window, For: runTime,
		Zone: fmt.Sprintf("run%d-%d.example", s.runs, time.Now().UnixMilli()),
	}
	if f.Scale.Smoke {
		arg.For = smoke
	}
	var got load.Names
	if err := s.worker.Do(ctx, "names", arg, &got); err != nil {
		return nil, err
	}
	if err := recorded(ctx, s.record, arg.Zone, got.Answered); err != nil {
		return nil, err
	}
	return bench.Sample{"rate": got.PerSecond(), "again": float64(got.Again) / float64(got.Answered) * 1e5}, nil
}

// Stop ends what was started.
func (s *sink) Stop(ctx context.Context) error {
	var errs []error
	if s.worker != nil {
		errs = append(errs, s.worker.Stop(ctx))
	}
	for _, stop := range s.stops {
		errs = append(errs, stop(ctx))
	}
	s.stops = nil
	return errors.Join(errs...)
}

// recordTime bounds the wait for a peer's log to be written.
const recordTime = 10 * time.Second

// recorded fails unless all names that were answered are recorded.
func recorded(ctx context.Context, r record, zone string, answered int64) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for sum := int64(0); ; {
		n, err := r.count(ctx, zone)
		if sum += n; err != nil || sum >= answered {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d names that were answered are recorded", sum, answered)
		}
	}
}
