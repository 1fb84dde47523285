package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/verify/forward/open"
	"github.com/sallyport/sallyport/verify/probe"
)

// bypass says to an address elsewhere what belongs to an allowed name.
type bypass struct {
	name, why, source string
	port              uint16
	six               bool
	say               func(host string) string
}

// direct are the attempts past the proxy: a wall that takes every connection must not
// go by the name that is in it.
func direct() []probe.Probe {
	hello := func(host string) string { return clientHello(host) }
	get := func(host string) string {
		return "GET /direct HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
	}
	var list []probe.Probe
	for _, b := range []bypass{
		{"direct-host-header", "a wall that goes by the Host header lets any address be reached in an allowed host's name", "RFC 9110 §7.2", 80, false, get},
		{"direct-server-name", "a wall that goes by TLS's server name lets any address be reached in an allowed host's name", "RFC 6066 §3", 443, false, hello},
		{"direct-server-name-ipv6", "a wall that goes by TLS's server name lets any address be reached in an allowed host's name", "RFC 6066 §3", 443, true, hello},
		{"direct-connect", "a wall that forwards CONNECT lets whoever listens at an address be its proxy", "RFC 9110 §9.3.6", 8443, false,
			func(host string) string { return "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n\r\n" }},
	} {
		list = append(list, probe.Probe{Name: b.name, Group: probe.Proxy, Why: b.why, Source: b.source, Try: b.try, Own: b.own})
	}
	return list
}

func (b bypass) addr(t probe.Target) netip.AddrPort {
	if b.six {
		return netip.AddrPortFrom(t.Public6, b.port)
	}
	return netip.AddrPortFrom(t.Public4, b.port)
}

func (b bypass) own(ctx context.Context, t *probe.Target) error {
	var err error
	if t.Public4, t.Public6, err = open.Somewhere(ctx); err != nil {
		return err
	}
	if !b.addr(*t).IsValid() {
		return nil // Try says that it lacks it
	}
	_, err = open.Listen(ctx, b.addr(*t), open.Greet)
	return err
}

func (b bypass) try(ctx context.Context, t probe.Target) probe.Finding {
	to := b.addr(t)
	if !to.IsValid() {
		return probe.Missing("address of that family")
	}
	host := allowed(t)
	said, err := exchange(ctx, to, b.say(host))
	return judge(said, err, false, probe.Event{Layer: audit.LayerIntercept, Proto: "tcp", Dst: to.String(), Host: host})
}

// clientHello returns the bytes with which a TLS client begins that wants name.
func clientHello(name string) string {
	c := &heard{}
	_ = tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() // fails for want of an answer
	return c.String()
}

// heard keeps what is written to it and answers nothing.
type heard struct{ bytes.Buffer }

func (*heard) Read([]byte) (int, error)         { return 0, io.EOF }
func (*heard) Close() error                     { return nil }
func (*heard) LocalAddr() net.Addr              { return nil }
func (*heard) RemoteAddr() net.Addr             { return nil }
func (*heard) SetDeadline(time.Time) error      { return nil }
func (*heard) SetReadDeadline(time.Time) error  { return nil }
func (*heard) SetWriteDeadline(time.Time) error { return nil }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
