package main

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// testGateway is a gateway with a record and a hub, and one sandbox whose model
// servers are these, the first in use.
func testGateway(t *testing.T, servers ...*modelServer) (*gateway, sandbox.Plugged) {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{log: quiet, paths: control.Paths{State: dir}, config: &config.Config{}}
	if err := g.openRecord(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.audit.Close() })
	g.hub = &sandbox.Hub{Pool4: netip.MustParsePrefix("10.213.0.0/24"), StateFile: filepath.Join(dir, "registrations.json"), WallToken: "t",
		Serve:  func(context.Context, sandbox.Plugged) error { return nil },
		Append: g.audit.Append, AppendAll: g.audit.AppendAll, ClaimTimeout: time.Hour, Log: quiet}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "w"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.hub.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.hub.Run(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	reg := sandbox.Registration{Token: strings.Repeat("x", 32), Subject: audit.Subject{Sandbox: "0123456789ab", Model: "gpt-oss"},
		Upstream: sandbox.Upstream{Name: "gpt-oss", Network: "unix", Address: servers[0].place.Address, Token: "secret"}}
	for _, s := range servers[1:] {
		s.place.Host = "" // all are on this machine
		reg.Upstream.Spare = append(reg.Upstream.Spare, s.place)
	}
	if _, err := g.hub.Register(reg); err != nil {
		t.Fatal(err)
	}
	return g, sandbox.Plugged{Registration: reg, Subject: func() audit.Subject { return reg.Subject }, Meter: &sandbox.Meter{}}
}

func TestGatewayMovesASandbox(t *testing.T) {
	one, two := startModelServer(t, "one"), startModelServer(t, "two")
	g, plugged := testGateway(t, one, two)
	u := g.newUpstream(plugged)
	u.mustReach(t, "one")
	one.stop()
	u.mustReach(t, "two")
	state := g.hub.List()[0]
	if state.Upstream.Address != two.place.Address || len(state.Upstream.Spare) != 1 || state.Upstream.Spare[0].Address != one.place.Address {
		t.Errorf("status says %+v", state.Upstream)
	}
	kept, err := os.ReadFile(g.hub.StateFile)
	var file struct {
		Sandboxes map[string]sandbox.Registration
	}
	if err != nil || json.Unmarshal(kept, &file) != nil || file.Sandboxes["0123456789ab"].Upstream.Address != two.place.Address {
		t.Errorf("kept %s, %v", kept, err)
	}
	events, err := audit.ReadAll(t.Context(), g.paths.Audit(), audit.Filter{})
	if err != nil || len(events) != 1 {
		t.Fatalf("events %+v, %v", events, err)
	}
	e := events[0]
	if want := "moved from unix://" + one.place.Address + " to unix://" + two.place.Address + ": dial unix "; e.Layer != audit.LayerControl ||
		e.Verdict != "allowed" || e.Sandbox != "0123456789ab" || !strings.HasPrefix(e.Reason, want) {
		t.Errorf("event %+v", e)
	}
}

func TestCheckModelOfSeveralPlaces(t *testing.T) {
	one, two := startModelServer(t, "one"), startModelServer(t, "two")
	g, plugged := testGateway(t, one, two)
	check := g.checkModel(t.Context(), plugged.Upstream)
	// Both are idle; a sandbox is at the first already.
	if !check.OK || check.Chosen != 1 || check.Version != "0.24.0" || len(check.Places) != 2 || check.Places[0].Sessions != 1 || check.Places[0].Running != 0 {
		t.Errorf("%+v", check)
	}
	two.running.Store(1)
	if check := g.checkModel(t.Context(), plugged.Upstream); check.Chosen != 0 || check.Places[1].Running != 1 {
		t.Errorf("with a request at the second: %+v", check)
	}
	one.sick.Store(true)
	if check := g.checkModel(t.Context(), plugged.Upstream); !check.OK || check.Chosen != 1 || check.Places[0].Error == "" {
		t.Errorf("with the first ill: %+v", check)
	}
	two.stop()
	if check := g.checkModel(t.Context(), plugged.Upstream); check.OK || !strings.Contains(check.Error, "503") {
		t.Errorf("with none: %+v", check)
	}
	plugged.Upstream.Spare = make([]sandbox.Place, 100)
	if check := g.checkModel(t.Context(), plugged.Upstream); check.OK || !strings.Contains(check.Error, "at most") {
		t.Errorf("with a hundred: %+v", check)
	}
}

func TestStatusShowsPlaceAndUse(t *testing.T) {
	s := sandbox.State{Registration: sandbox.Registration{Subject: audit.Subject{Sandbox: "0123456789ab", Agent: "claude", Model: "gpt-oss", Project: "/p"},
		Upstream: sandbox.Upstream{Host: "strix2", Network: "unix", Address: "/m", Controlled: true,
			Spare: []sandbox.Place{{Host: "strix1", Network: "unix", Address: "/m"}, {Network: "tcp", Address: "127.0.0.1:1"}}}}, Phase: sandbox.Ready}
	line := sandboxLine(s, s.Since) + "\n" + usageLine(s)
	if want := `0123456789ab ready for 0s: claude with gpt-oss at strix2 (unix:///m) (network of this server: none), project /p
no requests yet; served too at strix1 (unix:///m), tcp://127.0.0.1:1`; line != want {
		t.Errorf("%s\nwant %s", line, want)
	}
	s.Upstream.Spare = nil
	s.Usage = sandbox.Usage{Requests: 3, TokensIn: 4000, TokensOut: 50, TokensPerSecond: 35.21, FirstToken: 1.26}
	if got, want := usageLine(s), "3 requests, 4000 tokens in, 50 out; last answer: 35.2 tokens/s, first token after 1.3 s"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b, err := json.Marshal(s)
	if want := `"usage":{"requests":3,"tokens_in":4000,"tokens_out":50,"tokens_per_second":35.21,"first_token":1.26}`; err != nil || !strings.Contains(string(b), want) {
		t.Errorf("%s lacks %s", b, want)
	}
}
