package policy

import (
	"net/url"
	"path"
	"strings"
)

// Endpoint is one method and path that an agent needs of its model, e.g.
// {"POST", "/v1/messages"}.
type Endpoint struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// MatchEndpoint returns the endpoint that method and u ask for, exactly as it
// is spelled in endpoints. There is one way to write a path: any escape that a
// server might decode once more, double or trailing slash, dot segment, or
// difference in case is no match. The query is not looked at. Build what is sent
// on from the endpoint that is returned, not from u.
func MatchEndpoint(endpoints []Endpoint, method string, u *url.URL) (Endpoint, bool) {
	if u == nil || u.Opaque != "" || u.RawPath != "" || u.Fragment != "" || u.User != nil || !cleanPath(u.Path) {
		return Endpoint{}, false
	}
	for _, e := range endpoints {
		if e.Method == method && e.Path == u.Path {
			return e, true
		}
	}
	return Endpoint{}, false
}

// cleanPath reports whether p is absolute and its own shortest spelling, in
// visible ASCII without the characters that a server might take apart again.
// So an endpoint that is itself written oddly matches nothing.
func cleanPath(p string) bool {
	return strings.HasPrefix(p, "/") && path.Clean(p) == p && !strings.ContainsFunc(p, oddInPath)
}

func oddInPath(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`%\;?#`, r)
}
