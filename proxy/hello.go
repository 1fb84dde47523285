package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

const (
	recordHead      = 5       // bytes before a TLS record's payload
	recordHandshake = 22      // content type
	helloType       = 1       // handshake type client_hello
	maxRecord       = 1 << 14 // bytes of payload (RFC 8446 §5.1)
)

var (
	errNotTLS   = errors.New("not TLS")
	errNoHello  = errors.New("no ClientHello in the first records")
	errHelloLen = errors.New("the ClientHello is too long")
)

// hello gathers a TLS ClientHello out of any number of segments and records. It
// looks at each byte once, whatever sizes they come in.
type hello struct {
	max     int    // bytes to gather at most; zero: 64 KiB
	buf     []byte // all that was given
	next    int    // where in buf the next record starts
	payload int    // bytes of handshake payload that the records before next hold
	want    int    // bytes of payload that the message needs; zero: not known yet
	start   [4]byte
}

// add takes more bytes. It returns true when the message is complete and an
// error when it is none.
func (h *hello) add(p []byte) (complete bool, err error) {
	limit := orDefault(h.max, 64<<10)
	h.buf = append(h.buf, p...)
	if !h.plausible() {
		return false, errNotTLS
	}
	for {
		if h.want > 0 && h.payload >= h.want {
			return true, nil
		}
		if h.want > limit || h.next > limit {
			return false, errHelloLen
		}
		if len(h.buf) < h.next+recordHead {
			return false, nil
		}
		head := h.buf[h.next:]
		size := int(head[3])<<8 | int(head[4])
		if head[0] != recordHandshake || head[1] != 3 || size == 0 || size > maxRecord {
			return false, errNoHello
		}
		if len(head) < recordHead+size {
			return false, nil
		}
		if err := h.take(head[recordHead : recordHead+size]); err != nil {
			return false, err
		}
		h.next += recordHead + size
	}
}

// take counts one record's payload and learns the message's length from the
// first four bytes of all.
func (h *hello) take(payload []byte) error {
	if h.payload < len(h.start) {
		copy(h.start[h.payload:], payload)
	}
	h.payload += len(payload)
	if h.want > 0 || h.payload < len(h.start) {
		return nil
	}
	if h.start[0] != helloType {
		return errNoHello
	}
	h.want = len(h.start) + (int(h.start[1])<<16 | int(h.start[2])<<8 | int(h.start[3]))
	return nil
}

// plausible says whether the bytes so far may start a TLS connection.
func (h *hello) plausible() bool {
	return (len(h.buf) < 1 || h.buf[0] == recordHandshake) && (len(h.buf) < 2 || h.buf[1] == 3)
}

// looksTLS says whether the bytes start like TLS and nothing else would.
func (h *hello) looksTLS() bool { return len(h.buf) >= 2 && h.plausible() }

// serverName parses a complete hello with crypto/tls and returns its SNI, empty
// where there is none.
func (h *hello) serverName() (string, error) {
	var name string
	errSeen := errors.New("seen")
	conf := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name = info.ServerName
		return nil, errSeen
	}}
	err := tls.Server(readOnly{bytes.NewReader(h.buf)}, conf).Handshake()
	if errors.Is(err, errSeen) {
		return name, nil
	}
	return "", err
}

// readOnly lets crypto/tls read bytes and say nothing.
type readOnly struct{ r io.Reader }

func (c readOnly) Read(p []byte) (int, error)     { return c.r.Read(p) }
func (readOnly) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
