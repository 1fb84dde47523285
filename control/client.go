package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
)

// ErrNotRunning is returned when no gateway listens on the control socket.
var ErrNotRunning = errors.New("the gateway is not running")

// Client calls the API of the gateway at a control socket.
type Client struct {
	http *http.Client
}

// NewClient returns a client of the gateway whose control socket is at path.
func NewClient(path string) *Client {
	dialer := &net.Dialer{}
	return &Client{&http.Client{Transport: &http.Transport{
		Proxy:             nil,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Status asks how the gateway is; ErrNotRunning if there is none.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, "GET", "/v1/status", nil, &s)
}

// Wall asks for what the wall needs to be started.
func (c *Client) Wall(ctx context.Context) (WallSecret, error) {
	var s WallSecret
	return s, c.call(ctx, "GET", "/v1/wall", nil, &s)
}

// Register announces a sandbox.
func (c *Client) Register(ctx context.Context, reg sandbox.Registration) (sandbox.Addresses, error) {
	var a sandbox.Addresses
	return a, c.call(ctx, "POST", "/v1/sandboxes", reg, &a)
}

// Unregister ends a sandbox.
func (c *Client) Unregister(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/v1/sandboxes/"+url.PathEscape(id), nil, nil)
}

// SetAgent changes the agent's name in the sandbox's events.
func (c *Client) SetAgent(ctx context.Context, id, agent string) error {
	return c.call(ctx, "PUT", "/v1/sandboxes/"+url.PathEscape(id)+"/agent", AgentName{agent}, nil)
}

// SetHost hands over a GPU host, its keys included.
func (c *Client) SetHost(ctx context.Context, host tunnel.Host) error {
	return c.call(ctx, "PUT", "/v1/hosts", host, nil)
}

// CheckModel asks whether the gateway reaches a model server.
func (c *Client) CheckModel(ctx context.Context, u sandbox.Upstream) (ModelCheck, error) {
	var m ModelCheck
	return m, c.call(ctx, "POST", "/v1/model-check", u, &m)
}

// Page asks for a way into the audit page. Each call makes a new one.
func (c *Client) Page(ctx context.Context) (Page, error) {
	var p Page
	return p, c.call(ctx, "POST", "/v1/page", nil, &p)
}

// Reload has the gateway read its policy again. An error keeps the old one.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/reload", nil, nil)
}

// Down ends the gateway.
func (c *Client) Down(ctx context.Context, force bool) error {
	return c.call(ctx, "POST", "/v1/down", DownRequest{force}, nil)
}

// Watch calls each with the sandbox's state, now and after each change, until it
// has ended (nil), each fails, or the gateway goes away (an error).
func (c *Client) Watch(ctx context.Context, id string, each func(sandbox.State) error) error {
	res, err := c.do(ctx, "GET", "/v1/sandboxes/"+url.PathEscape(id)+"/watch", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	for {
		var state sandbox.State
		if err := d.Decode(&state); err != nil {
			return fmt.Errorf("watch the sandbox: %w", err)
		}
		if err := each(state); err != nil || state.Phase == sandbox.Ended {
			return err
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, body, result any) error {
	res, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if result == nil {
		result = &struct{}{}
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(result); err != nil {
		return fmt.Errorf("the gateway's answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var data io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode a request to the gateway: %w", err)
		}
		data = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, data)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var e Error
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&e); err != nil || e.Message == "" {
		e.Message = res.Status
	}
	return nil, errors.New(e.Message)
}
