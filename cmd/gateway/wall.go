package main

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/wall"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// wallSocketInside is where wall and holders find the wall socket: the launcher
// mounts its folder there.
const (
	wallSocketInside = "/run/sallyport/wall/wall.sock"
	tokenVariable    = "SALLYPORT_TOKEN"
)

func newWallCommand(p process) *cobra.Command {
	socket := wallSocketInside
	c := &cobra.Command{
		Use:   "wall",
		Short: "Be the wall: the namespace where every packet of every sandbox ends (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			log := newLogger(p.stderr)
			if err := confineHelper(p, log, wall.Ports()); err != nil {
				return err
			}
			w := &wall.Wall{Socket: socket, Token: p.getenv(tokenVariable), Log: log}
			return w.Run(c.Context())
		},
	}
	c.Flags().StringVar(&socket, "socket", socket, "the gateway's wall socket")
	return c
}

func newHoldCommand(p process) *cobra.Command {
	socket := wallSocketInside
	c := &cobra.Command{
		Use:   "hold",
		Short: "Hold one sandbox's network namespace (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			log := newLogger(p.stderr)
			if err := confineHelper(p, log, nil); err != nil {
				return err
			}
			h := &wall.Holder{Socket: socket, Token: p.getenv(tokenVariable), Log: log}
			return h.Run(c.Context())
		},
	}
	c.Flags().StringVar(&socket, "socket", socket, "the gateway's wall socket")
	return c
}

// confineHelper confines a wall or a holder, by starting it anew; it returns when
// that has been done. Each keeps NET_ADMIN for its whole life: a wall plugs a
// sandbox, reads its counters and puts its rules back at any time, a holder removes
// interfaces and puts addresses and routes back. Everything else goes: files but
// /proc, which has the sysctls and the namespace's descriptor, other programs, TCP
// connections, and ports but those of the wall's listeners.
func confineHelper(p process, log *slog.Logger, ports []uint16) error {
	const keep = 1 << unix.CAP_NET_ADMIN
	before, err := confined(p)
	if err != nil {
		return err
	}
	kernel, err := confine.Ask()
	if err != nil {
		return err
	}
	if before != nil {
		if kernel.ABI == 0 {
			log.Warn("not confined by Landlock", "why", kernel.Why)
		}
		return onlyHolds(keep)
	}
	runtime.LockOSThread() // what is set on this thread is what the next program starts with
	if err := confine.Capabilities(keep); err != nil {
		return err
	}
	rules := confine.Rules{Read: []string{"/proc", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"}, Bind: ports}
	return startConfined(kernel, rules, begun{lookout: -1}, p.environ())
}

// onlyHolds fails if this process has another capability than those of keep, or can
// gain one.
func onlyHolds(keep uint64) error {
	held, err := confine.Held()
	if err != nil {
		return err
	}
	if more := held.Capabilities &^ keep; more != 0 || !held.NoNewPrivileges {
		return fmt.Errorf("this process must hold no capability but %x and gain none, but it holds %x more, and no_new_privs is %t", keep, more, held.NoNewPrivileges)
	}
	return nil
}

func newLogger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}
