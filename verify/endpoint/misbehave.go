package endpoint

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net"
	"regexp"
	"strings"
)

// endless is how many bytes of something without an end are sent, before silence.
const endless = 8 << 20

// planted stands in what a hostile server adds to an answer: where a client sees it,
// the answer was split.
const planted = "sallyport-planted"

var hostileText = regexp.MustCompile(`hostile: ([a-z0-9-]+)`)

// hostileName returns what a message asks the server to do; empty: nothing.
func hostileName(body []byte) string {
	var m struct {
		Messages []struct {
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if json.Unmarshal(body, &m) != nil || len(m.Messages) == 0 {
		return ""
	}
	found := hostileText.FindSubmatch(m.Messages[0].Content)
	if found == nil {
		return ""
	}
	return string(found[1])
}

const (
	okHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	object = `{"type":"message","content":[]}`
	second = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 17\r\n\r\n" + planted
)

// sized is an answer with more header lines.
func sized(more string) string { return okHead + more + "Content-Length: 31\r\n\r\n" + object }

// redirect is an answer that leads elsewhere.
func redirect(status, to string) string {
	return "HTTP/1.1 " + status + "\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n"
}

// answers are what is sent as it stands, by name. The connection goes on behind it,
// but for those that it must end.
var answers = map[string]string{
	"split-crlf":      sized("Request-Id: 1\r\nSet-Cookie: a=" + planted + "\r\nX-Injected: " + planted + "\r\n"),
	"split-lf":        sized("Request-Id: 1\nSet-Cookie: a=" + planted + "\n"),
	"split-cr":        sized("Request-Id: 1\rSet-Cookie: a=" + planted + "\r\n"),
	"split-nul":       sized("Request-Id: 1\x00" + planted + "\r\n"),
	"split-escape":    sized("Request-Id: \x1b]52;c;c2FsbHlwb3J0\x07\r\n"),
	"split-kind":      strings.Replace(sized(""), "application/json", "application/json\x1b]0;"+planted+"\x07", 1),
	"split-space":     sized("X Injected: " + planted + "\r\n"),
	"split-colon":     sized("Set-Cookie : a=" + planted + "\r\n"),
	"split-fold":      sized("Request-Id: 1\r\n Set-Cookie: a=" + planted + "\r\n"),
	"split-trailer":   okHead + "Trailer: X-Injected\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(object) + "0\r\nX-Injected: " + planted + "\r\n\r\n",
	"second-length":   sized("") + second,
	"second-chunked":  okHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(object) + "0\r\n\r\n" + second,
	"second-empty":    "HTTP/1.1 204 No Content\r\n\r\n" + second,
	"redirect-folder": redirect("301 Moved", "/collective_rpc"),
	"redirect-file":   redirect("307 Temporary Redirect", "file:///etc/passwd"),
	"redirect-choice": redirect("300 Multiple Choices", "http://198.51.100.1/"+planted),
	"redirect-unlike": "HTTP/1.1 304 Not Modified\r\nLocation: /" + planted + "\r\n\r\n",
	"headers":         sized(strings.Join(leading, ": \"x\"; https://"+planted+".example/\r\n") + ": x\r\n"),
	"early-hints":     "HTTP/1.1 103 Early Hints\r\nLink: </" + planted + ">; rel=preload\r\nSet-Cookie: a=" + planted + "\r\n\r\n" + sized(""),
	"early-continue":  strings.Repeat("HTTP/1.1 102 Processing\r\nX-Injected: "+planted+"\r\n\r\n", 20) + sized(""),
	"length-long":     okHead + "Content-Length: 4096\r\n\r\n" + object,
	"length-both":     okHead + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(object) + "0\r\n\r\n",
	"length-two":      okHead + "Content-Length: 31\r\nContent-Length: 3\r\n\r\n" + object,
	"length-negative": okHead + "Content-Length: -1\r\n\r\n" + object,
	"length-huge":     okHead + "Content-Length: 99999999999999999999999\r\n\r\n" + object,
	"chunk-overflow":  okHead + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n" + object,
	"chunk-negative":  okHead + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + object,
	"chunk-cut":       okHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(object) + "ffff\r\n" + object,
	"encoded-deflate": sized("Content-Encoding: deflate\r\n"),
	"encoded-case":    sized("content-encoding: GZIP\r\n"),
	"encoded-hop":     okHead + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(object) + "0\r\n\r\n",
	"status-escape":   "HTTP/1.1 2\x1b]52;c;c2FsbHlwb3J0\x07 OK\r\n\r\n",
	"status-short":    "HTTP/1.1 20 OK\r\n\r\n",
	"status-none":     "HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n",
	"status-ninth":    "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
	"banner":          "SSH-2.0-OpenSSH_9.9 \x1b[2J" + planted + "\r\n",
	"header-escape":   okHead + "\x1b[2J" + planted + "\r\n\r\n",
}

// leading are fields of an answer by which a client is led elsewhere, or remembers.
var leading = []string{
	"Set-Cookie", "Alt-Svc", "Link", "Refresh", "Location", "Content-Location", "WWW-Authenticate", "Proxy-Authenticate",
	"Report-To", "NEL", "Clear-Site-Data", "Strict-Transport-Security", "Access-Control-Allow-Origin", "Content-Disposition",
	"Proxy-Connection", "Keep-Alive", "Upgrade", "SourceMap", "X-Accel-Redirect", "X-Sendfile",
}

// misbehave answers as name says, and says whether the connection goes on.
func (s *Server) misbehave(c net.Conn, name string) bool {
	if text, ok := answers[name]; ok {
		return write(c, text) && name != "length-long" && name != "chunk-cut"
	}
	if act, ok := acts[name]; ok {
		act(c)
	}
	return false
}

// acts are what is more than a text.
var acts = map[string]func(c net.Conn){
	"redirect-public": func(c net.Conn) { write(c, redirect("302 Found", "http://203.0.113.1/"+planted)) },
	"switch-socket":   func(c net.Conn) { switched(c, "websocket", "\x81\x05") },
	"switch-h2c":      func(c net.Conn) { switched(c, "h2c", "\x00\x00\x00\x04\x00\x00\x00\x00\x00") },
	"endless-headers": func(c net.Conn) { pour(c, okHead, "X-Injected: "+planted+"\r\n") },
	"endless-header":  func(c net.Conn) { pour(c, okHead+"Request-Id: ", planted) },
	"endless-status":  func(c net.Conn) { pour(c, "HTTP/1.1 200 ", planted) },
	"endless-early":   func(c net.Conn) { pour(c, "", "HTTP/1.1 102 Processing\r\n\r\n") },
	"endless-line":    func(c net.Conn) { pour(c, streamHead, chunk("data: "+strings.Repeat("x", 4096))) },
	"endless-object":  func(c net.Conn) { pour(c, okHead+"Connection: close\r\n\r\n", "{\"x\":") },
	"encoded-bomb":    func(c net.Conn) { write(c, bomb()) },
	"silent-head":     func(c net.Conn) { wait(c) },
	"silent-line":     func(c net.Conn) { write(c, "HTTP/1.1 2"); wait(c) },
	"silent-stream":   func(c net.Conn) { write(c, streamHead+chunk(stream("demo")[0])); wait(c) },
	"silent-length":   func(c net.Conn) { write(c, okHead+"Content-Length: 4096\r\n\r\n"+object); wait(c) },
}

// switched answers as if the client had asked for another protocol, and speaks it.
func switched(c net.Conn, protocol, first string) {
	write(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"+first+planted)
	wait(c)
}

// pour sends head and then piece over and over, as much as endless, and is
// silent then.
func pour(c net.Conn, head, piece string) {
	block := strings.Repeat(piece, 1+(32<<10)/len(piece))
	if !write(c, head) {
		return
	}
	for n := 0; n < endless; n += len(block) {
		if !write(c, block) {
			return
		}
	}
	wait(c)
}

// wait returns when the client has gone, has spoken, or Serve has to end.
func wait(c net.Conn) {
	_, _ = bufio.NewReader(c).ReadByte()
}

// bomb is an answer of 32 kB that unpacks to 32 MiB.
func bomb() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, 1<<20)); err != nil || z.Close() != nil {
		return ""
	}
	packed := strings.Repeat(b.String(), 32) // RFC 1952 §2.2: members follow one another
	return okHead + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(packed) + "0\r\n\r\n"
}
