package wall

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/dnsblock"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/errgroup"
)

const wallToken = "the-wall's-token"

func itoa(n int) string { return strconv.Itoa(n) }

// gateway is a Hub whose servers say which queue a connection came by and which
// address it wanted, and keep it open. It can be stopped and started again.
type gateway struct {
	t      *testing.T
	socket string
	state  string
	hub    *sandbox.Hub
	stop   func() // waits; may be called twice

	mu      sync.Mutex
	events  []audit.Event
	changed chan struct{} // closed when events change
	records atomic.Bool   // each connection
	deaf    atomic.Bool   // no server takes a connection
	fail    error         // of recording
	diag    *os.File      // of the sandbox that was plugged last
	failed  int
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, socket: socketPath(t), state: filepath.Join(t.TempDir(), "registrations.json"), changed: make(chan struct{})}
	g.start()
	t.Cleanup(func() { g.stop() })
	return g
}

func (g *gateway) start() {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	g.hub = &sandbox.Hub{
		Pool4: netip.MustParsePrefix("10.213.0.0/16"), Pool6: netip.MustParsePrefix("fd53:616c:6c79::/112"),
		StateFile: g.state, WallToken: wallToken, Serve: g.serve, Append: g.append, AppendAll: g.appendAll, ClaimTimeout: patient,
		Log: slog.New(slog.NewTextHandler(g.t.Output(), nil)),
	}
	l := listen(g.t, g.socket)
	done := make(chan error, 1)
	go func() { done <- g.hub.Run(ctx, l) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("the hub ended: %v", err)
		}
	})
	until(g.t, "the hub runs", func() bool { return g.hub.SetAgent("none", "").Error() != "" && g.running() })
}

// running reports whether registrations are taken.
func (g *gateway) running() bool {
	_, err := g.hub.Register(sandbox.Registration{})
	return !strings.Contains(err.Error(), "starting")
}

// serve answers each connection with its queue and the wanted address.
func (g *gateway) serve(ctx context.Context, p sandbox.Plugged) error {
	g.mu.Lock()
	g.diag = p.Diag
	g.mu.Unlock()
	if g.deaf.Load() {
		<-ctx.Done()
		return nil
	}
	tasks, ctx := errgroup.WithContext(ctx)
	for name, l := range map[string]net.Listener{"model": p.Model, "proxy": p.Proxy, "dns": p.DNS, "intercept": p.Intercept} {
		stop := context.AfterFunc(ctx, func() { l.Close() })
		tasks.Go(func() error {
			defer stop()
			for {
				c, err := l.Accept()
				if err != nil {
					return nil
				}
				tasks.Go(func() error {
					defer c.Close()
					if g.records.Load() {
						_, err = g.append(audit.Event{Subject: p.Subject(), Layer: audit.LayerIntercept, Dst: c.LocalAddr().String(), Count: 1})
						return err
					}
					defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
					fmt.Fprintf(c, "%s %s %s\n", p.Sandbox, name, c.LocalAddr())
					io.Copy(io.Discard, c)
					return nil
				})
			}
		})
	}
	names := &dnsblock.Server{Subject: p.Subject(), Log: g.hub.Log, Record: func(e audit.Event) error {
		e.Subject = p.Subject()
		_, err := g.append(e)
		return err
	}}
	tasks.Go(func() error { return names.ServeUDP(ctx, p.UDP) })
	return tasks.Wait()
}

func (g *gateway) append(e audit.Event) (audit.Event, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		g.failed++
		return e, g.fail
	}
	e.ID = itoa(len(g.events) + 1)
	g.events = append(g.events, e)
	close(g.changed)
	g.changed = make(chan struct{})
	return e, nil
}

func (g *gateway) appendAll(es []audit.Event) ([]audit.Event, error) {
	for i := range es {
		var err error
		if es[i], err = g.append(es[i]); err != nil {
			return nil, err
		}
	}
	return es, nil
}

// ending returns the sandbox's last state, once it has ended.
func (g *gateway) ending(id string) <-chan sandbox.State {
	last, watching := make(chan sandbox.State, 1), make(chan struct{})
	go func() {
		first := sync.OnceFunc(func() { close(watching) })
		g.hub.Watch(g.t.Context(), id, func(s sandbox.State) error {
			first()
			if s.Phase == sandbox.Ended {
				last <- s
			}
			return nil
		})
	}()
	<-watching
	return last
}

func (g *gateway) failures() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

func (g *gateway) setFail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = err
}

// count sums up the counts of the events that match.
func (g *gateway) count(match func(audit.Event) bool) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if match(e) {
			n += max(e.Count+e.Lost, 1)
		}
	}
	return n
}

// want waits until n are recorded of what matches.
func (g *gateway) want(n int64, what string, match func(audit.Event) bool) {
	g.t.Helper()
	deadline := time.After(patient)
	for {
		g.mu.Lock()
		changed := g.changed
		g.mu.Unlock()
		if g.count(match) >= n {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			g.t.Fatalf("%s: %d recorded, not %d; there is %+v", what, g.count(match), n, g.all())
		}
	}
	if got := g.count(match); got != n {
		g.t.Fatalf("%s: %d recorded, not %d", what, got, n)
	}
}

func (g *gateway) all() []audit.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]audit.Event(nil), g.events...)
}

// packet matches events of a rule with this destination.
func packetTo(id, rule, dst string) func(audit.Event) bool {
	return func(e audit.Event) bool {
		return e.Layer == audit.LayerPacket && e.Sandbox == id && e.Rule == rule && e.Dst == dst
	}
}

func (g *gateway) register(id string) (token string, a sandbox.Addresses) {
	g.t.Helper()
	token = strings.Repeat(id, 3)
	a, err := g.hub.Register(sandbox.Registration{Token: token, Subject: audit.Subject{Sandbox: id, Agent: "test"}})
	if err != nil {
		g.t.Fatal(err)
	}
	return token, a
}

// await waits for a phase and returns the state.
func (g *gateway) await(id string, phase sandbox.Phase) (found sandbox.State) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patient)
	defer cancel()
	err := g.hub.Watch(ctx, id, func(s sandbox.State) error {
		found = s
		if s.Phase == phase {
			return io.EOF
		}
		return nil
	})
	if err != io.EOF {
		g.t.Fatalf("sandbox %s did not become %s but is %s (%s): %v", id, phase, found.Phase, found.Why, err)
	}
	return found
}

// box is a sandbox that is ready, and its wall.
type box struct {
	*gateway
	id, token    string
	addr         sandbox.Addresses
	ns, wallNS   namespace
	wall, holder *process
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{id: "0123456789ab", ns: newNamespace(t, nil), wallNS: newNamespace(t, nil)}
	b.gateway = newGateway(t)
	b.wall = b.wallNS.startWall(t, b.socket)
	b.token, b.addr = b.register(b.id)
	b.holder = b.ns.startHolder(t, b.socket, b.token)
	b.await(b.id, sandbox.Ready)
	return b
}

// dial connects from within the sandbox and returns the first line that comes.
func (b *box) dial(t *testing.T, addr string) (c net.Conn, line string, err error) {
	t.Helper()
	b.ns.in(t, func() error {
		d := &net.Dialer{Timeout: patient}
		c, err = d.Dial("tcp", addr)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(patient))
	buffer := make([]byte, 256)
	n, err := c.Read(buffer)
	return c, strings.TrimSpace(string(buffer[:n])), err
}
