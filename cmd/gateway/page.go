package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/web"
)

// serveMetrics answers scrapes on a socket that only our user can open.
func (g *gateway) serveMetrics(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", g.audit.metrics.Handler())
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// listenPage listens for the audit page; nil: it is not to be served.
func (g *gateway) listenPage() (net.Listener, error) {
	if g.config.Web.Serve != config.ServeLoopback {
		return nil, nil
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(g.config.Web.Port))))
	if err != nil {
		return nil, fmt.Errorf("serve the audit page: %w; hint: another program has that port; web.port: 0 takes any that is free, web.serve: never none", err)
	}
	g.page = &web.Server{Store: g.audit.Store, Open: func() (*audit.Reader, error) { return audit.OpenReader(g.paths.Audit()) },
		Sandboxes: g.hub.List, Status: g.status, Metrics: g.audit.metrics.Handler(), Refused: g.pageRefused, Log: g.log}
	return l, nil
}

// pageRefused records that somebody wanted to see the page and may not: any
// program of this machine can connect to it.
func (g *gateway) pageRefused(reason string) {
	if _, err := g.audit.Append(audit.Event{Layer: audit.LayerControl, Proto: "tcp", Rule: "page", Reason: reason}); err != nil {
		g.log.Error("record a refused request for the page", "err", err)
	}
}

// pageURL is a fresh way into the page.
func (g *gateway) pageURL() (control.Page, error) {
	if g.page == nil {
		return control.Page{}, errors.New("the audit page is not served; hint: web.serve: loopback in your config, then gateway down")
	}
	return control.Page{URL: g.page.URL()}, nil
}
