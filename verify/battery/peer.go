package battery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

const (
	// PeerReady is the line with which a peer says that it listens.
	PeerReady    = "listening"
	contactMark  = "contact "
	maxContacts  = 1000            // that a peer prints
	peerPatience = 2 * time.Second // with a client that says nothing
)

// Peer is what stands for the internet: it listens on probe.Ports at every address
// of its container, and prints who sent it a packet of whatever kind, each sender
// and protocol once. It ends with ctx.
func Peer(ctx context.Context, w io.Writer) error {
	sniffer, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ALL)))
	if err != nil {
		return fmt.Errorf("listen for packets: %w", err)
	}
	defer unix.Close(sniffer)
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for _, port := range probe.Ports {
		if err := greet(ctx, &wait, ":"+strconv.Itoa(int(port))); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w, PeerReady); err != nil {
		return err
	}
	return contacts(ctx, sniffer, w)
}

// bigEndian turns a number to the order of the network (packet(7)).
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// greet listens at addr for TCP and UDP until ctx ends.
func greet(ctx context.Context, wait *sync.WaitGroup, addr string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	u, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	context.AfterFunc(ctx, func() { l.Close(); u.Close() })
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(peerPatience))
				if _, err := io.WriteString(c, probe.Greeting); err == nil {
					_, _ = io.Copy(io.Discard, io.LimitReader(c, maxLine)) // until the client has done
				}
			})
		}
	})
	wait.Go(func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(probe.Greeting), from)
		}
	})
	return nil
}

// contacts prints each sender of a packet to an address that is no multicast.
func contacts(ctx context.Context, fd int, w io.Writer) error {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
		return fmt.Errorf("listen for packets: %w", err)
	}
	seen := map[string]bool{}
	buf := make([]byte, 128)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listen for packets: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype != unix.PACKET_HOST || len(seen) >= maxContacts {
			continue
		}
		contact, ok := contactOf(buf[:n])
		if !ok || seen[contact] {
			continue
		}
		seen[contact] = true
		if _, err := fmt.Fprintln(w, contactMark+contact); err != nil {
			return err
		}
	}
	return nil
}

// contactOf says who sent an IP packet, and of what protocol.
func contactOf(packet []byte) (string, bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return fmt.Sprintf("%s %d", netip.AddrFrom4([4]byte(packet[12:16])), packet[9]), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return fmt.Sprintf("%s %d", netip.AddrFrom16([16]byte(packet[8:24])), packet[6]), true
	}
	return "", false
}

// Strangers reads what a Peer printed and returns the contacts of senders other than
// the known ones and its link's own.
func Strangers(printed string, known []netip.Addr) []string {
	var strangers []string
	for line := range strings.Lines(printed) {
		_, contact, ok := strings.Cut(strings.TrimSpace(line), contactMark)
		if !ok {
			continue
		}
		sender, _, _ := strings.Cut(contact, " ")
		addr, err := netip.ParseAddr(sender)
		ours := err == nil && (addr.IsLinkLocalUnicast() || addr.IsUnspecified())
		for _, k := range known {
			ours = ours || k == addr
		}
		if !ours {
			strangers = append(strangers, contact)
		}
	}
	return strangers
}
