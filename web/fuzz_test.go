package web

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
)

// A query that is taken is bounded and printable, and a link made of it leads to
// the same view.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "denied=1&since=7d", "host=%2A.example&process=curl&q=a+b%26c", "since=2026-03-01T14:30&until=today&layer=dns", "since=-1h", "q=%1b[2J&q=b",
		"before=01ABC&new=false&allowed", "since=all&until=90m", "host=%ff%00&sandbox=%e2%80%ae", "since=9999999w", "a;b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		q, err := parseQuery(v, noon, time.UTC)
		if err != nil {
			return
		}
		for _, field := range q.fields() {
			if s := *field.value; len(s) > 10*maxField || audit.Printable(s) != s {
				t.Errorf("%q: %s is %q", raw, field.name, s)
			}
		}
		if q.filter.Since.After(noon) && strings.Trim(q.Since, "0123456789dwhmsu.µnμ") == "" {
			t.Errorf("%q: since %v, after now", raw, q.filter.Since)
		}
		back, err := url.ParseQuery(strings.TrimPrefix(q.encode(), "?"))
		if err != nil {
			t.Fatalf("%q makes the link %q: %v", raw, q.encode(), err)
		}
		again, err := parseQuery(back, noon, time.UTC)
		if len(q.Since)+len(q.Until)+len(q.Sandbox)+len(q.Project)+len(q.Host)+len(q.Process)+len(q.Text)+len(q.Before) > maxField && err != nil {
			return // printable text can be longer than what it stands for
		}
		if err != nil || again.encode() != q.encode() || !sameFilter(again.filter, q.filter) {
			t.Errorf("%q: %+v; its link: %+v, %v", raw, q, again, err)
		}
	})
}

func sameFilter(a, b audit.Filter) bool {
	if !a.Since.Equal(b.Since) || !a.Until.Equal(b.Until) {
		return false
	}
	return a.Denied == b.Denied && a.Allowed == b.Allowed && a.Sandbox == b.Sandbox && a.Project == b.Project && a.Host == b.Host &&
		a.Process == b.Process && a.Layer == b.Layer && a.Text == b.Text
}

// Whatever a page is asked for, and whatever is in the record, its elements and
// their attributes are those of the templates: what anybody wrote is text.
func FuzzPage(f *testing.F) {
	s := inside(f)
	found := &hostile{}
	for _, text := range []string{"<script>alert(1)</script>", `"onmouseover="x`, "javascript:x//", "\x1b]52;c;x\a\u202e", "{{.}}"} {
		e := refusedName(text)
		e.ID, e.Time, e.Verdict, e.Path, e.SNI, e.Reason, e.Project = "01"+text, noon, "denied", text, text, text, text
		e.Process.Command, e.Process.Exe = text, "/"+text
		found.events = append(found.events, e)
	}
	for _, target := range []string{"/", "/events?q=%3Cscript%3E", `/events?host="onload="x`, "/events/01ABC", "/help", "/none?since=%3C", "/?process='%3E%3Cimg%20src=x%20onerror=y%3E&denied=1",
		"/events?project=javascript:x&until=today", "/events?layer=%3Cb%3E", "/page.js", "/logout", "/?token=x"} {
		f.Add(target)
	}
	elements, attributes := ofTemplates(f)
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || path.Clean(u.Path) != u.Path { // which the router leads elsewhere
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
		r.URL, r.RequestURI = u, target
		w := httptest.NewRecorder()
		name, make := "overview.html", s.overview
		if rest, ok := strings.CutPrefix(u.Path, "/events"); ok {
			if name, make = "events.html", s.list; rest != "" {
				r.SetPathValue("id", rest)
				name, make = "event.html", s.detail
			}
		}
		if v, err := make(t.Context(), r, found); err != nil {
			s.renderError(w, r, err)
		} else {
			s.render(w, http.StatusOK, name, v)
		}
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%q: %d", target, w.Code)
		}
		page := html.NewTokenizer(w.Body)
		for page.Next() != html.ErrorToken {
			token := page.Token()
			if token.Type != html.StartTagToken && token.Type != html.SelfClosingTagToken {
				continue
			}
			if !elements[token.Data] {
				t.Errorf("%q: <%s>", target, token.Data)
			}
			for _, a := range token.Attr {
				if !attributes[a.Key] || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%q: <%s %s=%q>", target, token.Data, a.Key, a.Val)
				}
				if (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "?") && !strings.HasPrefix(a.Val, "#") || strings.HasPrefix(a.Val, "//") {
					t.Errorf("%q: <%s %s=%q>", target, token.Data, a.Key, a.Val)
				}
			}
		}
	})
}

