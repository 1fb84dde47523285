package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A token is exchanged for a cookie and a page without it in the address.
func TestExchange(t *testing.T) {
	s := serve(t, nil)
	a := s.request("GET", s.way()+"&host=x.example", "Sec-Fetch-Site", "none")
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/?host=x.example" {
		t.Fatalf("%s to %q", a.Status, a.Header.Get("Location"))
	}
	c := a.Cookies()[0]
	port := s.host[strings.Index(s.host, ":")+1:]
	if c.Name != "sallyport-"+port || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
		t.Errorf("cookie %+v", c)
	}
	s.get(c.Name+"="+c.Value, "/")
	s.get(c.Name+"="+c.Value, "/page.js")
}

// Each of these is refused, and told how to get in.
func TestTokenRefused(t *testing.T) {
	s := serve(t, nil)
	used := s.way()
	s.request("GET", used)
	expired := s.way()
	s.clock.add(tokenLife)
	for name, path := range map[string]string{"used": used, "expired": expired, "wrong": "/?token=wrong", "empty": "/?token=", "two": s.way() + "&token=x", "none": "/"} {
		a := s.request("GET", path)
		if a.StatusCode != http.StatusForbidden || len(a.Cookies()) != 0 {
			t.Errorf("%s: %s", name, a.Status)
		}
		if !strings.Contains(a.body, "gateway status") || !strings.Contains(a.body, "gateway audit --web") || !strings.Contains(a.body, "You are not let in") {
			t.Errorf("%s: it does not say how to get in:\n%s", name, a.body)
		}
	}
	for _, method := range []string{"HEAD", "POST"} {
		if a := s.request(method, s.way()); a.StatusCode < 400 || len(a.Cookies()) != 0 {
			t.Errorf("%s with a token: %s", method, a.Status)
		}
	}
}

// A right token that comes in a HEAD is not used up by it.
func TestTokenSurvivesHead(t *testing.T) {
	s := serve(t, nil)
	way := s.way()
	s.request("HEAD", way)
	if a := s.request("GET", way); a.StatusCode != http.StatusSeeOther {
		t.Error(a.Status)
	}
}

// Every path but the public files needs a session.
func TestEveryPathNeedsASession(t *testing.T) {
	s := serve(t, func(s *Server) { s.Metrics = http.NotFoundHandler() })
	cookie := s.enter()
	name, _, _ := strings.Cut(cookie, "=")
	for _, path := range []string{"/", "/events", "/events/01", "/help", "/stream", "/page.js", "/metrics", "/nothing", "//", "/static/page.js"} {
		for _, header := range []string{"", name + "=", name + "=wrong", "sallyport-1" + strings.TrimPrefix(cookie, name), cookie + "; " + cookie} {
			if a := s.request("GET", path, "Cookie", header); a.StatusCode != http.StatusForbidden {
				t.Errorf("GET %s with cookie %q: %s", path, header, a.Status)
			}
		}
	}
	for _, path := range []string{"/style.css", "/icon.svg"} {
		if a := s.request("GET", path); a.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s", path, a.Status)
		}
	}
}

func TestSessionExpires(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	s.clock.add(sessionLife - time.Second)
	s.get(cookie, "/help")
	s.clock.add(time.Second)
	if a := s.request("GET", "/help", "Cookie", cookie); a.StatusCode != http.StatusForbidden {
		t.Error(a.Status)
	}
}

// A name that was made to point here (DNS rebinding) is not this page's.
func TestHost(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	port := s.host[strings.Index(s.host, ":")+1:]
	for _, host := range []string{"evil.example:" + port, "127.0.0.1", "localhost", "127.0.0.1:1", "localhost.:" + port, "LOCALHOST:" + port, "127.0.0.2:" + port,
		"[::1]:" + port, "0.0.0.0:" + port, "127.0.0.1:" + port + ".evil.example", "2130706433:" + port} {
		for _, path := range []string{"/help", "/style.css", s.way()} {
			if a := s.request("GET", path, "Cookie", cookie, "Host", host); a.StatusCode != http.StatusForbidden || len(a.Cookies()) != 0 {
				t.Errorf("Host %q, %s: %s", host, path, a.Status)
			}
		}
	}
	if a := s.request("GET", "/help", "Cookie", cookie, "Host", "localhost:"+port); a.StatusCode != http.StatusOK {
		t.Errorf("localhost: %s", a.Status)
	}
	if n := len(s.told); n != guessBurst { // of many more
		t.Fatalf("told of %d", n)
	}
	if got := <-s.told; got != "a Host header that is not this page's" {
		t.Errorf("told of %q", got)
	}
}

