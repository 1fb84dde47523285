//go:build lab

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/internal/vllm"
)

// spellings are ways to write a request's target that a careless filter would
// take for another path.
func spellings(path string) []string {
	name := strings.TrimPrefix(path, "/")
	return []string{
		path, "/" + path, path + "/", "/./" + name, "/x/.." + path, "/%2e" + path, "/" + strings.ToUpper(name),
		fmt.Sprintf("/%%%02x%s", name[0], name[1:]), path + "?x=1", path + ";x", "http://model" + path, "/v1/messages/.." + path, "/v1/messages%2f.." + path,
	}
}

// Every endpoint of vLLM but those that Claude Code needs is refused, with every
// method and spelling, with an event each, and none arrives at the server.
func TestDangerousEndpoints(t *testing.T) {
	m := setUpStandIn(t)
	m.must([]string{"pull", "big"})
	var config strings.Builder
	requests := 0
	paths := append(vllm.Dangerous(), "/metrics", "/tokenize", "/detokenize", "/load", "/version", "/v1/chat/completions", "/v1/completions", "/v1/responses")
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		for _, path := range paths {
			for _, target := range spellings(path) {
				if requests > 0 {
					config.WriteString("next\n")
				}
				fmt.Fprintf(&config, "url = \"http://GATE:8000/\"\nrequest-target = \"%s\"\nrequest = %s\nsilent\noutput = /dev/null\nwrite-out = \"%%{http_code} %s %s\\n\"\n", target, method, method, strings.ReplaceAll(target, "%", "%%"))
				requests++
			}
		}
	}
	m.write(filepath.Join(m.project, "requests"), config.String())
	out, err := m.command("launcher", "-q", "shell", "big", "--", "-c",
		`sed "s/GATE/$(sed -n 's/nameserver //p' /etc/resolv.conf)/" requests >/tmp/requests && curl -K /tmp/requests`).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	refused := regexp.MustCompile(`^4\d\d `)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != requests {
		t.Fatalf("%d answers to %d requests:\n%.2000s", len(answers), requests, out)
	}
	for _, a := range answers {
		if !refused.MatchString(a) {
			t.Errorf("not refused: %s", a)
		}
	}
	denied := 0
	for _, e := range m.events("") {
		if e.Layer == audit.LayerModel && e.Verdict == "denied" {
			denied++
		}
	}
	if denied != requests {
		t.Errorf("%d events of %d refused requests", denied, requests)
	}
	t.Logf("%d requests, %d events", requests, denied)
	m.untouched("big")
}

// untouched asks the stand-in itself what arrived.
func (m *modelUser) untouched(model string) {
	m.Helper()
	socket := "/home/" + lab.UserName + "/.cache/sallyport/models/" + model + "/model.sock"
	client := &http.Client{Transport: &http.Transport{DialContext: m.lab.GPUHost.DialSocket(socket), DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(m.ctx, "GET", "http://model/metrics", nil)
	if err != nil {
		m.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		m.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), "vllm:num_requests_running") {
		m.Fatalf("%v: %s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "standin_dangerous_hits_total{") {
			m.Errorf("arrived at the server: %s", line)
		}
	}
}
