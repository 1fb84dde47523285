package lab

import (
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/hub"
)

// site is a server with names of its own at port 443 of the internet.
type site struct {
	hub   *hub.Server
	names []string
	cert  tls.Certificate
}

// ServeHub has the stand-in of the model hub answer at port 443 to its names (see
// hub.Host, hub.CDNHost and hub.EncodingsHost), which the lab's DNS knows as it
// does every name below example, until it is called again; nil ends that. It
// returns the authority of its certificate, as PEM. Connections are counted by
// Served and Counters like any other.
func (i *Internet) ServeHub(h *hub.Server) (roots string, err error) {
	if h == nil {
		i.servers.site.Store(nil)
		return "", nil
	}
	s := &site{hub: h, names: h.Names()}
	if s.cert, roots, err = hub.Certificate(s.names...); err != nil {
		return "", err
	}
	i.servers.site.Store(s)
	return roots, nil
}

// serveWeb serves a connection to port 443: by the name that it asks for, the
// site, or the greeting with the certificate of config.
func (s *servers) serveWeb(c net.Conn, config *tls.Config) {
	at := s.site.Load()
	if at == nil {
		serveHTTP(tls.Server(c, config))
		return
	}
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(at.names, hello.ServerName) {
			return &tls.Config{Certificates: []tls.Certificate{at.cert}}, nil
		}
		return nil, nil
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // for the handshake alone
	t := tls.Server(c, config)
	if t.Handshake() != nil {
		return
	}
	_ = c.SetDeadline(time.Time{})
	if slices.Contains(at.names, t.ConnectionState().ServerName) {
		serveWith(t, at.hub)
		return
	}
	serveHTTP(t)
}
