package containers

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inspected is a model server's container as an engine describes it.
func inspected(change func(object)) http.HandlerFunc {
	o := object{"Id": "0123", "Name": "/s",
		"Config":     object{"Image": "i:1", "Labels": serverLabels()},
		"HostConfig": object{"NetworkMode": "none"},
		"State": object{"Status": "exited", "ExitCode": 137, "OOMKilled": true,
			"StartedAt": "2026-11-26T06:55:54.529124765Z", "FinishedAt": "2026-11-26T07:00:00Z"}}
	change(o)
	return reply(o)
}

func TestServerByName(t *testing.T) {
	started := time.Date(2026, 11, 26, 6, 55, 54, 529124765, time.UTC)
	whole := ServerState{ID: "0123", State: "exited", Image: "i:1", Network: "none", ExitCode: 137, OOMKilled: true,
		Started: started, Finished: time.Date(2026, 11, 26, 7, 0, 0, 0, time.UTC), Labels: serverLabels()}
	running := whole
	running.State, running.ExitCode, running.OOMKilled, running.Finished = "running", 0, false, time.Time{}
	tests := []struct {
		name   string
		change func(object)
		want   ServerState
		err    string
	}{
		{"ended", func(object) {}, whole, ""},
		{"running", func(o object) {
			o["State"] = object{"Status": "running", "StartedAt": "2026-11-26T06:55:54.529124765Z", "FinishedAt": "0001-01-01T00:00:00Z"}
		}, running, ""},
		{"somebody else's", func(o object) { o["Config"] = object{"Labels": map[string]string{}} }, ServerState{}, "somebody else's"},
		{"a sandbox's", func(o object) { o["Config"] = object{"Labels": map[string]string{LabelRole: RoleAgent}} }, ServerState{}, "somebody else's"},
		{"another one whose id begins so", func(o object) { o["Name"] = "/other" }, ServerState{}, ErrNoContainer.Error()},
		{"without a state", func(o object) { o["State"] = nil }, ServerState{}, "does not say"},
	}
	for _, tt := range tests {
		got, err := fakeEngine{"GET /containers/s/json": inspected(tt.change)}.open(t).ServerByName(t.Context(), "s")
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	if _, err := (fakeEngine{}).open(t).ServerByName(t.Context(), "s"); !errors.Is(err, ErrNoContainer) {
		t.Errorf("ServerByName of none: %v", err)
	}
}

func TestStopContainerAsAsked(t *testing.T) {
	for grace, want := range map[time.Duration]string{0: "0", -time.Second: "0", time.Millisecond: "1", 90 * time.Second: "90"} {
		got, status := "", http.StatusNoContent
		e := fakeEngine{"POST /containers/0123/stop": func(w http.ResponseWriter, r *http.Request) {
			got = r.URL.Query().Get("t") + " " + r.URL.Query().Get("signal")
			w.WriteHeader(status)
		}}.open(t)
		if err := e.StopContainer(t.Context(), "0123", grace); err != nil || got != want+" SIGTERM" {
			t.Errorf("StopContainer after %s: asked %q, %v", grace, got, err)
		}
		status = http.StatusNotModified // it had ended
		if err := e.StopContainer(t.Context(), "0123", grace); err != nil {
			t.Errorf("StopContainer of what has ended: %v", err)
		}
		status = http.StatusInternalServerError
		if err := e.StopContainer(t.Context(), "0123", grace); err == nil {
			t.Error("a failure to stop passed")
		}
	}
}

// frame is a piece of a log as engines send it; stream is 1 or 2.
func frame(stream byte, text string) string {
	return string(binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(text)))) + text
}

func TestFollowLogs(t *testing.T) {
	release := make(chan struct{})
	var asked string
	e := fakeEngine{"GET /containers/0123/logs": func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("follow") + " " + r.URL.Query().Get("tail")
		io.WriteString(w, frame(1, "out\n")+frame(2, "err\n"))
		w.(http.Flusher).Flush()
		select {
		case <-release:
			io.WriteString(w, frame(1, "end\n"))
		case <-r.Context().Done():
		}
	}}.open(t)
	log, err := e.FollowLogs(t.Context(), "0123", true, 5)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 8)
	if _, err := io.ReadFull(log, first); err != nil || string(first) != "out\nerr\n" || asked != "1 5" {
		t.Errorf("asked %q, got %q, %v", asked, first, err)
	}
	release <- struct{}{}
	rest, err := io.ReadAll(log)
	if err != nil || string(rest) != "end\n" || log.Close() != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	// "all" is what an engine takes for no number. Closed by the reader in the middle: goleak sees what stays behind.
	log, err = e.FollowLogs(t.Context(), "0123", true, -1)
	if err != nil || asked != "1 " {
		t.Fatalf("asked %q, %v", asked, err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if _, err := e.FollowLogs(t.Context(), "gone", false, -1); !errors.Is(err, ErrNoContainer) {
		t.Errorf("FollowLogs of none: %v", err)
	}
}
