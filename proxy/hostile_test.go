package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

// answering is a model server that reads a request and hands the connection over.
func answering(t *testing.T, answer func(c *net.TCPConn)) (addr string) {
	return origin(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		answer(c)
	})
}

// Answers of 1xx without an end are not read without an end.
func TestModelEndlessInformationalAnswers(t *testing.T) {
	const most = 100 << 20
	sent := make(chan int, 1)
	l := newLedger()
	c := connect(t, start(t, modelTo(l, answering(t, func(c *net.TCPConn) {
		block := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 100)
		n := 0
		for n < most {
			if _, err := io.WriteString(c, block); err != nil {
				break
			}
			n += len(block)
		}
		sent <- n
	}))))
	c.send(post("/v1/messages", small))
	resp, body := c.response("POST")
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Link") != "" {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
	if n := <-sent; n >= most {
		t.Errorf("%d bytes of them were read", n)
	}
	if e := l.next(t); e.Status != http.StatusBadGateway || !strings.HasPrefix(e.Reason, "the model server's answer failed: ") {
		t.Errorf("event %+v", e)
	}
}

// A few of them are no harm.
func TestModelInformationalAnswers(t *testing.T) {
	l := newLedger()
	c := connect(t, start(t, modelTo(l, answering(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nSet-Cookie: a=b\r\n\r\n", 20)+"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	}))))
	c.send(post("/v1/messages", small))
	if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "{}" || resp.Header.Get("Link")+resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
}

// What a model server, or the way to it, says instead of HTTP comes to the agent
// without what moves a terminal's cursor, or writes its clipboard.
func TestModelErrorsAreHarmlessOnATerminal(t *testing.T) {
	const escape = "\x1b]52;c;c2FsbHlwb3J0\x07"
	says := func(raw string) func(t *testing.T, m *Model) {
		return func(t *testing.T, m *Model) {
			addr := answering(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, raw) })
			m.Dial = func(ctx context.Context) (net.Conn, error) { return dialTo(addr)(ctx, "", 0) }
		}
	}
	for name, set := range map[string]func(t *testing.T, m *Model){
		"in the status":  says("HTTP/1.1 2" + escape + " OK\r\n\r\n"),
		"for a header":   says("HTTP/1.1 200 OK\r\n" + escape + "\r\n\r\n"),
		"in a header":    says("HTTP/1.1 200 OK\r\nRequest-Id: " + escape + "\r\n\r\n"),
		"as an encoding": says("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + escape + "\r\n\r\n"),
		"by SSH": func(_ *testing.T, m *Model) {
			m.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("ssh: rejected: " + escape) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := modelTo(newLedger(), "")
			set(t, m)
			c := connect(t, start(t, m))
			c.send(post("/v1/messages", small))
			resp, body := c.response("POST")
			var said struct{ Error struct{ Message string } }
			if err := json.Unmarshal([]byte(body), &said); err != nil || resp.StatusCode != http.StatusBadGateway {
				t.Fatalf("%s %q: %v", resp.Status, body, err)
			}
			if strings.ContainsFunc(said.Error.Message, unicode.IsControl) {
				t.Errorf("%q", said.Error.Message)
			}
		})
	}
}

// A request that no handler gets is recorded with the host that it names.
func TestModelMalformedRequestsAreRecordedWithTheirHost(t *testing.T) {
	for name, headers := range map[string]string{
		"two lengths":          "Host: a.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
		"two hosts":            "Host: a.example\r\nHost: b.example\r\n",
		"a blank in a name":    "hOST:a.example\r\nX : y\r\n",
		"another encoding":     "Host: a.example\r\nTransfer-Encoding: gzip\r\n",
		"an unknown wish":      "Host: a.example\r\nContent-Length: 0\r\nExpect: y\r\n",
		"a host behind others": "X: " + strings.Repeat("x", 9000) + "\r\nHost: a.example\r\nX : y\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			c := connect(t, start(t, modelTo(l, "")))
			c.send(fmt.Sprintf("POST /v1/messages HTTP/1.1\r\n%s\r\n", headers))
			if resp, _ := c.response("POST"); resp.StatusCode < 400 {
				t.Errorf("%s", resp.Status)
			}
			if e := l.next(t); e.Verdict != "denied" || e.Host != "a.example" || e.Path != "/v1/messages" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestClaimedHost(t *testing.T) {
	for head, want := range map[string]string{
		"":                        "",
		"GET / HTTP/1.1\r\n":      "",
		"GET / HTTP/1.1\r\nHos":   "",
		"GET / HTTP/1.1\r\nHost":  "",
		"GET / HTTP/1.1\nHost: a": "a",
		"GET / HTTP/1.1\r\nX: y\r\n\r\nHost: body\r\n":                  "",
		"Host: a\r\nhost: b\r\n":                                        "a",
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("x", 9000) + "\r\n": strings.Repeat("x", maxName),
	} {
		if got := claimedHost([]byte(head)); got != want {
			t.Errorf("%.60q: %.60q, want %.60q", head, got, want)
		}
	}
}
