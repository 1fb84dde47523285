package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/elazarl/goproxy"
)

var errNoGrant = errors.New("nothing is dialled without a decision")

// newEngine returns a goproxy in which each default that opens something is
// overridden: it passes what carries a grant and refuses all else.
func newEngine(log *slog.Logger) *goproxy.ProxyHttpServer {
	p := goproxy.NewProxyHttpServer()
	p.Logger = engineLog{log}
	p.Tr = closedTransport()   // was: InsecureSkipVerify and the environment's proxy
	p.ConnectDial = nil        // was: HTTPS_PROXY of the environment
	p.ConnectDialWithReq = nil //
	p.AllowHTTP2 = false
	p.KeepAcceptEncoding = true
	p.NonproxyHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "sallyport: "+errNoGrant.Error(), http.StatusForbidden)
	})
	p.ConnectionErrHandler = func(w io.Writer, ctx *goproxy.ProxyCtx, err error) {
		if g := grantOf(ctx.Req); g != nil {
			g.connectFailed(w, err)
		}
	}
	p.OnRequest().HandleConnectFunc(func(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		t, ok := ctx.Req.Context().Value(tunnelKey{}).(*tunnel)
		if !ok {
			return &goproxy.ConnectAction{Action: goproxy.ConnectReject}, host
		}
		ctx.Dialer = t.dial
		return &goproxy.ConnectAction{Action: goproxy.ConnectAccept}, host
	})
	p.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		x, ok := r.Context().Value(exchangeKey{}).(*exchange)
		if !ok {
			return r, answer(r, &refusal{status: http.StatusForbidden, reason: errNoGrant.Error()})
		}
		ctx.RoundTripper = x
		return r, nil
	})
	return p
}

// closedTransport reaches nothing.
func closedTransport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return nil, errNoGrant },
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return nil, errNoGrant },
	}
}

// engineLog keeps goproxy's messages, which hold what containers sent, quoted,
// short and at debug level.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Printf(format string, v ...any) {
	if !l.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	l.log.Debug("goproxy", "message", quoted(fmt.Sprintf(format, v...)))
}
