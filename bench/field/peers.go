package field

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/bench/peer"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	peerStart = 30 * time.Second // for a peer to be ready
	peerGrace = 5 * time.Second  // from SIGTERM to SIGKILL
)

// Peer starts a program on the laptop and waits until it is ready. What it prints
// goes to the file NAME.out on Disk.
func (f *Field) Peer(ctx context.Context, s peer.Spec) (*peer.Process, error) {
	p, err := f.peer(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return p, nil
}

func (f *Field) peer(ctx context.Context, s peer.Spec) (*peer.Process, error) {
	if err := f.peerFiles(s); err != nil {
		return nil, err
	}
	out, err := os.Create(f.peerOutput(s))
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the process has its own
	cmd := f.Lab.Laptop.CommandRoot(context.WithoutCancel(ctx), s.Command[0], s.Command[1:]...)
	if !s.Root {
		cmd = f.Lab.Laptop.Command(context.WithoutCancel(ctx), s.Command[0], s.Command[1:]...)
		cmd.Env = lab.WithPath(cmd.Env, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
	}
	cmd.Env = append(cmd.Env, s.Env...)
	if s.Dir != "" {
		cmd.Dir = s.Dir
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ends is told by what it printed
	}()
	stop := sync.OnceValue(func() error { return end(cmd, ended, s.Grace) })
	f.atReset(stop)
	if err := f.awaitPeer(ctx, s, ended); err != nil {
		err = errors.Join(err, stop())
		return nil, fmt.Errorf("%w; it printed: %s", err, printed(f.peerOutput(s)))
	}
	return peer.NewProcess(cmd.Process.Pid, stop), nil
}

func (f *Field) peerOutput(s peer.Spec) string { return filepath.Join(f.Disk, s.Name+".out") }

// printed is the end of a file, for an error.
func printed(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-endingSize):])
}

// peerFiles writes the files of a peer, and makes its folder, as whoever runs it.
func (f *Field) peerFiles(s peer.Spec) error {
	uid := lab.UserID
	if s.Root {
		uid = 0
	}
	if s.Dir != "" {
		if err := ownedFolder(f.Lab.Laptop.Outside(s.Dir), uid); err != nil {
			return err
		}
	}
	for path, text := range s.Files {
		at := f.Lab.Laptop.Outside(path)
		err := ownedFolder(filepath.Dir(at), uid)
		if err == nil {
			err = errors.Join(os.WriteFile(at, []byte(text), 0o644), os.Chown(at, uid, uid))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownedFolder makes a folder and those above it, unless they are there.
func ownedFolder(path string, uid int) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := ownedFolder(filepath.Dir(path), uid); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(path, 0o755), os.Chown(path, uid, uid))
}

// awaitPeer waits until a peer is ready; its end ends the wait.
func (f *Field) awaitPeer(ctx context.Context, s peer.Spec, ended <-chan struct{}) error {
	if s.Ready == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, peerStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f.ready(ctx, s.Ready)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// ready says why a place does not answer yet.
func (f *Field) ready(ctx context.Context, place string) error {
	network, address, _ := strings.Cut(place, ":")
	switch network {
	case "tcp", "unix":
		c, err := f.Lab.Laptop.Dial(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	case "udp":
		return f.bound(address)
	}
	return fmt.Errorf("%q is no place to wait for", place)
}

// bound says why nothing can have got a datagram at an address. Binding it would be in
// the way of who is about to do so.
func (f *Field) bound(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	var tables strings.Builder
	for _, name := range []string{"udp", "udp6"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(f.Lab.Laptop.Outside("/")), "net", name))
		if err != nil {
			return err
		}
		tables.Write(text)
	}
	if !boundIn(tables.String(), at) {
		return errors.New("nothing has bound it")
	}
	return nil
}

// boundIn reports whether a socket of proc(5)'s net/udp or net/udp6 has an address, or
// its port at every address.
func boundIn(table string, at netip.AddrPort) bool {
	want := []string{fmt.Sprintf("00000000:%04X", at.Port()), fmt.Sprintf("%032X:%04X", 0, at.Port())}
	if at.Addr().Is4() {
		b := at.Addr().As4()
		want = append(want, fmt.Sprintf("%02X%02X%02X%02X:%04X", b[3], b[2], b[1], b[0], at.Port()))
	}
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(want, fields[1]) {
			return true
		}
	}
	return false
}

// end ends a process, in an orderly way if it lets us, and what it started.
func end(cmd *lab.Cmd, ended <-chan struct{}, grace time.Duration) error {
	if grace == 0 {
		grace = peerGrace
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(grace):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the group is its own: it has a session
		<-ended
	}
	return nil
}
