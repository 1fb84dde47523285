package dnsblock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The answer of SO_MEMINFO, linux/sock_diag.h.
const (
	skMeminfoDrops = 8
	skMeminfoVars  = 9
)

// defaultDropTime is how often dropped queries are recorded, at most: each time
// makes an event of its own, and they come by the thousand.
const defaultDropTime = time.Second

// lostReason is that of queries that were dropped.
const lostReason = "DNS queries that came too fast: there was no room for them at the socket"

// ServeUDP answers the queries that arrive at c until ctx is done; then, or on
// an error, it has closed c. c has IP_RECVORIGDSTADDR and, if it is an IPv6
// socket, IPV6_RECVORIGDSTADDR set: they tell which server was asked, and it is
// from that server's address that the answer comes. For that c has to be
// transparent, and bound to the port that was asked. With RecordAll, while queries
// wait for their record the next are taken, and two may be recorded in another order
// than they came in.
func (s *Server) ServeUDP(ctx context.Context, c *net.UDPConn) error {
	defer c.Close()
	if err := s.check(); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("serve DNS over UDP: %w", err)
	}
	ended := make(chan struct{})
	var counting sync.WaitGroup
	counting.Go(func() { s.countDropped(raw, ended) })
	defer counting.Wait()
	defer close(ended)
	workers, most := 1, 1 // without RecordAll
	if s.RecordAll != nil {
		workers, most = batchWorkers, maxBatch
	}
	answering, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		if c.SetDeadline(time.Unix(1, 0)) != nil { // what was dropped is counted before c is closed
			c.Close()
		}
	})
	defer stop()
	for range workers {
		answering.Go(func() error { return s.answerUDP(ctx, ipv4.NewPacketConn(c), most) })
	}
	return answering.Wait()
}

// answerUDP answers what comes at c, at most so many queries at a time, until ctx is
// done.
func (s *Server) answerUDP(ctx context.Context, c *ipv4.PacketConn, most int) error {
	b := newBatch(min(firstBatch, most))
	for {
		n, err := b.read(c)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve DNS over UDP: %w", err)
		}
		s.answer(c, b, n)
		if n == len(b.in) && n < most {
			b = newBatch(min(2*n, most))
		}
	}
}

// countDropped records how many queries the kernel dropped for want of room, or
// for a wrong checksum: now and then, and what is left once ended is closed. What
// cannot be recorded is not tried again: whoever keeps the record counts what it
// refused.
func (s *Server) countDropped(raw syscall.RawConn, ended <-chan struct{}) {
	tick := time.NewTicker(cmp.Or(s.dropTime, defaultDropTime))
	defer tick.Stop()
	var told uint32
	for open := true; open; {
		select {
		case <-tick.C:
		case <-ended:
			open = false
		}
		now, err := dropped(raw)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.Log.Error("DNS queries that are dropped are not counted", "error", err)
			}
			return
		}
		if now == told {
			continue
		}
		e := s.event(peer{proto: "udp"}, lostReason)
		e.Rule, e.Lost = "lost", int64(now-told) // the number may wrap around
		s.record(e)
		told = now
	}
}

// dropped is how many datagrams the kernel dropped at a socket so far: the same
// number as SO_RXQ_OVFL, which tells it only with a later datagram that has room.
func dropped(raw syscall.RawConn) (n uint32, err error) {
	var info [skMeminfoVars]uint32
	size, errno := uint32(unsafe.Sizeof(info)), syscall.Errno(0)
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	return info[skMeminfoDrops], err
}
