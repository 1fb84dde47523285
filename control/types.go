// Package control is the gateway's control API: JSON over HTTP on a unix socket
// that only its user can open. It has the types, the server and the client; what
// a call does is the gateway's business, handed in as functions.
package control

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
)

// Status answers GET /v1/status.
type Status struct {
	Version   string          `json:"version"`
	PID       int             `json:"pid"`
	Since     time.Time       `json:"since"`
	Binary    string          `json:"binary"` // hash of the gateway's executable
	Config    string          `json:"config"` // file it was read from; empty: none
	Audit     string          `json:"audit"`
	Log       string          `json:"log"`
	Wall      WallStatus      `json:"wall"`
	Sandboxes []sandbox.State `json:"sandboxes"` // without tokens
	Hosts     []HostStatus    `json:"hosts"`
}

// WallStatus says whether the wall is there.
type WallStatus struct {
	Up   bool `json:"up"`
	IPv6 bool `json:"ipv6"`
}

// HostStatus is the SSH connection to one GPU host.
type HostStatus struct {
	Name       string    `json:"name"`
	Up         bool      `json:"up"`
	Since      time.Time `json:"since"`
	Reconnects int       `json:"reconnects"`
	LastError  string    `json:"last_error,omitempty"`
}

// WallSecret answers GET /v1/wall: what the launcher needs to start the wall.
type WallSecret struct {
	Token string `json:"token"`
}

// AgentName is the body of PUT /v1/sandboxes/{id}/agent.
type AgentName struct {
	Agent string `json:"agent"`
}

// ModelCheck answers POST /v1/model-check.
type ModelCheck struct {
	OK     bool     `json:"ok"`
	Error  string   `json:"error,omitempty"`
	Models []string `json:"models"` // as the server names them; empty: it does not say
}

// DownRequest is the body of POST /v1/down.
type DownRequest struct {
	Force bool `json:"force"` // even with sandboxes running
}

// Error is the body of every answer that is not 200.
type Error struct {
	Message string `json:"error"`
}

// Handlers are what the API's calls do. All are required.
type Handlers struct {
	Status     func() Status
	Wall       func() WallSecret
	Register   func(sandbox.Registration) (sandbox.Addresses, error)
	Unregister func(id string)
	SetAgent   func(id, agent string) error
	Watch      func(ctx context.Context, id string, each func(sandbox.State) error) error
	SetHost    func(tunnel.Host) error
	CheckModel func(context.Context, sandbox.Upstream) ModelCheck
	Reload     func() error // reads the policy again; an error keeps the old one
	Down       func(DownRequest) error
}
