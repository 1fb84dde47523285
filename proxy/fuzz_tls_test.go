package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// What the gate lets through names the granted host to every reader: to
// crypto/tls, and to a reader that only follows RFC 8446 and RFC 6066.
func FuzzGate(f *testing.F) {
	whole := clientHello(f, "a.example")
	f.Add(whole)
	f.Add(clientHello(f, "b.example"))
	f.Add(cut(whole, []byte{1, 3, 200}))
	f.Add(bytes.Replace(whole, []byte("a.example"), []byte("A.exampl\x00"), 1))
	f.Add(append(slices.Clone(whole), clientHello(f, "b.example")...))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Add(clientHello(f, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := gate{want: "a.example", must: true}
		pass, refused := g.add(b)
		if !g.open {
			if len(pass) > 0 {
				t.Fatalf("%q passed, and the gate is closed", pass)
			}
			return
		}
		if refused != "" || !bytes.Equal(pass, b) {
			t.Fatalf("open, and refused: %q; %d of %d bytes", refused, len(pass), len(b))
		}
		if name, err := asServer(b); err != nil || !strings.EqualFold(name, "a.example") {
			t.Errorf("crypto/tls reads %q, %v", name, err)
		}
		if names := slowSNI(b); len(names) != 1 || !strings.EqualFold(names[0], "a.example") {
			t.Errorf("the names in it are %q", names)
		}
	})
}

// Whatever name a client puts into its hello, and however it is cut into
// records, the sniffed one is that which a server would see.
func FuzzServerName(f *testing.F) {
	f.Add("a.example", []byte{7})
	f.Add("A.Example.", []byte{1, 1, 1, 1, 1})
	f.Add("203.0.113.1", []byte{0})
	f.Add("xn--bcher-kva.example", []byte{255, 4})
	f.Fuzz(func(t *testing.T, name string, sizes []byte) {
		sent := clientHello(t, name)
		if len(sent) == 0 {
			return // crypto/tls sends no such name
		}
		want, err := asServer(sent)
		if err != nil {
			return // nor reads it
		}
		h := hello{}
		complete, err := h.add(cut(sent, sizes))
		if err != nil || !complete {
			t.Fatalf("complete %v, %v", complete, err)
		}
		got, err := h.serverName()
		if err != nil || got != want {
			t.Errorf("%q is read as %q, %v; a server reads %q", name, got, err, want)
		}
		if names := slowSNI(h.buf); strings.Join(names, ",") != want {
			t.Errorf("%q: the names in it are %q; a server reads %q", name, names, want)
		}
	})
}

// cut puts the payload of a record into records of other sizes, the last of
// which repeats.
func cut(record, sizes []byte) (out []byte) {
	rest := record[recordHead:]
	for i := 0; len(rest) > 0; i++ {
		n := len(rest)
		if len(sizes) > 0 {
			n = min(n, int(sizes[min(i, len(sizes)-1)])+1)
		}
		out = append(out, recordHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out = append(out, rest[:n]...)
		rest = rest[n:]
	}
	return out
}

// asServer is the name that a server of crypto/tls is asked for.
func asServer(b []byte) (name string, err error) {
	errSeen := errors.New("seen")
	server := tls.Server(readOnly{bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		name = info.ServerName
		return nil, errSeen
	}})
	if err = server.Handshake(); errors.Is(err, errSeen) {
		return name, nil
	}
	return "", err
}

// slowSNI lists every name in every server_name extension of a ClientHello. It
// stops where a length is wrong.
func slowSNI(b []byte) (names []string) {
	var message []byte
	for len(b) >= 5 && b[0] == 22 {
		n := int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < 5+n {
			break
		}
		message = append(message, b[5:5+n]...)
		b = b[5+n:]
	}
	if len(message) < 4 || message[0] != 1 {
		return nil
	}
	body := reading{rest: message[4:min(len(message), 4+int(binary.BigEndian.Uint32(message)&0xffffff))]}
	body.take(2 + 32) // version, random
	body.list(1)      // session
	body.list(2)      // cipher suites
	body.list(1)      // compression
	extensions := reading{rest: body.list(2)}
	for len(extensions.rest) >= 4 {
		kind := binary.BigEndian.Uint16(extensions.take(2))
		content := reading{rest: extensions.list(2)}
		if kind != 0 {
			continue
		}
		entries := reading{rest: content.list(2)}
		for len(entries.rest) >= 3 {
			entries.take(1) // its kind: there is one only
			names = append(names, string(entries.list(2)))
		}
	}
	return names
}

// reading takes a message apart; at its end it gives nothing.
type reading struct{ rest []byte }

func (r *reading) take(n int) []byte {
	if n > len(r.rest) {
		r.rest = nil
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// list takes a length of so many bytes, and what it counts.
func (r *reading) list(size int) []byte {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	if n > len(r.rest) {
		r.rest = nil
		return nil
	}
	return r.take(n)
}
