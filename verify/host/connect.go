package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

const (
	maxPairs = 512 // addresses and ports that one probe tries
	together = 32  // of them at a time
	perPair  = 2 * time.Second
)

// pair is one address and port to try.
type pair struct {
	network string // "tcp" or "udp"
	to      netip.AddrPort
}

// pairs combines addresses and ports. Ports that are the sinkhole's are left out:
// what goes there never aims at the host.
func pairs(network string, addrs []netip.Addr, ports []uint16) []pair {
	const dns = 53
	var list []pair
	for _, port := range ports {
		for _, addr := range addrs {
			if port != dns && port != 0 && len(list) < maxPairs {
				list = append(list, pair{network, netip.AddrPortFrom(addr, port)})
			}
		}
	}
	return list
}

// tryAll tries each pair, and makes one finding of them: what was reached counts
// most, then what nobody can say of, then what was blocked.
func tryAll(ctx context.Context, t probe.Target, name string, list []pair) probe.Finding {
	found := make([]probe.Finding, len(list))
	slots := make(chan struct{}, together)
	var wait sync.WaitGroup
	for i, p := range list {
		slots <- struct{}{}
		wait.Go(func() {
			found[i] = p.try(ctx, t, name)
			<-slots
		})
	}
	wait.Wait()
	return worst(found)
}

func worst(found []probe.Finding) probe.Finding {
	rank := map[verify.Outcome]int{verify.Reached: 0, verify.Unproven: 1, verify.Blocked: 2, verify.StoppedInside: 3}
	var w probe.Finding
	var events []probe.Event
	counts := map[verify.Outcome]int{}
	for i, f := range found {
		counts[f.Outcome]++
		events = append(events, f.Events...)
		if i == 0 || rank[f.Outcome] < rank[w.Outcome] {
			w = f
		}
	}
	if len(found) > 1 {
		w.Detail = fmt.Sprintf("%d of %d: %s", counts[w.Outcome], len(found), w.Detail)
	}
	if w.Outcome == verify.Blocked {
		w.Events = events
	}
	return w
}

// try says who it is, and listens.
func (p pair) try(ctx context.Context, t probe.Target, name string) probe.Finding {
	ctx, cancel := context.WithTimeout(ctx, perPair)
	defer cancel()
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, p.network, p.to.String())
	if err != nil {
		return p.failed(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return p.failed(err)
	}
	if _, err := conn.Write(t.Payload(name + "/" + string(t.Setting))); err != nil {
		return p.failed(err)
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	switch {
	case n == 0 && err != nil:
		return p.failed(err)
	case bytes.HasPrefix(answer, []byte("HTTP/1.")) && bytes.Contains(answer, []byte("\r\nX-Sallyport-Reason:")):
		return probe.Blocked(fmt.Sprintf("%s %s: the gateway's own refusal", p.network, p.to), p.event())
	}
	return probe.Reached("%s %s answered %.60q", p.network, p.to, answer[:n])
}

// failed judges an error. A refusal by the wall looks like one by the host: that
// it was the wall's is what the record must show.
func (p pair) failed(err error) probe.Finding {
	what := fmt.Sprintf("%s %s", p.network, p.to)
	errno := syscall.Errno(0)
	switch {
	case errors.As(err, &errno) && p.local(errno):
		return probe.Stopped(errno, what)
	case errno != 0:
		return probe.Blocked(what+": "+errno.Error(), p.event())
	case p.network == "udp" && errors.Is(err, os.ErrDeadlineExceeded):
		return probe.Blocked(what+": silent until the deadline", p.event())
	}
	return probe.Unproven("%s: %.120q", what, err.Error())
}

// local reports whether the container's own kernel refused, before a packet was.
func (p pair) local(errno syscall.Errno) bool {
	return p.to.Addr().IsLoopback() || errno == unix.ENETUNREACH || errno == unix.EPERM || errno == unix.EADDRNOTAVAIL || errno == unix.EAFNOSUPPORT
}

// event is what the record must hold of it.
func (p pair) event() probe.Event {
	e := probe.Event{Layer: audit.LayerIntercept, Proto: p.network, Dst: p.to.String()}
	if p.network == "udp" || p.to.Port() == ownPort {
		e.Layer = audit.LayerPacket
	}
	return e
}

// ownPort is that of the wall's own listeners, which a rule refuses.
const ownPort = 15001