// ofTemplates lists the elements and attributes that are written in templates.
func ofTemplates(f *testing.F) (elements, attributes map[string]bool) {
	f.Helper()
	elements, attributes = map[string]bool{}, map[string]bool{}
	err := fs.WalkDir(files, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		for _, m := range regexp.MustCompile(`<([a-zA-Z0-9]+)`).FindAllSubmatch(text, -1) {
			elements[strings.ToLower(string(m[1]))] = true
		}
		for _, word := range regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9-]*`).FindAllString(string(text), -1) {
			attributes[strings.ToLower(word)] = true // and more, but no handler's
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return elements, attributes
}

// inside is a page of a gateway whose every name is hostile.
func inside(f *testing.F) *Server {
	f.Helper()
	store, err := audit.Open(filepath.Join(f.TempDir(), "audit.db"), audit.Options{Now: func() time.Time { return noon }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := store.Close(); err != nil {
			f.Error(err)
		}
	})
	state := sandbox.State{Registration: sandbox.Registration{Subject: refusedName("x").Subject, Upstream: sandbox.Upstream{Name: "<b>"}}}
	return &Server{Store: store, Sandboxes: func() []sandbox.State { return []sandbox.State{state} },
		Status: func() control.Status {
			return control.Status{Hosts: []control.HostStatus{{Name: "<i>", LastError: `"><b>`}}}
		},
		Now: func() time.Time { return noon }, Loc: time.UTC, Log: slog.New(slog.DiscardHandler)}
}

// hostile is a record of its events, whatever is asked for.
type hostile struct{ events []audit.Event }

func (h *hostile) Totals(context.Context, audit.Filter) (audit.Totals, error) {
	return audit.Totals{}, nil
}

func (h *hostile) Group(context.Context, audit.Filter, audit.By, int, *time.Location) (groups []audit.Group, err error) {
	for _, e := range h.events {
		groups = append(groups, audit.Group{Key: e.Host, Events: 1, Attempts: 1})
	}
	return groups, nil
}

func (h *hostile) Histogram(context.Context, audit.Filter, time.Duration, *time.Location) ([]audit.Bucket, error) {
	return nil, nil
}

func (h *hostile) Novel(context.Context, audit.Filter) ([]audit.Novelty, error) { return nil, nil }

func (h *hostile) Events(_ context.Context, _ audit.Filter, _ audit.Page, each func(audit.Event) error) error {
	for _, e := range h.events {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func (h *hostile) Event(context.Context, string) (audit.Event, audit.Head, error) {
	return h.events[0], audit.Head{Seq: 1}, nil
}

func (h *hostile) Neighbours(context.Context, string, int) (before, after []audit.Event, err error) {
	return h.events[1:2], h.events[2:], nil
}

func (h *hostile) Close() error { return nil }

// A request is taken as the page's own only if a slow reader of the browser's
// headers finds nothing foreign in it.
func FuzzSource(f *testing.F) {
	f.Add(uint8(0), uint8(0), uint8(0), uint8(0), uint8(0), uint8(0), "", false)
	f.Add(uint8(1), uint8(1), uint8(1), uint8(1), uint8(1), uint8(1), "x", false)
	f.Add(uint8(0), uint8(0), uint8(0), uint8(3), uint8(1), uint8(1), "cross-site", true)
	f.Add(uint8(0), uint8(2), uint8(0), uint8(0), uint8(0), uint8(0), "", false)
	f.Add(uint8(0), uint8(0), uint8(0), uint8(3), uint8(1), uint8(1), "", false)
	f.Add(uint8(0), uint8(0), uint8(1), uint8(1), uint8(0), uint8(0), "", false)
	f.Add(uint8(0), uint8(2), uint8(4), uint8(1), uint8(0), uint8(0), "evil.example:1", false)
	f.Fuzz(func(t *testing.T, m, h, o, s, mo, d uint8, other string, token bool) {
		pick := func(n uint8, values ...string) string { return append(values, other)[int(n)%(len(values)+1)] }
		method, host := pick(m, "GET", "POST", "HEAD"), pick(h, "127.0.0.1:1", "localhost:1", "127.0.0.1:2", "127.1:1")
		origin, site := pick(o, "", "null", "http://127.0.0.1:1", "http://localhost:1"), pick(s, "", "same-origin", "none", "cross-site", "same-site")
		mode, dest := pick(mo, "", "navigate", "cors"), pick(d, "", "document", "image")
		r := &http.Request{Method: method, Host: host, Header: http.Header{}, URL: &url.URL{Path: "/"}}
		if token {
			r.URL.RawQuery = "token=x"
		}
		for name, value := range map[string]string{"Origin": origin, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if checkSource(r, "1") != nil {
			return
		}
		if host != "127.0.0.1:1" && host != "localhost:1" {
			t.Errorf("taken under the name %q", host)
		}
		foreign := origin != "" && origin != "http://"+host && (origin != "null" || site != "same-origin" || method != "POST")
		crossed := site != "" && site != "same-origin" && site != "none"
		link := crossed && token && method == "GET" && origin == "" && mode == "navigate" && dest == "document"
		if foreign || crossed && !link || method == "POST" && origin == "" {
			t.Errorf("taken: %s with Origin %q, site %q, mode %q, dest %q, token %v", method, origin, site, mode, dest, token)
		}
	})
}
