package main

import (
	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/verify/battery"
	"github.com/spf13/cobra"
)

func newProbesCommand(p process) *cobra.Command {
	var sockets, escapes bool
	c := &cobra.Command{
		Use:   "probes",
		Short: "Make the attempts of gateway verify, inside a container (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if escapes {
				return battery.WriteEscapes(p.stdout)
			}
			if sockets {
				if err := confine.Sockets(); err != nil {
					return err
				}
			}
			return battery.Serve(c.Context(), battery.All(), p.stdin, p.stdout)
		},
	}
	c.Flags().BoolVar(&sockets, "sockets", false, "with the filter of socket families that prove gives to what it runs")
	c.Flags().BoolVar(&escapes, "escapes", false, "print what would act on a terminal beyond its screen, and nothing else")
	return c
}

func newPeerCommand(p process) *cobra.Command {
	return &cobra.Command{
		Use:   "peer",
		Short: "Stand for the internet, to the controls of gateway verify (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error { return battery.Peer(c.Context(), p.stdout) },
	}
}
