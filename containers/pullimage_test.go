package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dockerPull is a pull of Docker 28.5 with two layers, one of which is there, and
// podmanPull one of Podman 5.8, which names layers by the digest's beginning and
// has no word for the end of one's unpacking.
var (
	dockerPull = []string{
		`{"status":"Pulling from llm/server","id":"1"}`,
		`{"status":"Pulling fs layer","progressDetail":{},"id":"aaa"}`,
		`{"status":"Already exists","progressDetail":{},"id":"bbb"}`,
		`{"status":"Downloading","progressDetail":{"current":10,"total":100},"progress":"[>  ]","id":"aaa"}`,
		`{"status":"Downloading","progressDetail":{"current":60,"total":100},"id":"aaa"}`,
		`{"status":"Verifying Checksum","progressDetail":{},"id":"aaa"}`,
		`{"status":"Download complete","progressDetail":{},"id":"aaa"}`,
		`{"status":"Extracting","progressDetail":{"current":50,"total":100},"id":"aaa"}`,
		`{"status":"Pull complete","progressDetail":{},"id":"aaa"}`,
		`{"status":"Digest: sha256:00"}`,
		`{"status":"Status: Downloaded newer image for registry.example/llm/server:1"}`,
	}
	podmanPull = []string{
		`{"status":"Pulling fs layer","progressDetail":{},"id":"aaa"}`,
		`{"status":"Downloading","progressDetail":{"current":40,"total":100},"id":"aaa"}`,
		`{"status":"Download complete","progressDetail":{},"id":"aaa"}`,
		`{"status":"Pull complete","progressDetail":{},"id":"image"}`,
	}
)

// pulled pulls from an engine that sends lines, then has the image or not.
func pulled(t *testing.T, have bool, lines ...string) (last ImageProgress, reports int, err error) {
	t.Helper()
	f := fakeEngine{"POST /images/create": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("fromImage") != "registry.example/llm/server" || r.URL.Query().Get("tag") != "1" || r.Header.Get("X-Registry-Auth") != "" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		for _, line := range lines {
			fmt.Fprint(w, line, "\r\n")
		}
	}}
	if have {
		f["GET /images/registry.example/llm/server:1/json"] = reply(object{"Id": "x", "Size": 5})
	}
	err = f.open(t).PullImage(t.Context(), "registry.example/llm/server:1", func(p ImageProgress) { last = p; reports++ })
	return last, reports, err
}

func TestPullTellsHowFarItIs(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  ImageProgress
	}{
		{"halfway", dockerPull[:5], ImageProgress{Layers: 2, Done: 1, Bytes: 60, Total: 100, Status: "Downloading"}},
		{"a count that goes back", append(dockerPull[:5:5], dockerPull[3]), ImageProgress{Layers: 2, Done: 1, Bytes: 60, Total: 100, Status: "Downloading"}},
		{"more than there is", append(dockerPull[:3:3], `{"status":"Downloading","progressDetail":{"current":900,"total":100},"id":"aaa"}`),
			ImageProgress{Layers: 2, Done: 1, Bytes: 100, Total: 100, Status: "Downloading"}},
		{"less than nothing", append(dockerPull[:3:3], `{"status":"Downloading","progressDetail":{"current":-5,"total":-9},"id":"aaa"}`),
			ImageProgress{Layers: 2, Done: 1, Status: "Downloading"}},
		{"the end", dockerPull, ImageProgress{Layers: 2, Done: 2, Bytes: 100, Total: 100, Status: "Pull complete"}},
		{"Podman's end", podmanPull, ImageProgress{Layers: 1, Done: 1, Bytes: 100, Total: 100, Status: "Pull complete"}},
		{"what a terminal would obey", []string{`{"status":"Downloading","id":"a"}`, `{"status":"\u001b[2Jx","id":"a"}`}, ImageProgress{Layers: 1, Status: "[2Jx"}},
	}
	for _, tt := range tests {
		last, _, err := pulled(t, true, tt.lines...)
		if diff := cmp.Diff(tt.want, last); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

func TestPullsThatFail(t *testing.T) {
	failure := func(text string) []string {
		line, err := json.Marshal(object{"errorDetail": object{"message": text}, "error": text})
		if err != nil {
			t.Fatal(err)
		}
		return append(dockerPull[:3:3], string(line))
	}
	tests := []struct {
		name  string
		have  bool
		lines []string
		want  string
		hint  string
	}{
		{"no such image", false, failure("manifest unknown: manifest unknown"), "manifest unknown", "there is no such image"},
		{"not for everybody", false, failure("pull access denied for server, repository does not exist or may require 'docker login': denied"), "denied", "wants a login"},
		{"too often", false, failure("toomanyrequests: You have reached your pull rate limit"), "toomanyrequests", "limits pulls"},
		{"a full disk", false, failure("write /var/lib/docker/tmp/x: no space left on device"), "no space", "full"},
		{"no way out", false, failure(`Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host`), "no such host", "docker save registry.example/llm/server:1 | ssh"},
		{"an error in colour", false, failure("\x1b[31mboom\nhint: run this"), "[31mboom hint: run this", "try it on that machine"},
		{"an error although the image is there", true, failure("boom"), "boom", "try it"},
		{"an end without the image", false, dockerPull, "without the image", "try it"},
		{"half a line", true, append(dockerPull[:3:3], `{"status":"Down`), "invalid character", "try it"},
		{"no JSON", true, []string{`<html>`}, "invalid character", "try it"},
		{"a line without an end", true, []string{`{"status":"` + strings.Repeat("x", maxPullMessage+1) + `"}`}, "EOF", "try it"},
	}
	for _, tt := range tests {
		_, _, err := pulled(t, tt.have, tt.lines...)
		var failed *PullError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(failed.Hint, tt.hint) || strings.Count(err.Error(), "\n") != 1 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v; want %q and %q", tt.name, err, tt.want, tt.hint)
		}
	}
}

func TestPullBoundsWhatItKeeps(t *testing.T) {
	var lines []string
	for i := range 2 * maxLayers {
		lines = append(lines, fmt.Sprintf(`{"status":"Waiting","id":"%d"}`, i))
	}
	last, reports, err := pulled(t, true, lines...)
	if err != nil || last.Layers != maxLayers || reports != maxLayers {
		t.Errorf("%+v after %d reports, %v", last, reports, err)
	}
}

func TestPullOfNoName(t *testing.T) {
	for _, ref := range []string{"", "-v", "A B", "$(reboot)", "https://registry.example/x"} {
		var failed *PullError
		if err := (fakeEngine{}).open(t).PullImage(t.Context(), ref, nil); !errors.As(err, &failed) {
			t.Errorf("PullImage(%q): %v", ref, err)
		}
	}
}
