package web

import (
	"testing"
	"time"
)

func TestSecrets(t *testing.T) {
	var s secrets
	if _, ok := s.find("", noon); ok || s.take("", noon) {
		t.Error("the zero secrets has one")
	}
	first := s.issue(noon.Add(time.Minute))
	got, ok := s.find(first, noon)
	if !ok {
		t.Fatal("not found")
	}
	if s.take(first+"x", noon) || s.take(first[1:], noon) {
		t.Error("another text is taken for it")
	}
	if !s.take(first, noon) || s.take(first, noon) {
		t.Error("it works not once")
	}
	select {
	case <-got.gone:
	default:
		t.Error("gone is not closed")
	}
	late := s.issue(noon.Add(time.Minute))
	if s.take(late, noon.Add(time.Minute)) {
		t.Error("it outlives its time")
	}
}

// The oldest makes room.
func TestSecretsBounded(t *testing.T) {
	var s secrets
	var all []string
	for range maxSecrets + 1 {
		all = append(all, s.issue(noon.Add(time.Minute)))
	}
	if len(s.kept) != maxSecrets || s.take(all[0], noon) || !s.take(all[1], noon) || !s.take(all[maxSecrets], noon) {
		t.Errorf("%d are kept", len(s.kept))
	}
}
