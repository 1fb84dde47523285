package load

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// eachEvent reads streams at once and gives the time of each delta, for who puts
// several workers' together.
func eachEvent(ctx context.Context, arg EventsArg) (Times, error) {
	client := newStreamClient(arg.Streams)
	defer client.CloseIdleConnections()
	times := make([][]int64, arg.Streams)
	tasks, ctx := errgroup.WithContext(ctx)
	for i := range arg.Streams {
		tasks.Go(func() (err error) {
			// Streams that began at once would have their events at once.
			if err = pauseFor(ctx, time.Duration(i)*arg.Every/time.Duration(arg.Streams)); err != nil {
				return err
			}
			times[i], err = timeStream(ctx, client, arg, 0)
			return err
		})
	}
	err := tasks.Wait()
	return Times{NS: slices.Concat(times...)}, err
}
