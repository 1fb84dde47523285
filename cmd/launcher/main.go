// Command launcher starts a coding agent in a sandbox whose one way out is the
// model that its user hosts.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE) // a reader of our output that goes away must not end us without cleaning up
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	code := run(ctx, process{
		self: self, args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	stop()
	os.Exit(code)
}
