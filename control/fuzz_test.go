package control

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/sandbox"
	"github.com/sallyport/sallyport/tunnel"
)

// calls are all that a request can do, by method and path.
var calls = regexp.MustCompile(`^(GET /v1/status|GET /v1/wall|POST /v1/sandboxes|DELETE /v1/sandboxes/[^/]+|PUT /v1/sandboxes/[^/]+/agent|` +
	`GET /v1/sandboxes/[^/]+/watch|PUT /v1/hosts|POST /v1/model-check|POST /v1/pulls|POST /v1/page|POST /v1/reload|POST /v1/down)$`)

// A request does what its method and path say and nothing else, and only where
// its body is one JSON value of fields that there are: what a handler gets says
// all that was said.
func FuzzControl(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/v1/status", ""}, {"GET", "/v1/wall", "{}"}, {"POST", "/v1/page", ""}, {"POST", "/v1/reload", ""},
		{"POST", "/v1/sandboxes", `{"token":"t","sandbox":"0123456789ab","endpoints":[{"method":"POST","path":"/v1/messages"}],"upstream":{"name":"m","network":"unix","address":"/x"}}`},
		{"DELETE", "/v1/sandboxes/0123456789ab", ""}, {"DELETE", "/v1/sandboxes/..%2fx", ""}, {"PUT", "/v1/sandboxes/a/agent", `{"agent":"claude"}`},
		{"GET", "/v1/sandboxes/a/watch", ""}, {"PUT", "/v1/hosts", `{"name":"strix","addr":"a.example","port":22,"user":"me","known_hosts":"","known_hosts_file":"/k"}`},
		{"POST", "/v1/model-check", `{"name":"m","spare":[{"network":"tcp"}]}`}, {"POST", "/v1/pulls", `{"name":"m","hosts":[{"Host":"a.example","Ports":[443]}]}`},
		{"POST", "/v1/down", `{"force":true}`}, {"POST", "/v1/down", `{"force":true}{}`}, {"POST", "//v1/down", `{}`}, {"POST", "/v1/./down", `{}`}, {"POST", "/v1/down", `{"Force":true,"force":false}`},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://gateway/", bytes.NewReader(body))
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		if r.URL, err = r.URL.Parse("http://gateway" + target); err != nil {
			return
		}
		called := &noted{}
		w := httptest.NewRecorder()
		timed((&Server{Handlers: called.handlers(), Log: slog.New(slog.DiscardHandler)}).mux()).ServeHTTP(w, r)
		call := r.Method + " " + r.URL.EscapedPath() // of no method: GET
		if method == http.MethodHead {
			call = "GET " + r.URL.EscapedPath()
		}
		if len(called.got) > 1 || len(called.got) == 1 && (w.Code != http.StatusOK || !calls.MatchString(call)) {
			t.Fatalf("%s does %q: %d %s", call, called.got, w.Code, w.Body)
		}
		if len(called.got) == 0 && w.Code == http.StatusOK {
			t.Errorf("%s does nothing: %s", call, w.Body)
		}
		if len(called.got) == 1 && called.body != nil {
			checkBody(t, body, called.body)
		}
		if strings.Contains(w.Body.String(), "secret") && r.URL.Path != "/v1/wall" {
			t.Errorf("%s tells a secret: %s", call, w.Body)
		}
		for line := range strings.Lines(w.Body.String()) {
			if w.Header().Get("Content-Type") == "application/json" && !json.Valid([]byte(line)) {
				t.Errorf("%s answers %q", call, w.Body)
			}
		}
	})
}

// checkBody fails unless got is all that body says, and body says it once.
func checkBody(t *testing.T, body []byte, got any) {
	t.Helper()
	if !json.Valid(body) {
		t.Fatalf("%q was taken as %+v", body, got)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatalf("%q was taken as %+v: %v", body, got, err)
	}
	again := reflect.New(reflect.TypeOf(got))
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(again.Interface()); err != nil {
		t.Fatalf("%q was taken as %+v, which is not read again: %v", body, got, err)
	}
	if second, err := json.Marshal(again.Elem().Interface()); err != nil || !bytes.Equal(second, text) {
		t.Errorf("%q was taken as %s, and again as %s, %v", body, text, second, err)
	}
}

// noted notes what was called, and with which body.
type noted struct {
	got  []string
	body any
}

func (n *noted) call(name string, body any) error {
	n.got = append(n.got, name)
	n.body = body
	return nil
}

func (n *noted) handlers() Handlers {
	return Handlers{
		Status: func() Status {
			n.call("status", nil)
			return Status{Sandboxes: []sandbox.State{secretState}}
		},
		Wall: func() WallSecret { n.call("wall", nil); return WallSecret{Token: "wall-secret"} },
		Register: func(r sandbox.Registration) (sandbox.Addresses, error) {
			return sandbox.Addresses{}, n.call("register", r)
		},
		Unregister: func(string) { n.call("unregister", nil) },
		SetAgent:   func(_, name string) error { return n.call("agent", AgentName{name}) },
		Watch: func(_ context.Context, _ string, each func(sandbox.State) error) error {
			n.call("watch", nil)
			return each(secretState)
		},
		SetHost:    func(h tunnel.Host) error { return n.call("host", h) },
		CheckModel: func(_ context.Context, u sandbox.Upstream) ModelCheck { n.call("check", u); return ModelCheck{} },
		Pull: func(_ context.Context, r PullRequest, tell func(PullEvent) error) error {
			n.call("pull", r)
			return tell(PullEvent{Ready: &PullReady{ID: "pull-1", Socket: "/s"}})
		},
		Page:   func() (Page, error) { return Page{URL: "u"}, n.call("page", nil) },
		Reload: func() error { return n.call("reload", nil) },
		Down:   func(d DownRequest) error { return n.call("down", d) },
	}
}
