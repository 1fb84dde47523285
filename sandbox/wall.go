package sandbox

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"os"

	"github.com/sallyport/sallyport/wall/wire"
)

const maxPlugRetries = 5

// handleWall serves the connection of the wall. There is one: the newest, since
// that is the one that the launcher made.
func (h *Hub) handleWall(ctx context.Context, conn *wire.Conn, hello wire.Hello) {
	if subtle.ConstantTimeCompare([]byte(hello.Token), []byte(h.WallToken)) != 1 {
		h.refuse(conn, "the wall's token is not known")
		return
	}
	h.newWall()
	h.mu.Lock()
	for h.wall != nil {
		old := h.wall
		h.mu.Unlock()
		h.dismiss(old.Conn, "another wall has taken over")
		h.wallLost(old)
		h.newWall()
		h.mu.Lock()
	}
	if h.closed {
		h.mu.Unlock()
		return
	}
	wall := &wallConn{conn, hello.IPv6, map[string]uint64{}}
	h.wall = wall
	for _, s := range h.sandboxes {
		h.plug(s)
	}
	h.notify()
	h.mu.Unlock()
	h.Log.Info("the wall is here", "ipv6", hello.IPv6)
	err := h.receiveWall(ctx, wall)
	h.Log.Info("the wall went away", "err", err)
	conn.Close()
	h.wallLost(wall)
}

// wallLost ends what runs over a wall that is gone, and asks the holders to
// delete their dead interfaces and send their descriptors again.
func (h *Hub) wallLost(wall *wallConn) {
	h.mu.Lock()
	if h.wall != wall {
		h.mu.Unlock()
		return
	}
	h.wall = nil
	var stops []func()
	var dead []*sandbox
	for _, s := range h.sandboxes {
		if s.netns == nil {
			dead = append(dead, s)
		}
		s.plugging = 0
		stops = append(stops, h.unserve(s))
	}
	h.notify()
	h.mu.Unlock()
	for _, stop := range stops { // before the interfaces go: the resets leave by them
		stop()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range dead {
		if s.holder != nil && s.netns == nil && s.plugging == 0 {
			h.send(s.holder, wire.Message{Replug: &wire.Replug{}})
		}
	}
}

// plug asks the wall for a sandbox's plug, if both are there; h.mu is held.
func (h *Hub) plug(s *sandbox) {
	if h.wall == nil || s.netns == nil {
		return
	}
	req := wire.Plug{Sandbox: s.Sandbox, Wall4: prefix(s.Addresses.Gate4)}
	if h.wall.ipv6 {
		req.Wall6 = prefix(s.Addresses.Gate6)
	}
	h.send(h.wall.Conn, wire.Message{Plug: &req}, s.netns)
	s.netns.Close()
	s.netns = nil
	s.plugging++
}

// isWall reports whether conn is the wall's.
func (h *Hub) isWall(conn *wire.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wall != nil && h.wall.Conn == conn
}

func (h *Hub) receiveWall(ctx context.Context, wall *wallConn) error {
	for {
		m, files, err := wall.Receive()
		if err != nil {
			return err
		}
		switch {
		case m.Plugged != nil:
			err = h.plugged(ctx, wall, *m.Plugged, files)
		case m.Packets != nil:
			h.packets(wall, *m.Packets)
		default:
			err = errors.New("the wall sent a message that is not for a gateway")
		}
		wire.CloseAll(files)
		if err != nil {
			return err
		}
	}
}

// plugged takes the listeners of a sandbox and serves them.
func (h *Hub) plugged(ctx context.Context, wall *wallConn, answer wire.Plugged, files []*os.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sandboxes[answer.Sandbox]
	if s == nil || h.wall != wall || s.holder == nil || h.closed {
		return nil // it ended meanwhile
	}
	if s.plugging == 0 {
		return errors.New("the wall sent a plug that nobody asked for")
	}
	if s.plugging--; s.plugging > 0 {
		return nil // the holder has sent a newer descriptor meanwhile
	}
	if answer.Error != "" || len(files) != 2 {
		h.plugFailed(s, answer.Error)
		return nil
	}
	err := h.start(ctx, s, files[0], files[1])
	wire.CloseAll(files) // before it is known to be ready: else its port would stay open past its servers
	if err != nil {
		h.plugFailed(s, err.Error())
		return nil
	}
	address := wire.Address{Addr4: prefix(s.Addresses.Sandbox4), Gate4: s.Addresses.Gate4}
	if s.IPv6 = wall.ipv6 && s.Addresses.Gate6.IsValid(); s.IPv6 {
		address.Addr6, address.Gate6 = prefix(s.Addresses.Sandbox6), s.Addresses.Gate6
	}
	h.send(s.holder, wire.Message{Address: &address})
	return nil
}

// plugFailed asks the holder for a clean start, a few times; h.mu is held.
func (h *Hub) plugFailed(s *sandbox, why string) {
	if h.gone(s) {
		return
	}
	h.Log.Warn("the wall could not plug a sandbox", "sandbox", s.Sandbox, "err", why)
	s.retries++
	if s.retries > maxPlugRetries {
		h.running.Go(func() { h.end(s, "the wall could not plug it: "+why) })
		return
	}
	h.send(s.holder, wire.Message{Replug: &wire.Replug{}})
}

// prefix is a with the mask of its pair: a /31 or a /127. An invalid a stays so.
func prefix(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen()-1)
}
