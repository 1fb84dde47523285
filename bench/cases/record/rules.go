package record

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/policy"
)

// rules is how the cost of a decision grows with the rules.
func rules() bench.Case {
	c := bench.Case{
		Name: "rules", Title: "a decision among many rules", Grows: "rules",
		Metrics: []bench.Metric{
			{Name: "allowed", Unit: "ns", Less: true}, {Name: "denied", Unit: "ns", Less: true}, {Name: "allocations", Less: true},
			{Name: "load", Unit: "ms", Less: true}, {Name: "memory", Unit: "MB", Less: true},
		},
		Bars: []bench.Bar{
			{Metric: "allowed", Side: "100000", Of: "10", Bar: 3, Aim: 1.5},
			{Metric: "denied", Side: "100000", Of: "10", Bar: 3, Aim: 1.5},
			{Metric: "allocations", Side: "100000", Bar: 0},
		},
		Notes: "Each rule is for the names below one of its own, at two ports. The hosts change with each decision, over all rules: one host's rule would stay in the " +
			"processor's cache, and what grows beyond 100,000 rules is what is not in it. load is what a reload of the configuration takes, without its parsing.",
	}
	for _, n := range []int{10, 100, 1_000, 10_000, 100_000, 1_000_000} {
		c.Sides = append(c.Sides, bench.Side{Name: fmt.Sprint(n), X: float64(n), Start: func(_ context.Context, f *field.Field) (bench.Runner, error) {
			return ruled(f, n)
		}})
	}
	return c
}

// ruled measures a policy of n rules, of a few in a smoke.
func ruled(f *field.Field, n int) (bench.Runner, error) {
	size := f.Scale.N(n, min(n, 1000))
	list := make([]policy.Rule, size)
	for i := range list {
		list[i] = policy.Rule{Host: fmt.Sprintf("*.host%d.example.org", i), Ports: []uint16{80, 443}, Why: "a mirror"}
	}
	before := memory()
	began := time.Now()
	p, err := policy.New(list)
	if err != nil {
		return nil, err
	}
	load := time.Since(began)
	took := float64(memory().HeapAlloc) - float64(before.HeapAlloc)
	allowed, denied := hosts("a.b.host%d.example.org", size), hosts("a.b.other%d.example.org", size)
	return runner{run: func(context.Context) (bench.Sample, error) {
		sample := bench.Sample{"load": load.Seconds() * 1e3, "memory": max(took, 0) / 1e6}
		var first, second runtime.MemStats
		runtime.ReadMemStats(&first)
		for name, of := range map[string]struct {
			hosts   []string
			verdict policy.Verdict
		}{"allowed": {allowed, policy.Allow}, "denied": {denied, policy.Deny}} {
			nanos, err := decide(p, of.hosts, of.verdict, f.Scale.N(2_000_000, 10_000))
			if err != nil {
				return nil, err
			}
			sample[name] = nanos
		}
		runtime.ReadMemStats(&second)
		// Of the whole process: what else it does meanwhile is far less than one each.
		sample["allocations"] = math.Round(float64(second.Mallocs-first.Mallocs) / float64(f.Scale.N(4_000_000, 20_000)))
		return sample, nil
	}}, nil
}

// memory tells of the heap after a collection.
func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// hosts are names at places all over n rules.
func hosts(format string, n int) []string {
	all := make([]string, 4096)
	for i := range all {
		all[i] = fmt.Sprintf(format, i*7919%n)
	}
	return all
}

// decide returns how many nanoseconds a decision takes, of so many.
func decide(p *policy.Policy, hosts []string, want policy.Verdict, decisions int) (float64, error) {
	began := time.Now()
	for i := range decisions {
		if host := hosts[i%len(hosts)]; p.Decide(host, 443).Verdict != want {
			return 0, fmt.Errorf("%s is not %s", host, want)
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(decisions), nil
}
