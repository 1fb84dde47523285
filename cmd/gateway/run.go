package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/web"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// claimTimeout is how long a registration waits for its holder: long enough for
// an engine that is slow to start a container, short enough that what a crashed
// launcher left is soon gone.
const claimTimeout = 60 * time.Second

func newRunCommand(p process) *cobra.Command {
	var as string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway (launcher does it for you)",
		Long: `Run the gateway in the foreground until SIGTERM. It is an ordinary process without
any capability; started by root it becomes an ordinary user first. Where the kernel
has Landlock it can open its own files only. SIGHUP reads the policy again; a
configuration with an error leaves the old one in force.`,
		Example: "  gateway run\n  gateway run --config ./config.yaml",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Getuid() == 0 || os.Geteuid() == 0 {
				u, err := ordinaryUser(as, ".", p.getenv)
				if err != nil {
					return usage(err)
				}
				return becomeUser(u, p.environ())
			}
			before, err := confined(p)
			if err != nil {
				return err
			}
			g, err := newGateway(p, c, before)
			if err != nil {
				return err
			}
			if before == nil {
				return g.confine()
			}
			defer g.lookout.Close()
			if err := assertUnprivileged(); err != nil {
				return err
			}
			// What ps shows: starting again by a link has made it "exe".
			_ = os.WriteFile("/proc/self/comm", []byte("gateway"), 0)
			confine.Processors()
			return g.serve(c.Context())
		},
	}
	c.Flags().StringVar(&as, "as", "", "`UID:GID` to become when started by root (default: SUDO_UID, else the folder's owner, else 1000)")
	return c
}

// gateway is the running gateway: what its parts share.
type gateway struct {
	process
	configFile string
	config     *config.Config // as it was at the start; never changed
	paths      control.Paths
	policy     atomic.Pointer[policy.Policy] // the one thing that SIGHUP changes
	audit      *record
	page       *web.Server    // nil: not served
	lookout    *lookout       // nil: not confined yet
	kernel     confine.Kernel // its Landlock
	hub        *sandbox.Hub
	hosts      *hosts
	binary     func() (string, error) // SHA-256 of our program; it takes as long as the rest of the start
	since      time.Time
	down       context.CancelFunc
	log        *slog.Logger
}

// newGateway reads the configuration and makes the folders; before is nil in a
// process that is not confined yet.
func newGateway(p process, c *cobra.Command, before *begun) (*gateway, error) {
	paths, err := p.paths()
	if err != nil {
		return nil, err
	}
	g := &gateway{process: p, paths: paths, since: time.Now().UTC(), log: newLogger(p.stderr), binary: sync.OnceValues(ownHash)}
	g.configFile, _ = c.Flags().GetString("config")
	if before != nil {
		if g.kernel, err = confine.Ask(); err != nil {
			return nil, err
		}
		if g.lookout, err = takeOverLookout(before.lookout, before.lookoutsPID, g.log); err != nil {
			return nil, err
		}
	}
	cfg, rules, err := g.readConfig()
	if err != nil {
		return nil, usage(err)
	}
	g.config = cfg
	g.policy.Store(rules)
	if err := paths.Make(); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *gateway) readConfig() (*config.Config, *policy.Policy, error) {
	var open func(string) (io.ReadCloser, error)
	if g.lookout != nil {
		open = g.lookout.openConfig
	}
	cfg, err := loadConfig(g.process, g.configFile, open)
	if err != nil {
		return nil, nil, err
	}
	rules, err := policy.New(cfg.Policy.Allow)
	return cfg, rules, err
}

