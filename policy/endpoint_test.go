package policy_test

import (
	"net/url"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestMatchEndpoint(t *testing.T) {
	endpoints := []policy.Endpoint{
		{Method: "POST", Path: "/v1/messages"},
		{Method: "POST", Path: "/v1/messages/count_tokens"},
		{Method: "GET", Path: "/v1/models"},
		{Method: "GET", Path: "/odd/"},
		{Method: "GET", Path: "/odd//path"},
		{Method: "GET", Path: "/odd/../path"},
		{Method: "GET", Path: "odd"},
		{Method: "GET", Path: "/odd path"},
		{Method: "GET", Path: ""},
	}
	for _, c := range []struct {
		method, target string
		want           bool
	}{
		{"POST", "/v1/messages", true},
		{"POST", "/v1/messages?beta=true", true},
		{"POST", "/v1/messages/count_tokens", true},
		{"GET", "/v1/models", true},

		{"GET", "/v1/messages", false},
		{"post", "/v1/messages", false},
		{"POST ", "/v1/messages", false},
		{"", "/v1/messages", false},
		{"POST", "/v1/messages/", false},
		{"POST", "/V1/messages", false},
		{"POST", "//v1/messages", false},
		{"POST", "/v1//messages", false},
		{"POST", "/v1/./messages", false},
		{"POST", "/v1/x/../messages", false},
		{"POST", "/v1/messages/.", false},
		{"POST", "/v1/messages/..", false},
		{"POST", "/v1%2Fmessages", false},
		{"POST", "/v1/%6dessages", false},
		{"POST", "/v1/messages%00", false},
		{"POST", "/v1/messages%2f", false},
		{"POST", "/v1/messages%3Fx", false},
		{"POST", "/v1/messages%20", false},
		{"POST", "/v1/messages;x=1", false},
		{"POST", "/v1\\messages", false},
		{"POST", "http://user@host/v1/messages", false},
		{"POST", "/v1/messages#fragment", false},
		{"POST", "mailto:/v1/messages", true}, // a scheme is the caller's to judge; the path is what it says
		{"POST", "mailto:v1/messages", false},
		{"POST", "/load_lora_adapter", false},
		{"POST", "/", false},
		{"GET", "", false},
		{"GET", "*", false},

		// An endpoint that is itself written oddly matches nothing.
		{"GET", "/odd/", false},
		{"GET", "/odd//path", false},
		{"GET", "/odd/../path", false},
		{"GET", "odd", false},
		{"GET", "/odd%20path", false},
	} {
		u, err := url.Parse(c.target)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := policy.MatchEndpoint(endpoints, c.method, u)
		if ok != c.want {
			t.Errorf("MatchEndpoint(%q, %q) = %v, %v; want %v", c.method, c.target, e, ok, c.want)
		}
		if ok && (e.Method != c.method || e.Path != u.Path) || !ok && e != (policy.Endpoint{}) {
			t.Errorf("MatchEndpoint(%q, %q) returned %v", c.method, c.target, e)
		}
	}
	if _, ok := policy.MatchEndpoint(endpoints, "GET", nil); ok {
		t.Error("a nil URL matched")
	}
	if _, ok := policy.MatchEndpoint(endpoints, "GET", &url.URL{Opaque: "//evil.test/", Path: "/v1/models"}); ok {
		t.Error("a URL matched by its path that is sent by its opaque part")
	}
	if _, ok := policy.MatchEndpoint(nil, "POST", &url.URL{Path: "/v1/messages"}); ok {
		t.Error("an empty list of endpoints matched")
	}
}
