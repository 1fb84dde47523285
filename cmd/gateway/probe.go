package main

import (
	"fmt"
	"os"

	"github.com/sallyport/sallyport/verify"
	"github.com/spf13/cobra"
)

func newProbeCommand(p process) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "probe KIND TARGET [option=value…]",
		Short: "Try to get out, from inside a sandbox",
		Long: "Try to get out, from inside a sandbox. The exit code is 0 if that was blocked, 1 if something\n" +
			"answered or nothing is certain.\n\nKinds:\n" + verify.Usage(),
		Example: "  gateway probe tcp 203.0.113.10:443\n  gateway probe dns exfil.example type=TXT",
		Args:    cobra.MinimumNArgs(2), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			resolvConf, err := os.ReadFile("/etc/resolv.conf")
			if err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("read the resolver's settings: %w", err)
			}
			attempt, err := verify.ParseAttempt(args, verify.DefaultsFrom(p.environ(), resolvConf))
			if err != nil {
				return usage(err)
			}
			report := verify.Probe(c.Context(), attempt)
			if err := verify.Write(p.stdout, asJSON, report); err != nil {
				return err
			}
			if !report.Outcome.Closed() {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
