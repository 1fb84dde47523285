package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// maxPullLine bounds a line of the answer to POST /v1/pulls, in bytes.
const maxPullLine = 64 << 10

// pull answers POST /v1/pulls: what the handler tells, a line each. The pull ends
// with the call, whichever side ends that.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	var body PullRequest
	if err := decode(w, r, &body); err != nil {
		answer(w, nil, err)
		return
	}
	var mu sync.Mutex // tell is called by several goroutines
	told := false
	err := s.Handlers.Pull(r.Context(), body, func(e PullEvent) error {
		mu.Lock()
		defer mu.Unlock()
		told = true
		writing(w)
		if err := json.NewEncoder(w).Encode(e); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	switch {
	case err != nil && !told:
		answer(w, nil, err)
	case err != nil && r.Context().Err() == nil:
		s.Log.Warn("a pull's way out ended", "err", err)
	}
}

// ErrPullEnded is returned by Pull when the gateway took the way out away.
var ErrPullEnded = errors.New("the gateway ended the pull's way out")

// Pull has the gateway open a way out for one pull of weights and calls run with
// it. The way is there until run returns, and no longer; run's context ends when
// the gateway goes away. each, if it is not nil, is told of the connections.
func (c *Client) Pull(ctx context.Context, r PullRequest, run func(context.Context, PullReady) error, each func(PullConnection)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.do(ctx, "POST", "/v1/pulls", r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxPullLine)
	first, err := nextPullEvent(lines)
	if err == nil && first.Ready != nil && (first.Ready.ID == "" || first.Ready.Socket == "") {
		err = errors.New("it does not say where")
		first.Ready = nil
	}
	if err != nil || first.Ready == nil {
		return fmt.Errorf("open a way out for the pull: %w", errors.Join(ErrPullEnded, err))
	}
	inner, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		followPull(lines, each)
		stop(ErrPullEnded)
	}()
	err = run(inner, *first.Ready)
	lost := errors.Is(context.Cause(inner), ErrPullEnded)
	cancel()
	<-ended
	if lost && err != nil {
		return fmt.Errorf("%w: %w", ErrPullEnded, err)
	}
	return err
}

// followPull reads until the answer ends.
func followPull(lines *bufio.Scanner, each func(PullConnection)) {
	for {
		e, err := nextPullEvent(lines)
		if err != nil {
			return
		}
		if e.Connection != nil && each != nil {
			each(*e.Connection)
		}
	}
}

func nextPullEvent(lines *bufio.Scanner) (PullEvent, error) {
	var e PullEvent
	if !lines.Scan() {
		return e, errors.Join(errors.New("the answer ended"), lines.Err())
	}
	return e, json.Unmarshal(lines.Bytes(), &e)
}
