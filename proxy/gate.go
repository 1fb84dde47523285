package proxy

import (
	"fmt"
	"strings"
)

// gate looks at the first bytes that a container sends through a tunnel. TLS
// must name the host that was granted; on port 443 there must be TLS. It is used
// by one goroutine at a time.
type gate struct {
	want  string // the granted host, lower case, no trailing dot
	must  bool   // anything but TLS is refused
	open  bool   // the first message was fine: all passes
	hello hello
	sni   string // what the hello named, for the record
}

// add takes more bytes and returns those that may go on, if any, or why the
// tunnel is refused.
func (g *gate) add(p []byte) (pass []byte, refused string) {
	complete, err := g.hello.add(p)
	switch {
	case err != nil && g.hello.looksTLS():
		return nil, "a TLS ClientHello that cannot be read: " + err.Error()
	case err != nil && g.must:
		return nil, "not TLS, on port 443"
	case err != nil:
		return g.release(), ""
	case !complete:
		return nil, ""
	}
	name, err := g.hello.serverName()
	if err != nil {
		return nil, "a TLS ClientHello that cannot be read: " + err.Error()
	}
	g.sni = name
	switch {
	case name == "":
		return nil, "a TLS ClientHello without a server name (SNI)"
	case !strings.EqualFold(name, g.want):
		return nil, fmt.Sprintf("TLS server name %s differs from the CONNECT host", quoted(name))
	}
	return g.release(), ""
}

func (g *gate) release() []byte {
	g.open = true
	b := g.hello.buf
	g.hello.buf = nil
	return b
}

// end says why the tunnel is refused when the container sends no more.
func (g *gate) end() (refused string) {
	if !g.open && len(g.hello.buf) > 0 {
		return "the connection ended within a TLS ClientHello"
	}
	return ""
}
