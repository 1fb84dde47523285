package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/dial"
	"github.com/sallyport/sallyport/dnsblock"
	"github.com/sallyport/sallyport/origin"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/errgroup"
)

// serveSandbox serves the sockets of one plugged sandbox until ctx ends.
func (g *gateway) serveSandbox(ctx context.Context, s sandbox.Plugged) error {
	tries := &attempts{finder: g.lookout.open(s.Sandbox, origin.Sandbox(s.Origin), origin.NewSockets(s.Diag)), number: func() uint64 { return g.lookout.conns.Add(1) }}
	defer tries.looking.Wait()
	record := func(e audit.Event) error {
		e.Subject = s.Subject()
		_, err := g.audit.Append(tries.attribute(e))
		return err
	}
	recordAll := func(es []audit.Event) error {
		who := s.Subject()
		for i := range es {
			es[i].Subject = who
		}
		tries.attributeAll(es)
		return g.audit.AppendEach(es)
	}
	log := g.log.With("sandbox", s.Sandbox)
	subject := s.Registration.Subject
	recordUse := func(e audit.Event) error {
		err := record(e)
		if err == nil {
			s.Meter.Add(e)
		}
		return err
	}
	up := g.newUpstream(s)
	model := &proxy.Model{
		Subject: subject, Record: recordUse, Log: log, Endpoints: s.Endpoints,
		ModelName: s.Upstream.Name, Aliases: s.Upstream.Aliases, UpstreamToken: s.Upstream.Token,
		Dial: up.Dial, DialEach: len(s.Upstream.Spare) > 0, Where: up.Where, Trouble: up.Trouble,
	}
	forward := &proxy.Forward{Subject: subject, Policy: g.policy.Load, Dial: g.dialAllowed, Record: record, Log: log}
	intercept := &proxy.Intercept{Subject: subject, Record: record, Log: log}
	names := &dnsblock.Server{Subject: subject, Record: record, RecordAll: recordAll, Log: log}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return model.Serve(ctx, tries.watch(s.Model)) })
	tasks.Go(func() error { return forward.Serve(ctx, tries.watch(s.Proxy)) })
	tasks.Go(func() error { return intercept.Serve(ctx, tries.watch(s.Intercept)) })
	tasks.Go(func() error { return names.Serve(ctx, tries.watch(s.DNS)) })
	tasks.Go(func() error { return names.ServeUDP(ctx, s.UDP) })
	return tasks.Wait()
}

// ownPrefixes are the addresses that no rule may lead to: the sandboxes' pools
// and this machine's own, as they are now.
func (g *gateway) ownPrefixes() ([]netip.Prefix, error) {
	own, err := dial.MachineAddresses()
	if err != nil {
		return nil, err
	}
	return append(own, g.config.Network.Pool, g.config.Network.Pool6), nil
}

// dialAllowed connects to a host that a rule allowed.
func (g *gateway) dialAllowed(ctx context.Context, host string, port uint16) (net.Conn, error) {
	own, err := g.ownPrefixes()
	if err != nil {
		return nil, err
	}
	d := &dial.Dialer{Resolve: dial.Resolver(net.DefaultResolver.LookupNetIP), Own: own, Connect: dial.TCP}
	return d.Dial(ctx, host, port)
}

// dialPlace connects to a model server, here or on a GPU host.
func (g *gateway) dialPlace(ctx context.Context, p sandbox.Place) (net.Conn, error) {
	if p.Host != "" {
		return g.hosts.dial(ctx, p.Host, p.Network, p.Address)
	}
	d := &net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(ctx, p.Network, p.Address)
}

func (g *gateway) handlers(wallToken string) control.Handlers {
	return control.Handlers{
		Status:     g.status,
		Wall:       func() control.WallSecret { return control.WallSecret{Token: wallToken} },
		Register:   g.hub.Register,
		Unregister: g.hub.Unregister,
		SetAgent:   g.hub.SetAgent,
		Watch:      g.hub.Watch,
		SetHost:    g.hosts.set,
		CheckModel: g.checkModel,
		Pull:       g.pull,
		Page:       g.pageURL,
		Reload:     g.reload,
		Down:       g.stop,
	}
}

func (g *gateway) status() control.Status {
	up, ipv6 := g.hub.WallUp()
	binary, _ := g.binary() // an error ends the gateway
	return control.Status{
		Version: version(), PID: os.Getpid(), Since: g.since, Binary: binary, Config: g.config.Path,
		Audit: g.paths.Audit(), Log: g.paths.Log(), Wall: control.WallStatus{Up: up, IPv6: ipv6},
		Sandboxes: g.hub.List(), Hosts: g.hosts.status(), Confinement: g.confinement(),
	}
}

func (g *gateway) stop(r control.DownRequest) error {
	if n := len(g.hub.List()); n > 0 && !r.Force {
		return fmt.Errorf("%d sandbox(es) run; hint: end them (launcher status, launcher stop), or use --force: they lose their way to the model until a gateway runs again", n)
	}
	g.log.Info("asked to stop", "force", r.Force)
	// The answer goes out first: the server waits for calls in flight.
	g.down()
	return nil
}
