package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"
)

const (
	tokenLife   = 5 * time.Minute
	sessionLife = 12 * time.Hour
	maxSecrets  = 16 // of one kind at a time; the oldest makes room
)

// secrets are random strings of 256 bits that are valid until a time. Only their
// hashes are kept. The zero secrets has none; it is safe for concurrent use.
type secrets struct {
	mu   sync.Mutex
	kept []secret // the oldest first
}

type secret struct {
	hash  [sha256.Size]byte
	until time.Time
	gone  chan struct{} // closed when it is valid no more, unless by its time
}

// issue makes one that is valid until then.
func (s *secrets) issue(until time.Time) string {
	var random [32]byte
	rand.Read(random[:]) // never fails (Go 1.24)
	text := base64.RawURLEncoding.EncodeToString(random[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) >= maxSecrets {
		s.drop(0)
	}
	s.kept = append(s.kept, secret{hash: sha256.Sum256([]byte(text)), until: until, gone: make(chan struct{})})
	return text
}

// find returns the secret that text is, if it is valid now.
func (s *secrets) find(text string, now time.Time) (secret, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(text, now)
	if i < 0 {
		return secret{}, false
	}
	return s.kept[i], true
}

// take reports whether text is a valid secret, which from then on it is not.
func (s *secrets) take(text string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(text, now)
	if i < 0 {
		return false
	}
	s.drop(i)
	return true
}

// index looks at every secret, whichever fits: how long it takes tells nothing of
// them. Those whose time is over are dropped first. s.mu is held.
func (s *secrets) index(text string, now time.Time) int {
	for i := len(s.kept) - 1; i >= 0; i-- {
		if !now.Before(s.kept[i].until) {
			s.drop(i)
		}
	}
	hash, found := sha256.Sum256([]byte(text)), -1
	for i := range s.kept {
		if subtle.ConstantTimeCompare(hash[:], s.kept[i].hash[:]) == 1 {
			found = i
		}
	}
	return found
}

// drop forgets the i-th; s.mu is held.
func (s *secrets) drop(i int) {
	close(s.kept[i].gone)
	s.kept = append(s.kept[:i:i], s.kept[i+1:]...)
}
