// Package hub is a stand-in of the model hub, for tests and the lab's internet:
// the API, the redirects, the headers and the ranges that the real one has, over
// repositories that a test makes, with faults that a test asks for. It listens to
// nothing by itself.
package hub

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
)

// The names of the stand-in, unless others are given.
const (
	Host          = "hub.lab.example"
	CDNHost       = "cdn.lab.example"
	EncodingsHost = "encodings.lab.example"
)

// Server is the stand-in. Its zero value has no repository and listens as Host.
type Server struct {
	Host, CDN, Encodings string // names that it answers to; empty: the constants
	Port                 string // that addresses it gives carry, as ":8443"; empty: none

	mu           sync.Mutex
	repos        map[string]*Repo
	vocabularies map[string][]byte
	faults       []*Fault
	counts       map[string]int
	tokens       map[string]int // Authorization by name of the host that got it
}

// Repo is a repository with one commit.
type Repo struct {
	Name   string // "lab/tiny"
	Commit string // 40 hexadecimal digits; empty: made of the name
	Files  []File
	Token  string // wanted for everything; empty: public
	Page   int    // files in a page of the list; zero: 1000, as the hub has
	Lie    string // the commit that the API answers instead; empty: the truth
}

// File is a file of a repository.
type File struct {
	Path string
	Data []byte
	LFS  bool // it lies behind a redirect to the CDN, with its SHA-256
}

// Git is the SHA-1 of the file's git blob; of an LFS file: of its pointer.
func (f File) Git() string {
	data := f.Data
	if f.LFS {
		data = fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", f.SHA256(), len(f.Data))
	}
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
	return hex.EncodeToString(sum[:])
}

// SHA256 is that of what the file holds.
func (f File) SHA256() string {
	sum := sha256.Sum256(f.Data)
	return hex.EncodeToString(sum[:])
}

// Fault spoils answers about a file. It is used up after Times answers.
type Fault struct {
	Path  string // of the file; "tree", "revision": those of the API; empty: any file
	Times int    // zero: once; negative: always
	Skip  int    // answers that it leaves alone first

	Status   int               // answered instead
	Headers  map[string]string // of the answer
	Redirect string            // the address that the redirect leads to instead
	Cut      int64             // the connection breaks after so many bytes; zero: not
	Corrupt  bool              // one byte of it is another
	NoRange  bool              // the range is passed over
	Range    string            // what Content-Range says instead
	Hold     <-chan struct{}   // after Cut bytes it waits for this and then goes on
}

// Add adds or replaces a repository and returns its commit.
func (s *Server) Add(r Repo) string {
	if r.Commit == "" {
		sum := sha1.Sum([]byte(r.Name))
		r.Commit = hex.EncodeToString(sum[:])
	}
	if r.Page == 0 {
		r.Page = 1000
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repos == nil {
		s.repos = make(map[string]*Repo)
	}
	s.repos[r.Name] = &r
	return r.Commit
}

// AddVocabulary adds a file to what EncodingsHost serves below /encodings.
func (s *Server) AddVocabulary(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vocabularies == nil {
		s.vocabularies = make(map[string][]byte)
	}
	s.vocabularies[name] = data
}

// Break adds a fault. The first one that fits an answer is taken.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Times == 0 {
		f.Times = 1
	}
	s.faults = append(s.faults, &f)
}

// Mend removes all faults.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Counts is how often each thing was asked for: "tree", "revision", "resolve
// config.json", "cdn model.safetensors", "encodings o200k_base.tiktoken", and
// "bytes" for how many bytes of files were sent.
func (s *Server) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Tokened is how many requests with an Authorization header came, by the name of
// the host that they were for.
func (s *Server) Tokened() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.tokens)
}

// Names are the names that it answers to.
func (s *Server) Names() []string {
	return []string{or(s.Host, Host), or(s.CDN, CDNHost), or(s.Encodings, EncodingsHost)}
}

// Endpoint is the address of the hub.
func (s *Server) Endpoint() string { return "https://" + or(s.Host, Host) + s.Port }

// EncodingsURL is the folder of vocabulary files.
func (s *Server) EncodingsURL() string {
	return "https://" + or(s.Encodings, EncodingsHost) + s.Port + "/encodings"
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func (s *Server) count(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = make(map[string]int)
	}
	s.counts[what] += n
}

// fault takes one of the faults that fit.
func (s *Server) fault(path string, fits func(*Fault) bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults, func(f *Fault) bool { return (f.Path == "" || f.Path == path) && f.Times != 0 && fits(f) })
	if i < 0 {
		return &Fault{}
	}
	if s.faults[i].Skip > 0 {
		s.faults[i].Skip--
		return &Fault{}
	}
	s.faults[i].Times--
	return s.faults[i]
}

// ServeHTTP answers as the host does that the request names.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if r.Header.Get("Authorization") != "" {
		s.mu.Lock()
		if s.tokens == nil {
			s.tokens = make(map[string]int)
		}
		s.tokens[host]++
		s.mu.Unlock()
	}
	switch names := s.Names(); host {
	case names[0]:
		s.hub().ServeHTTP(w, r)
	case names[1]:
		s.cdn(w, r)
	case names[2]:
		s.encodings(w, r)
	default:
		http.Error(w, "no such host here", http.StatusMisdirectedRequest)
	}
}
