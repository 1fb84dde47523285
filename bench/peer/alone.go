package peer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/dial"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// alone is the gateway's servers on ordinary listeners: without a sandbox, its wall,
// and a look at who makes an attempt.
type alone struct {
	record string // folder of the record
	policy *policy.Policy
	origin string // of the model: unix:PATH or tcp:ADDR
	store  *audit.Store
	at     map[string]string // addresses by what listens there; empty: nothing does
	tasks  *errgroup.Group
}

// Alone serves as the gateway does one sandbox, with its policy, its durable record and
// its limits, and as many processors.
func Alone(ctx context.Context, args []string) (err error) {
	a, err := parseAlone(args)
	if err != nil {
		return err
	}
	confine.Processors()
	if err := os.MkdirAll(a.record, 0o700); err != nil {
		return err
	}
	a.store, err = audit.Open(filepath.Join(a.record, "audit.db"), audit.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.store.Close()) }()
	a.tasks, ctx = errgroup.WithContext(ctx)
	for name, at := range a.at {
		if at == "" {
			continue
		}
		if err := aloneServers[name](ctx, a, at); err != nil {
			a.tasks.Go(func() error { return fmt.Errorf("serve %s at %s: %w", name, at, err) })
		}
	}
	return a.tasks.Wait()
}

func parseAlone(args []string) (*alone, error) {
	flags := flag.NewFlagSet("alone", flag.ContinueOnError)
	a := &alone{at: map[string]string{}}
	flags.StringVar(&a.record, "record", "", "folder of the record, made if it is missing")
	flags.StringVar(&a.origin, "origin", "", "unix:PATH or tcp:ADDR of the model server")
	var allow addresses
	flags.Var(&allow, "allow", "name:port that the policy allows; may be repeated")
	addrs := map[string]*string{}
	for name := range aloneServers {
		addrs[name] = flags.String(name, "", "ADDR; empty: not served")
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for name, at := range addrs {
		a.at[name] = *at
	}
	var rules []policy.Rule
	for _, target := range allow {
		name, digits, _ := strings.Cut(target, ":")
		port, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("-allow %s: %w", target, err)
		}
		rules = append(rules, policy.Rule{Host: name, Ports: []uint16{uint16(port)}})
	}
	var err error
	a.policy, err = policy.New(rules)
	return a, err
}

// aloneServers start the servers, by the names of their flags.
var aloneServers = map[string]func(ctx context.Context, a *alone, at string) error{
	"model": aloneModel, "proxy": aloneProxy, "intercept": aloneIntercept, "dns": aloneDNS,
}

// aloneSubject is whose attempts are recorded.
var aloneSubject = audit.Subject{Sandbox: "alone", Agent: "bench", Model: "bench", Project: "/bench"}

func (a *alone) append(e audit.Event) error {
	_, err := a.store.Append(e)
	return err
}

// serve serves at a TCP address until ctx ends.
func (a *alone) serve(ctx context.Context, at string, s interface {
	Serve(ctx context.Context, l net.Listener) error
}) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err == nil {
		a.tasks.Go(func() error { return s.Serve(ctx, l) })
	}
	return err
}

func aloneModel(ctx context.Context, a *alone, at string) error {
	network, address, _ := strings.Cut(a.origin, ":")
	return a.serve(ctx, at, &proxy.Model{
		Subject: aloneSubject, Record: a.append, Log: slog.New(slog.DiscardHandler), ModelName: "bench",
		Endpoints: []policy.Endpoint{{Method: "POST", Path: "/v1/messages"}, {Method: "POST", Path: "/v1/messages/count_tokens"}},
		Dial:      func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) },
	})
}

func aloneProxy(ctx context.Context, a *alone, at string) error {
	return a.serve(ctx, at, &proxy.Forward{
		Subject: aloneSubject, Record: a.append, Log: slog.New(slog.DiscardHandler),
		Policy: func() *policy.Policy { return a.policy }, Dial: aloneDial,
	})
}

// aloneDial connects as the gateway does to a host that a rule allows.
func aloneDial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	own, err := dial.MachineAddresses()
	if err != nil {
		return nil, err
	}
	d := &dial.Dialer{Resolve: dial.Resolver(net.DefaultResolver.LookupNetIP), Own: own, Connect: dial.TCP}
	return d.Dial(ctx, host, port)
}

func aloneIntercept(ctx context.Context, a *alone, at string) error {
	return a.serve(ctx, at, &proxy.Intercept{Subject: aloneSubject, Record: a.append, Log: slog.New(slog.DiscardHandler)})
}
