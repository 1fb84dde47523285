package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/spf13/cobra"
)

func (p process) client() (*control.Client, error) {
	paths, err := p.paths()
	if err != nil {
		return nil, err
	}
	return control.NewClient(paths.ControlSocket()), nil
}

func newStatusCommand(p process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say whether the gateway runs, and for which sandboxes",
		Long: `Say whether the gateway runs, for which sandboxes, and where its audit page is: the
address has a token that works once, for five minutes. The exit code is 1 when it
does not run.`,
		Example: "  gateway status\n  gateway status --json | jq .sandboxes",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := p.client()
			if err != nil {
				return err
			}
			status, err := client.Status(c.Context())
			if err != nil && asJSON {
				_ = json.NewEncoder(p.stdout).Encode(control.Error{Message: err.Error()})
			}
			if errors.Is(err, control.ErrNotRunning) {
				return fmt.Errorf("%w; hint: launcher starts it with the first agent", err)
			}
			if err != nil {
				return err
			}
			// Where the page is not served, the error says so; status is not about that.
			page, _ := client.Page(c.Context())
			if asJSON {
				return writeJSON(p.stdout, struct {
					control.Status
					Page string `json:"page"` // the audit page's address, with a token that works once; empty: not served
				}{status, page.URL})
			}
			return printStatus(p.stdout, status, page.URL, time.Now())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printStatus(w io.Writer, s control.Status, page string, now time.Time) error {
	wall := "away: sandboxes are closed until the launcher starts it again"
	if s.Wall.Up {
		wall = "up, IPv4 only"
		if s.Wall.IPv6 {
			wall = "up, IPv4 and IPv6"
		}
	}
	config := s.Config
	if config == "" {
		config = "none (defaults)"
	}
	if page == "" {
		page = "not served"
	}
	lines := [][2]string{
		{"gateway", fmt.Sprintf("running for %s, pid %d, version %s", age(now, s.Since), s.PID, s.Version)},
		{"wall", wall}, {"config", config}, {"record", s.Audit}, {"page", page}, {"log", s.Log}, {"confined", s.Confinement.String()},
	}
	for _, l := range lines {
		fmt.Fprintf(w, "%-9s %s\n", l[0], l[1])
	}
	for _, h := range s.Hosts {
		state := "connected for " + age(now, h.Since)
		if !h.Up {
			state = "not connected: " + audit.Printable(h.LastError)
		}
		fmt.Fprintf(w, "%-9s %s: %s, %d reconnects\n", "host", h.Name, state, h.Reconnects)
	}
	for _, sb := range s.Sandboxes {
		fmt.Fprintf(w, "%-9s %s\n", "sandbox", sandboxLine(sb, now))
		fmt.Fprintf(w, "%-9s %s\n", "", usageLine(sb))
	}
	if len(s.Sandboxes) == 0 {
		_, err := fmt.Fprintf(w, "%-9s none\n", "sandbox")
		return err
	}
	return nil
}

func sandboxLine(s sandbox.State, now time.Time) string {
	network := "none"
	if !s.Upstream.Controlled {
		network = "not controlled"
	}
	return fmt.Sprintf("%s %s for %s: %s with %s at %s (network of this server: %s), project %s",
		s.Sandbox, s.Phase, age(now, s.Since), s.Agent, s.Model, s.Upstream, network, audit.Printable(s.Project))
}

// usageLine says what a sandbox had of its model, and where that is served too.
func usageLine(s sandbox.State) string {
	line := s.Usage.String()
	for i, p := range s.Upstream.Spare {
		line += []string{"; served too at ", ", "}[min(i, 1)] + p.String()
	}
	return line
}

func age(now, since time.Time) string { return now.Sub(since).Round(time.Second).String() }

func newDownCommand(p process) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "down",
		Short: "End the gateway",
		Long: `End the gateway. With sandboxes running it refuses, unless --force: they stay closed
until a gateway runs again, which their launchers see to at once.`,
		Example: "  gateway down\n  gateway down --force",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := p.client()
			if err != nil {
				return err
			}
			if err := client.Down(c.Context(), force); err != nil {
				return err
			}
			if err := awaitEnd(c.Context(), client); err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.stdout, "the gateway has ended")
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "even with sandboxes running")
	return c
}

// awaitEnd waits until the gateway no longer answers.
func awaitEnd(ctx context.Context, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		if _, err := client.Status(ctx); errors.Is(err, control.ErrNotRunning) {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells when a socket is closed
		case <-ctx.Done():
			return errors.New("the gateway said that it ends, and has not; hint: gateway status names its pid and its log")
		}
	}
}

func newCheckCommand(p process) *cobra.Command {
	return &cobra.Command{
		Use:     "check",
		Short:   "Check the configuration and name every problem",
		Example: "  gateway check\n  gateway check --config ./config.example.yaml",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			file, _ := c.Flags().GetString("config")
			cfg, err := loadConfig(p, file, nil)
			if err == nil {
				_, err = policy.New(cfg.Policy.Allow)
			}
			if err != nil {
				return usage(err)
			}
			from := cfg.Path
			if from == "" {
				from = "no file: the defaults"
			}
			_, err = fmt.Fprintf(p.stdout, "ok: %s (%d models, %d hosts, %d rules)\n", from, len(cfg.Models), len(cfg.Hosts), len(cfg.Policy.Allow))
			return err
		},
	}
}
