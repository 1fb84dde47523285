package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/tunnel"
)

// hosts are the GPU hosts that launchers handed over, an SSH connection each.
// They are kept on disk without secrets, for a gateway that comes back.
type hosts struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	byName map[string]*hostLink
	ended  bool // no link begins any more
	links  sync.WaitGroup
}

type hostLink struct {
	host   tunnel.Host
	client *tunnel.Client
	end    context.CancelFunc
}

func newHosts(path string, log *slog.Logger) *hosts {
	return &hosts{path: path, log: log, byName: map[string]*hostLink{}}
}

// takeUp takes up the hosts of an earlier gateway, which are without their keys: it
// comes before any launcher's set, or it would undo that. run must follow.
func (h *hosts) takeUp() {
	for _, host := range h.load() {
		if err := h.set(host); err != nil {
			h.log.Warn("take up a GPU host", "host", host.Name, "err", err)
		}
	}
}

// run ends all links when ctx ends.
func (h *hosts) run(ctx context.Context) error {
	<-ctx.Done()
	h.mu.Lock()
	h.ended = true
	for _, link := range h.byName {
		link.end()
	}
	h.mu.Unlock()
	h.links.Wait()
	return nil
}

// set begins to use host, or replaces what is known of it.
func (h *hosts) set(host tunnel.Host) error {
	if host.Name == "" {
		return errors.New("a GPU host needs a name")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return errors.New("the gateway is ending; hint: try again")
	}
	old := h.byName[host.Name]
	if old != nil && reflect.DeepEqual(old.host, host) {
		return nil
	}
	client, err := tunnel.New(host, h.log)
	if err != nil {
		return fmt.Errorf("GPU host %s: %w", host.Name, err)
	}
	if old != nil {
		old.end()
	}
	ctx, end := context.WithCancel(context.Background())
	h.byName[host.Name] = &hostLink{host, client, end}
	h.links.Go(func() {
		if err := client.Run(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("the connection to a GPU host ended", "host", host.Name, "err", err)
		}
	})
	return h.save()
}

func (h *hosts) dial(ctx context.Context, name, network, address string) (net.Conn, error) {
	h.mu.Lock()
	link := h.byName[name]
	h.mu.Unlock()
	if link == nil {
		return nil, fmt.Errorf("GPU host %q is not connected; hint: start an agent with launcher, which hands over its keys", name)
	}
	return link.client.Dial(ctx, network, address)
}

func (h *hosts) status() []control.HostStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]control.HostStatus, 0, len(h.byName))
	for name, link := range h.byName {
		s := link.client.State()
		list = append(list, control.HostStatus{Name: name, Up: s.Up, Since: s.Since, Reconnects: s.Reconnects, LastError: s.LastError})
	}
	slices.SortFunc(list, func(a, b control.HostStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// load returns the hosts on disk; a file that cannot be read is logged and
// passed over, since launchers hand the hosts over again.
func (h *hosts) load() []tunnel.Host {
	data, err := os.ReadFile(h.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var list []tunnel.Host
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		h.log.Warn("read the GPU hosts", "err", err)
	}
	return list
}

// save writes the hosts without their secrets; h.mu is held.
func (h *hosts) save() error {
	var list []tunnel.Host
	for _, link := range h.byName {
		list = append(list, link.host.WithoutSecrets())
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = os.WriteFile(h.path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the GPU hosts: %w", err)
	}
	return nil
}
