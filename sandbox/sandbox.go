// Package sandbox is the gateway's record of the sandboxes that run: who they
// are and which addresses they have, the connections of the wall and of the
// holders, the listeners that the wall hands over, and the events made of the
// packets that it refused. What is said on a connection is the servers' business
// (Hub.Serve); nothing in here speaks to a network or an engine.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
)

// Phase says how far a sandbox has come.
type Phase string

// The phases.
const (
	Waiting Phase = "waiting" // registered; the holder has not come (back) yet
	Held    Phase = "held"    // the holder is there; the wall has not plugged it
	Ready   Phase = "ready"   // plugged, addressed, served
	Ended   Phase = "ended"
)

// State is a sandbox as others may see it.
type State struct {
	Registration
	Phase Phase     `json:"phase"`
	Why   string    `json:"why,omitempty"` // of Ended
	Since time.Time `json:"since"`         // of the registration
	IPv6  bool      `json:"ipv6"`
	Usage Usage     `json:"usage"`
}

// Plugged is what Hub.Serve gets for one sandbox: its sockets, bound to its
// interface.
type Plugged struct {
	Registration
	Origin
	Subject func() audit.Subject // as it is now; safe to call at any time
	Listeners
	UDP   *net.UDPConn // DNS queries to any server
	Diag  *os.File     // tells of its TCP sockets (NETLINK_SOCK_DIAG); the Hub closes it; nil: there is none
	Meter *Meter       // of State.Usage
}

// Origin is where the processes of a sandbox are to be looked for.
type Origin struct {
	Holder int    // process id of the holder, as this process sees it; zero: not known
	Netns  uint64 // inode of the network namespace that the holder sent; zero: not known
}

// Hub serves the wall socket and keeps the sandboxes. All fields but Pool6 and
// Find are required; an invalid Pool6 means no IPv6.
type Hub struct {
	Pool4, Pool6 netip.Prefix
	StateFile    string // the registrations
	WallToken    string // proves that a connection is the wall's
	// Serve works for one plugged sandbox and returns when ctx has ended and
	// nothing that it started is left.
	Serve     func(ctx context.Context, p Plugged) error
	Append    func(audit.Event) (audit.Event, error)
	AppendAll func([]audit.Event) ([]audit.Event, error) // all or none
	// Find tells which process of a sandbox sent a TCP or UDP packet; nil: the
	// events of packets have no process.
	Find         func(sandboxID string, o Origin, proto string, src, dst netip.AddrPort) *audit.Process
	ClaimTimeout time.Duration // how long a registration waits for its holder
	Log          *slog.Logger

	mu        sync.Mutex
	registry  *registry // nil: not running yet
	sandboxes map[string]*sandbox
	leaving   map[string]*sandbox // that have ended lately
	wall      *wallConn
	changed   chan struct{} // closed at each change
	closed    bool
	running   sync.WaitGroup
	strangers atomic.Int32 // connections on the wall socket that nobody knows (yet)

	telling    sync.Mutex // taken before reporting
	reporting  sync.Mutex // taken before mu
	flows      flows
	unanswered *wallConn // waits for Taken; nil: none does. Guarded by reporting
	failed     time.Time // when the record last did. Guarded by reporting
	ended      bool      // the next gateway records what comes. Guarded by telling
}

// sandbox is guarded by Hub.mu.
type sandbox struct {
	State
	subject  atomic.Pointer[audit.Subject] // not guarded: servers read it
	origin   Origin
	holder   *wire.Conn       // nil: away
	netns    *os.File         // the holder's namespace, until the wall has plugged it
	diag     *os.File         // Plugged.Diag of that namespace
	stop     func()           // ends its servers and waits for them; nil: not plugged
	mux      *mux             // of the last plug
	listener *net.TCPListener // the same
	half     *halfOpen        // has a lock of its own
	lookups  lookups          // has a lock of its own
	meter    Meter            // has a lock of its own
	left     time.Time        // when it ended

	plugging int // plugs that the wall was asked for and has not answered
	retries  int // plugs that failed one after the other
	claim    *time.Timer
}

// state is the sandbox as it is now; Hub.mu is held.
func (s *sandbox) state() State {
	now := s.State
	now.Usage = s.meter.Usage()
	return now
}

func (s *sandbox) currentSubject() audit.Subject { return *s.subject.Load() }

type wallConn struct {
	*wire.Conn
	ipv6    bool
	settled map[string]uint64 // what it was told, by sandbox
}

// Register records a sandbox and returns its addresses. Its holder has
// ClaimTimeout to come.
func (h *Hub) Register(reg Registration) (Addresses, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.registry == nil || h.closed {
		return Addresses{}, errors.New("the gateway is starting or stopping; hint: try again")
	}
	if reg.UnsafeMount != "" {
		by := reg.Subject
		by.Agent = "" // whoever started the launcher; no agent did this, nor the proof before one
		if _, err := h.Append(audit.Event{Subject: by, Layer: audit.LayerControl, Proto: "mount",
			Verdict: policy.Allow.String(), Rule: "--unsafe-mount", Reason: reg.UnsafeMount}); err != nil {
			return Addresses{}, fmt.Errorf("record the unsafe mount: %w", err)
		}
	}
	stored, err := h.registry.add(reg)
	if err != nil {
		return Addresses{}, err
	}
	h.track(*stored)
	return stored.Addresses, nil
}

