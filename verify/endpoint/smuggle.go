package endpoint

import (
	"context"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// inner is the request that is smuggled in.
const inner = "POST /collective_rpc HTTP/1.1\r\nHost: HOST\r\nUser-Agent: MARK\r\nContent-Length: 0\r\n\r\n"

// outer is the head of an allowed request, less its framing.
const outer = "POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nUser-Agent: MARK\r\nContent-Type: application/json\r\n"

// lengthOnly has a framing of which only Content-Length is looked at see the allowed
// request alone, and the other one see inner behind it.
func lengthOnly(headers string) string {
	return outer + headers + "\r\n0\r\n\r\n" + inner
}

// smuggling is a way to have two servers see different requests.
type smuggling struct {
	name, why, source string
	front, server     reading // between which it works
	list              []attempt
}

func smugglingProbes() []probe.Probe {
	var probes []probe.Probe
	for _, s := range smugglings() {
		probes = append(probes, attempts(s.name, s.why, s.source, reachedWord, behind(front{reading: s.front}, s.server), s.list))
	}
	return append(probes, upgradeProbe(), hostProbe(), overrideProbe(), otherSandbox())
}

func smugglings() []smuggling {
	plain := reading{exact: true, crlf: true, fold: true}
	length := reading{exact: true, crlf: true, fold: true, noEncoding: true}
	one := func(what, raw string) attempt { return attempt{what: what, raw: raw} }
	return []smuggling{
		{"model-smuggle-cl-te", "the gateway looks at Content-Length, the server at Transfer-Encoding: what follows is a request that nobody checked",
			"RFC 9112 §6.1 and §11.2; CWE-444", length, reading{}, []attempt{
				one("CL.TE", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n")),
				one("CL.TE, encoding first", lengthOnly("Transfer-Encoding: chunked\r\nContent-Length: LENGTH\r\n")),
			}},
		{"model-smuggle-te-te", "Transfer-Encoding is written so that one of the two does not know it", "RFC 9112 §6.1; CWE-444", plain, reading{}, []attempt{
			one("xchunked", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: xchunked\r\n")),
			one("a blank before the colon", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding : chunked\r\n")),
			one("a vertical tab", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: \x0bchunked\r\n")),
			one("a list", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: identity, chunked\r\n")),
			one("quoted", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: \"chunked\"\r\n")),
			one("twice", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: xchunked\r\n")),
			one("a parameter", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: chunked;q=0\r\n")),
		}},
		{"model-smuggle-two-lengths", "each of the two takes another Content-Length", "RFC 9112 §6.3; CWE-444",
			reading{exact: true, crlf: true, fold: true}, reading{firstLength: true}, []attempt{
				one("two fields", outer+"Content-Length: 0\r\nContent-Length: LENGTH\r\n\r\n"+inner),
				one("a list", outer+"Content-Length: 0, LENGTH\r\n\r\n"+inner),
				one("a plus", outer+"Content-Length: +0\r\n\r\n"+inner),
				one("a negative one", outer+"Content-Length: -0\r\n\r\n"+inner),
				one("hexadecimal", outer+"Content-Length: 0x0\r\n\r\n"+inner),
			}},
		{"model-smuggle-fold", "a folded line is part of a value to one, a field to the other", "RFC 9112 §5.2; CWE-444", plain, reading{}, []attempt{
			one("a folded field", lengthOnly("Content-Length: LENGTH\r\nX: y\r\n Transfer-Encoding: chunked\r\n")),
			one("a folded value", lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding:\r\n chunked\r\n")),
			one("a line that begins with a blank", strings.Replace(lengthOnly("Content-Length: LENGTH\r\n"), "\r\nHost", "\r\n Transfer-Encoding: chunked\r\nHost", 1)),
		}},
		{"model-smuggle-bare-lf", "a bare LF, or CR, ends a line for one of the two", "RFC 9112 §2.2; CVE-2025-22871", plain, reading{}, []attempt{
			one("a bare LF", lengthOnly("Content-Length: LENGTH\r\nX: y\nTransfer-Encoding: chunked\r\n")),
			one("an LF alone ends the head", outer+"Content-Length: 0\r\nX: y\n\n"+inner),
			one("a bare CR", lengthOnly("Content-Length: LENGTH\r\nX: y\rTransfer-Encoding: chunked\r\n")),
			one("a NUL", lengthOnly("Content-Length: LENGTH\r\nX: y\x00\r\nTransfer-Encoding\x00: chunked\r\n")),
			one("a chunk size that ends in LF", outer+"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n"+inner),
		}},
		{"model-smuggle-te-cl", "the gateway looks at Transfer-Encoding, the server at Content-Length", "RFC 9112 §6.1; CWE-444",
			plain, reading{noEncoding: true}, []attempt{
				one("TE.CL", outer+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nCHUNKED "+inner),
			}},
		{"model-smuggle-expect", "the server refuses to wait, and takes the body for its next request", "RFC 9110 §10.1.1; CWE-444",
			plain, reading{}, []attempt{
				one("100-continue", outer+"Expect: 100-continue\r\nContent-Length: LENGTH\r\n\r\n"+inner),
				one("an unknown expectation", outer+"Expect: y 100-continue\r\nContent-Length: LENGTH\r\n\r\n"+inner),
			}},
		{"model-smuggle-body-of-get", "a body where the gateway expects none is the server's next request", "RFC 9110 §9.3.1; CWE-444",
			plain, reading{bareGet: true}, []attempt{
				one("GET with a body that is a request", strings.Replace(outer, "POST /v1/messages", "GET /v1/models", 1)+"Content-Length: LENGTH\r\n\r\n"+inner),
				one("GET with chunks", strings.Replace(lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n"), "POST /v1/messages", "GET /health", 1)),
				one("HTTP/1.0 with chunks", strings.Replace(lengthOnly("Content-Length: LENGTH\r\nTransfer-Encoding: chunked\r\n"), "HTTP/1.1", "HTTP/1.0", 1)),
				one("a request behind a refused one", strings.Replace(outer, "/v1/messages", "/sleep", 1)+"Content-Length: 0\r\n\r\n"+inner),
			}},
	}
}

// upgradeProbe leaves HTTP/1.1, behind which nothing would be checked any more.
func upgradeProbe() probe.Probe {
	var list []attempt
	for _, c := range []struct{ what, headers string }{
		{"websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2FsbHlwb3J0LXZlcmlmeQ==\r\n"},
		{"h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"},
		{"h2c without Connection", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"},
		{"TLS", "Connection: upgrade\r\nUpgrade: TLS/1.3\r\n"},
		{"upgrade named only", "Connection: keep-alive, UPGRADE\r\n"},
	} {
		list = append(list, request(c.what, "POST", "/v1/messages", c.headers, messageBody), request(c.what+", GET", "GET", "/v1/models", c.headers, ""))
	}
	list = append(list, attempt{what: "HTTP/2 with prior knowledge", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", event: probe.Event{Method: "PRI", Path: "*"}})
	return attempts("model-upgrade", "after an upgrade no request is looked at: h2c smuggling, a websocket to an administrative path",
		"RFC 9110 §7.8; RFC 9113 §3.1; CWE-444", "", open, list)
}

// hostProbe names other hosts.
func hostProbe() probe.Probe {
	line := "POST /v1/messages HTTP/1.1\r\n"
	rest := "User-Agent: MARK\r\nContent-Type: application/json\r\nContent-Length: LENGTH\r\n\r\n" + strings.Replace(messageBody, "FORBIDDEN", "x", 1)
	first := probe.Event{Host: "HOST"}
	return attempts("model-host", "the server, or what stands before it, chooses by the Host that the client wrote", "RFC 9112 §3.2; CWE-644", "", open, []attempt{
		{what: "two Hosts", raw: line + "Host: HOST\r\nHost: other.example\r\n" + rest, event: first},
		{what: "two Hosts, one folded", raw: line + "Host: HOST\r\nX: y\r\n Host: other.example\r\n" + rest, event: first},
		{what: "a blank before the colon", raw: line + "Host: HOST\r\nHost : other.example\r\n" + rest, event: first},
		{what: "a Host with a path", raw: line + "Host: HOST/../other\r\n" + rest, event: probe.Event{Host: "HOST/../other"}},
		{what: "a Host with a line feed", raw: line + "Host: HOST\nX: y\r\n" + rest, event: first},
		{what: "a field with a NUL", raw: line + "Host: HOST\r\nX: a\x00b\r\n" + rest, event: first},
		{what: "another in the request line", raw: "POST http://HOST/v1/messages HTTP/1.1\r\nHost: other.example\r\n" + rest, event: first},
		{what: "CONNECT", raw: "CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n" + "User-Agent: MARK\r\n\r\n", event: probe.Event{Host: "HOST:443"}},
	})
}

// overrideProbe makes allowed requests, with something beside that names another.
// They pass, less that.
func overrideProbe() probe.Probe {
	var list []attempt
	for _, header := range []string{"X-Original-URL: /collective_rpc", "X-Rewrite-URL: /collective_rpc", "X-HTTP-Method-Override: DELETE", "X-Forwarded-Host: other.example",
		"X-Forwarded-Prefix: /collective_rpc", "X-Request-Id: ___decode_addr_PUBLIC:443_FORBIDDEN", "Forwarded: host=other.example", "Connection: close, Content-Type", "Trailer: X-Original-URL"} {
		list = append(list, request(header, "POST", "/v1/messages", header+"\r\nX-Other: FORBIDDEN\r\n", strings.Replace(messageBody, "FORBIDDEN", "x", 1)))
	}
	list = append(list, request("a query", "POST", "/v1/messages?path=%2fcollective_rpc&FORBIDDEN", "", strings.Replace(messageBody, "FORBIDDEN", "x", 1)),
		attempt{what: "a trailer", raw: outer + "Trailer: X-Original-URL\r\nTransfer-Encoding: chunked\r\n\r\nCHUNKED " + strings.Replace(messageBody, "FORBIDDEN", "x", 1) + "TRAILER X-Original-URL: /collective_rpc\r\n"})
	p := attempts("model-override", "a field or a query beside the checked path is what the server goes by", "CVE-2026-116176 (vLLM: a connection to where X-Request-Id says); RFC 9110 §6.5.1 (trailers)", "", behind(front{}, reading{}), nil)
	p.Try = func(ctx context.Context, t probe.Target) probe.Finding {
		return set{t: t, name: p.Name, to: t.Model, list: list, through: reachedWord, passes: true}.try(ctx)
	}
	return p
}

// otherSandbox asks another sandbox's model endpoint.
func otherSandbox() probe.Probe {
	list := []attempt{
		request("GET /v1/models", "GET", "/v1/models", "", ""),
		request("POST /v1/messages", "POST", "/v1/messages", "", messageBody),
		request("POST /collective_rpc", "POST", "/collective_rpc", "", rpcBody),
	}
	p := attempts("model-of-another", "another sandbox's model is another machine, and another record", "Sallyport's own promise: a sandbox has one model", "", open, nil)
	p.Try = func(ctx context.Context, t probe.Target) probe.Finding {
		if !t.OtherModel.IsValid() {
			return probe.Missing("other sandbox")
		}
		return set{t: t, name: p.Name, to: t.OtherModel, list: list}.try(ctx)
	}
	return p
}
