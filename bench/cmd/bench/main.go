// Command bench measures Sallyport beside its peers, in the lab: see bench. It needs
// root, and a checkout as its working folder.
//
//	bench [-case NAME[,NAME]] [-engine 20.10|28] [-smoke] [-reps N] [-out DIR] [-json FILE] [-from FILE] [-list]
//
// Its exit code is 1 where a case failed. A bar that is missed is no failure.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
