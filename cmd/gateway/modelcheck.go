package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// checkModel asks a model server whether it is healthy and what it serves.
func (g *gateway) checkModel(ctx context.Context, u sandbox.Upstream) control.ModelCheck {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return askModel(ctx, u, func(ctx context.Context) (net.Conn, error) { return g.dialUpstream(ctx, u) })
}

// askModel is checkModel over dial. A server without /health (not every one that
// speaks the protocol has it) is asked for its models alone.
func askModel(ctx context.Context, u sandbox.Upstream, dial func(context.Context) (net.Conn, error)) control.ModelCheck {
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
	}
	_, healthErr := get(ctx, client, u, "/health")
	var status *statusError
	if healthErr != nil && !(errors.As(healthErr, &status) && status.code == http.StatusNotFound) {
		return control.ModelCheck{Error: healthErr.Error()}
	}
	body, err := get(ctx, client, u, "/v1/models")
	refused := errors.As(err, &status) && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden)
	switch {
	case refused:
		return control.ModelCheck{Error: err.Error() + "; is models.token right?"}
	case err != nil && healthErr != nil:
		return control.ModelCheck{Error: err.Error()}
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	check := control.ModelCheck{OK: true}
	if err == nil && json.Unmarshal(body, &list) == nil {
		for _, m := range list.Data {
			check.Models = append(check.Models, audit.Printable(m.ID))
		}
	}
	return check
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	path string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("it answered %d %s to %s", e.code, http.StatusText(e.code), e.path)
}

func get(ctx context.Context, client *http.Client, u sandbox.Upstream, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://model"+path, nil)
	if err != nil {
		return nil, err
	}
	if u.Token != "" {
		req.Header.Set("Authorization", "Bearer "+u.Token)
	}
	res, err := client.Do(req)
	if err != nil {
		var inner interface{ Unwrap() error }
		if errors.As(err, &inner) { // without the made-up URL
			err = inner.Unwrap()
		}
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, &statusError{res.StatusCode, path}
	}
	return io.ReadAll(io.LimitReader(res.Body, 1<<20))
}
