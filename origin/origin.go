// Package origin says which process of a sandbox made an attempt, as an ordinary
// user: the kernel tells which socket of the sandbox's network namespace it came
// from (sock_diag(7), else the tables of /proc), and /proc which process has that
// socket open. What it cannot be sure of it does not name. It sees who holds the
// socket when it looks; who told that process what to do, nobody sees.
package origin

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// Bounds. What is beyond them is answered with TooMany, Busy or Slow.
const (
	maxWaiting     = 1024            // attempts that wait for a look at the same time
	maxLines       = 1 << 18         // sockets of one table
	maxFitting     = 64              // sockets that one attempt can have come from
	maxProcesses   = 1 << 16         // processes of this machine
	maxDescriptors = 1 << 17         // descriptors that one look reads
	maxLook        = 2 * time.Second // how long an attempt waits for its answer
	looks          = 3               // before an answer that says nothing is given
)

// Sandbox is where to look.
type Sandbox struct {
	Holder int    // pid of the sandbox's holder, as seen from here; zero: not known
	Netns  uint64 // inode of its network namespace; zero: not known
}

// Finder finds the processes of one sandbox. Attempts that come while it looks
// share the next look. It takes at most a quarter of a core.
type Finder struct {
	sandbox Sandbox
	root    string   // where proc(5) is mounted
	holder  *os.File // the holder's folder there; nil: it could not be opened
	own     uint64   // our network namespace
	uid     uint32   // ours
	patient time.Duration

	mu      sync.Mutex
	budget  budget
	next    *batch    // attempts of the next look; nil: none
	looking time.Time // since when a look runs; zero: none runs
	recent  recent

	// What looks found out, see forget:
	seen      map[int]uint64       // folders' inodes of processes that are not the sandbox's, or cannot be read, by pid
	hiding    map[int]bool         // those of seen that cannot be read, and that may be the sandbox's
	since     time.Time            // when seen and hiding were begun
	newest    int                  // the machine's newest process before the others were listed; zero: they were not
	others    []folder             // processes that are not in seen
	described map[thread]described // what was told of processes

	masked map[string]string // command lines as they are shown, by what /proc said
}

// New returns a Finder for s, whose holder must be alive, so that its pid is
// still its own.
func New(s Sandbox) *Finder { return newFinder(s, "/proc") }

func newFinder(s Sandbox, root string) *Finder {
	f := &Finder{sandbox: s, root: root, uid: uint32(os.Geteuid()), patient: maxLook, budget: newBudget(time.Now()), recent: recent{}, described: map[thread]described{}}
	if s.Holder > 0 {
		// The descriptor stays this process's, whoever gets its pid later.
		if p, err := openProcess(root, s.Holder); err == nil {
			f.holder = os.NewFile(uintptr(p.fd), "holder")
		}
	}
	if self, err := openProcess(root, os.Getpid()); err == nil {
		f.own, _ = self.netns(".")
		self.close()
	}
	return f
}

// request is one attempt that is looked for.
type request struct {
	proto    string
	src, dst netip.AddrPort
	accepted bool   // TCP: our end of the connection is established
	conn     uint64 // number of the connection that we accepted; zero: it has none
	inode    uint64 // of the socket, as the kernel told; zero: not known

	lines   []line         // that fit, of the look that runs
	process *audit.Process // the answer; nil: none yet
}

// batch is the attempts of one look.
type batch struct {
	requests []*request
	done     chan struct{} // closed when each has its answer
}

// Find says who has the socket that an attempt came from. proto is "tcp" or
// "udp", src and dst are as the sandbox sees them. The answer is never nil: its
// Unknown has the reason where nobody can be named with certainty.
func (f *Finder) Find(proto string, src, dst netip.AddrPort) *audit.Process {
	return f.find(&request{proto: proto, src: plain(src), dst: plain(dst)}, nil)
}

// Accepted is a TCP connection that we accepted.
type Accepted struct {
	Src, Dst netip.AddrPort // as the sandbox sees them
	// Conn is a number that no other connection has, or zero: with it, and as long as
	// it is open, the other end is the socket that it was when it was asked for first.
	Conn  uint64
	Inode uint64 // what Sockets.Inode says of it now; zero: not known
}

// FindAccepted is Find for a connection that we accepted. open is asked after the
// look whether our end is still connected (see Connected): if it is, no other
// connection can have had the same addresses meanwhile.
func (f *Finder) FindAccepted(c Accepted, open func() bool) *audit.Process {
	return f.find(&request{proto: "tcp", src: plain(c.Src), dst: plain(c.Dst), accepted: true, conn: c.Conn, inode: c.Inode}, open)
}

func (f *Finder) find(r *request, open func() bool) *audit.Process {
	switch {
	case r.proto != "tcp" && r.proto != "udp":
		return unknown(NoSocket)
	case !r.src.IsValid() || !r.dst.IsValid() || r.src.Port() == 0:
		return unknown(NoSocket)
	case f.sandbox.Holder <= 0 || f.sandbox.Netns == 0:
		return unknown(NoHolder)
	case f.holder == nil:
		return unknown(f.whyNoHolder())
	}
	p := f.wait(r)
	if p.Unknown == "" && open != nil && !open() {
		return unknown(Gone)
	}
	return p
}

// wait puts r into the next look and waits for its answer.
func (f *Finder) wait(r *request) *audit.Process {
	f.mu.Lock()
	now := time.Now()
	switch {
	case !f.looking.IsZero() && now.Sub(f.looking) > f.patient:
		f.mu.Unlock()
		return unknown(Slow)
	case f.budget.empty(now), f.next != nil && len(f.next.requests) >= maxWaiting:
		f.mu.Unlock()
		return unknown(Busy)
	}
	if f.next == nil {
		f.next = &batch{done: make(chan struct{})}
	}
	b := f.next
	b.requests = append(b.requests, r)
	if f.looking.IsZero() {
		f.looking = now
		go f.run() // ends when nobody waits any more
	}
	f.mu.Unlock()
	late := time.NewTimer(f.patient)
	defer late.Stop()
	select {
	case <-b.done:
		return r.process
	case <-late.C: // reading of /proc can hang, and an attempt must not
		return unknown(Slow)
	}
}

// run looks for batch after batch until there is none.
func (f *Finder) run() {
	runtime.LockOSThread() // its time is what looking costs
	defer runtime.UnlockOSThread()
	for {
		f.mu.Lock()
		b := f.next
		f.next = nil
		now := time.Now()
		if b == nil {
			f.looking = time.Time{}
			f.mu.Unlock()
			return
		}
		f.looking = now
		busy := f.budget.empty(now)
		f.mu.Unlock()
		before := threadTime()
		if !busy {
			f.again(b.requests)
			f.look(slices.DeleteFunc(slices.Clone(b.requests), func(r *request) bool { return r.process != nil }))
		}
		for _, r := range b.requests {
			if r.process == nil {
				r.process = unknown(Busy)
			}
		}
		f.mu.Lock()
		f.budget.spend(time.Now(), threadTime()-before)
		f.mu.Unlock()
		close(b.done)
	}
}

// Connected says whether our end of a TCP connection is connected; a connection
// that was reset is not.
func Connected(c interface {
	Control(func(fd uintptr)) error
}) bool {
	var info *unix.TCPInfo
	var infoErr error
	err := c.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return err == nil && infoErr == nil && info.State != tcpClose && info.State != tcpListen
}

// plain returns a with an IPv4 address as one and without a zone.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
