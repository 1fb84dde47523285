package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sallyport/sallyport/audit"
)

// recordPath is the record of a script's user.
func recordPath(ts *testscript.TestScript) string {
	return filepath.Join(ts.Getenv("HOME"), ".local", "state", "sallyport", "audit.db")
}

// storeEvents stores events, a line each, in the record of the script's user, and
// sets ID1, ID2, … to their ids: record [-open] events.jsonl. With -open the
// record stays open, as while a gateway runs.
func storeEvents(ts *testscript.TestScript, neg bool, args []string) {
	keep := len(args) == 2 && args[0] == "-open"
	if neg || len(args) == 0 || len(args) == 2 && !keep {
		ts.Fatalf("usage: record [-open] file")
	}
	path := recordPath(ts)
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
	store, err := audit.Open(path, audit.Options{})
	ts.Check(err)
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile(args[len(args)-1])))
	for n := 1; lines.Scan(); n++ {
		var e audit.Event
		ts.Check(json.Unmarshal(lines.Bytes(), &e))
		e, err := store.Append(e)
		ts.Check(err)
		ts.Setenv(fmt.Sprintf("ID%d", n), e.ID)
	}
	ts.Setenv("HEAD", store.Head().String())
	if keep {
		ts.Defer(func() { ts.Check(store.Close()) })
	} else {
		ts.Check(store.Close())
		ts.Setenv("HEAD", store.Head().String())
	}
	ts.Check(chownAll(ts.Getenv("WORK")))
}

// tamper changes the record behind the store's back: tamper 'UPDATE …'.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tamper SQL")
	}
	db, err := sql.Open("sqlite", "file:"+recordPath(ts))
	ts.Check(err)
	_, err = db.Exec(args[0])
	ts.Check(err)
	ts.Check(db.Close())
	ts.Check(chownAll(ts.Getenv("WORK")))
}
