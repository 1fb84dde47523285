package forward

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
)

// forms are requests whose shape is unusual, or whose parts contradict each other.
func forms() []entry {
	return []entry{
		{name: "proxy-other-host-header", why: "a proxy that decides by the Host header goes where the request line says, or the reverse",
			source: "RFC 9112 §3.2.2", requests: otherHost},
		{name: "proxy-origin-form", why: "a proxy that trusts Host forwards a request that names no target", source: "RFC 9112 §3.2.1", requests: originForm},
		{name: "proxy-other-sni", why: "TLS in the tunnel asks for another name than the rule allowed", source: "RFC 6066 §3", requests: otherSNI},
		{name: "proxy-early-data", why: "bytes in the segment of CONNECT are sent on before the tunnel is decided about", source: "RFC 9110 §9.3.6", requests: earlyData},
		{name: "proxy-connect-body", why: "a body of CONNECT is data or a tunnel's first bytes, as one likes", source: "RFC 9110 §9.3.6", requests: connectBody},
		{name: "proxy-websocket", why: "after an upgrade nobody reads what passes", source: "RFC 6455 §4.1",
			requests: upgrade("websocket", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2FsbHlwb3J0LXByb2JlLQ==\r\n")},
		{name: "proxy-h2c-upgrade", why: "an upgrade to HTTP/2 carries requests past a proxy that reads HTTP/1 only", source: "RFC 7540 §3.2",
			requests: upgrade("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n")},
		{name: "proxy-h2-preface", why: "HTTP/2 without asking carries requests past a proxy that reads HTTP/1 only", source: "RFC 9113 §3.4", requests: preface},
		{name: "proxy-hop-headers", why: "Connection names headers that are removed before the next hop looks", source: "CVE-2022-1388", requests: hopHeaders},
		{name: "proxy-credentials", why: "a proxy that knows users may know one for whom more is open", source: "RFC 9110 §11.7.2", requests: credentials},
		{name: "proxy-other-scheme", why: "a proxy that speaks FTP, TLS or opens files does so for its client", source: "RFC 9110 §7.1", requests: schemes},
		{name: "proxy-other-method", why: "rules for some methods miss the others", source: "CERT/CC VU#867593", requests: methods},
		{name: "proxy-old-http", why: "without a version, or without Host, checks of HTTP/1.1 do not apply", source: "RFC 1945 §4.1", requests: oldHTTP},
	}
}

// message is a request with these lines, and what is recorded of it.
func message(e probe.Event, lines ...string) request {
	return request{bytes: strings.Join(lines, "\r\n") + "\r\n\r\n", event: e}
}

func otherHost(t probe.Target) []request {
	name := t.Name("other-host")
	ask := func(host, line string) request {
		return message(recorded(t, probe.Event{Method: "GET", Host: host}), "GET "+line+" HTTP/1.1", "Host: "+allowed(t), "Connection: close")
	}
	return []request{
		ask(name, "http://"+name+"/"),
		ask(name, "HTTP://"+name+":80/"),
		ask(public4(t).String(), "http://"+public4(t).String()+"/other-host"),
		message(recorded(t, probe.Event{Method: "GET", Host: allowed(t), Path: "/reverse"}), "GET http://"+allowed(t)+"/reverse HTTP/1.1", "Host: "+name, "Connection: close"),
		message(recorded(t, probe.Event{Method: "GET", Host: name, Path: "/forwarded"}), "GET http://"+name+"/forwarded HTTP/1.1", "Host: "+name,
			"X-Forwarded-Host: "+allowed(t), "Forwarded: host="+allowed(t), "X-Host: "+allowed(t), "X-Original-URL: http://"+allowed(t)+"/", "Connection: close"),
	}
}

func originForm(t probe.Target) []request {
	name := t.Name("origin-form")
	ask := func(path, host string) request {
		return message(recorded(t, probe.Event{Method: "GET", Host: host, Path: path}), "GET "+path+" HTTP/1.1", "Host: "+host, "Connection: close")
	}
	return []request{ask("/origin-form", name), ask("/origin-form", allowed(t)), ask("//"+name+"/", name), ask("/origin-form", name+":80"), ask("/origin-form", public4(t).String())}
}

func otherSNI(t probe.Target) []request {
	name := t.Name("sni")
	r := connect(t, name, "443")
	r.bytes += clientHello(allowed(t))
	return []request{r}
}

// earlyData is a tunnel's first bytes, sent along with CONNECT: no server may have them,
// and no proxy may take them for a request that it has checked.
func earlyData(t probe.Target) []request {
	var list []request
	for i, data := range []string{string(t.Payload("early")), clientHello(t.Name("early")), "GET http://" + t.Name("early") + "/ HTTP/1.1\r\nHost: " + t.Name("early") + "\r\n\r\n"} {
		name := t.Name(fmt.Sprintf("early-%d", i))
		list = append(list, request{
			bytes: "CONNECT " + name + ":443 HTTP/1.1\r\nHost: " + name + ":443\r\n\r\n" + data,
			event: recorded(t, probe.Event{Method: "CONNECT", Host: name}),
		})
	}
	return list
}

func connectBody(t probe.Target) []request {
	name := allowed(t)
	ask := func(header, body string) request {
		r := message(recorded(t, probe.Event{Method: "CONNECT", Host: name}), "CONNECT "+name+":443 HTTP/1.1", "Host: "+name, header)
		r.bytes += body
		return r
	}
	return []request{ask("Content-Length: 4", "data"), ask("Transfer-Encoding: chunked", "4\r\ndata\r\n0\r\n\r\n")}
}

func upgrade(protocol, headers string) func(t probe.Target) []request {
	return func(t probe.Target) []request {
		var list []request
		for _, name := range []string{t.Name(protocol), allowed(t)} {
			list = append(list, message(recorded(t, probe.Event{Method: "GET", Host: name, Path: "/" + protocol}), "GET http://"+name+"/"+protocol+" HTTP/1.1", "Host: "+name,
				"Connection: Upgrade, HTTP2-Settings", "Upgrade: "+protocol, strings.TrimSuffix(headers, "\r\n")))
		}
		return list
	}
}

// preface is that of HTTP/2, with an empty SETTINGS frame behind it.
func preface(t probe.Target) []request {
	return []request{{
		bytes: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		event: recorded(t, probe.Event{Method: "PRI", Path: "*"}),
	}}
}

func hopHeaders(t probe.Target) []request {
	name := t.Name("hop")
	var list []request
	for _, named := range []string{"Host", "close, Host, X-Forwarded-For", "Proxy-Connection, Proxy-Authorization", "Content-Length", "Transfer-Encoding, Via"} {
		for _, header := range []string{"Connection", "Proxy-Connection"} {
			list = append(list, message(recorded(t, probe.Event{Method: "GET", Host: name}),
				"GET http://"+name+"/ HTTP/1.1", "Host: "+name, header+": "+named, "Keep-Alive: host="+allowed(t), "TE: trailers", "Connection: close"))
		}
	}
	return list
}

func credentials(t probe.Target) []request {
	name := t.Name("credentials")
	var list []request
	for _, value := range []string{"Basic YWRtaW46YWRtaW4=", "Bearer " + t.Run, "Digest username=\"admin\"", "Negotiate AAAA"} {
		r := connect(t, name, "443")
		r.bytes = strings.TrimSuffix(r.bytes, "\r\n") + "Proxy-Authorization: " + value + "\r\nAuthorization: " + value + "\r\n\r\n"
		list = append(list, r)
	}
	return list
}

func schemes(t probe.Target) []request {
	name := allowed(t)
	var list []request
	for _, scheme := range []string{"https", "ftp", "gopher", "ws", "wss", "h2c", "httpu"} {
		path := "/" + scheme
		list = append(list, message(recorded(t, probe.Event{Method: "GET", Host: name, Path: path}),
			"GET "+scheme+"://"+name+path+" HTTP/1.1", "Host: "+name, "Connection: close"))
	}
	for _, path := range []string{"file:///etc/hostname", "unix:///run/docker.sock", "http:///scheme", "jar:///scheme"} {
		_, rest, _ := strings.Cut(path, "://")
		list = append(list, message(recorded(t, probe.Event{Method: "GET", Host: name, Path: rest}), "GET "+path+" HTTP/1.1", "Host: "+name, "Connection: close"))
	}
	return append(list, message(recorded(t, probe.Event{Method: "GET", Host: name}), "GET mailto:a@"+name+" HTTP/1.1", "Host: "+name, "Connection: close"))
}

func methods(t probe.Target) []request {
	name := t.Name("method")
	var list []request
	for _, method := range strings.Fields("TRACE PATCH PUT DELETE OPTIONS PROPFIND SEARCH PURGE DEBUG TRACK get Connect SALLYPORT M-SEARCH") {
		list = append(list, message(recorded(t, probe.Event{Method: method, Host: name}),
			method+" http://"+name+"/ HTTP/1.1", "Host: "+name, "Max-Forwards: 0", "Connection: close"))
	}
	list = append(list, message(recorded(t, probe.Event{Method: "OPTIONS", Host: name, Path: "*"}), "OPTIONS * HTTP/1.1", "Host: "+name, "Connection: close"))
	for _, broken := range []string{"GE(T", "G@T"} {
		list = append(list, message(recorded(t, probe.Event{Method: broken, Path: "http://" + name + "/"}),
			broken+" http://"+name+"/ HTTP/1.1", "Host: "+name, "Connection: close"))
	}
	return list
}

func oldHTTP(t probe.Target) []request {
	name := t.Name("old")
	url := "http://" + name + "/"
	read := recorded(t, probe.Event{Method: "GET", Host: name})
	broken := recorded(t, probe.Event{Method: "GET", Path: url})
	list := []request{
		{bytes: "GET " + url + "\r\n", event: broken},
		message(read, "GET "+url+" HTTP/1.0"),
		message(recorded(t, probe.Event{Method: "CONNECT", Host: name}), "CONNECT "+name+":443 HTTP/1.0"),
		message(broken, "GET "+url+" HTTP/1.1"), // no Host
	}
	for _, version := range []string{"HTTP/0.9", "HTTP/1.2", "HTTP/1", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "http/1.1", "ICAP/1.0", "HTTP/1.1 "} {
		r := message(broken, "GET "+url+" "+version, "Host: "+name, "Connection: close")
		if version == "HTTP/1.2" { // read as 1.1 (RFC 9110 §2.5)
			r.event = read
		}
		list = append(list, r)
	}
	return list
}
