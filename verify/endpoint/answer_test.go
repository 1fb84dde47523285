package endpoint

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAnswersWellFormed(t *testing.T) {
	for raw, want := range map[string]answer{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi":                                             {status: 200, body: []byte("hi"), whole: true},
		"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi and more":                                       {status: 200, body: []byte("hi"), whole: true},
		"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n": {status: 404, body: []byte("hi!"), whole: true},
		"HTTP/1.0 200 OK\r\n\r\nto the end":                                                          {status: 200, body: []byte("to the end"), whole: true},
		"HTTP/1.1 204 No\r\nX: y\r\n\r\nnot a body":                                                  {status: 204, whole: true},
		"HTTP/1.1 101 Switching\r\n\r\n":                                                             {status: 101, whole: true},
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                  {status: 200, early: 1, whole: true},
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut":                                            {status: 200, body: []byte("cut")},
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut":                              {status: 200, body: []byte("cut")},
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                                      {status: 200},
	} {
		got, err := readAnswer(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || got.status != want.status || string(got.body) != string(want.body) || got.whole != want.whole || got.early != want.early || got.flaw != "" {
			t.Errorf("%q: %+v %v", raw, got, err)
		}
	}
}

func TestAnswersMalformed(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for raw, flaw := range map[string]string{
		"SSH-2.0-x\r\n":                    "status line",
		"HTTP/1.1 20 OK\r\n":               "status line",
		"HTTP/1.1 600 OK\r\n":              "status line",
		"HTTP/2 200 OK\r\n":                "status line",
		"HTTP/1.1 200 \x1b[2J\r\n":         "status line",
		"HTTP/1.1 200 OK\n\n":              "bare LF",
		"HTTP/1.1 2":                       "no more",
		ok + "X: y\n\r\n":                  "bare LF",
		ok + "X: a\rSet-Cookie: b\r\n\r\n": "header line",
		ok + "X: a\x00\r\n\r\n":            "header line",
		ok + "X Y: a\r\n\r\n":              "header line",
		ok + "X : a\r\n\r\n":               "header line",
		ok + " X: a\r\n\r\n":               "header line",
		ok + "no colon\r\n\r\n":            "header line",
		ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx":         "two ways",
		ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": "two ways",
		ok + "Content-Length: -1\r\n\r\n":                              "Content-Length",
		ok + "Content-Length: 1e3\r\n\r\n":                             "Content-Length",
		ok + "Transfer-Encoding: gzip, chunked\r\n\r\n":                "Transfer-Encoding",
		ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n":                "chunk size",
		ok + "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n":              "chunk size",
		ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n":     "trailer",
		strings.Repeat("HTTP/1.1 102 P\r\n\r\n", maxEarly+1):           "1xx",
		ok + strings.Repeat("X: y\r\n", maxAnswerHead/6+10) + "\r\n":   "head",
		ok + "X: " + strings.Repeat("y", maxAnswerHead):                "head",
	} {
		if a, err := readAnswer(bufio.NewReader(strings.NewReader(raw))); !errors.Is(err, errFlaw) || !strings.Contains(a.flaw, flaw) {
			t.Errorf("%.80q: %q %v, want %q", raw, a.flaw, err, flaw)
		}
	}
	if _, err := readAnswer(bufio.NewReader(strings.NewReader(""))); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// No more is read of an answer than maxAnswerBody.
func TestAnswersAreBounded(t *testing.T) {
	long := strings.Repeat("x", maxAnswerBody+1)
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\n\r\n" + long,
		"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + long,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk(long[:1000]), 1100),
	} {
		a, err := readAnswer(bufio.NewReader(strings.NewReader(raw)))
		if err != nil || len(a.body) != maxAnswerBody || a.whole || !a.more || a.lasts() {
			t.Errorf("%d bytes, %t, %t, %v", len(a.body), a.whole, a.more, err)
		}
	}
}

// Two readings of the same bytes are different requests: that is what the smuggling
// probes rely on.
func TestReadingsDiffer(t *testing.T) {
	count := func(r reading, raw string) (n int) {
		br := bufio.NewReader(strings.NewReader(raw))
		for {
			if _, err := r.request(br); err != nil {
				return n
			}
			n++
		}
	}
	for _, s := range smugglings() {
		raw := set{t: aimed(), name: s.name}.text(0, s.list[0].raw)
		if s.name == "model-smuggle-expect" {
			continue // there the server decides
		}
		if front, server := count(s.front, raw), count(s.server, raw); front != 1 || server < 2 {
			t.Errorf("%s: %d requests to the front, %d to the server: %q", s.name, front, server, raw)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	for name, raw := range map[string]string{
		"a head":    "GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHead/6+10),
		"a length":  "POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
		"a minus":   "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
		"a chunk":   "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
		"no number": "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
		"trailers":  "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 200),
	} {
		if m, err := (reading{}).request(bufio.NewReader(strings.NewReader(raw))); !errors.Is(err, errHead) && !errors.Is(err, errBody) {
			t.Errorf("%s: %+v %v", name, m, err)
		}
	}
	big := "POST / HTTP/1.1\r\nContent-Length: 3145728\r\n\r\n" + strings.Repeat("x", 3<<20)
	m, err := (reading{}).request(bufio.NewReader(strings.NewReader(big)))
	if err != nil || len(m.body) != maxKept || len(m.raw) > maxKept+100 {
		t.Errorf("%d and %d bytes kept: %v", len(m.body), len(m.raw), err)
	}
}
