// Hold is a holder as it is shipped, without cgo, for the test of its capabilities.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/sallyport/sallyport/wall"
)

func main() {
	h := &wall.Holder{Socket: os.Args[1], Token: "token", Log: slog.New(slog.DiscardHandler)}
	if err := h.Run(context.Background()); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}
