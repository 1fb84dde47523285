package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/net/html"
)

// parse reads a page and fails on anything that may not be in one, whatever the
// record holds: scripts but ours, styles and handlers in attributes, addresses of
// others, frames, pictures.
func parse(t *testing.T, where, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("%s: a comment %q", where, n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "img", "iframe", "object", "embed", "style", "base", "b", "i":
			if n.Data != "i" || len(n.Attr) == 0 {
				t.Errorf("%s: an element %s", where, n.Data)
			}
		case "script":
			if n.FirstChild != nil || attribute(n, "src") != "/page.js" {
				t.Errorf("%s: a script", where)
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s: an attribute %s", where, a.Key)
			}
			if a.Key == "href" || a.Key == "src" || a.Key == "action" {
				if !strings.HasPrefix(a.Val, "/") && a.Val != "#main" || strings.HasPrefix(a.Val, "//") {
					t.Errorf("%s: %s leads to %q", where, a.Key, a.Val)
				}
			}
		}
	}
	return root
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// content is all text of a page, blanks as one.
func content(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// hostileTexts are names that would do harm on a page or a terminal that took
// them for more than text.
var hostileTexts = []string{
	`"><script>alert(1)</script><img src=x onerror=alert(2)>`,
	`' onmouseover='alert(3)' style='background:url(//evil.example)`,
	`javascript:alert(4)//`,
	`</title></style></textarea><!--<svg onload=alert(5)>`,
	"\x1b[2J\x1b]0;owned\x07\r\n\x00\u202egnp.exe\u200b\u0301\xff",
	`{{.Query}}{{template "top" .}}${alert(6)}`,
	strings.Repeat("a", 100_000),
}

// Whatever stands in an event, pages show it as text.
func TestHostileText(t *testing.T) {
	for _, text := range hostileTexts {
		state := sandbox.State{Registration: sandbox.Registration{Subject: audit.Subject{Sandbox: text, Agent: text, Model: text, Project: "/" + text}, Upstream: sandbox.Upstream{Name: text, Host: text}}}
		s := serve(t, func(s *Server) {
			s.Sandboxes = func() []sandbox.State { return []sandbox.State{state} }
			s.Status = func() control.Status {
				return control.Status{Hosts: []control.HostStatus{{Name: text, LastError: text}}}
			}
		})
		e := audit.Event{Subject: state.Subject, Proto: text, Src: text, Dst: text, Host: text, SNI: text, Method: text, Path: text, Rule: text, Reason: text, Session: text,
			Process: &audit.Process{PID: 5, Exe: "/" + text, Command: text, Parents: []audit.Parent{{PID: 1, Name: text}}, Unknown: text}}
		paths := []string{"/", "/events", "/events?since=all&new=1"}
		for _, layer := range append(layers, audit.Layer(text)) {
			e.Layer = layer
			stored := s.add(e)
			paths = append(paths, "/events/"+stored[0].ID)
		}
		if len(text) < maxField {
			in := url.QueryEscape(text)
			paths = append(paths, "/events?q="+in, "/?host="+in+"&process="+in+"&project="+in+"&sandbox="+in, "/events?denied="+in)
		}
		cookie := s.enter()
		for _, path := range paths {
			page := s.get(cookie, path)
			shown := content(parse(t, path, page))
			if strings.ContainsAny(page, "\x1b\x07\x00\r\u202e\u200b\u0301") {
				t.Errorf("%s: control characters", path)
			}
			if strings.HasPrefix(path, "/events/") && len(text) < maxField && !strings.Contains(shown, strings.Join(strings.Fields(audit.Printable(text)), " ")) {
				t.Errorf("%s: the text is not shown:\n%s", path, shown)
			}
		}
		for path, want := range map[string]int{"/events?layer=" + url.QueryEscape(text): 400, "/events?since=" + url.QueryEscape(text): 400, "/events?before=" + url.QueryEscape(text[:10]): 404, "/events/" + url.PathEscape(text[:10]): 404, "/" + url.PathEscape(text[:10]): 404} {
			if len(path) > 4000 {
				continue
			}
			a := s.request("GET", path, "Cookie", cookie)
			if a.StatusCode != want {
				t.Errorf("%s: %s, want %d", path, a.Status, want)
			}
			parse(t, path, a.body)
		}
	}
}

func TestOverview(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.Sandboxes = func() []sandbox.State {
			return []sandbox.State{{Registration: sandbox.Registration{Subject: audit.Subject{Sandbox: "a1b2c3d4e5f6", Project: "/home/me/shop-api"}, Upstream: sandbox.Upstream{Name: "gpt-oss", Host: "strix"}},
				Phase: sandbox.Ready, Since: noon.Add(-90 * time.Minute), Usage: sandbox.Usage{Requests: 1234, TokensPerSecond: 47.61}}}
		}
	})
	cookie := s.enter()
	if page := content(parse(t, "/", s.get(cookie, "/"))); !strings.Contains(page, "Nothing happened.") {
		t.Errorf("an empty record:\n%s", page)
	}
	s.add(audit.Event{Layer: audit.LayerModel, Method: "POST", Path: "/v1/messages", Verdict: policy.Allow.String(), TokensIn: 1500, TokensOut: 20})
	if page := content(parse(t, "/", s.get(cookie, "/"))); !strings.Contains(page, "Nothing was refused. 1 attempt was allowed; the model read 1,500 tokens and wrote 20.") {
		t.Errorf("nothing refused:\n%s", page)
	}
	s.add(refusedName("one.example"), refusedName("one.example"), refusedName("two.example"))
	s.add(audit.Event{Layer: audit.LayerPacket, Rule: "lost", Lost: 17, Reason: "17 packets of which only the number is known"})
	page := content(parse(t, "/", s.get(cookie, "/")))
	for _, want := range []string{"3 attempts were refused, at", "by 1 program", "17 more are known by their number only.", "one.example", "curl 3", "shop-api a1b2c3d4e5f6 gpt-oss on strix",
		"tokens/s 47.6 up 1 h 30 min requests 1,234 refused 3", "Network of this server: not controlled", "Latest refusals", "counting"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing:\n%s", want, page)
		}
	}
}