// track begins to wait for the holder of a registration.
func (h *Hub) track(reg Registration) {
	s := &sandbox{State: State{Registration: reg, Phase: Waiting, Since: time.Now().UTC()}}
	s.subject.Store(&reg.Subject)
	s.half = newHalfOpen()
	s.claim = time.AfterFunc(h.ClaimTimeout, func() { h.unclaimed(s) })
	h.sandboxes[reg.Sandbox] = s
	h.notify()
}

// SetAgent changes what the events of a sandbox name as its agent.
func (h *Hub) SetAgent(id, agent string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sandboxes[id]
	if s == nil {
		return fmt.Errorf("there is no sandbox %q", id)
	}
	s.Agent, h.registry.Sandboxes[id].Agent = agent, agent
	subject := s.Registration.Subject
	s.subject.Store(&subject)
	return h.registry.save()
}

// Unregister ends a sandbox: its listeners and connections close and its
// interface goes. An unknown id is no error.
func (h *Hub) Unregister(id string) {
	h.mu.Lock()
	s := h.sandboxes[id]
	h.mu.Unlock()
	if s != nil {
		h.end(s, "the launcher ended it")
	}
}

// List returns the sandboxes, by id.
func (h *Hub) List() []State {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]State, 0, len(h.sandboxes))
	for _, s := range h.sandboxes {
		list = append(list, s.state())
	}
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Sandbox, b.Sandbox) })
	return list
}

// WallUp reports whether the wall is connected, and whether it serves IPv6.
func (h *Hub) WallUp() (up, ipv6 bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wall != nil, h.wall != nil && h.wall.ipv6
}

// Watch calls each with the state of a sandbox, now and after each change, until
// it has ended, each fails, or ctx ends.
func (h *Hub) Watch(ctx context.Context, id string, each func(State) error) error {
	h.mu.Lock()
	s := h.sandboxes[id]
	h.mu.Unlock()
	if s == nil {
		return each(State{Phase: Ended, Why: "it is not registered"})
	}
	for {
		h.mu.Lock()
		changed, state := h.changed, s.state()
		h.mu.Unlock()
		if err := each(state); err != nil || state.Phase == Ended {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// notify wakes the watchers; h.mu is held.
func (h *Hub) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// unclaimed ends a sandbox whose holder has not come.
func (h *Hub) unclaimed(s *sandbox) {
	h.mu.Lock()
	came := s.holder != nil
	h.mu.Unlock()
	if !came {
		h.end(s, "its holder did not come")
	}
}

// gone reports whether a sandbox has ended, or is ending; h.mu is held. When the
// Hub has ended, sandboxes are left to the next one.
func (h *Hub) gone(s *sandbox) bool { return h.closed || h.sandboxes[s.Sandbox] != s }

// end forgets a sandbox. What it had is closed before end returns and before its
// addresses are free: first its connections, whose resets leave by its interface,
// then that.
func (h *Hub) end(s *sandbox, why string) {
	h.mu.Lock()
	if h.gone(s) {
		h.mu.Unlock()
		return
	}
	delete(h.sandboxes, s.Sandbox)
	s.claim.Stop()
	stop := h.unserve(s)
	h.mu.Unlock()
	stop()
	h.mu.Lock()
	h.forget(s)
	s.Phase, s.Why = Ended, why
	h.notify()
	h.mu.Unlock()
	h.Log.Info("sandbox ended", "sandbox", s.Sandbox, "why", why)
}

// forget releases what the Hub has of a sandbox; h.mu is held.
func (h *Hub) forget(s *sandbox) {
	if err := h.registry.remove(s.Sandbox); err != nil {
		h.Log.Error("forget a registration", "sandbox", s.Sandbox, "err", err)
	}
	if h.wall != nil {
		h.send(h.wall.Conn, wire.Message{Unplug: &wire.Unplug{Sandbox: s.Sandbox}})
	}
	if s.netns != nil {
		s.netns.Close()
		s.netns = nil
	}
	s.diag.Close() // nil too
	s.diag = nil
	if s.holder != nil { // told, so that it ends rather than comes back
		h.dismiss(s.holder, "the sandbox has ended")
	}
	s.left = time.Now()
	h.leaving[s.Sandbox] = s
}

// send sends m. A peer that cannot be sent to is closed: its Receive ends, and
// nothing waits for it a second time.
func (h *Hub) send(c *wire.Conn, m wire.Message, files ...*os.File) {
	if err := c.Send(m, files...); err != nil {
		h.Log.Warn("send on the wall socket", "err", err)
		c.Close()
	}
}
