package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// hello answers every request at ADDRESS with a line: an HTTP server without anything
// else, for a limit that nothing can beat.
func hello(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: hello ADDRESS")
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") })
	server := &http.Server{Addr: args[0], Handler: handler, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("hello: %w", err)
	}
	return nil
}