// serve runs everything until ctx ends. Start: lock, record, sockets, servers.
// Stop, in the order in which things end: sandboxes' servers, SSH connections,
// the control API, the record.
func (g *gateway) serve(ctx context.Context) (err error) {
	ctx, g.down = context.WithCancel(ctx)
	defer g.down()
	unlock, err := lock(g.paths.State)
	if err != nil {
		return err
	}
	defer unlock()
	if err := g.clearTemporary(); err != nil {
		return err
	}
	g.hosts = newHosts(g.paths.Hosts(), g.log)
	if err := clearPulls(g.paths.Pulls()); err != nil {
		return err
	}
	if err := g.openRecord(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.audit.Close()) }()
	wallToken, err := secretFile(g.paths.WallToken())
	if err != nil {
		return err
	}
	wallSocket, err := listenUnix("unixpacket", g.paths.WallSocket())
	if err != nil {
		return err
	}
	defer wallSocket.Close()
	controlSocket, err := listenUnix("unix", g.paths.ControlSocket())
	if err != nil {
		return err
	}
	defer controlSocket.Close()
	g.hub = &sandbox.Hub{
		Pool4: g.config.Network.Pool, Pool6: g.config.Network.Pool6, StateFile: g.paths.Registrations(),
		WallToken: wallToken, Serve: g.serveSandbox, Append: g.audit.Append, AppendAll: g.audit.AppendAll, Find: g.find, ClaimTimeout: claimTimeout, Log: g.log,
	}
	if err := g.hub.Open(); err != nil {
		return err
	}
	metricsSocket, err := listenUnix("unix", g.paths.MetricsSocket())
	if err != nil {
		return err
	}
	defer metricsSocket.Close()
	page, err := g.listenPage()
	if err != nil {
		return err
	}
	api := &control.Server{Handlers: g.handlers(wallToken), Refused: g.controlRefused, Log: g.log}
	g.log.Info("gateway started", "version", version(), "pid", os.Getpid(), "uid", os.Getuid(), "confined", g.confinement().String(), "processors", runtime.GOMAXPROCS(0))
	if g.kernel.ABI == 0 {
		g.log.Warn("not confined by Landlock", "why", g.kernel.Why)
	}
	g.hosts.takeUp() // before a launcher can hand over keys
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { _, err := g.binary(); return err }) // before the first launcher asks
	tasks.Go(func() error { return g.hosts.run(ctx) })
	tasks.Go(func() error { return g.hub.Run(ctx, wallSocket) })
	tasks.Go(func() error { return api.Serve(ctx, controlSocket) })
	tasks.Go(func() error { return g.serveMetrics(ctx, metricsSocket) })
	if page != nil {
		tasks.Go(func() error { return g.page.Serve(ctx, page) })
	}
	tasks.Go(func() error { return g.reloadOnHangup(ctx) })
	if err := tasks.Wait(); err != nil {
		return err
	}
	g.log.Info("gateway stopped")
	return nil
}

// reloadOnHangup reads the policy again at SIGHUP. An error keeps the old one.
func (g *gateway) reloadOnHangup(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if err := g.reload(); err != nil {
				g.log.Error("the configuration has errors; the old one stays in force", "err", err)
			}
		}
	}
}

// reload reads the policy again. An error keeps the old one.
func (g *gateway) reload() error {
	cfg, rules, err := g.readConfig()
	if err != nil {
		return err
	}
	g.policy.Store(rules)
	g.log.Info("policy read again", "rules", len(cfg.Policy.Allow))
	if cfg.Network != g.config.Network || cfg.Audit != g.config.Audit || cfg.Web != g.config.Web {
		g.log.Warn("network, audit and web are read at the start only; hint: gateway down, and start again")
	}
	return nil
}

func (g *gateway) controlRefused(uid uint32) {
	_, err := g.audit.Append(audit.Event{Layer: audit.LayerControl, Proto: "unix", Verdict: policy.Deny.String(),
		Rule: "control-socket", Reason: fmt.Sprintf("uid %d may not use the control socket", uid)})
	if err != nil {
		g.log.Error("record a refused control connection", "err", err)
	}
}

// listenUnix listens at path, which a gateway that was killed may have left
// behind; the lock says that it is no longer there.
func listenUnix(network, path string) (*net.UnixListener, error) {
	const longest = 107 // sun_path, unix(7)
	if len(path) > longest {
		return nil, fmt.Errorf("the socket path %s has %d bytes, more than a socket can have (%d); hint: set XDG_RUNTIME_DIR to a shorter one", path, len(path), longest)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale socket: %w", err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the socket to others: %w", err), l.Close())
	}
	return l, nil
}

// lock makes sure that one gateway runs for this state folder. The kernel ends
// the lock with the process, however that ends.
func lock(state string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(state, "gateway.lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, &exitError{exitRunning, errors.New("another gateway runs already; hint: gateway status")}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("take the lock: %w", err)
	}
	return func() { f.Close() }, nil
}
