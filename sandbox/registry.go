package sandbox

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/wall/wire"
)

// Registration is what a launcher says of a sandbox that it starts. It is kept
// on disk, so that a gateway that comes back knows whose connections it serves.
type Registration struct {
	Token string `json:"token"` // the holder's; at least 32 bytes
	audit.Subject
	Endpoints []policy.Endpoint `json:"endpoints"` // what passes to the model; empty: nothing
	Upstream  Upstream          `json:"upstream"`
	// UnsafeMount says why the project should not have been mounted, where the
	// user insisted; empty: it may be. It is recorded.
	UnsafeMount string    `json:"unsafe_mount,omitempty"`
	Addresses   Addresses `json:"addresses"` // set by Hub.Register
}

// Upstream is the model server of one sandbox.
type Upstream struct {
	Name       string   `json:"name"`            // the model's name in requests
	Aliases    []string `json:"aliases"`         // other names that a request may use
	Host       string   `json:"host,omitempty"`  // the GPU host that it is reached through; empty: this machine
	Network    string   `json:"network"`         // "unix" or "tcp"
	Address    string   `json:"address"`         // path, or host:port
	Token      string   `json:"token,omitempty"` // bearer token; empty: none
	Controlled bool     `json:"controlled"`      // we started it without a network
	Spare      []Place  `json:"spare,omitempty"` // where the same model is served too, the preferred first; at most maxSpare
}

// Addresses of one sandbox: a /31 and a /127. Sandbox is the even one.
type Addresses struct {
	Sandbox4 netip.Addr `json:"sandbox4"`
	Gate4    netip.Addr `json:"gate4"`
	Sandbox6 netip.Addr `json:"sandbox6"`
	Gate6    netip.Addr `json:"gate6"`
}

// registry is the file of registrations and of the pool's next address.
type registry struct {
	path         string
	pool4, pool6 netip.Prefix
	Next         uint64                   `json:"next"`
	Sandboxes    map[string]*Registration `json:"sandboxes"`
}

func loadRegistry(path string, pool4, pool6 netip.Prefix) (*registry, error) {
	if err := checkPools(pool4, pool6); err != nil {
		return nil, err
	}
	r := &registry{path: path, pool4: pool4, pool6: pool6, Sandboxes: map[string]*Registration{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the registrations: %w", err)
	}
	err = json.Unmarshal(data, r)
	for id, reg := range r.Sandboxes {
		if err == nil && (reg == nil || reg.Sandbox != id) {
			err = fmt.Errorf("registration %q is not whole", id)
		}
		if err == nil {
			err = reg.check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the registrations in %s: %w; hint: with no sandbox running, the file may be deleted", path, err)
	}
	if r.Sandboxes == nil {
		r.Sandboxes = map[string]*Registration{}
	}
	return r, nil
}

// checkPools fails where no pair of addresses, or not one in each pool for a
// pair of the other, is to be had.
func checkPools(pool4, pool6 netip.Prefix) error {
	if !pool4.IsValid() || !pool4.Addr().Is4() || pool4.Bits() > 31 {
		return fmt.Errorf("network.pool %s is no IPv4 prefix of two addresses or more", pool4)
	}
	if pool6.IsValid() && (!pool6.Addr().Is6() || pool6.Addr().Is4In6() || 128-pool6.Bits() < 32-pool4.Bits()) {
		return fmt.Errorf("the IPv6 pool %s is smaller than network.pool %s", pool6, pool4)
	}
	return nil
}

func (r Registration) check() error {
	if !wire.ValidSandbox(r.Sandbox) {
		return errors.New("a sandbox id is twelve lower case hexadecimal digits")
	}
	if len(r.Token) < 32 {
		return errors.New("a holder's token must have at least 32 bytes")
	}
	return r.Upstream.CheckPlaces()
}

// save replaces the file as a whole.
func (r *registry) save() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the registrations: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(r.path), ".registrations-*") // 0600
	if err != nil {
		return fmt.Errorf("write the registrations: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write the registrations: %w", err)
	}
	return nil
}

func (r *registry) add(reg Registration) (*Registration, error) {
	if err := reg.check(); err != nil {
		return nil, err
	}
	switch {
	case r.Sandboxes[reg.Sandbox] != nil:
		return nil, fmt.Errorf("sandbox %s is registered already", reg.Sandbox)
	case r.byToken(reg.Token) != nil:
		return nil, errors.New("that token is in use")
	}
	addresses, err := r.allocate()
	if err != nil {
		return nil, err
	}
	reg.Addresses = addresses
	r.Sandboxes[reg.Sandbox] = &reg
	if err := r.save(); err != nil {
		delete(r.Sandboxes, reg.Sandbox)
		return nil, err
	}
	return &reg, nil
}

func (r *registry) remove(id string) error {
	delete(r.Sandboxes, id)
	return r.save()
}

func (r *registry) byToken(token string) *Registration {
	for _, reg := range r.Sandboxes {
		if subtle.ConstantTimeCompare([]byte(reg.Token), []byte(token)) == 1 {
			return reg
		}
	}
	return nil
}

// allocate takes the next free pair of addresses; none is given out again before
// the whole pool was.
func (r *registry) allocate() (Addresses, error) {
	pairs := uint64(1) << (31 - r.pool4.Bits())
	used := map[netip.Addr]bool{}
	for _, reg := range r.Sandboxes {
		used[reg.Addresses.Sandbox4] = true
	}
	for range pairs {
		pair := r.Next % pairs
		r.Next = (pair + 1) % pairs
		a := r.addresses(pair)
		if !used[a.Sandbox4] {
			return a, nil
		}
	}
	return Addresses{}, fmt.Errorf("all %d address pairs of %s are in use; hint: stop a sandbox, or widen network.pool", pairs, r.pool4)
}

func (r *registry) addresses(pair uint64) Addresses {
	a := Addresses{Sandbox4: offset(r.pool4, 2*pair), Gate4: offset(r.pool4, 2*pair+1)}
	if r.pool6.IsValid() {
		a.Sandbox6, a.Gate6 = offset(r.pool6, 2*pair), offset(r.pool6, 2*pair+1)
	}
	return a
}

// offset is the n-th address of prefix.
func offset(prefix netip.Prefix, n uint64) netip.Addr {
	b := prefix.Masked().Addr().AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += uint64(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
