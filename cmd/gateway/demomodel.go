package main

import (
	"time"

	"github.com/sallyport/sallyport/models/demo"
	"github.com/sallyport/sallyport/verify"
	"github.com/spf13/cobra"
)

func newDemoModelCommand(p process) *cobra.Command {
	socket := "/run/sallyport/model/model.sock"
	var target, name string
	var delay time.Duration
	c := &cobra.Command{
		Use:   "demo-model",
		Short: "Be the demo's stand-in for a model server: a script, not a language model (started by launcher)",
		Args:  noArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := listenUnix("unix", socket)
			if err != nil {
				return err
			}
			var script demo.Script
			for _, a := range verify.DemoAttempts(target) {
				script.Attempts = append(script.Attempts, a.Args())
			}
			s := &demo.Server{Model: name, Script: script, Delay: delay, Log: newLogger(p.stderr)}
			return s.Serve(c.Context(), l)
		},
	}
	c.Flags().StringVar(&socket, "socket", socket, "unix socket to listen on")
	c.Flags().StringVar(&target, "host-listener", "", "`address:port` of the host that the script tries to reach as well")
	c.Flags().StringVar(&name, "name", "demo", "what the model is called")
	c.Flags().DurationVar(&delay, "delay", 0, "pause before each event of a stream")
	return c
}
