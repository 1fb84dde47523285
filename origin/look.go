package origin

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/sys/unix"
)

// look is one look at the tables and the processes, for all that wait.
type look struct {
	*Finder
	thorough bool // nothing remembered is used
	last     bool
	at       time.Time
	lastPID  int                 // the newest process of the machine, before the look
	holders  map[uint64][]holder // by the socket that they have open
	inside   map[int]bool        // whether a process is the sandbox's
	left     int                 // descriptors that may still be read
}

// look gives each request its answer.
func (f *Finder) look(requests []*request) {
	if len(requests) == 0 {
		return
	}
	for n := range looks {
		l := &look{Finder: f, thorough: n > 0, last: n == looks-1, at: time.Now(), lastPID: lastPID(f.root),
			holders: map[uint64][]holder{}, inside: map[int]bool{}, left: maxDescriptors}
		l.forget()
		l.sockets(requests)
		requests = slices.DeleteFunc(requests, func(r *request) bool { return r.process != nil })
		if len(requests) == 0 {
			return
		}
		err := l.scan()
		for _, r := range requests {
			if err != nil {
				r.process = unknown(TooMany)
			} else {
				r.process = l.decide(r)
			}
		}
		requests = slices.DeleteFunc(requests, func(r *request) bool { return r.process != nil })
		if len(requests) == 0 {
			return
		}
	}
}

// forget forgets what earlier looks found out that need not hold any more: after
// seenFor which processes are not the sandbox's, and as soon as any process began
// which ones there are, and what was told of them.
func (l *look) forget() {
	if l.thorough || l.at.Sub(l.since) > seenFor {
		l.seen, l.hiding, l.since, l.newest = map[int]uint64{}, map[int]bool{}, l.at, 0
	}
	if l.newest == 0 || l.newest != l.lastPID {
		l.newest, l.others = 0, nil
		clear(l.described)
	}
}

// sockets finds the lines that fit each request, and answers those where no
// process need be looked for. The sockets to look for are the keys of l.holders.
func (l *look) sockets(requests []*request) {
	err := l.crafted()
	for _, proto := range []string{"tcp", "udp"} {
		of := slices.DeleteFunc(slices.Clone(requests), func(r *request) bool { return r.proto != proto || l.told(r) })
		if err == nil && len(of) > 0 {
			err = l.tables(proto, of)
		}
	}
	for _, r := range requests {
		if err != nil {
			r.process = unknown(l.whyNoTable(err))
			continue
		}
		r.process = l.closed(r)
		for _, s := range r.lines {
			if r.process == nil && s.inode != 0 {
				l.holders[s.inode] = nil
			}
		}
	}
}

// told forgets the lines of a request, and says whether what the kernel told of its
// socket stands for the table. It does in a first look, which names one process or
// none: what is uncertain, and the uid, which is not known here, is for the tables.
// It is as good as a line: inode numbers come from one counter of 32 bits
// (get_next_ino), so what has this one is the socket that had the addresses when the
// kernel was asked; and while our end is connected it is the other end.
func (l *look) told(r *request) bool {
	r.lines = r.lines[:0]
	if r.inode == 0 || l.thorough {
		return false
	}
	r.lines = append(r.lines, line{local: r.src, remote: r.dst, inode: r.inode})
	return true
}

// closed answers a request whose socket is closed.
func (l *look) closed(r *request) *audit.Process {
	r.lines = slices.DeleteFunc(r.lines, func(s line) bool { return s.inode == 0 && len(r.lines) > 1 })
	switch {
	case len(r.lines) == 1 && r.lines[0].inode == 0, len(r.lines) == 0 && l.last:
		return unknown(Gone)
	}
	return nil // with no line: a table that changes while it is read can lack one
}