// What is wrong with the record or the wall is said on every page.
func TestTrouble(t *testing.T) {
	s := serve(t, func(s *Server) { s.Status = func() control.Status { return control.Status{} } })
	if page := s.get(s.enter(), "/help"); !strings.Contains(page, "The wall is not connected.") {
		t.Errorf("it does not say that the wall is away:\n%s", page)
	}
}

func TestDetail(t *testing.T) {
	s := serve(t, nil)
	events := s.add(refusedName("zero.example"), refusedName("one.example"), refusedName("two.example"), refusedName("one.example"))
	cookie := s.enter()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, head, err := r.Event(t.Context(), events[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	_, hash, _ := strings.Cut(head.String(), ":")
	page := s.get(cookie, "/events/"+events[1].ID)
	shown := content(parse(t, "detail", page))
	for _, want := range []string{hash, "Event 2.", "one.example", "curl pid 123", "bash pid 90", "claude pid 1", "curl https://one.example", "Decided by", "policy:", `host: "one.example"`,
		"zero.example", "two.example", "gateway audit show " + events[1].ID} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is missing:\n%s", want, shown)
		}
	}
	for _, link := range []string{`<a href="/events/` + events[0].ID + `" rel="prev">`, `<a href="/events/` + events[2].ID + `" rel="next">`} {
		if !strings.Contains(page, link) {
			t.Errorf("no %s", link)
		}
	}
	open := content(parse(t, "open", s.get(cookie, "/events/"+events[3].ID)))
	if !strings.Contains(open, "Still being counted") || !strings.Contains(open, "The first of its kind") {
		t.Errorf("an open row:\n%s", open)
	}
	if a := s.request("GET", "/events/01ZZZZZZZZ", "Cookie", cookie); a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "no such event") {
		t.Errorf("an unknown event: %s", a.Status)
	}
}

// The list's pages hold every event once.
func TestPages(t *testing.T) {
	s := serve(t, nil)
	want := map[string]bool{}
	for i := range 2*pageEntries + 5 {
		s.clock.add(time.Second)
		e := refusedName("x.example")
		e.Port = uint16(i + 1)
		want[s.add(e)[0].ID] = true
	}
	cookie, path, pages := s.enter(), "/events", 0
	for path != "" {
		pages++
		root := parse(t, path, s.get(cookie, path))
		path = ""
		for n := range root.Descendants() {
			if id := strings.TrimPrefix(attribute(n, "id"), "e-"); n.Data == "tr" && id != "" {
				if !want[id] {
					t.Fatalf("%s comes twice or from nowhere", id)
				}
				delete(want, id)
			}
			if n.Data == "a" && attribute(n, "rel") == "next" {
				path = attribute(n, "href")
			}
		}
	}
	if pages != 3 || len(want) != 0 {
		t.Errorf("%d pages, %d events are missing", pages, len(want))
	}
}

func TestFilters(t *testing.T) {
	s := serve(t, nil)
	other := refusedName("cdn.other.example")
	other.Process = &audit.Process{PID: 9, Exe: "/usr/bin/wget"}
	other.Project, other.Sandbox = "/home/me/docs", "ffff00001111"
	allowed := audit.Event{Layer: audit.LayerProxy, Host: "mirror.example", Port: 443, Verdict: policy.Allow.String(), Reason: "docs mirror"}
	events := s.add(refusedName("one.example"), other, allowed)
	cookie := s.enter()
	for query, want := range map[string]string{
		"": "012", "denied=1": "01", "allowed=1": "2", "denied=1&allowed=1": "012", "host=*.other.example": "1", "process=wget": "1", "process=9": "1", "project=docs": "1",
		"sandbox=ffff00001111": "1", "layer=proxy": "2", "q=MIRROR": "2", "since=1h": "012", "since=today": "012", "until=2026-03-02T11:59": "", "since=2026-03-02T12:00&until=2026-03-02T12:01": "012",
		"since=2026-03-03": "", "since=all&unknown=x": "012",
	} {
		page := s.get(cookie, "/events?"+query)
		got := ""
		for i, e := range events {
			if strings.Contains(page, `id="e-`+e.ID) {
				got += string(rune('0' + i))
			}
		}
		if got != want {
			t.Errorf("%s: events %q, want %q", query, got, want)
		}
	}
}

func TestMetricsBehindTheSame(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("sallyport_up 1\n")) })
	})
	if a := s.request("GET", "/metrics"); a.StatusCode != http.StatusForbidden {
		t.Error(a.Status)
	}
	if got := s.get(s.enter(), "/metrics"); got != "sallyport_up 1\n" {
		t.Errorf("got %q", got)
	}
}

// What the record says when it cannot be read is shown as text too.
func TestErrorText(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.Open = func() (*audit.Reader, error) { return nil, errors.New("<script>\x1b[2J") }
	})
	a := s.request("GET", "/", "Cookie", s.enter())
	if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.body, "\x1b") || !strings.Contains(content(parse(t, "error", a.body)), `<script>\x1b[2J`) {
		t.Errorf("%s\n%s", a.Status, a.body)
	}
}
