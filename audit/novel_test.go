package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNovel(t *testing.T) {
	var events []Event
	at := func(minute int, sandbox, project, host, verdict string) {
		e := timed(0, 0)[0]
		e.Time, e.Sandbox, e.Project, e.Host, e.Verdict, e.Agent = noon.Add(time.Duration(minute)*time.Minute), sandbox, project, host, verdict, "claude"
		events = append(events, e)
	}
	at(0, "s1", "/p", "old.example", "denied")
	at(10, "s1", "/p", "older.example", "denied")
	at(100, "s2", "/p", "old.example", "denied")
	at(101, "s2", "/p", "new.example", "denied")
	at(102, "s2", "/p", "NEW.example", "denied")
	at(103, "s1", "/p", "new.example", "denied") // the old session goes on: too late
	at(104, "s2", "/p", "open.example", "allowed")
	at(50, "s3", "/q", "older.example", "denied") // of another project, its only one
	at(60, "unknown", "", "stray.example", "denied")
	at(105, "s4", "/p", "proof.example", "denied")
	events[len(events)-1].Agent = "verify" // no session of the project
	r := fill(t, events...).reader()
	tests := []struct {
		f    Filter
		want []string
	}{
		{Filter{}, []string{"/q older.example 50", "/p proof.example 105"}},
		{Filter{NotAgents: []string{"verify"}}, []string{"/q older.example 50", "/p new.example 101", "/p open.example 104"}},
		{Filter{NotAgents: []string{"verify"}, Denied: true, Project: "p"}, []string{"/p new.example 101"}},
		{Filter{NotAgents: []string{"verify"}, Since: noon.Add(102 * time.Minute)}, []string{"/p new.example 102", "/p open.example 104"}},
		{Filter{NotAgents: []string{"verify"}, Until: noon.Add(101 * time.Minute)}, []string{"/q older.example 50"}},
		{Filter{Host: "none"}, nil},
	}
	for _, tt := range tests {
		found, err := r.Novel(t.Context(), tt.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range found {
			got = append(got, fmt.Sprintf("%s %s %.0f", n.Project, n.Target, n.First.Time.Sub(noon).Minutes()))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v:\n%s", tt.f, diff)
		}
	}
}
