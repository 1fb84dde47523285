package hub

import (
	"context"
	"fmt"
	"io"
	"time"
)

var errIdle = fmt.Errorf("no byte came for %v", idle)

func idleErr(ctx context.Context, err error) error {
	if context.Cause(ctx) == errIdle {
		return errIdle
	}
	return err
}

// watched is a body that ends with errIdle when nothing comes.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	clock  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
}

// Read gives the rest of the body its time again, if it brought something.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.clock.Reset(w.idle)
	}
	if err != nil { // an end too: a server may end the answer while we hang up
		err = idleErr(w.ctx, err)
	}
	return n, err
}

// Close stops the clock.
func (w *watched) Close() error {
	w.clock.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}