// tables reads the sockets of a protocol.
func (l *look) tables(proto string, of []*request) error {
	wanted := map[uint16][]*request{}
	for _, r := range of {
		wanted[r.src.Port()] = append(wanted[r.src.Port()], r)
	}
	for _, name := range []string{proto, proto + "6"} {
		six := name != proto
		if six && proto == "tcp" && !slices.ContainsFunc(of, func(r *request) bool { return len(r.lines) == 0 }) {
			return nil // an address pair is in one table
		}
		err := l.table(name, func(s line) {
			for _, r := range wanted[s.local.Port()] {
				// One that moves while the table is read can be there twice.
				if s.fits(r, six) && len(r.lines) < maxFitting && !slices.ContainsFunc(r.lines, func(o line) bool { return o.inode == s.inode }) {
					r.lines = append(r.lines, s)
				}
			}
		})
		if err != nil && !(six && errors.Is(err, fs.ErrNotExist)) { // a kernel without IPv6
			return err
		}
	}
	return nil
}

func (l *look) table(name string, each func(line)) error {
	file, err := process{fd: int(l.holder.Fd())}.open("net/" + name)
	if err != nil {
		return err
	}
	defer file.Close()
	return eachLine(file, maxLines, each)
}

// errCrafted: packets of the sandbox need not come from the socket that they name.
var errCrafted = errors.New("raw sockets")

// crafted looks for sockets that can send what they like.
func (l *look) crafted() error {
	var b [4096]byte
	for _, name := range []string{"raw", "raw6", "packet"} {
		// The heading comes with as many rows as fit (seq_file): one read tells.
		text, err := process{fd: int(l.holder.Fd())}.begin("net/"+name, b[:])
		if errors.Is(err, fs.ErrNotExist) && name != "raw" {
			continue // a kernel without them
		}
		if err != nil {
			return err
		}
		rows := 0
		for _, c := range text {
			if c == '\n' {
				rows++
			}
		}
		if rows > 1 {
			return errCrafted
		}
	}
	return nil
}

func (l *look) whyNoTable(err error) string {
	switch {
	case errors.Is(err, errCrafted):
		return Crafted
	case errors.Is(err, errTooMany):
		return TooMany
	case errors.Is(err, unix.ESRCH):
		return HolderGone
	case errors.Is(err, unix.ENOENT): // with hidepid=invisible too
		return l.whyNoHolder()
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return HidePID
	}
	return Changing
}

// decide answers a request, or returns nil: another look may say more.
func (l *look) decide(r *request) *audit.Process {
	has := map[int]holder{} // by process
	nobody := len(r.lines) == 0
	for _, s := range r.lines {
		for _, h := range l.holders[s.inode] {
			has[h.pid] = h
		}
		nobody = nobody || len(l.holders[s.inode]) == 0
	}
	switch {
	case len(r.lines) >= maxFitting:
		return unknown(Several)
	case len(has) == 1 && !nobody:
		for _, h := range has {
			if p := l.describe(r, h); p != nil {
				return p
			}
		}
		if l.last && len(l.hiding) > 0 {
			return &audit.Process{UID: l.uidInside(r.lines[0].uid), Unknown: MayShare}
		}
	case !l.last: // a child between fork and exec has its parent's sockets for a moment
	case len(r.lines) > 1:
		return unknown(Several)
	case len(has) > 1:
		return l.shared(slices.Sorted(maps.Keys(has)), r.lines[0].uid)
	case len(r.lines) == 1:
		return l.nobody(r.lines[0].uid)
	}
	if l.last {
		return unknown(Changing)
	}
	return nil
}

// nobody says why no process was found for a socket of uid.
func (l *look) nobody(uid uint32) *audit.Process {
	p := &audit.Process{UID: l.uidInside(uid), Unknown: NoProcess}
	if uid != l.uid {
		p.Unknown = OtherUser(p.UID)
		return p
	}
	for pid := range l.hiding {
		p.Unknown = Unreadable
		if l.hides(pid) {
			p.Unknown = Hidden
			break
		}
	}
	return p
}

// uidInside returns what a uid of ours is in the sandbox.
func (l *look) uidInside(uid uint32) int {
	return process{fd: int(l.holder.Fd()), pid: l.sandbox.Holder}.inside(uid)
}
