package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the lab.
type Host struct {
	// Name is the host's name, as uname and the tests see it.
	Name string

	thread *thread
	net    *os.File        // its network namespace
	links  *netlink.Handle // speaks netlink in that namespace

	// The rest is set for hosts that run programs (see boot).
	mounts *os.File // its mount namespace
	init   *exec.Cmd
	leash  *os.File // init ends when this is closed, by us or by our death
	user   *account
	mu     sync.Mutex
	cmds   map[*Cmd]struct{}
	closed bool
}

// newHost makes a host with a host-name namespace and, unless it shares this
// machine's network, a network of its own.
func newHost(name string, ownNet bool) (*Host, error) {
	h := &Host{Name: name, thread: newThread(), cmds: make(map[*Cmd]struct{})}
	flags := unix.CLONE_FS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	if ownNet {
		flags |= unix.CLONE_NEWNET
	}
	err := h.thread.do(func() error {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("lab: make namespaces of %s (root needed): %w", name, err)
		}
		var err error
		if h.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return unix.Sethostname([]byte(name))
	})
	if err != nil {
		h.thread.end()
		return nil, err
	}
	if h.links, err = netlink.NewHandleAt(netns.NsHandle(h.net.Fd())); err != nil {
		h.close()
		return nil, fmt.Errorf("lab: netlink on %s: %w", name, err)
	}
	return h, nil
}

// boot gives the host its file tree and process namespace.
func (h *Host) boot(t *tree) error {
	if err := h.thread.do(t.enter); err != nil {
		return fmt.Errorf("lab: file tree of %s: %w", h.Name, err)
	}
	if err := h.startInit(); err != nil {
		return fmt.Errorf("lab: first process of %s: %w", h.Name, err)
	}
	of := fmt.Sprintf("/proc/%d/ns/", h.init.Process.Pid)
	var err error
	if h.mounts, err = os.Open(of + "mnt"); err != nil {
		return err
	}
	// What the thread starts from now on is a child of that process namespace.
	ns, err := os.Open(of + "pid")
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return h.thread.do(func() error {
		return unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID)
	})
}

// initScript is process 1. With SIGCHLD ignored, which dash cannot do, the kernel
// itself buries what daemons leave behind. It ends when its standard input does,
// which is when the test process closes it or is gone, and the kernel then ends all
// the others.
const initScript = `mount -t proc -o nosuid,nodev,noexec proc /proc && echo up && exec perl -e '$SIG{CHLD} = "IGNORE"; 1 while <STDIN>'`

func (h *Host) startInit() error {
	in, leash, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, said, err := os.Pipe()
	if err != nil {
		_ = leash.Close()
		return err
	}
	defer func() { _ = out.Close() }()
	h.leash = leash
	h.init = &exec.Cmd{
		Path:        "/bin/sh",
		Args:        []string{"sp-" + h.Name, "-ec", initScript},
		Env:         []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:         "/",
		Stdin:       in,
		Stdout:      said,
		Stderr:      os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true},
	}
	err = h.thread.do(h.init.Start)
	_ = said.Close()
	if err != nil {
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("it said %q: %w", line, err)
	}
	return nil
}

// Do runs f on a thread that is in the host's namespaces. A socket that f makes
// is the host's, and so is a path that f opens. f must not start goroutines that
// are to be there too.
func (h *Host) Do(f func() error) error { return h.thread.do(f) }

// aside is Do on a thread made for this one call: for functions that may take
// long, so that nobody waits for them.
func (h *Host) aside(f func() error) error {
	t := newThread()
	defer t.end()
	return t.do(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		if h.mounts != nil {
			if err := unix.Setns(int(h.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
				return err
			}
		}
		return f()
	})
}

// Listen listens on the host, on TCP or on a unix socket of its file tree.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Dial connects from the host. The address must not need a resolver.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.aside(func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Outside gives the path under which the test process reaches a path of the host.
// An absolute symbolic link on the way (/var/run is one) leads back to this
// machine: name the place itself.
func (h *Host) Outside(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", h.init.Process.Pid), path)
}

// close ends every process of the host, then its namespaces.
func (h *Host) close() {
	h.mu.Lock()
	h.closed = true
	left := make([]*Cmd, 0, len(h.cmds))
	for c := range h.cmds {
		left = append(left, c)
	}
	h.mu.Unlock()
	if h.leash != nil {
		_ = h.leash.Close()
	}
	// A process namespace ends only when our own children in it are waited for.
	for _, c := range left {
		_ = c.Wait()
	}
	if h.init != nil && h.init.Process != nil {
		_ = h.init.Wait()
	}
	if h.links != nil {
		h.links.Close()
	}
	for _, ns := range []*os.File{h.net, h.mounts} {
		if ns != nil {
			_ = ns.Close()
		}
	}
	h.thread.end()
}
