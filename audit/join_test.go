package audit

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var refused = Event{
	Subject: Subject{Sandbox: "s", Agent: "claude", Project: "/p"}, Layer: LayerIntercept, Proto: "tcp",
	Src: "10.213.0.9:1000", Dst: "203.0.113.9:443", Reason: "not allowed", BytesIn: 3, Duration: 0.5,
	Process: &Process{PID: 7, Exe: "/usr/bin/curl", Command: "curl x"},
}

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := storePath(t)
		s := openWith(t, path, Options{})
		begin := time.Now()
		first := mustAppend(t, s, refused)
		if first.Open || first.RepeatOf != "" || first.Count != 1 {
			t.Errorf("the first: %+v", first)
		}
		time.Sleep(10 * time.Second)
		again := refused
		again.Src, again.Count = "10.213.0.9:1001", 5
		second := mustAppend(t, s, again)
		if !second.Open || second.RepeatOf != first.ID || second.Count != 5 || second.ID == first.ID || second.ID == "" || second.Src != again.Src {
			t.Errorf("the first repeat: %+v", second)
		}
		time.Sleep(5 * time.Second)
		third := mustAppend(t, s, refused)
		if third.ID != second.ID || third.Count != 6 || third.BytesIn != 6 || third.Duration != 1 || third.Src != "" || third.Dst != refused.Dst ||
			!third.First.Equal(begin.Add(10*time.Second)) || !third.Last.Equal(begin.Add(15*time.Second)) || !third.Time.Equal(third.First) {
			t.Errorf("the second repeat: %+v", third)
		}
		if open := opened(t, path); len(open) != 1 || open[0].Count != 6 || open[0].Open {
			t.Errorf("open rows: %+v", open)
		}
		if h := s.Health(); h.Open != 1 || h.Joined != 6 || h.Appended != 1 {
			t.Errorf("health %+v", h)
		}
		time.Sleep(15 * time.Second) // 30 s since the first
		synctest.Wait()
		all := chained(t, path)
		if len(all) != 2 || all[1].ID != second.ID || all[1].Count != 6 || all[1].RepeatOf != first.ID || len(opened(t, path)) != 0 {
			t.Errorf("after the window: %+v", all)
		}
		if next := mustAppend(t, s, refused); next.Open || next.ID == second.ID {
			t.Errorf("after the window the next is no first one: %+v", next)
		}
		mustAppend(t, s, refused)
		closeStore(t, s) // ends the window early
		if all := chained(t, path); len(all) != 4 || all[3].RepeatOf != all[2].ID || all[3].Count != 1 {
			t.Errorf("after Close: %+v", all)
		}
	})
}

func TestWhatIsIdentical(t *testing.T) {
	for name, change := range map[string]func(*Event){
		"source": func(e *Event) { e.Src = "x" }, "bytes": func(e *Event) { e.BytesIn, e.BytesOut = 9, 9 }, "duration": func(e *Event) { e.Duration = 9 },
		"count": func(e *Event) { e.Count = 9 }, "token count": func(e *Event) { e.TokensIn, e.TokensOut = 9, 9 },
		"port said twice": func(e *Event) { e.Port = 443 }, "host is the address": func(e *Event) { e.Host = "203.0.113.9" },
	} {
		e := refused
		if change(&e); keyOf(e) != keyOf(refused) {
			t.Errorf("another %s makes another refusal", name)
		}
	}
	for name, change := range map[string]func(*Event){
		"sandbox": func(e *Event) { e.Sandbox = "x" }, "agent": func(e *Event) { e.Agent = "x" }, "model": func(e *Event) { e.Model = "x" },
		"project": func(e *Event) { e.Project = "x" }, "layer": func(e *Event) { e.Layer = "x" }, "proto": func(e *Event) { e.Proto = "x" },
		"address": func(e *Event) { e.Dst = "203.0.113.8:443" }, "port of the address": func(e *Event) { e.Dst = "203.0.113.9:444" },
		"host": func(e *Event) { e.Host = "x" }, "port": func(e *Event) { e.Port = 1 }, "SNI": func(e *Event) { e.SNI = "x" },
		"method": func(e *Event) { e.Method = "x" }, "path": func(e *Event) { e.Path = "x" }, "rule": func(e *Event) { e.Rule = "x" },
		"reason": func(e *Event) { e.Reason = "x" }, "status": func(e *Event) { e.Status = 403 }, "session": func(e *Event) { e.Session = "x" },
		"no process": func(e *Event) { e.Process = nil }, "an empty process": func(e *Event) { e.Process = &Process{} },
		"user":        func(e *Event) { p := *e.Process; p.UID, e.Process = 9, &p },
		"parent":      func(e *Event) { p := *e.Process; p.Parents, e.Process = []Parent{{PID: 1, Name: "x"}}, &p },
		"pid":         func(e *Event) { p := *e.Process; p.PID, e.Process = 9, &p },
		"executable":  func(e *Event) { p := *e.Process; p.Exe, e.Process = "x", &p },
		"command":     func(e *Event) { p := *e.Process; p.Command, e.Process = "x", &p },
		"unknown":     func(e *Event) { p := *e.Process; p.Unknown, e.Process = "x", &p },
		"moved bytes": func(e *Event) { e.Agent, e.Model = "claud", "e" },
	} {
		e := refused
		if change(&e); keyOf(e) == keyOf(refused) {
			t.Errorf("another %s makes no other refusal", name)
		}
	}
	for name, e := range map[string]Event{"allowed": {Verdict: "allowed"}, "lost": {Verdict: "denied", Lost: 1}} {
		if joinable(e) {
			t.Errorf("%s events are joined", name)
		}
	}
}

