// Package forward measures the forward proxy and the intercept: what they refuse, and
// what passes a tunnel through the proxy.
package forward

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/bench"
	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
)

// clients ask at the same time.
const clients = 8

// Cases are those of the forward proxy and of the intercept.
func Cases() []bench.Case {
	rate := []bench.Metric{{Name: "rate", Unit: "/s"}}
	refused := []string{bench.Ours, bench.Alone, squid, goproxy, tinyproxy}
	passed := []string{bench.Direct, bench.Ours, bench.Alone, goproxy, tinyproxy, squid}
	return []bench.Case{
		{
			Name: "refused-kept", Title: "refused CONNECTs on kept-alive connections, 8 clients, each recorded", Metrics: rate,
			Sides: refusing(refuse(false), refused...),
			Bars:  []bench.Bar{{Metric: "rate", Of: squid, Bar: 1, Aim: 2}},
			Notes: "For 1,000 names in turn. goproxy and tinyproxy close the connection after each refusal, and so pay for another one.",
		},
		{
			Name: "refused-new", Title: "refused CONNECTs, each on a new connection, 8 clients, each recorded", Metrics: rate,
			Sides: refusing(refuse(true), refused...),
			Bars:  []bench.Bar{{Metric: "rate", Of: squid, Bar: 1.2, Aim: 2}},
			Notes: "For 1,000 names in turn. The client ends each connection by a reset, or it would run out of ports.",
		},
		{
			Name: "intercept", Title: "refused direct connections, 8 clients, the name in the ClientHello read and recorded", Metrics: rate,
			Sides: append(refusing(intercept, bench.Ours, bench.Alone), renamed(refusing(refuse(true), bench.Ours, squid), bench.Ours, throughProxy)...),
			Bars: []bench.Bar{
				{Metric: "rate", Of: throughProxy, Bar: 1},
				{Metric: "rate", Of: squid, Reported: true, Aim: 2},
			},
			Notes: "Beside refused CONNECTs on new connections. A client's hello has some 1,500 bytes.",
		},
		{
			Name: "connect", Title: "allowed CONNECTs, each with a message there and back, 8 clients", Metrics: rate,
			Sides: passing(connect, passed...),
			Bars:  []bench.Bar{{Metric: "rate", Of: goproxy, Bar: 0.8, Aim: 1, AimOf: tinyproxy}},
			Notes: "The name is in the laptop's hosts file, and is looked up by each proxy each time but squid. `direct` is the far end on " +
				"the laptop; the proxies' is in the lab's internet, one veth farther.",
		},
		bulk("bulk", "bytes through one tunnel, to the container", false, passed),
		bulk("bulk-up", "bytes through one tunnel, from the container", true, passed),
	}
}

func bulk(name, title string, up bool, names []string) bench.Case {
	return bench.Case{
		Name: name, Title: title, Metrics: []bench.Metric{{Name: "rate", Unit: "MB/s"}},
		Sides: passing(pass(up), names...),
		Bars:  []bench.Bar{{Metric: "rate", Of: squid, Bar: 0.9, Aim: 1.2}},
		Notes: "Each byte is looked at when it has come. goproxy splices; so does Sallyport, in pieces of 256 kB that it counts.",
	}
}

// long is how long a run's clients ask.
func long(f *field.Field) time.Duration {
	if f.Scale.Smoke {
		return 200 * time.Millisecond
	}
	return 4 * time.Second
}

// measure is one run over a way.
type measure func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error)

func refuse(each bool) measure {
	return func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
		return w.do(ctx, "refuse", load.RefuseArg{Address: w.proxy, Clients: clients, For: long(f), New: each, Says: w.says})
	}
}

func intercept(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
	return w.do(ctx, "intercept", load.RefuseArg{Address: w.direct, Clients: clients, For: long(f)})
}

func connect(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
	return w.do(ctx, "connect", load.ConnectArg{Proxy: w.proxy, Target: w.target, Clients: clients, For: long(f)})
}

func pass(up bool) measure {
	return func(ctx context.Context, f *field.Field, w *way) (bench.Sample, error) {
		s, err := w.do(ctx, "pass", load.ConnectArg{Proxy: w.proxy, Target: w.target, Bytes: uint64(f.Scale.N(2e9, 1e6)), Up: up})
		if err != nil {
			return nil, err
		}
		return bench.Sample{"rate": s["rate"] / 1e6}, nil
	}
}

// do has the way's worker do a job, and gives its rate.
func (w *way) do(ctx context.Context, job string, arg any) (bench.Sample, error) {
	var rate load.Rate
	if err := w.worker.Do(ctx, job, arg, &rate); err != nil {
		return nil, err
	}
	return bench.Sample{"rate": rate.PerSecond()}, nil
}
