package lab

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The two ends of a veth of MoveVeth.
const (
	VethOutside = "198.51.100.65"
	VethInside  = "198.51.100.66"
)

// Namespace is the network namespace of a process of a host.
type Namespace struct {
	*netlink.Handle
	file *os.File
}

// Namespace opens the network namespace of a process, named by its pid on the
// host. Close must follow.
func (h *Host) Namespace(pid string) (*Namespace, error) {
	f, err := os.Open(h.Outside("/proc/" + pid + "/ns/net"))
	if err != nil {
		return nil, err
	}
	links, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: netlink in the namespace of process %s: %w", pid, err), f.Close())
	}
	return &Namespace{links, f}, nil
}

// Fd is the namespace's descriptor, until Close.
func (n *Namespace) Fd() int { return int(n.file.Fd()) }

// Close lets go of the namespace.
func (n *Namespace) Close() {
	n.Handle.Close()
	_ = n.file.Close() // it was only looked at
}

// MoveVeth makes a veth, one end of which stays on the host, as a way out: up, with
// VethOutside as its address. The other is moved into a namespace, as `ip link set
// netns` does, and set up with VethInside, unless somebody there was quicker in
// removing it. A veth of the same name that is still on the host is removed first.
// It returns when the other end came to be there.
func (h *Host) MoveVeth(to *Namespace, outside, inside string) (moved time.Time, err error) {
	if err := h.RemoveVeth(outside); err != nil {
		return moved, err
	}
	// It is made under a name that cannot be taken: moving renames too.
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: outside}, PeerName: "sp-moves"}
	if err := h.links.LinkAdd(veth); err != nil {
		return moved, fmt.Errorf("lab: make a veth: %w", err)
	}
	if err := (port{h, outside, []string{VethOutside + "/30"}}).up(); err != nil {
		return moved, fmt.Errorf("lab: %s: %w", outside, err)
	}
	peer, err := h.links.LinkByName("sp-moves")
	if err == nil {
		err = h.links.LinkSetName(peer, inside)
	}
	if err == nil {
		moved = time.Now()
		err = h.links.LinkSetNsFd(peer, to.Fd())
	}
	if err != nil {
		return moved, fmt.Errorf("lab: move a veth: %w", err)
	}
	address, err := netlink.ParseAddr(VethInside + "/30")
	if err != nil {
		return moved, err
	}
	if there, err := to.LinkByName(inside); err == nil {
		_ = errors.Join(to.AddrAdd(there, address), to.LinkSetUp(there)) // it may be gone already
	}
	return moved, nil
}

// RemoveVeth removes an interface of the host, if it is there, and its peer with it.
func (h *Host) RemoveVeth(name string) error {
	link, err := h.links.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = h.links.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("lab: remove %s: %w", name, err)
	}
	return nil
}
