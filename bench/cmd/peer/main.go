// Command peer runs one of the small peers and origins of bench/peer.
//
//	peer NAME [ARGUMENT…]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sallyport/sallyport/bench/peer"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: peer NAME [ARGUMENT…]")
	}
	program, ok := peer.Lookup(args[0])
	if !ok {
		return fmt.Errorf("there is no %q", args[0])
	}
	return program(ctx, args[1:])
}