// What other sites' pages make a browser send.
func TestSource(t *testing.T) {
	s := serve(t, nil)
	cookie, own := s.enter(), "http://"+s.host
	navigation := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"typed", "GET", "/help", []string{"Sec-Fetch-Site", "none"}, 200},
		{"a link in the page", "GET", "/help", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"no browser", "GET", "/help", nil, 200},
		{"our script", "GET", "/help", []string{"Sec-Fetch-Site", "same-origin", "Origin", own}, 200},
		{"a link elsewhere", "GET", "/help", append([]string{"Sec-Fetch-Site", "cross-site"}, navigation...), 403},
		{"an image elsewhere", "GET", "/help", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		{"a stylesheet elsewhere", "GET", "/style.css", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"another port", "GET", "/help", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another port's script", "GET", "/help", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}, 403},
		{"an old browser's other origin", "GET", "/help", []string{"Origin", "http://evil.example"}, 403},
		{"an old browser's null", "GET", "/help", []string{"Origin", "null"}, 403},
		{"https", "GET", "/help", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://" + s.host}, 403},
		{"the other name", "GET", "/help", []string{"Sec-Fetch-Site", "same-origin", "Origin", strings.Replace(own, "127.0.0.1", "localhost", 1)}, 403},
		{"two sites", "GET", "/help", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}, 403},
		{"an unknown site", "GET", "/help", []string{"Sec-Fetch-Site", "same-whatever"}, 403},
		{"our logout by another site", "POST", "/logout", []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"}, 403},
		{"our logout by null", "POST", "/logout", []string{"Origin", "null"}, 403},
		{"our logout by nobody", "POST", "/logout", nil, 403},
		{"our logout typed", "POST", "/logout", []string{"Sec-Fetch-Site", "none"}, 403},
	} {
		if a := s.request(c.method, c.path, append(c.headers, "Cookie", cookie)...); a.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.name, a.Status, c.want)
		}
	}
	linked := append([]string{"Sec-Fetch-Site", "cross-site"}, navigation...)
	// A redirect would be the other site's request as well: without the cookie.
	if a := s.request("GET", s.way()+"&host=x.example", linked...); a.StatusCode != http.StatusOK || len(a.Cookies()) != 1 ||
		!strings.Contains(a.body, `<meta http-equiv="refresh" content="0;url=/?host=x.example">`) || strings.Contains(a.body, "token") {
		t.Errorf("a link with a token: %s\n%s", a.Status, a.body)
	}
	framed := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}
	if a := s.request("GET", s.way(), framed...); a.StatusCode != http.StatusForbidden {
		t.Errorf("a frame with a token: %s", a.Status)
	}
}

func TestMethods(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND"} {
		if a := s.request(method, "/", "Cookie", cookie); a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, a.Status)
		}
	}
	if a := s.request("GET", "/logout", "Cookie", cookie); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET /logout: %s", a.Status)
	}
	if a := s.request("HEAD", "/help", "Cookie", cookie); a.StatusCode != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %s, %d bytes", a.Status, len(a.body))
	}
}

func TestLogout(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	for _, origin := range []string{"http://" + s.host, "null"} { // no-referrer makes browsers send null
		c := s.enter()
		a := s.request("POST", "/logout", "Cookie", c, "Sec-Fetch-Site", "same-origin", "Origin", origin)
		if a.StatusCode != http.StatusOK || len(a.Cookies()) != 1 || a.Cookies()[0].MaxAge >= 0 {
			t.Errorf("Origin %s: %s", origin, a.Status)
		}
		if a := s.request("GET", "/help", "Cookie", c); a.StatusCode != http.StatusForbidden {
			t.Errorf("after it: %s", a.Status)
		}
	}
	s.get(cookie, "/help") // another's session goes on
}

