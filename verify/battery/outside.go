package battery

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// The probes that are no part of a run in a container.
const (
	// StartProof is what an agent's container shows before the agent starts.
	StartProof = "start-proof"
	// ByHand is made by the launcher, since no container can.
	ByHand = "second-network-by-hand"
	// Ended is made in a sandbox's network after the sandbox's end.
	Ended = "ended-registration"
)

var outside = []probe.Probe{
	{Name: StartProof, Group: probe.Container, Source: "verify.Quick, the launcher's own check",
		Why: "an agent must not start in a sandbox that is not closed"},
	{Name: ByHand, Group: probe.Host, Source: "docker-network-connect(1)",
		Why: "whoever may use the engine can connect a running sandbox to a network with a way out"},
	{Name: Ended, Group: probe.Host, Source: "RFC 1122, 4.2.2.13",
		Why: "what outlives its sandbox must not be served in its name"},
	{Name: Escapes, Group: probe.Container, Source: "CVE-2003-0063, CWE-150",
		Why: "what an agent prints acts on the terminal beyond its screen: clipboard, files, answers that are typed"},
}

// TryEnded asks the model endpoint for its health, which must end with the sandbox. A
// question that is under way as the interface is deleted is lost without a word: it is
// asked again then.
func TryEnded(ctx context.Context, t probe.Target) (f probe.Finding) {
	for range 3 {
		if f = askHealth(ctx, t); f.Outcome != verify.Unproven {
			break
		}
	}
	return f
}

func askHealth(ctx context.Context, t probe.Target) probe.Finding {
	ctx, cancel := context.WithTimeout(ctx, verify.Deadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/health", t.Model), nil)
	if err != nil {
		return probe.Unproven("%v", err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return probe.Stopped(err, "ask the model endpoint")
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxLine))
	return probe.Reached("the model endpoint answers %d", resp.StatusCode)
}
