package names

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/peer"
)

// Ports at the laptop's end of the bridge.
const (
	alonePort   = "18401"
	corednsPort = "18402"
	unboundPort = "18403"
	dnsmasqPort = "18404"
)

func openOurs(ctx context.Context, f *field.Field, s *sink) (err error) {
	if err := f.Product(ctx, field.Config{}); err != nil {
		return err
	}
	if s.worker, err = f.Sandbox(ctx); err != nil {
		return err
	}
	s.server = net.JoinHostPort(s.worker.Gate(), "53")
	s.record = &store{path: filepath.Join(f.Lab.Laptop.Home, ".local/state/sallyport/audit.db"), sandbox: s.worker.ID()}
	return nil
}

// openPeer starts a peer, and a worker on the bridge that asks it.
func (s *sink) openPeer(ctx context.Context, f *field.Field, port string, spec func(at string) peer.Spec) error {
	s.server = net.JoinHostPort(f.BridgeAddr(), port)
	p, err := f.Peer(ctx, spec(s.server))
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func(context.Context) error { return p.Stop() })
	s.worker, err = f.Bridge(ctx)
	return err
}

func openAlone(ctx context.Context, f *field.Field, s *sink) error {
	dir := filepath.Join(f.Disk, "sinkhole-alone")
	s.record = &store{path: filepath.Join(dir, "audit.db"), sandbox: "alone"}
	return s.openPeer(ctx, f, alonePort, func(at string) peer.Spec {
		return peer.Spec{Name: "sinkhole-alone", Ready: "udp:" + at, Command: []string{f.PeerProgram(), "alone", "-record", dir, "-dns", at}}
	})
}

func openCoreDNS(ctx context.Context, f *field.Field, s *sink) error {
	built, err := peer.BuildCoreDNS(ctx)
	if err != nil {
		return err
	}
	program := filepath.Join(f.Programs, "coredns")
	text, err := os.ReadFile(built)
	if err == nil {
		err = errors.Join(os.WriteFile(program, text, 0o755), os.Chmod(program, 0o755))
	}
	if err != nil {
		return err
	}
	s.record = &log{path: filepath.Join(f.Disk, "coredns.out")}
	return s.openPeer(ctx, f, corednsPort, func(at string) peer.Spec {
		return peer.CoreDNS(program, at, filepath.Join(f.Disk, "coredns"))
	})
}

func openUnbound(ctx context.Context, f *field.Field, s *sink) error {
	dir := filepath.Join(f.Disk, "unbound")
	s.record = &log{path: filepath.Join(dir, "queries.log")}
	return s.openPeer(ctx, f, unboundPort, func(at string) peer.Spec {
		return peer.Unbound(at, dir, filepath.Join(dir, "queries.log"))
	})
}

func openDnsmasq(ctx context.Context, f *field.Field, s *sink) error {
	dir := filepath.Join(f.Disk, "dnsmasq")
	s.record = &log{path: filepath.Join(dir, "queries.log"), word: "query[A]"}
	return s.openPeer(ctx, f, dnsmasqPort, func(at string) peer.Spec {
		return peer.Dnsmasq(at, dir, filepath.Join(dir, "queries.log"))
	})
}
