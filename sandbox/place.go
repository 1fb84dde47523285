package sandbox

import (
	"errors"
	"fmt"
	"slices"
)

// maxSpare bounds Upstream.Spare: each is asked when the place in use fails.
const maxSpare = 15

// Place is one address that a model is served at.
type Place struct {
	Host    string `json:"host,omitempty"` // the GPU host that it is reached through; empty: this machine
	Network string `json:"network"`        // "unix" or "tcp"
	Address string `json:"address"`        // path, or host:port
}

// String says where the place is, for people.
func (p Place) String() string {
	where := p.Network + "://" + p.Address
	if p.Host != "" {
		where = p.Host + " (" + where + ")"
	}
	return where
}

// Place is the one in use.
func (u Upstream) Place() Place { return Place{u.Host, u.Network, u.Address} }

// Places are the one in use and the spare ones, in this order.
func (u Upstream) Places() []Place { return append([]Place{u.Place()}, u.Spare...) }

// Prefer is u with its i-th place (of Places) as the one in use. The order of
// the others stays. An i that is no place's changes nothing.
func (u Upstream) Prefer(i int) Upstream {
	places := u.Places()
	if i < 0 || i >= len(places) {
		return u
	}
	p := places[i]
	u.Host, u.Network, u.Address = p.Host, p.Network, p.Address
	u.Spare = slices.Delete(places, i, i+1)
	if len(u.Spare) == 0 {
		u.Spare = nil
	}
	return u
}

// String says where the model server is, for people.
func (u Upstream) String() string { return u.Place().String() }

// CheckPlaces fails where Spare has a place that cannot be dialled, or one twice.
func (u Upstream) CheckPlaces() error {
	if len(u.Spare) > maxSpare {
		return fmt.Errorf("a model can have %d places at most, not %d", maxSpare+1, len(u.Spare)+1)
	}
	for i, p := range u.Spare {
		if p.Network != "unix" && p.Network != "tcp" || p.Address == "" {
			return fmt.Errorf("spare place %d of the model server: %q %q is neither a unix socket nor a TCP address", i+1, p.Network, p.Address)
		}
		if p == u.Place() || slices.Contains(u.Spare[:i], p) {
			return errors.New("the model server has a place twice: " + p.String())
		}
	}
	return nil
}

// Move makes p, one of its upstream's places, the one that a sandbox's model is
// reached at: State.Upstream then names it first, and a gateway that comes back
// begins there.
func (h *Hub) Move(id string, p Place) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sandboxes[id]
	if s == nil {
		return fmt.Errorf("there is no sandbox %q", id)
	}
	i := slices.Index(s.Upstream.Places(), p)
	if i < 0 {
		return fmt.Errorf("%s is no place of the model server of sandbox %s", p, id)
	}
	s.Upstream = s.Upstream.Prefer(i)
	h.registry.Sandboxes[id].Upstream = s.Upstream
	return h.registry.save()
}
