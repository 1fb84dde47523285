package forward

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// technique hides a second request in the body, or the head, of a first one.
type technique struct {
	name, why, source string
	// messages are what follows the request line, Host's line left out, for a second
	// request to hide.
	messages func(t probe.Target, second string) []string
	// line ends lines of the head; empty: CR and LF.
	line string
	// sound says that the first request can be read in one way only, and is refused for
	// its host. Others are refused whatever their host: it is an allowed one.
	sound bool
}

var techniques = []technique{
	{name: "cl-te", why: "the front goes by Content-Length, the back by chunks: the rest is a request of its own", source: "RFC 9112 §6.1",
		messages: func(_ probe.Target, second string) []string {
			body := "0\r\n\r\n" + second
			return []string{fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(body), body)}
		}},
	{name: "te-cl", why: "the front goes by chunks, the back by Content-Length: the rest is a request of its own", source: "RFC 9112 §6.1",
		messages: func(_ probe.Target, second string) []string {
			size := fmt.Sprintf("%x", len(second))
			return []string{fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n%s\r\n%s\r\n0\r\n\r\n", len(size)+2, size, second)}
		}},
	{name: "te-te", why: "one parser ignores a Transfer-Encoding that is disguised, the other reads it", source: "CVE-2019-18277", messages: disguised},
	{name: "length-spellings", why: "one parser takes a signed, doubled or hexadecimal length, the other none", source: "CVE-2020-15049",
		messages: func(_ probe.Target, second string) []string {
			var list []string
			for _, v := range []string{"-1", "+0", "0x0", "0_0", "0 0", "0,0", "18446744073709551616", "\v0", "0\r\nContent-Length: 5"} {
				list = append(list, "Content-Length: "+v+"\r\n\r\n"+second)
			}
			return list
		}},
	{name: "length-ignored", why: "a server that takes a request for bodyless reads its body as the next one", source: "RFC 9112 §11.2", sound: true,
		messages: func(_ probe.Target, second string) []string {
			body := "0\r\n\r\n" + second
			return []string{
				fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(second), second),
				fmt.Sprintf("Content-Length: %020d\r\n\r\n%s", len(second), second),
				fmt.Sprintf("Content-Length: %d\r\nTransfer_Encoding: chunked\r\n\r\n%s", len(body), body),
			}
		}},
	{name: "folded-header", why: "one parser joins folded lines, the other sees a header in them", source: "RFC 9112 §5.2",
		messages: func(_ probe.Target, second string) []string {
			return []string{"X-Fold: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "X-Fold: a\r\n\tContent-Length: 0\r\n\r\n" + second,
				"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + second}
		}},
	{name: "bare-lf", why: "one parser ends a line at LF, the other at CR and LF", source: "RFC 9112 §2.2", line: "\n",
		messages: func(_ probe.Target, second string) []string {
			return []string{"Content-Length: 0\n\n" + second, "X: a\nTransfer-Encoding: chunked\n\n0\n\n" + second}
		}},
	{name: "bare-cr", why: "one parser ends a line at a lone CR, the other reads on", source: "RFC 9112 §2.2",
		messages: func(_ probe.Target, second string) []string {
			return []string{"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "X: a\r\rContent-Length: 0\r\n\r\n" + second}
		}},
	{name: "chunk-line-end", why: "a chunk's size line that ends in a lone LF is read two ways", source: "CVE-2025-22871", sound: true,
		messages: func(_ probe.Target, second string) []string {
			return []string{"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n" + second, "Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n" + second,
				"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + second, "Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n" + second}
		}},
	{name: "chunk-trailer", why: "headers behind the body replace those that were checked", source: "RFC 9110 §6.5.1", sound: true,
		messages: func(t probe.Target, second string) []string {
			return []string{"Transfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n0\r\nHost: " + t.Name("trailer") + "\r\n\r\n" + second}
		}},
	{name: "two-hosts", why: "one parser goes by the first Host, the other by the last", source: "RFC 9112 §3.2",
		messages: func(t probe.Target, second string) []string {
			return []string{"Host: " + t.Name("second-host") + "\r\n\r\n" + second, "host : " + t.Name("second-host") + "\r\n\r\n" + second,
				" Host: " + t.Name("second-host") + "\r\n\r\n" + second}
		}},
	{name: "header-without-name", why: "lines that are no headers end the head for one parser", source: "RFC 9112 §5.1",
		messages: func(_ probe.Target, second string) []string {
			return []string{": x\r\n\r\n" + second, "no colon\r\n\r\n" + second, "X\x00: a\r\n\r\n" + second, "X : a\r\n\r\n" + second}
		}},
	{name: "pipelined", why: "a proxy that decides about the first request of a connection alone", source: "RFC 9112 §9.3.2", sound: true,
		messages: func(_ probe.Target, second string) []string {
			return []string{"\r\n" + second, "\r\n\r\n\r\n" + second}
		}},
}

// disguised are headers that some parser takes for "Transfer-Encoding: chunked".
func disguised(_ probe.Target, second string) []string {
	var list []string
	for _, header := range []string{
		"Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: \vchunked", "Transfer-Encoding: chunked, identity",
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
		"Transfer-Encoding: \"chunked\"", "X: a\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked;q=1", "TRANSFER-ENCODING: CHUNKED",
	} {
		body := "0\r\n\r\n" + second
		list = append(list, fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n%s", header, len(body), body))
	}
	return list
}

// smuggling makes a probe of each technique. The carrier has a method of its own, which
// is what the record has of a request that it takes for ambiguous.
func smuggling() []entry {
	var list []entry
	for i, s := range techniques {
		list = append(list, entry{name: "smuggle-" + s.name, why: s.why, source: s.source,
			requests: func(t probe.Target) []request { return s.requests(t, fmt.Sprintf("X%c", 'A'+i)) }})
	}
	return list
}

// requests are the technique's, with methods that begin with prefix.
func (s technique) requests(t probe.Target, prefix string) []request {
	name := allowed(t)
	if s.sound {
		name = t.Name("carrier-" + s.name)
	}
	hidden := t.Name("smuggled")
	second := "GET http://" + hidden + "/" + s.name + " HTTP/1.1\r\nHost: " + hidden + "\r\n\r\n"
	end := s.line
	if end == "" {
		end = "\r\n"
	}
	var list []request
	for i, rest := range s.messages(t, second) {
		method := fmt.Sprintf("%s%c-%s", prefix, 'A'+i, strings.ToUpper(t.Run))
		list = append(list, request{
			bytes: fmt.Sprintf("%s http://%s/ HTTP/1.1%sHost: %s%s%s", method, name, end, name, end, rest),
			event: recorded(t, probe.Event{Method: method}),
		})
	}
	return list
}
