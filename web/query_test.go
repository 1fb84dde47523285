package web

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

func TestParseTime(t *testing.T) {
	east := time.FixedZone("east", 2*3600)
	now := time.Date(2026, 3, 2, 23, 30, 0, 0, time.UTC) // the third, in the east
	for text, want := range map[string]string{
		"": "0001-01-01T00:00:00Z", "all": "0001-01-01T00:00:00Z", "now": "2026-03-02T23:30:00Z", "today": "2026-03-02T22:00:00Z", "yesterday": "2026-03-01T22:00:00Z",
		"90m": "2026-03-02T22:00:00Z", "1h30m": "2026-03-02T22:00:00Z", "7d": "2026-02-23T23:30:00Z", "2w": "2026-02-16T23:30:00Z",
		"2026-03-01": "2026-02-28T22:00:00Z", "2026-03-01T14:30": "2026-03-01T12:30:00Z", "2026-03-01 14:30": "2026-03-01T12:30:00Z", "2026-03-01T14:30:00Z": "2026-03-01T14:30:00Z",
	} {
		got, err := parseTime("since", text, now, east)
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v; want %s", text, got.UTC().Format(time.RFC3339), err, want)
		}
	}
	for _, text := range []string{"never", "-1h", "0d", "-2d", "1y", "99999999999d", "2026-13-01", "0s", "<b>"} {
		if got, err := parseTime("since", text, now, east); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// A link leads to what it was made from.
func TestQueryLinks(t *testing.T) {
	for _, text := range []string{"", "?denied=1", "?host=%2A.example&process=curl&q=a+b%26c", "?allowed=1&before=01ABC&denied=1&layer=dns&new=1&project=p&sandbox=s&since=7d&until=today"} {
		v, err := url.ParseQuery(strings.TrimPrefix(text, "?"))
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseQuery(v, noon, time.UTC)
		if err != nil || q.encode() != text {
			t.Errorf("%q becomes %q, %v", text, q.encode(), err)
		}
	}
	q, err := parseQuery(url.Values{"before": {"01A"}, "host": {"x"}}, noon, time.UTC)
	if err != nil || q.Link() != "?host=x" || !q.Narrowed() {
		t.Errorf("the first page is %q, %v", q.Link(), err)
	}
}

func TestQueryRefuses(t *testing.T) {
	for _, v := range []url.Values{{"layer": {"none"}}, {"since": {"soon"}}, {"until": {"later"}}, {"host": {strings.Repeat("x", maxField+1)}}} {
		if _, err := parseQuery(v, noon, time.UTC); err == nil {
			t.Errorf("%.40v is taken", v)
		}
	}
}

func TestCommand(t *testing.T) {
	q, err := parseQuery(url.Values{"host": {"*.example"}, "process": {"it's"}, "denied": {"1"}}, noon, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := command(q), `gateway audit --since 24h --host '*.example' --process 'it'\''s' --denied`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Names below one other become one entry where they are many.
func TestGather(t *testing.T) {
	groups := []audit.Group{{Key: "a.example", Attempts: 5}, {Key: "1.x.evil.example", Attempts: 2}, {Key: "2.x.evil.example", Attempts: 2}, {Key: "3.x.evil.example", Attempts: 2},
		{Key: "203.0.113.1", Attempts: 1}, {Key: "203.0.113.2", Attempts: 1}, {Key: "203.0.113.3", Attempts: 1}, {Key: "1.y.evil.example", Attempts: 1}, {Key: "b.example", Attempts: 1}, {Key: "c.example", Attempts: 1}}
	got := gather(groups)
	if len(got) != 8 || got[0].Key != "*.x.evil.example" || got[0].Events != 3 || got[0].Attempts != 6 {
		t.Errorf("got %+v", got)
	}
}
