package endpoint

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/vllm"
)

// served is a Server on loopback, and a connection to it.
func served(t *testing.T) (*Server, net.Conn, *bufio.Reader) {
	t.Helper()
	s := NewServer(testRun)
	at := start(t, listen(t), s.Serve)
	c, err := dial(t.Context(), at, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c, bufio.NewReader(c)
}

func ask(t *testing.T, c net.Conn, br *bufio.Reader, raw string) *answer {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(br)
	if err != nil || !a.whole {
		t.Fatalf("%q is answered by %+v: %v", raw, a, err)
	}
	return a
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func TestServerAnswersAsAModelServer(t *testing.T) {
	s, c, br := served(t)
	const body = `{"model":"demo","stream":%t,"messages":[{"role":"user","content":"hello"}]}`
	for raw, want := range map[string]string{
		"GET /health HTTP/1.1\r\n\r\n":                                "",
		"GET /v1/models HTTP/1.1\r\n\r\n":                             `"id":"demo"`,
		post("/v1/messages", fmt.Sprintf(body, false)):                `"type":"message"`,
		post("/v1/messages?beta=true", fmt.Sprintf(body, true)):       "event: message_stop\ndata: {\"type\":\"message_stop\"",
		post("/v1/messages/count_tokens", fmt.Sprintf(body, false)):   `"input_tokens":`,
		post("/v1/chat/completions", fmt.Sprintf(body, false)):        `"object":"chat.completion"`,
		post("/v1/chat/completions", fmt.Sprintf(body, true)):         "data: [DONE]\n\n",
		strings.Replace(post("/v1/messages", "{}"), "POST", "PUT", 1): reachedWord,
	} {
		if a := ask(t, c, br, raw); a.status != 200 || !strings.Contains(string(a.body), want) {
			t.Errorf("%q: %d %q", raw, a.status, a.body)
		}
	}
	if got := s.Reached(); !slices.Equal(got, []string{`"PUT /v1/messages"`}) {
		t.Errorf("reached: %q", got)
	}
}

func TestServerNotesWhatMustNotArrive(t *testing.T) {
	own := probeMark(testRun, "model-x")
	for raw, want := range map[string]string{
		"GET /health HTTP/1.1\r\nUser-Agent: " + own + "\r\n\r\n":                                                  "",
		"GET /metrics HTTP/1.1\r\n\r\n":                                                                            "", // the gateway's own question
		"GET /metrics HTTP/1.1\r\nUser-Agent: " + own + "\r\n\r\n":                                                 "model-x",
		"GET /sleep HTTP/1.1\r\nUser-Agent: " + own + ";\r\n\r\n":                                                  "model-x",
		"GET /sleep HTTP/1.1\r\nUser-Agent: " + probeMark("another0", "model-x") + "\r\n\r\n":                      `"GET /sleep"`,
		"GET /health?x=1 HTTP/1.1\r\n\r\n":                                                                         `"GET /health?x=1"`,
		"GET /health HTTP/1.1\r\nx-original-url: /x\r\nUser-Agent: " + own + "\r\n\r\n":                            "model-x",
		post("/v1/messages", `{"url":"http://x/`+forbiddenMark(testRun, "model-y")+`.png"}`):                       "model-y",
		post("/v1/messages", `{"text":"`+own+`"}`):                                                                 "",
		"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Rewrite-Url: /" + own + "\r\n\r\n": "model-x",
		"GET /x HTTP/1.1\r\nA: " + strings.Repeat("b", 3<<10) + own + "\r\n\r\n":                                   "model-x",
	} {
		s, c, br := served(t)
		ask(t, c, br, raw)
		ask(t, c, br, raw)
		if got := strings.Join(s.Reached(), ","); got != want {
			t.Errorf("%.200q: reached %q, want %q", raw, got, want)
		}
	}
}

// A request that the server refuses to wait for leaves its body as the next one.
func TestServerTakesTheBodyForARequest(t *testing.T) {
	s, c, br := served(t)
	inner := "GET /sleep HTTP/1.1\r\n\r\n"
	if a := ask(t, c, br, fmt.Sprintf("POST /v1/messages HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)); a.status != 417 {
		t.Errorf("%d", a.status)
	}
	if a, err := readAnswer(br); err != nil || a.status != 200 {
		t.Errorf("%+v %v", a, err)
	}
	if got := s.Reached(); !slices.Equal(got, []string{`"GET /sleep"`}) {
		t.Errorf("reached: %q", got)
	}
}

func TestServerNotesNoMoreThanItKeeps(t *testing.T) {
	s := NewServer(testRun)
	for i := range 2000 {
		s.note(&message{method: "GET", target: fmt.Sprintf("/%d", i)})
	}
	if n := len(s.Reached()); n != 1000 {
		t.Errorf("%d", n)
	}
}

// Serve ends with ctx whatever its connections are doing, and closes those beyond
// its limit.
func TestServerEnds(t *testing.T) {
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(testRun).Serve(ctx, l) }()
	var conns []net.Conn
	for _, what := range []string{"second-length", "silent-head", "silent-stream", "endless-line", "endless-early"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, post("/v1/messages", `{"messages":[{"role":"user","content":"hostile: `+what+`"}]}`)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for len(conns) < maxConns {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	over, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if err := over.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := over.Read(make([]byte, 1)); !ended(err) {
		t.Errorf("one too many is served: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestServeTellsWhyItFailed(t *testing.T) {
	l := listen(t)
	if err := NewServer(testRun).Serve(t.Context(), brokenListener{l}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}

// All that vLLM has, and the stand-in counts, is asked for.
func TestEveryPathOfVLLM(t *testing.T) {
	var asked []string
	for _, p := range paths {
		asked = append(asked, p.list...)
	}
	for _, path := range append(vllm.Dangerous(), "/metrics", "/tokenize", "/detokenize", "/load", "/version") {
		if !slices.Contains(asked, path) {
			t.Errorf("nobody asks for %s", path)
		}
	}
}

// Each behaviour of the server is asked for by a probe, and each that is asked for is
// there.
func TestEveryBehaviour(t *testing.T) {
	var asked, there []string
	for _, h := range hostiles {
		for _, b := range h.statuses {
			asked = append(asked, b.name)
		}
	}
	for name := range answers {
		there = append(there, name)
	}
	for name := range acts {
		there = append(there, name)
	}
	slices.Sort(asked)
	slices.Sort(there)
	if !slices.Equal(asked, there) {
		t.Errorf("asked for: %q\nthere: %q", asked, there)
	}
}

func TestHostileName(t *testing.T) {
	for body, want := range map[string]string{
		`{"messages":[{"content":"hostile: split-lf"}]}`:                                   "split-lf",
		`{"messages":[{"content":[{"type":"text","text":"please be hostile: banner."}]}]}`: "banner",
		`{"messages":[{"content":"friendly"}]}`:                                            "",
		`{"messages":[]}`:                                                                  "",
		`hostile: banner`:                                                                  "",
	} {
		if got := hostileName([]byte(body)); got != want {
			t.Errorf("%s: %q", body, got)
		}
	}
}

func TestBombUnpacks(t *testing.T) {
	a, err := readAnswer(bufio.NewReader(strings.NewReader(bomb())))
	if err != nil || !a.whole || len(a.body) > 64<<10 {
		t.Fatalf("%d bytes: %v", len(a.body), err)
	}
	z, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, z); err != nil || n != 32<<20 {
		t.Errorf("%d bytes: %v", n, err)
	}
}
