package field

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/bench/proc"
	"github.com/sallyport/sallyport/containers"
	"github.com/sallyport/sallyport/internal/lab"
)

// Config is what a case changes of the user's configuration.
type Config struct {
	// Endpoint is that of the model "bench": http://host:port or unix:///path, as
	// its machine reaches it. It has to answer when a sandbox starts: GET /health
	// and /v1/models. Empty: one that does that and no more.
	Endpoint string
	Host     bool     // the model is on the GPU host, reached by SSH
	Allow    []string // YAML of policy.allow's entries: `{host: "allowed.example", ports: [443]}`
	Extra    string   // YAML of further keys: "audit: {keep: 1d}\n"; empty: none
}

// Model is the name of the model that sandboxes are started with.
const Model = "bench"

// yaml is the user's configuration file.
func (c Config) yaml(idle string) string {
	var b strings.Builder
	host := ""
	if c.Host {
		fmt.Fprintf(&b, "hosts:\n  - {name: gpu, ssh: %s@%s}\n", lab.UserName, lab.GPUHostLAN)
		host = "host: gpu, "
	}
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "unix://" + idle
	}
	fmt.Fprintf(&b, "models:\n  - {name: %s, model: %[1]s, %sengine: external, endpoint: %q}\n", Model, host, endpoint)
	if len(c.Allow) > 0 {
		b.WriteString("policy:\n  allow:\n")
		for _, rule := range c.Allow {
			fmt.Fprintf(&b, "    - %s\n", rule)
		}
	}
	return b.String() + c.Extra
}

// Product has the product, gateway and wall, run with that configuration as the user
// on the laptop. With one that is equal it does nothing; with another one it ends the
// sandboxes that run.
func (f *Field) Product(ctx context.Context, c Config) error {
	f.mu.Lock()
	same := f.config != nil && reflect.DeepEqual(*f.config, c)
	f.mu.Unlock()
	if same {
		return nil
	}
	if err := f.configure(ctx, c); err != nil {
		return err
	}
	// A first sandbox starts gateway and wall, which go on after it.
	w, err := f.Sandbox(ctx)
	if err != nil {
		return err
	}
	return w.Stop(ctx)
}

// configure ends what runs and writes the configuration.
func (f *Field) configure(ctx context.Context, c Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.stopProduct(ctx); err != nil {
		return err
	}
	text := c.yaml(f.idleSocket())
	if err := f.Lab.Laptop.WriteFile(".config/sallyport/config.yaml", []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the user's configuration: %w", err)
	}
	f.config = &c
	return nil
}

// stopProduct ends all sandboxes, the wall and the gateway. f.mu is held.
func (f *Field) stopProduct(ctx context.Context) error {
	if f.config == nil {
		return nil
	}
	if out, err := f.Lab.Laptop.Command(ctx, "launcher", "stop", "--all").CombinedOutput(); err != nil {
		return fmt.Errorf("launcher stop --all: %w: %s", err, out)
	}
	f.config = nil
	return nil
}

// Usage is what a process of the product uses.
type Usage struct {
	PID int           // as this process sees it
	RSS int64         // bytes now
	CPU time.Duration // user and system so far, in steps of 10 ms
}

// Gateway is what the running gateway uses. See Product.
func (f *Field) Gateway(ctx context.Context) (Usage, error) {
	out, err := f.Lab.Laptop.Command(ctx, "gateway", "status", "--json").Output()
	if err != nil {
		return Usage{}, err
	}
	var status struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return Usage{}, fmt.Errorf("gateway status --json: %w", err)
	}
	return f.usage(status.PID)
}

// Wall is what the running wall uses. See Product.
func (f *Field) Wall(ctx context.Context) (Usage, error) {
	id, err := f.Lab.Laptop.Docker(ctx, "ps", "-q", "--filter", "label="+containers.LabelRole+"="+containers.RoleWall)
	if err != nil {
		return Usage{}, err
	}
	out, err := f.Lab.Laptop.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return Usage{}, err
	}
	pid, err := strconv.Atoi(out)
	if err != nil {
		return Usage{}, fmt.Errorf("the wall's process: %w", err)
	}
	return f.usage(pid)
}

// usage is that of a process which the laptop knows by that number.
func (f *Field) usage(inner int) (Usage, error) {
	pid, err := proc.Inside(f.Lab.Laptop.Outside("/proc"), inner)
	if err != nil {
		return Usage{}, err
	}
	u, err := proc.Of(pid)
	return Usage{PID: pid, RSS: u.RSS, CPU: u.CPU}, err
}

func (f *Field) idleSocket() string { return filepath.Join(f.Lab.Laptop.Home, "idle.sock") }

// serveIdle answers for the model where a case has none.
func (f *Field) serveIdle() error {
	var l net.Listener
	l, err := f.Lab.Laptop.Listen("unix", f.idleSocket())
	if err != nil {
		return fmt.Errorf("the idle model: %w", err)
	}
	if err := os.Chmod(f.idleSocket(), 0o666); err != nil {
		return errors.Join(err, l.Close())
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"`+Model+`","object":"model"}]}`)
	})
	f.idle = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	f.gone = make(chan struct{})
	go func() {
		defer close(f.gone)
		_ = f.idle.Serve(l) // ends by Close alone
	}()
	return nil
}
