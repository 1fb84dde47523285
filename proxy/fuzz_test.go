package proxy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func FuzzHello(f *testing.F) {
	f.Add(clientHello(f, "a.example"), uint8(7))
	f.Add(clientHello(f, ""), uint8(255))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, parts := gate{want: "a.example", must: true}, gate{want: "a.example", must: true}
		pass, refused := whole.add(b)
		var got []byte
		why := ""
		size := int(step) + 1
		for at := 0; at < len(b) && why == ""; at += size {
			part := b[at:min(at+size, len(b))]
			if parts.open {
				got = append(got, part...)
				continue
			}
			var p []byte
			p, why = parts.add(part)
			got = append(got, p...)
		}
		if len(b) == 0 {
			return
		}
		if parts.open && !bytes.Equal(got, b) || !parts.open && len(got) > 0 {
			t.Errorf("%d of %d bytes passed", len(got), len(b))
		}
		if whole.open && !bytes.Equal(pass, b) || whole.open != parts.open || (refused != "") != (why != "") {
			t.Errorf("whole: %v %q; in parts: %v %q", whole.open, refused, parts.open, why)
		}
	})
}

func FuzzSniffHTTP(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: a.example\r\n\r\n"), uint8(5))
	f.Add([]byte("POST http://a.example/ HTTP/1.0\nhost:b\n\n"), uint8(1))
	f.Add([]byte("SSH-2.0-x\r\n"), uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		h := hello{max: 4096}
		size := int(step) + 1
		var seen sight
		done := false
		for at := 0; at < len(b) && !done; at += size {
			seen, done = sniff(&h, b[at:min(at+size, len(b))])
		}
		if !done {
			seen = partial(&h, 4096)
		}
		if len(seen.host) > maxName || len(seen.path) > maxPath+1 || len(seen.method) > maxMethod {
			t.Errorf("unbounded %+v", seen)
		}
		if seen.kind == isHTTP && seen.method == "" {
			t.Errorf("HTTP without a method: %+v", seen)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"))
	f.Add([]byte("GET / HTTP/1.1\nHost: a\n\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := headEnd(b)
		if end < 0 {
			return
		}
		if end > len(b) {
			t.Fatal(end)
		}
		if _, err := checkHead(b[:end]); err == nil && bytes.Count(b[:end], []byte("\n")) != bytes.Count(b[:end], []byte("\r\n")) {
			t.Errorf("a bare LF passes in %q", b[:end])
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"a.example:443", "[::1]:443", "127.1:80", "a@b:1", "A.Example.:65535", "a:0", "0x7f.1:80", "xn--a.example:1", "１.1.1.1:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := parseTarget(s)
		if err != nil {
			return
		}
		if port == 0 || host != strings.ToLower(host) || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			t.Errorf("%q gave %q %d", s, host, port)
		}
		if again, p2, err := parseTarget(host + ":" + strings.TrimLeft(s[strings.LastIndexByte(s, ':')+1:], "")); err != nil || again != host || p2 != port {
			t.Errorf("%q is not stable: %q %d %v", s, again, p2, err)
		}
		if last := host[strings.LastIndexByte(host, '.')+1:]; strings.Trim(last, "0123456789") == "" {
			t.Errorf("%q is an address", host)
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add(claude(f))
	f.Add([]byte(small))
	f.Add([]byte(`{"model":"a","mode\u006c":"b"}`))
	f.Add([]byte(`{"system":"\ud83d\ude00 \ud83d"}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url"}}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := normalize(b)
		if err == nil {
			if !json.Valid(b) || !json.Valid(out) {
				t.Fatalf("%q became %q", b, out)
			}
			if again, err := normalize(out); err != nil || !bytes.Equal(again, out) {
				t.Fatalf("%q is not stable: %q %v", out, again, err)
			}
			if extent(out) != len(out) {
				t.Fatalf("extent of %q is %d", out, extent(out))
			}
			same(t, b, out)
		}
		checked, err := checkBody(b, "messages")
		if err != nil {
			return
		}
		if !bytes.Equal(checked, out) {
			t.Errorf("%q, %q", checked, out)
		}
		if sent, err := setModel(checked, "m", []string{"gpt-oss"}); err == nil {
			var v struct{ Model string }
			if json.Unmarshal(sent, &v) != nil || v.Model != "m" {
				t.Errorf("%q", sent)
			}
		}
	})
}

func same(t *testing.T, a, b []byte) {
	var x, y any
	da, db := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	da.UseNumber()
	db.UseNumber()
	if da.Decode(&x) != nil || db.Decode(&y) != nil || !reflect.DeepEqual(x, y) {
		t.Fatalf("%q means something else than %q", b, a)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n"), uint8(3))
	f.Add([]byte(": comment\r\n\r\ndata: x\r\rdata"), uint8(0))
	f.Add([]byte("data:"+strings.Repeat("x", 100)), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, parts eventScanner
		whole.feed(b)
		size := int(step) + 1
		for at := 0; at < len(b); at += size {
			parts.feed(b[at:min(at+size, len(b))])
		}
		if whole.usage != parts.usage || whole.boundary() != parts.boundary() || whole.stopped != parts.stopped {
			t.Errorf("whole %+v, in parts %+v", whole, parts)
		}
		if len(parts.line) > maxEventLine || parts.in < 0 || parts.out < 0 {
			t.Errorf("%+v", parts)
		}
		if parts.boundary() && len(b) > 0 && b[len(b)-1] != '\n' {
			t.Errorf("a boundary after %q", b)
		}
	})
}
