package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/dnsblock"
)

// aloneDNS serves DNS over UDP.
func aloneDNS(ctx context.Context, a *alone, at string) error {
	config := net.ListenConfig{Control: receiveDestination}
	c, err := config.ListenPacket(ctx, "udp4", at)
	if err != nil {
		return err
	}
	s := &dnsblock.Server{Subject: aloneSubject, Record: a.append, RecordAll: a.store.AppendEach, Log: slog.New(slog.DiscardHandler)}
	a.tasks.Go(func() error { return s.ServeUDP(ctx, c.(*net.UDPConn)) })
	return nil
}

// receiveDestination has the kernel tell which server is asked, as the wall does.
func receiveDestination(_, _ string, raw syscall.RawConn) error {
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("receive the destination: %w", os.NewSyscallError("setsockopt", failed))
	}
	return nil
}
