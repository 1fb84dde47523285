package origin

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// thread is a process, or one of its threads, as a folder of /proc.
type thread struct {
	pid  int
	base string // "." or task/TID
}

// folder is that of a process in /proc: another process with the pid has another
// inode.
type folder struct {
	pid   int
	inode uint64
}

// holder is a process that has a socket open.
type holder struct {
	pid   int
	base  string // "." or task/TID: where the descriptor is seen
	fd    string
	inode uint64
}

// seenFor is how long a process that is not the sandbox's is passed over. It
// could enter the sandbox's namespace meanwhile, as an engine's helper does; a
// look that finds nobody is followed by a thorough one.
const seenFor = time.Second

// scan finds the processes of the sandbox that have one of l.holders open.
func (l *look) scan() error {
	if l.newest != 0 { // no process began since the last look: there are no others
		for _, of := range l.others {
			if err := l.process(of); err != nil {
				return err
			}
		}
		return nil
	}
	dir, err := os.Open(l.root)
	if err != nil {
		return err
	}
	defer dir.Close()
	var others []folder
	var failed error
	count := 0
	err = entries(dir, func(inode uint64, name []byte) bool {
		pid, ok := digits(name)
		if !ok {
			return true
		}
		if count++; count > maxProcesses {
			failed = errTooMany
			return false
		}
		of := folder{pid, inode}
		if !l.passedOver(of) {
			failed = l.process(of)
		}
		if !l.passedOver(of) {
			others = append(others, of)
		}
		return failed == nil
	})
	if err = errors.Join(err, failed); err == nil {
		l.newest, l.others = l.lastPID, others
	}
	return err
}

// passedOver says whether a process was seen not to be the sandbox's.
func (l *look) passedOver(of folder) bool { return l.seen[of.pid] == of.inode }

// process looks at one process; one that ends meanwhile has nothing open.
func (l *look) process(of folder) error {
	p, err := openProcess(l.root, of.pid)
	if err != nil {
		return unlessGone(err)
	}
	defer p.close()
	ns, err := p.netns(".")
	switch {
	case err == nil && ns == l.sandbox.Netns:
		l.inside[of.pid] = true
	case denied(err):
		l.seen[of.pid] = of.inode
		l.hide(of.pid)
		return nil
	case err != nil: // its first thread has ended
		return l.threads(p)
	case ns == l.own || !l.belongs(of.pid): // else: it has made a namespace of its own
		l.seen[of.pid] = of.inode
		return nil
	}
	if err := l.descriptors(p, "."); err != nil {
		return err
	}
	return l.threads(p)
}

// threads looks at what threads have open that share no descriptors with the
// first one, or outlive it.
func (l *look) threads(p process) error {
	tasks, err := p.open("task")
	if err != nil {
		return unlessGone(err)
	}
	defer tasks.Close()
	var failed error
	err = entries(tasks, func(_ uint64, name []byte) bool {
		tid, ok := digits(name)
		if !ok || tid == p.pid {
			return true
		}
		if l.left--; l.left < 0 {
			failed = errTooMany
			return false
		}
		if sameDescriptors(p.pid, tid) {
			return true
		}
		base := "task/" + string(name)
		switch ns, err := p.netns(base); {
		case denied(err):
			l.hide(p.pid)
		case err == nil && (ns == l.sandbox.Netns || l.belongs(p.pid)):
			failed = l.descriptors(p, base)
		}
		return failed == nil
	})
	return errors.Join(failed, unlessGone(err))
}

// descriptors notes which of l.holders a process, or a thread of it, has open.
func (l *look) descriptors(p process, base string) error {
	dir, err := p.open(base + "/fd")
	if err != nil {
		return l.refused(p, base, err)
	}
	defer dir.Close()
	var failed error
	var link [64]byte
	err = entries(dir, func(_ uint64, entry []byte) bool {
		if _, ok := digits(entry); !ok {
			return true
		}
		if l.left--; l.left < 0 {
			failed = errTooMany
			return false
		}
		name := string(entry)
		n, err := unix.Readlinkat(int(dir.Fd()), name, link[:])
		if err != nil {
			failed = l.refused(p, base, err)
			return failed == nil
		}
		inode := number(link[:n], "socket:[")
		if _, wanted := l.holders[inode]; wanted && inode != 0 {
			l.holders[inode] = append(l.holders[inode], holder{pid: p.pid, base: base, fd: name, inode: inode})
		}
		return true
	})
	return errors.Join(failed, unlessGone(err))
}

// lastPID is the newest process, or thread, of the machine. As long as it stays
// the same there was no fork. Zero: not known.
func lastPID(root string) int {
	var b [256]byte
	text, err := process{fd: unix.AT_FDCWD}.begin(root+"/loadavg", b[:])
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	return max(field(fields, len(fields)-1), 0)
}

// socketLink is what the descriptor of a socket leads to.
func socketLink(inode uint64) string { return fmt.Sprintf("socket:[%d]", inode) }
