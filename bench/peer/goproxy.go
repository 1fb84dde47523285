package peer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/elazarl/goproxy"
)

// Goproxy is the least forward proxy that can be made of goproxy: what CONNECTs to a
// target that is allowed passes, all else is refused, and each has a line in a log.
func Goproxy(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("goproxy", flag.ContinueOnError)
	listen := flags.String("listen", "", "tcp:ADDR")
	path := flags.String("log", "", "file for a line of each CONNECT")
	var allow addresses
	flags.Var(&allow, "allow", "name:port; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log, err := openAccessLog(*path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	return serveHTTPAt(ctx, []string{*listen}, newGoproxy(log, allow))
}

func newGoproxy(log *accessLog, allow []string) http.Handler {
	p := goproxy.NewProxyHttpServer()
	p.Logger = silent{}
	p.OnRequest().HandleConnectFunc(func(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		action := goproxy.OkConnect
		if !slices.Contains(allow, host) {
			action = goproxy.RejectConnect
			ctx.Resp = goproxy.NewResponse(ctx.Req, "text/plain", http.StatusForbidden, host+" is refused\n")
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		fmt.Fprintf(log.file, "%s %s CONNECT %s %v\n", time.Now().Format(time.RFC3339Nano), ctx.Req.RemoteAddr, host, action == goproxy.OkConnect)
		return action, host
	})
	return p
}

// silent is goproxy's own log of what went wrong.
type silent struct{}

func (silent) Printf(string, ...any) {}
