package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"github.com/sallyport/sallyport/confine"
	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/verify"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// exitNotProven says that the sandbox is not closed, and that nothing was run.
const exitNotProven = 125

func newProveCommand(p process) *cobra.Command {
	var gate4, gate6 string
	var forbidden []string
	c := &cobra.Command{
		Use:   "prove -- command",
		Short: "Show that this sandbox is closed, wait for the launcher's word, then run a command (the agent's entrypoint)",
		Args:  cobra.MinimumNArgs(1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			spec := verify.QuickSpec{ModelPort: sandbox.ModelPort, ProxyPort: sandbox.ProxyPort, Forbidden: forbidden, Root: os.DirFS("/")}
			var err error
			if spec.Gateway4, err = netip.ParseAddr(gate4); err != nil {
				return usage(err)
			}
			if gate6 != "" {
				if spec.Gateway6, err = netip.ParseAddr(gate6); err != nil {
					return usage(err)
				}
			}
			if err := prove(c, p, spec); err != nil {
				return &exitError{exitNotProven, err}
			}
			return execute(args, p)
		},
	}
	c.Flags().StringVar(&gate4, "gate4", "", "the gateway's IPv4 address, as the sandbox sees it")
	c.Flags().StringVar(&gate6, "gate6", "", "the gateway's IPv6 address; empty: the sandbox has no IPv6")
	c.Flags().StringSliceVar(&forbidden, "forbidden", nil, "paths that may not be mounted here")
	return c
}

// prove reports the checks and waits for the go-ahead, without echoing it.
func prove(c *cobra.Command, p process, spec verify.QuickSpec) error {
	restore, err := silence(p.stdin)
	if err != nil {
		return err
	}
	defer restore()
	verify.AwaitPlug(c.Context(), spec)
	results := verify.Quick(c.Context(), spec)
	if err := verify.WriteProof(p.stdout, results); err != nil {
		return err
	}
	if !verify.Passed(results) {
		return errors.New("the sandbox is not closed")
	}
	word := make([]byte, len(verify.GoAhead)) // not a byte more: the rest is the agent's
	if _, err := io.ReadFull(p.stdin, word); err != nil || string(word) != verify.GoAhead {
		return errors.New("the launcher gave no word to go on")
	}
	return nil
}

// silence turns a terminal's echo off; the launcher's word is not for the screen.
func silence(stdin *os.File) (restore func(), err error) {
	fd := int(stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if errors.Is(err, unix.ENOTTY) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("silence the terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}

// execute becomes the command, which makes no sockets that lead past the network.
func execute(args []string, p process) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return &exitError{127, err}
	}
	if err := confine.Sockets(); err != nil {
		return &exitError{exitNotProven, err}
	}
	return &exitError{126, fmt.Errorf("run %s: %w", path, syscall.Exec(path, args, p.environ()))}
}
