package main

import (
	"log/slog"

	"github.com/sallyport/sallyport/wall"
	"github.com/spf13/cobra"
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
			w := &wall.Wall{Socket: socket, Token: p.getenv(tokenVariable), Log: newLogger(p.stderr)}
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
			h := &wall.Holder{Socket: socket, Token: p.getenv(tokenVariable), Log: newLogger(p.stderr)}
			return h.Run(c.Context())
		},
	}
	c.Flags().StringVar(&socket, "socket", socket, "the gateway's wall socket")
	return c
}

func newLogger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil))
}
