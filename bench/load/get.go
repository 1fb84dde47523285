package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// GetArg says what to get, and how often, one after the other on one connection.
type GetArg struct {
	URL    string `json:"url"`
	N      int    `json:"n"`
	Status int    `json:"status"` // that each answer has to have
}

// Times are how long each of several things took, in nanoseconds.
type Times struct {
	NS []int64 `json:"ns"`
}

// get gets a URL and times each answer, to its last byte.
func get(ctx context.Context, arg GetArg) (Times, error) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	times := Times{NS: make([]int64, 0, arg.N)}
	for range arg.N {
		began := time.Now()
		if err := getOnce(ctx, client, arg); err != nil {
			return Times{}, err
		}
		times.NS = append(times.NS, int64(time.Since(began)))
	}
	return times, nil
}

func getOnce(ctx context.Context, client *http.Client, arg GetArg) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, arg.URL, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or failed
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != arg.Status {
		return fmt.Errorf("%s: status %d instead of %d: %.200s", arg.URL, resp.StatusCode, arg.Status, body)
	}
	return nil
}
