package endpoint

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// odd are spellings of a path that a careless filter takes for another one, and a
// server for that path. NAME stands for the path without its first slash, FIRST for
// its first letter as an escape and REST for what follows, UPPER for it in upper case.
var odd = []struct {
	name, why, source string
	targets           []string
}{
	{"model-path-slashes", "a filter compares whole paths, a server joins slashes", "RFC 3986 §6.2",
		[]string{"//NAME", "///NAME", "/NAME/", "/NAME//", "//v1//messages/../../NAME", "/v1/messages//NAME"}},
	{"model-path-dots", "a filter sees the allowed prefix, a server removes dot segments", "RFC 3986 §5.2.4; CVE-2021-41773",
		[]string{"/./NAME", "/x/../NAME", "/v1/messages/../../NAME", "/v1/messages/./../../NAME", "/NAME.", "/NAME/.", "/NAME%20", "/..;/NAME", "/v1/messages..NAME"}},
	{"model-path-escapes", "a filter compares what a server decodes, once or twice", "RFC 3986 §2.1; CVE-2021-42013",
		[]string{"/FIRSTREST", "/%2e/NAME", "/%2e%2e/NAME", "/v1/messages/%2e%2e/%2e%2e/NAME", "/v1/messages%2f..%2f..%2fNAME", "/v1%2fmessages/../../NAME", "/%25DOUBLEREST", "/NAME%2f", "/NAME%3fx", "/NAME%23", "/v1/messages%0d%0aGET%20/NAME", "/v1/messages%3b/../../NAME"}},
	{"model-path-params", "a filter stops at ; or ?, a server does not", "RFC 3986 §3.3",
		[]string{"/NAME;x=1", "/NAME;/v1/messages", "/;/NAME", "/v1/messages;/../../NAME", "/NAME?x=1", "/NAME?/v1/messages", "/NAME#/v1/messages", "/NAME&x"}},
	{"model-path-unicode", "letters that are folded, and bytes that are no UTF-8, become the path at the server", "RFC 3629 §10 (overlong); Unicode UTS #46",
		[]string{"/UPPER", "/%c0%afNAME", "/%c0%ae%c0%ae/NAME", "/%e0%80%afNAME", "/\xc0\xafNAME", "/\xef\xbc\x8fNAME", "/%uff0fNAME", "/%ef%bb%bfNAME", "/NAME%e2%80%8b", "/\xe2\x84\xaaNAME"}},
	{"model-path-absolute", "a request line that names a host makes a proxy of the endpoint", "RFC 9112 §3.2",
		[]string{"http://HOST/NAME", "http://HOST:8000/NAME", "https://HOST/NAME", "http://user@HOST/NAME", "file:///HOST", "http:/NAME", "http:NAME", "//HOST/NAME"}},
	{"model-path-control", "a byte at which one parser stops and the other goes on", "RFC 9112 §3; CVE-2019-9741",
		[]string{"/NAME\x00", "/NAME%00", "/v1/messages\x00/../../NAME", "/v1/messages%00/../../NAME", "/v1\\messages\\..\\..\\NAME", "/v1/messages\\..\\..\\NAME", "\\NAME", "/NAME\t", "/NAME\x7f", "/v1/messages\r/NAME", "/\x1b[2JNAME", "NAME"}},
}

// hidden are the paths that are spelled oddly.
var hidden = []string{"collective_rpc", "v1/load_lora_adapter"}

func spellingProbes() []probe.Probe {
	var probes []probe.Probe
	for _, o := range odd {
		var list []attempt
		for _, path := range hidden {
			for _, pattern := range o.targets {
				target := spell(pattern, path)
				a := request(fmt.Sprintf("POST %q", target), "POST", target, "", rpcBody)
				if strings.Contains(target, "HOST:8000") {
					a.event.Host = "HOST:8000" // the request line's host is the one that counts (RFC 9112 §3.2.2)
				}
				list = append(list, a)
			}
		}
		probes = append(probes, attempts(o.name, o.why, o.source, "", open, list))
	}
	return append(probes, allowedOddly())
}

func spell(pattern, path string) string {
	return strings.NewReplacer("NAME", path, "FIRST", fmt.Sprintf("%%%02x", path[0]), "REST", path[1:],
		"UPPER", strings.ToUpper(path), "DOUBLE", fmt.Sprintf("%02x", path[0])).Replace(pattern)
}

// allowedOddly asks for the allowed path in spellings that are not it: behind the
// filter, a server may route them elsewhere.
func allowedOddly() probe.Probe {
	var list []attempt
	for _, target := range []string{"/v1/messages/", "//v1/messages", "/v1//messages", "/v1/./messages", "/V1/messages", "/v1/Messages", "/v1/%6dessages", "/v1%2fmessages",
		"/v1/messages.", "/v1/messages;x", "/v1/messages%20", "/v1/messages/count_tokens/", "/v1/messages/x", "http://HOST/v1/messages", "/v1/models/", "/health/", "/%68ealth"} {
		list = append(list, request("POST "+target, "POST", target, "", messageBody))
	}
	return attempts("model-path-allowed", "an odd spelling of the allowed path passes the filter and is routed elsewhere by the server",
		"RFC 3986 §6", "", open, list)
}
