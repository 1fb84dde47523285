package containers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const oneCert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func TestAgentTagNamesWhatIsInTheImage(t *testing.T) {
	base := BuildSpec{UID: 1000, GID: 1000}
	tag := func(s BuildSpec) string {
		t.Helper()
		name, err := AgentTag(s)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	same := base
	same.Version, same.Network, same.AptSources, same.AptConf, same.NpmRegistry = ClaudeCodeVersion, "host", "deb x", "y", "z"
	if tag(same) != tag(base) {
		t.Error("the way to the packages changes the tag")
	}
	seen := map[string]bool{tag(base): true}
	for _, s := range []BuildSpec{{UID: 1001, GID: 1000}, {UID: 1000, GID: 1001}, {UID: 1000, GID: 1000, Version: "2.0.0"}, {UID: 1000, GID: 1000, ExtraCA: []byte(oneCert)}} {
		if seen[tag(s)] {
			t.Errorf("%+v has the tag of another image", s)
		}
		seen[tag(s)] = true
	}
	for _, s := range []BuildSpec{{}, {UID: 1000}, {GID: 1000}, {UID: 1, GID: 1, Version: "1; rm -rf /"}, {UID: 1, GID: 1, Network: "bridge"}} {
		if name, err := AgentTag(s); err == nil {
			t.Errorf("%+v: %s", s, name)
		}
	}
}

// builder is an engine that has the named images and answers a build with
// stream.
func builder(t *testing.T, stream string, images ...string) (*Engine, *[]string) {
	t.Helper()
	files := new([]string)
	f := fakeEngine{"POST /build": func(w http.ResponseWriter, r *http.Request) {
		*files = append(*files, r.URL.Query().Get("networkmode")+"|"+r.URL.Query().Get("version")+"|"+r.URL.Query().Get("buildargs"))
		for in := tar.NewReader(r.Body); ; {
			h, err := in.Next()
			if err != nil {
				break
			}
			data, _ := io.ReadAll(in)
			*files = append(*files, fmt.Sprintf("%s %d", h.Name, len(data)))
		}
		fmt.Fprint(w, stream)
	}}
	for _, image := range images {
		f["GET /images/"+image+"/json"] = reply(object{"Id": "sha256:1"})
	}
	return f.open(t), files
}

const built = `{"stream":"Step 1/3 : FROM debian:12-slim"}{"stream":"\n"}{"stream":" ---\u003e 1\nStep 2/3 : ARG UID\n"}
{"stream":"Step 3/3 : RUN : install things; set -eu; rm x\n"}{"stream":"Get:1 \u001b[31mhttp://x\n"}`

func TestBuildAgent(t *testing.T) {
	e, asked := builder(t, built+`{"aux":{"ID":"sha256:2"}}{"stream":"Successfully built\n"}`, BaseImage)
	var lines []string
	spec := BuildSpec{UID: 1000, GID: 1001, Network: "host", ExtraCA: []byte(oneCert + oneCert), AptSources: "deb http://m bookworm main\n", NpmRegistry: "u",
		Progress: func(l string) { lines = append(lines, l) }}
	image, err := e.BuildAgent(t.Context(), spec)
	if want, _ := AgentTag(spec); err != nil || image != want {
		t.Fatalf("BuildAgent = %q, %v; want %q", image, err, want)
	}
	if got := strings.Join(lines, "\n"); got != "step 1/3: FROM debian:12-slim\nstep 3/3: install things" {
		t.Errorf("progress:\n%s", got)
	}
	want := []string{`host|1|{"CLAUDE_CODE_VERSION":"` + ClaudeCodeVersion + `","GID":"1001","UID":"1000"}`, fmt.Sprintf("Dockerfile %d", len(agentDockerfile)), "inputs/ 0", "inputs/apt.list 27",
		"inputs/npm.registry 1", fmt.Sprintf("inputs/ca.pem %d", 2*len(oneCert)), "inputs/ca/ 0",
		fmt.Sprintf("inputs/ca/sallyport-000.crt %d", len(oneCert)), fmt.Sprintf("inputs/ca/sallyport-001.crt %d", len(oneCert))}
	if got := strings.Join(*asked, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("asked:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestBuildAgentTakesWhatIsThere(t *testing.T) {
	spec := BuildSpec{UID: 1000, GID: 1000}
	tag, err := AgentTag(spec)
	if err != nil {
		t.Fatal(err)
	}
	e, asked := builder(t, "", tag)
	if image, err := e.BuildAgent(t.Context(), spec); err != nil || image != tag || len(*asked) > 0 {
		t.Errorf("BuildAgent = %q, %v, after asking for %v", image, err, *asked)
	}
}

func TestBuildAgentFails(t *testing.T) {
	failed := `{"errorDetail":{"code":100,"message":"The command returned a non-zero code: 100"},"error":"The command returned a non-zero code: 100"}`
	noBase := `{"stream":"Step 1/3 : FROM debian:12-slim\n"}{"errorDetail":{"message":"Get \"https://registry/v2/\": no such host"}}`
	tests := []struct {
		name, stream string
		images       []string
		spec         BuildSpec
		want         string
		noBase       bool
	}{
		{"a step fails", built + failed, []string{BaseImage}, BuildSpec{}, "non-zero code: 100\nlast output:\n  Step 1/3 : FROM debian:12-slim\n", false},
		{"and its output is made harmless", built + failed, []string{BaseImage}, BuildSpec{}, "\n  Get:1 [31mhttp://x", false},
		{"no base image", noBase, nil, BuildSpec{}, "no such host", true},
		{"a later step fails after the base was pulled", built + failed, nil, BuildSpec{}, "non-zero", false},
		{"the engine goes away", built + `{"stream":"x`, []string{BaseImage}, BuildSpec{}, "read the engine's build output", false},
		{"no certificates", "", []string{BaseImage}, BuildSpec{ExtraCA: []byte("hello")}, "no certificate in it", false},
		{"a private key among them", "", []string{BaseImage}, BuildSpec{ExtraCA: []byte(strings.ReplaceAll(oneCert, "CERTIFICATE", "PRIVATE KEY"))}, `holds a "PRIVATE KEY"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := builder(t, tt.stream, tt.images...)
			tt.spec.UID, tt.spec.GID = 1000, 1000
			_, err := e.BuildAgent(t.Context(), tt.spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrNoBase) != tt.noBase {
				t.Errorf("BuildAgent: %v\nwant %q", err, tt.want)
			}
		})
	}
}

func TestBuildOutputIsBounded(t *testing.T) {
	r := &buildReport{progress: func(string) {}}
	for range 1000 {
		r.output(strings.Repeat("é", 5000))
	}
	for range 1000 {
		r.output("line\n")
	}
	if len(r.tail) != buildTail || len(r.partial) > 4*buildLineMax {
		t.Errorf("kept %d lines and %d bytes", len(r.tail), len(r.partial))
	}
	if got := plain(strings.Repeat("é", 5000)); len(got) > buildLineMax+len("…") || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("plain kept %d bytes", len(got))
	}
}

func FuzzBuildOutput(f *testing.F) {
	f.Add(built)
	f.Add(`{"stream":"Step 1/2 : RUN : \u001b]52;c;x\u0007;"}{"stream":"\n"}`)
	f.Fuzz(func(t *testing.T, stream string) {
		r := &buildReport{progress: func(line string) {
			if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0x9b }) || len(line) > buildLineMax+40 {
				t.Errorf("progress: %q", line)
			}
		}}
		_ = r.read(strings.NewReader(stream))
	})
}
