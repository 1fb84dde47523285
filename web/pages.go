package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

//go:embed templates static
var files embed.FS

// public are the files that also the page for those who are not let in needs.
// They hold nothing of anybody's.
var public = map[string]bool{"/style.css": true, "/icon.svg": true, "/favicon.ico": true}

// record is what the page asks of an audit.Reader.
type record interface {
	Totals(context.Context, audit.Filter) (audit.Totals, error)
	Group(ctx context.Context, f audit.Filter, by audit.By, limit int, loc *time.Location) ([]audit.Group, error)
	Histogram(ctx context.Context, f audit.Filter, bucket time.Duration, loc *time.Location) ([]audit.Bucket, error)
	Novel(context.Context, audit.Filter) ([]audit.Novelty, error)
	Events(context.Context, audit.Filter, audit.Page, func(audit.Event) error) error
	Event(ctx context.Context, id string) (audit.Event, audit.Head, error)
	Neighbours(ctx context.Context, id string, n int) (before, after []audit.Event, err error)
	Close() error
}

// badQuery says that a view was asked for in a way that means nothing.
type badQuery struct{ error }

// view makes a page of what make finds in the record.
func (s *Server) view(name string, make func(context.Context, *http.Request, record) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
		defer cancel()
		reader, err := s.Open()
		if err != nil {
			s.renderError(w, r, err)
			return
		}
		defer reader.Close() // it was only read
		v, err := make(ctx, r, reader)
		if err != nil {
			s.renderError(w, r, err)
			return
		}
		s.render(w, http.StatusOK, name, v)
	}
}

// pages are the views, for those who were let in.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.view("overview.html", s.overview))
	mux.HandleFunc("GET /events", s.view("events.html", s.list))
	mux.HandleFunc("GET /events/{id}", s.view("event.html", s.detail))
	mux.HandleFunc("GET /help", func(w http.ResponseWriter, r *http.Request) {
		s.render(w, http.StatusOK, "help.html", s.layout("Help", r, query{Since: lastDay}))
	})
	mux.HandleFunc("GET /stream", s.stream)
	mux.HandleFunc("GET /page.js", serveStatic)
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.renderError(w, r, errNoPage)
	})
	return mux
}

var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// serveStatic serves an embedded file.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "favicon.ico" {
		name = "icon.svg"
	}
	content, err := files.ReadFile("static/" + name)
	if err != nil {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// layout is what every view has.
type layout struct {
	Title  string
	View   string // "Overview", "Events", …: marks the navigation
	Query  query
	Self   string // link to this view
	Stream string // link to its live stream
	Spans  []spanLink
	Record audit.Health
	Head   string
	Status gatewayState
}

type spanLink struct {
	Name, Link string
	Chosen     bool
}

func (s *Server) layout(title string, r *http.Request, q query) layout {
	v := layout{Title: title, View: title, Query: q, Self: r.URL.Path + q.encode(), Stream: "/stream" + q.encode(), Record: s.Store.Health()}
	if v.Record.Head.Seq > 0 {
		v.Head = v.Record.Head.String()
	}
	for _, span := range []struct{ name, since string }{{"1 h", "1h"}, {"24 h", lastDay}, {"7 d", "7d"}, {"30 d", "30d"}, {"All", "all"}} {
		link := r.URL.Path + q.with(func(q *query) { q.Since, q.Until = span.since, "" })
		v.Spans = append(v.Spans, spanLink{span.name, link, q.Since == span.since && q.Until == ""})
	}
	v.Status = s.gatewayState()
	return v
}

// gatewayState is what is to be said of the gateway. All text is printable.
type gatewayState struct {
	Wall    bool
	Hosts   []hostState
	Trouble []string // what the user should know at once
}

type hostState struct {
	Name, Error string
	Up          bool
	Reconnects  int64
}

func (s *Server) gatewayState() gatewayState {
	status := s.Status()
	g := gatewayState{Wall: status.Wall.Up}
	for _, h := range status.Hosts {
		g.Hosts = append(g.Hosts, hostState{audit.Printable(h.Name), audit.Printable(h.LastError), h.Up, int64(h.Reconnects)})
	}
	health := s.Store.Health()
	if health.Failing != "" {
		g.Trouble = append(g.Trouble, "The record cannot be written: "+audit.Printable(health.Failing))
	}
	if health.NotKept > 0 {
		g.Trouble = append(g.Trouble, counted(health.NotKept, "attempt")+" passed without a record, because it could not be written")
	}
	if health.SetAside != "" {
		g.Trouble = append(g.Trouble, "A damaged record was set aside: "+audit.Printable(health.SetAside))
	}
	if health.SinkFailing != "" {
		g.Trouble = append(g.Trouble, "The live export does not work: "+audit.Printable(health.SinkFailing))
	}
	return g
}

// failure is a view of what went wrong.
type failure struct {
	layout
	Message string
}

var errNoPage = errors.New("there is no such page")

// renderError shows what went wrong. All who see it have been let in.
func (s *Server) renderError(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	_, bad := errors.AsType[badQuery](err)
	switch {
	case bad:
		status = http.StatusBadRequest
	case errors.Is(err, errNoPage), errors.Is(err, audit.ErrNotFound), errors.Is(err, audit.ErrAmbiguous):
		status = http.StatusNotFound
	case r.Context().Err() == nil:
		s.Log.Warn("a view of the audit page", "path", r.URL.Path, "err", err)
	}
	s.render(w, status, "error.html", failure{s.layout("Error", r, query{Since: lastDay}), audit.Printable(err.Error())})
}

// render writes a page, whole or not at all.
func (s *Server) render(w http.ResponseWriter, status int, name string, v any) {
	var page bytes.Buffer
	if err := templates()[name].ExecuteTemplate(&page, name, v); err != nil {
		s.Log.Error("make a view of the audit page", "view", name, "err", err)
		http.Error(w, "the page could not be made; hint: gateway audit shows the same", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(page.Len()))
	w.WriteHeader(status)
	// A reader that went away has no use for the error.
	_, _ = w.Write(page.Bytes())
}

// templates are the views by the name of their file, each with the layout. They
// are parsed when the first is made.
var templates = sync.OnceValue(func() map[string]*template.Template {
	return parseTemplates("overview.html", "events.html", "event.html", "help.html", "error.html", "refused.html", "entered.html")
})

func parseTemplates(names ...string) map[string]*template.Template {
	functions := template.FuncMap{"number": number[int64], "counted": counted[int64], "bytes": bytesOf, "layers": func() []audit.Layer { return layers }}
	parsed := map[string]*template.Template{}
	for _, name := range names {
		parsed[name] = template.Must(template.New(name).Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+name))
	}
	return parsed
}
