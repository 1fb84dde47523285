package origin

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// An answer is used again for recentFor, if what it says still holds.
const (
	recentFor = time.Second
	maxRecent = 1024
)

// attempt is what an answer was for.
type attempt struct {
	proto    string
	src, dst netip.AddrPort
}

// known is an answer and what it rests on.
type known struct {
	holder
	exe, command string
	process      *audit.Process
	at           time.Time
	lastPID      int
}

// recent is the answers of the last second.
type recent map[attempt]known

func (f *Finder) remember(r *request, k known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.recent) >= maxRecent {
		clear(f.recent)
	}
	f.recent[attempt{r.proto, r.src, r.dst}] = k
}

// cached returns the answer for the same addresses, if no process began since,
// which could share the socket, and the one that had it has it still; else nil.
// The table is read again: a UDP port can have got a second socket, and that of a
// TCP connection which was reset, but is still open, another process.
func (f *Finder) cached(r *request) *audit.Process {
	f.mu.Lock()
	k, ok := f.recent[attempt{r.proto, r.src, r.dst}]
	f.mu.Unlock()
	if !ok || time.Since(k.at) > recentFor || k.lastPID == 0 || lastPID(f.root) != k.lastPID {
		return nil
	}
	again := *r
	l := &look{Finder: f}
	if l.crafted() != nil || l.tables(r.proto, []*request{&again}) != nil || len(again.lines) != 1 || again.lines[0].inode != k.inode {
		return nil
	}
	p, err := openProcess(f.root, k.pid)
	if err != nil {
		return nil
	}
	defer p.close()
	if exe, command, ok := p.claims(k.holder); !ok || exe != k.exe || command != k.command {
		return nil
	}
	answer := *k.process
	return &answer
}
