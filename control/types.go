// Package control is the gateway's control API: JSON over HTTP on a unix socket
// that only its user can open. It has the types, the server and the client; what
// a call does is the gateway's business, handed in as functions.
package control

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/policy"
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
	// Confinement is what the gateway has given up.
	Confinement Confinement `json:"confinement"`
}

// Confinement is what the gateway cannot do any more, as it is right now. Of a
// gateway that does not say it (an older one) nothing is set.
type Confinement struct {
	Landlock        int    `json:"landlock"`              // version of Landlock's interface that is in force; zero: none
	NoLandlock      string `json:"no_landlock,omitempty"` // why none is
	NoNewPrivileges bool   `json:"no_new_privileges"`     // in every thread
	Capabilities    string `json:"capabilities"`          // of all threads and sets but the bounding one: "none", or a set in hexadecimal
}

// String is one line for a person.
func (c Confinement) String() string {
	if c.Capabilities == "" {
		return "not known: it is of another version"
	}
	landlock := fmt.Sprintf("landlock abi %d", c.Landlock)
	if c.Landlock == 0 {
		landlock = "no landlock (" + c.NoLandlock + ")"
	}
	privileges := "no new privileges"
	if !c.NoNewPrivileges {
		privileges = "NEW PRIVILEGES POSSIBLE"
	}
	return fmt.Sprintf("%s, %s, capabilities: %s", landlock, privileges, c.Capabilities)
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
	// Version is the server's own; empty: it does not say. As OK, Error and Models
	// it is of the place that Chosen names.
	Version string       `json:"version,omitempty"`
	Places  []PlaceCheck `json:"places"` // in the order of Upstream.Places
	// Chosen is the healthy and least busy one of Places, to be given to
	// Upstream.Prefer. Without OK none is healthy, and it means nothing.
	Chosen int `json:"chosen"`
}

// PlaceCheck is one place that a model is served at.
type PlaceCheck struct {
	sandbox.Place
	OK       bool     `json:"ok"`
	Error    string   `json:"error,omitempty"`
	Models   []string `json:"models,omitempty"`
	Version  string   `json:"version,omitempty"`
	Running  int      `json:"running"`  // requests at the server, everybody's; -1: it does not say
	Sessions int      `json:"sessions"` // sandboxes of this gateway that use it
}

// PullRequest is the body of POST /v1/pulls: the way out of one pull of weights.
type PullRequest struct {
	Name  string        `json:"name"`  // of the model, for the record
	Hosts []policy.Rule `json:"hosts"` // all that it may reach; empty: nothing
}

// PullReady says where the way out of a pull begins.
type PullReady struct {
	ID     string `json:"id"`     // its sandbox id in the record: "pull-…"
	Socket string `json:"socket"` // unix socket of a forward proxy of this pull alone, in a folder of its own
}

// PullConnection is a connection of a pull that was refused, failed or has ended,
// as the record has it.
type PullConnection struct {
	Host    string `json:"host"`
	Port    uint16 `json:"port"`
	Verdict string `json:"verdict"` // policy.Verdict.String()
	Reason  string `json:"reason"`
	Bytes   int64  `json:"bytes"` // that came in
}

// PullEvent is one line of the answer to POST /v1/pulls: Ready first, and once.
type PullEvent struct {
	Ready      *PullReady      `json:"ready,omitempty"`
	Connection *PullConnection `json:"connection,omitempty"`
}

// Page answers POST /v1/page.
type Page struct {
	URL string `json:"url"` // of the audit page, with a token that works once
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
	// Pull keeps the way out of one pull until ctx ends. It tells what is ready and
	// then what became of connections, and ends when tell fails.
	Pull   func(ctx context.Context, r PullRequest, tell func(PullEvent) error) error
	Page   func() (Page, error) // a fresh way in; an error says why there is none
	Reload func() error         // reads the policy again; an error keeps the old one
	Down   func(DownRequest) error
}