// All answers have the headers that keep a browser from doing harm.
func TestHeaders(t *testing.T) {
	s := serve(t, nil)
	cookie := s.enter()
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
			"frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
		"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
	}
	for _, c := range [][2]string{{"/", cookie}, {"/events", cookie}, {"/help", cookie}, {"/none", cookie}, {"/page.js", cookie}, {"/style.css", ""}, {"/", ""}, {"/?token=x", ""}, {s.way(), ""}} {
		a := s.request("GET", c[0], "Cookie", c[1])
		for name, value := range want {
			if got := a.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s (%s): %s: %q", c[0], a.Status, name, got)
			}
		}
		if a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins may read it", c[0])
		}
	}
}

// Wrong tokens are slowed down; a right one never is.
func TestGuesses(t *testing.T) {
	s := serve(t, nil)
	for i := range guessBurst {
		if a := s.request("GET", fmt.Sprintf("/?token=%d", i)); a.StatusCode != http.StatusForbidden {
			t.Fatalf("guess %d: %s", i, a.Status)
		}
	}
	if a := s.request("GET", "/?token=more"); a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s", a.Status)
	}
	if len(s.told) != guessBurst {
		t.Errorf("told of %d", len(s.told))
	}
	s.enter()
	s.clock.add(guessEvery)
	if a := s.request("GET", "/?token=later"); a.StatusCode != http.StatusForbidden {
		t.Errorf("later: %s", a.Status)
	}
}

func TestHeadIsBounded(t *testing.T) {
	s := serve(t, nil)
	c, err := net.Dial("tcp", s.host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A little more than what is read of it: all is read before the answer.
	head := "GET /style.css HTTP/1.1\r\nHost: " + s.host + "\r\nX-Long: "
	if _, err := io.WriteString(c, head+strings.Repeat("x", maxHeader+4096+1-len(head))); err != nil {
		t.Fatal(err)
	}
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(a, err)
	}
}

// Connections beyond the bound are closed; when one ends there is room again.
func TestConnectionsAreBounded(t *testing.T) {
	s := serve(t, nil)
	var open []net.Conn
	ask := func() (net.Conn, error) {
		c, err := net.Dial("tcp", s.host)
		if err != nil {
			return nil, err
		}
		if _, err = io.WriteString(c, "GET /style.css HTTP/1.1\r\nHost: "+s.host+"\r\n\r\n"); err == nil {
			var response *http.Response
			if response, err = http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				_, err = io.Copy(io.Discard, response.Body)
			}
		}
		if err != nil {
			c.Close()
		}
		return c, err
	}
	for i := range maxConnections {
		c, err := ask()
		if err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
		open = append(open, c)
	}
	if _, err := ask(); err == nil {
		t.Error("one too many was served")
	}
	for _, c := range open {
		c.Close()
	}
	for { // the server has to notice
		c, err := ask()
		if err == nil {
			c.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyLoopback(t *testing.T) {
	s := serve(t, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // so that none serves for long
	for _, address := range []string{"127.0.0.2:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		other := &Server{Store: s.Store, Open: s.Open, Sandboxes: s.Sandboxes, Status: s.Status, Log: s.Log}
		if err := other.Serve(ended, l); err == nil || !strings.Contains(err.Error(), "127.0.0.1 alone") {
			t.Errorf("%s: %v", address, err)
		}
		if other.URL() != "" {
			t.Errorf("%s: it has a URL", address)
		}
	}
}

func TestRequiredFields(t *testing.T) {
	s := serve(t, nil)
	for i, missing := range []func(*Server){func(s *Server) { s.Store = nil }, func(s *Server) { s.Open = nil }, func(s *Server) { s.Sandboxes = nil },
		func(s *Server) { s.Status = nil }, func(s *Server) { s.Log = nil }} {
		other := &Server{Store: s.Store, Open: s.Open, Sandboxes: s.Sandboxes, Status: s.Status, Log: s.Log}
		missing(other)
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := other.Serve(ended, l); err == nil || !strings.Contains(err.Error(), "required field") {
			t.Errorf("field %d: %v", i, err)
		}
	}
}
