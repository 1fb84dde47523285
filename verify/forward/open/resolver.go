package open

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/verify/probe"
)

// Types of DNS records (RFC 1035 §3.2.2, RFC 3596).
const (
	typeA    = 1
	typeTXT  = 16
	typeAAAA = 28
)

// headerSize is that of a DNS message's header, in bytes.
const headerSize = 12

// Resolver answers every DNS message at addr, over UDP and TCP, until ctx ends.
func Resolver(ctx context.Context, addr netip.AddrPort) error {
	if _, err := Listen(ctx, addr, func(c net.Conn) { answerStream(c) }); err != nil {
		return err
	}
	return Datagrams(ctx, addr, answerDNS)
}

// Datagrams answers every datagram at addr until ctx ends.
func Datagrams(ctx context.Context, addr netip.AddrPort, answer func([]byte) []byte) error {
	var c net.PacketConn
	err := up()
	if err == nil {
		err = again(ctx, func() (err error) {
			c, err = net.ListenPacket("udp", addr.String())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("listen at %s: %w", addr, err)
	}
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(answer(buf[:n]), from)
		}
	}()
	return nil
}

// ResolverTLS answers DNS over TLS (RFC 7858) at addr, with a certificate that nobody
// has signed.
func ResolverTLS(ctx context.Context, addr netip.AddrPort) error {
	config, err := selfSigned()
	if err != nil {
		return err
	}
	_, err = Listen(ctx, addr, func(c net.Conn) { answerStream(tls.Server(c, config)) })
	return err
}

// ResolverHTTPS answers DNS over HTTPS (RFC 8484), a POST at a time, the same way.
func ResolverHTTPS(ctx context.Context, addr netip.AddrPort) error {
	config, err := selfSigned()
	if err != nil {
		return err
	}
	_, err = Listen(ctx, addr, func(c net.Conn) {
		secured := tls.Server(c, config)
		r, err := http.ReadRequest(bufio.NewReader(secured))
		if err != nil {
			return
		}
		query, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		if err != nil {
			return
		}
		answer := answerDNS(query)
		_, _ = fmt.Fprintf(secured, "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(answer), answer)
		_ = secured.CloseWrite()
	})
	return err
}

func answerStream(c net.Conn) {
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answer := answerDNS(query)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answerDNS answers any message with one record, be it a query or not; what has no
// header, with probe.Greeting.
func answerDNS(query []byte) []byte {
	if len(query) < headerSize {
		return []byte(probe.Greeting)
	}
	end, kind := firstQuestion(query)
	answer := append([]byte(nil), query[:end]...)
	answer[2], answer[3] = query[2]|0x80, 0x80
	copy(answer[4:headerSize], []byte{0, 0, 0, 1, 0, 0, 0, 0})
	name := []byte{0}
	if end > headerSize {
		answer[5], name = 1, []byte{0xc0, headerSize} // a pointer to the question's name
	}
	data := []byte{203, 0, 113, 10}
	switch kind {
	case typeA:
	case typeAAAA:
		data = netip.MustParseAddr("2001:db8::10").AsSlice()
	default:
		kind, data = typeTXT, append([]byte{byte(len(probe.Greeting))}, probe.Greeting...)
	}
	answer = append(answer, name...)
	answer = binary.BigEndian.AppendUint16(answer, kind)
	answer = append(answer, 0, 1, 0, 0, 0, 60)
	return append(binary.BigEndian.AppendUint16(answer, uint16(len(data))), data...)
}

// firstQuestion returns where the first question ends, and its type; without one, the
// header's end.
func firstQuestion(query []byte) (end int, kind uint16) {
	if query[4]|query[5] == 0 {
		return headerSize, typeA
	}
	for end = headerSize; end < len(query) && query[end] != 0; end += 1 + int(query[end]) {
	}
	if end+5 > len(query) {
		return headerSize, typeA
	}
	return end + 5, binary.BigEndian.Uint16(query[end+1:])
}

func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}, nil
}
