package addresses

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// parcel is a packet that is sent, be it crafted or made by the kernel.
type parcel struct {
	what  string // in the report, where there are several
	send  func(ctx context.Context) (answer []byte, err error)
	seen  func(frame []byte) bool // whether this is it, as it arrives at the wire's far end
	event probe.Event             // what the record must hold of it
}

// emit sends parcels. In the control that has a wire they are reached if each is
// seen at its far end. Elsewhere nobody stands there: reached is what is answered,
// and for the rest the record has to tell.
func emit(ctx context.Context, t probe.Target, parcels []parcel) probe.Finding {
	if f, elsewhere := ownOnly(t); elsewhere {
		return f
	}
	var far *tap
	if t.Setting == probe.OwnListener {
		var err error
		if far, err = tapAt(ctx, farEnd); err != nil {
			return probe.Unproven("watch the wire's far end: %v", err)
		}
		defer far.close()
	}
	var wait sync.WaitGroup
	findings := make([]probe.Finding, len(parcels))
	for i, p := range parcels {
		wait.Go(func() { findings[i] = p.post(ctx) })
	}
	wait.Wait()
	if far != nil {
		far.await(parcels, findings)
	}
	for _, p := range parcels {
		if p.event.Rule == halfOpen {
			settle(ctx, t, handshakeTime)
			break
		}
	}
	for i := range findings {
		if len(parcels) > 1 {
			findings[i].Detail = parcels[i].what + ": " + findings[i].Detail
		}
	}
	return merge(t, findings)
}

// halfOpen is the rule of a connection that was begun and not completed.
const halfOpen = "half-open"

// handshakeTime is how long the gateway waits for a connection to come to be, and
// until it has looked.
const handshakeTime = 6500 * time.Millisecond

// settle waits, in a sandbox, until the record has what takes the product so long.
func settle(ctx context.Context, t probe.Target, d time.Duration) {
	if t.Setting != probe.Sandbox {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p parcel) post(ctx context.Context) probe.Finding {
	answer, err := p.send(ctx)
	var made socketError
	switch {
	case errors.As(err, &made):
		return probe.Stopped(made.error, "the kernel")
	case err != nil:
		return refused(err, p.event)
	case answer != nil:
		return probe.Reached("%s", describe(answer))
	}
	return probe.Blocked("sent, and not answered", p.event)
}

// socketError is one before anything was sent, whatever its number.
type socketError struct{ error }

// tap shows the packets that arrive at an interface.
type tap struct{ fd int }

func tapAt(ctx context.Context, name string) (*tap, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // nothing before it is bound
	if err != nil {
		return nil, fmt.Errorf("make a packet socket: %w", err)
	}
	tv := unix.NsecToTimeval(left(ctx, brief).Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: i.Index}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bind a packet socket: %w", err), unix.Close(fd))
	}
	return &tap{fd}, nil
}

func (w *tap) close() { unix.Close(w.fd) }

func networkOrder(n uint16) uint16 { return n<<8 | n>>8 }

// await reads what arrived until all parcels did, or there is a pause. It turns the
// finding of each that arrived into reached.
func (w *tap) await(parcels []parcel, findings []probe.Finding) {
	buf := make([]byte, 1<<16)
	for missing := len(parcels); missing > 0; {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		for i, p := range parcels {
			if findings[i].Outcome != verify.Reached && p.seen(buf[:n]) {
				findings[i] = probe.Reached("it arrived at the far end of the wire")
				missing--
			}
		}
	}
}

// holds matches frames with these bytes in them.
func holds(part []byte) func([]byte) bool {
	return func(frame []byte) bool { return bytes.Contains(frame, part) }
}
