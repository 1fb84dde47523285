package proxy

import (
	"strings"
	"testing"
	"testing/synctest"
)

// A client that promises a body and does not send it is answered, and holds its
// connection no longer than that: net/http waits for the rest of a body that it
// means to throw away, and without an end.
func TestABodyThatStops(t *testing.T) {
	for name, c := range map[string]struct{ request, status string }{
		"at the model endpoint":  {post("/v1/messages", small)[:120], "400"},
		"of a refused path":      {"POST /metrics HTTP/1.1\r\nHost: m\r\nContent-Length: 9\r\n\r\nx", "403"},
		"with an odd Expect":     {"POST /v1/messages HTTP/1.1\r\nHost: m\r\nContent-Length: 9\r\nExpect: more\r\n\r\nx", "417"},
		"in chunks":              {"POST /v1/messages HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx", "400"},
		"where none belongs":     {"GET /v1/models HTTP/1.1\r\nHost: m\r\nContent-Length: 9\r\n\r\nx", "400"},
		"of a head that is long": {"GET / HTTP/1.1\r\nHost: m\r\nX: " + strings.Repeat("y", maxHead), "431"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, server := &kept{}, &far{}
				got := string(talk(fuzzModel(k, server), []byte(c.request)))
				server.wg.Wait()
				if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) {
					t.Errorf("answered %q", got)
				}
				if len(k.events) != 1 || k.events[0].Verdict != "denied" || len(server.got) > 0 {
					t.Errorf("events %+v, %d connections to the model server", k.events, len(server.got))
				}
			})
		})
	}
	for name, request := range map[string]string{
		"of a refused host":  "POST http://c.example/ HTTP/1.1\r\nHost: c.example\r\nContent-Length: 9\r\n\r\nx",
		"with an odd Expect": "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\nExpect: more\r\n\r\nx",
		"of an allowed host": "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nx",
	} {
		t.Run("at the proxy, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, origin := &kept{}, &far{}
				talk(&Forward{Policy: fuzzPolicy(t), Dial: origin.dial, Record: k.record, Log: quiet}, []byte(request))
				origin.wg.Wait()
				if len(k.events) != 1 {
					t.Errorf("events %+v", k.events)
				}
			})
		})
	}
}