// The name is the container's own claim, and so may be the port: what is aimed at
// another address is not counted among what has the same name, nor loses its
// address by that; and of two processes, two families are two refusals.
func TestSameNameAnotherAddress(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	flood, contact := refused, refused
	flood.Host, flood.Port, flood.Dst = "x.example", 443, "203.0.113.1:443"
	contact.Host, contact.Port, contact.Dst = "x.example", 443, "203.0.113.6:443"
	otherPort := contact
	otherPort.Dst = "203.0.113.6:25"
	store(t, s, []Event{flood, flood, contact, flood, otherPort, flood})
	closeStore(t, s)
	var got []string
	for _, e := range chained(t, path) {
		got = append(got, e.Dst+" "+strconv.FormatInt(e.Count, 10))
	}
	if want := "203.0.113.1:443 1,203.0.113.6:443 1,203.0.113.6:25 1,203.0.113.1:443 3"; strings.Join(got, ",") != want {
		t.Errorf("stored %q, want %q", got, want)
	}

	a, b := refused, refused
	a.Process = &Process{Unknown: "shared by 2 processes", Parents: []Parent{{PID: 7, Name: "ab"}, {PID: 8, Name: "c"}}}
	b.Process = &Process{Unknown: "shared by 2 processes", Parents: []Parent{{PID: 7, Name: "a"}, {PID: 8, Name: "bc"}}}
	if keyOf(a) == keyOf(b) {
		t.Error("two families make one refusal")
	}
}

// A crash leaves rows open: the next Open chains them with the ids they had.
func TestOpenRowsAfterACrash(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	first := mustAppend(t, s, refused)
	mustAppend(t, s, refused)
	repeats := mustAppend(t, s, refused)
	after := copyStore(t, path) // as a crash leaves it
	if report, err := Verify(t.Context(), after, ""); err != nil || !report.OK || report.Open != 1 || report.OpenCount != 2 || report.Events != 1 {
		t.Errorf("verify: %+v, %v", report, err)
	}
	next := openStore(t, after)
	all := chained(t, after)
	if len(all) != 2 || all[1].ID != repeats.ID || all[1].RepeatOf != first.ID || all[1].Count != 2 || len(opened(t, after)) != 0 {
		t.Errorf("after the crash: %+v", all)
	}
	if e := mustAppend(t, next, refused); e.Open {
		t.Errorf("the window went on: %+v", e)
	}
}

// The windows that are remembered are bounded, in number and memory, and no
// count is lost for that.
func TestWindowsAreBounded(t *testing.T) {
	path := storePath(t)
	s := openStore(t, path)
	var es []Event
	for i := range maxWindows + 20 {
		e := refused
		e.Host = strconv.Itoa(i) + ".example"
		es = append(es, e)
		if i < 100 {
			es = append(es, e)
		}
	}
	if _, err := s.AppendAll(es); err != nil {
		t.Fatal(err)
	}
	if h := s.Health(); h.Open != 80 {
		t.Errorf("%d open rows", h.Open)
	}
	closeStore(t, s)
	var sum int64
	for _, e := range chained(t, path) {
		sum += e.Count
	}
	if sum != int64(len(es)) {
		t.Errorf("%d attempts are stored, of %d", sum, len(es))
	}

	var ws windows
	big := Event{Time: noon, Path: strings.Repeat("x", 10000), Verdict: "denied"}
	for i := range 3000 {
		big.Host = strconv.Itoa(i)
		key := keyOf(big)
		ws.begin(key, "first", time.Now())
		ws.add(ws.find(key), big, "id")
		for ws.over(time.Now()) != nil {
		}
	}
	if ws.size > maxWindowBytes || len(ws.order) >= 3000 || len(ws.order) != len(ws.byKey) || ws.rows != len(ws.order) {
		t.Errorf("%d windows of %d bytes", len(ws.order), ws.size)
	}
	for ws.pop() != nil {
	}
	if ws.size != 0 || ws.rows != 0 || len(ws.byKey) != 0 {
		t.Errorf("empty, and %+v", ws)
	}
}
