package audit

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, storePath(t), Options{})
		sub, slow := s.Subscribe(10), s.Subscribe(0)
		first := mustAppend(t, s, refused)
		if e := <-sub.C; e.ID != first.ID || e.Open {
			t.Errorf("first %+v", e)
		}
		var last Event
		for range 5 {
			last = mustAppend(t, s, refused)
		}
		if e := <-sub.C; e.ID != last.ID || !e.Open || e.Count > 5 {
			t.Errorf("repeats %+v", e)
		}
		last = mustAppend(t, s, refused)
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		var open []Event
		for len(sub.C) > 0 {
			open = append(open, <-sub.C)
		}
		if len(open) != 1 || open[0].Count != last.Count || !open[0].Open {
			t.Errorf("in two seconds: %+v", open)
		}
		time.Sleep(joinWindow)
		if e := <-sub.C; e.ID != last.ID || e.Open || e.Count != 6 {
			t.Errorf("at the end: %+v", e)
		}
		if slow.Missed() != 3 || len(slow.C) != 1 {
			t.Errorf("the slow one missed %d and has %d", slow.Missed(), len(slow.C))
		}
		sub.Close()
		sub.Close()
		if _, more := <-sub.C; more {
			t.Error("an event after Close")
		}
		mustAppend(t, s, refused)
		closeStore(t, s)
		<-slow.C
		if _, more := <-slow.C; more {
			t.Error("an event after the store's Close")
		}
	})
}

// Subscribers are not told of counts that a transaction took back.
func TestSubscribeAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := storePath(t)
		s := openWith(t, path, Options{})
		sub := s.Subscribe(10)
		mustAppend(t, s, refused)
		mustAppend(t, s, refused)
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		for len(sub.C) > 0 {
			<-sub.C
		}
		db := openSQL(t, path)
		mustExec(t, db, `CREATE TRIGGER never BEFORE UPDATE ON open BEGIN SELECT raise(ABORT, 'never'); END`)
		if _, err := s.Append(refused); err == nil {
			t.Error("the update was not stopped")
		}
		// Nor can it be opened again, while subscribers are due to be told.
		if err := errors.Join(os.Rename(path, path+".away"), os.Symlink("nowhere", path)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		if len(sub.C) > 0 {
			t.Errorf("told of %+v", <-sub.C)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		closeStore(t, s)
		var kept, lost int64
		for e := range sub.C {
			kept, lost = kept+e.Count, lost+e.Lost
		}
		if kept != 1 || lost != 1 { // the repeats, and the one that was refused
			t.Errorf("told of %d and %d lost ones", kept, lost)
		}
	})
}
