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
	conn         uint64 // the request's
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

// again gives requests the answers that the same addresses got within recentFor, if
// no process began since, which could share the socket, and the one that had it has
// it still. Which socket it is is looked up again, unless the kernel has told: a
// UDP port can have got a second one, and that of a TCP connection which was reset, but
// is still open, another process. That is not so of a connection that we have accepted
// once and the same is asked for: its other end is the same socket for as long as ours
// is connected. Tables are read once for all requests: for each table the kernel goes
// through the sockets of the machine.
func (f *Finder) again(requests []*request) {
	had, check := map[*request]known{}, []*request{}
	last := lastPID(f.root)
	f.mu.Lock()
	for _, r := range requests {
		k, ok := f.recent[attempt{r.proto, r.src, r.dst}]
		if ok && time.Since(k.at) <= recentFor && k.lastPID != 0 && k.lastPID == last {
			had[r] = k
			if r.conn == 0 || r.conn != k.conn {
				check = append(check, r)
			}
		}
	}
	f.mu.Unlock()
	l := &look{Finder: f}
	if len(had) == 0 || l.crafted() != nil {
		return
	}
	of := map[string][]*request{}
	for _, r := range check {
		if !l.told(r) {
			of[r.proto] = append(of[r.proto], r)
		}
	}
	for proto, some := range of {
		_ = l.tables(proto, some) // without lines nothing is used again
	}
	for _, r := range check {
		if len(r.lines) != 1 || r.lines[0].inode != had[r].inode {
			delete(had, r)
		}
	}
	for r, k := range had {
		r.process = f.still(k)
	}
}

// still is k's answer, if who had the socket has it.
func (f *Finder) still(k known) *audit.Process {
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
