package origin

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// Bounds of what is told about a process.
const (
	maxCommand = 4096 // bytes of its command line that are read
	maxParents = 32   // that are named
	maxDepth   = 1024 // that are walked
	maxSharing = 64   // processes whose common parent is looked for
)

// described is what was told of a process, or of a thread of it.
type described struct {
	exe, command string
	process      *audit.Process
}

// describe tells of a process, or nil: it is not the one, or not any more, or it
// changed meanwhile. What was told of it (see forget) is told again, if it is still
// that program: its parents are walked once.
func (l *look) describe(r *request, h holder) *audit.Process {
	p, err := openProcess(l.root, h.pid)
	if err != nil {
		return nil
	}
	defer p.close()
	who := thread{h.pid, h.base}
	d, again := l.described[who]
	if !again {
		var ok bool
		if d, ok = l.walk(p, h); !ok {
			return nil
		}
	}
	exe, command, ok := p.claims(h)
	if !ok || exe != d.exe || command != d.command || len(l.hiding) > 0 { // one that cannot be read may have the socket as well
		return nil
	}
	if command == "" && !l.last {
		return nil // so it is in the midst of execve(2), too
	}
	l.described[who] = d
	if len(r.lines) == 1 {
		l.remember(r, known{holder: h, exe: exe, command: command, process: d.process, at: l.at, lastPID: l.lastPID, conn: r.conn})
	}
	answer := *d.process
	return &answer
}

// walk is what describe tells, as long as the process claims the same after it.
func (l *look) walk(p process, h holder) (described, bool) {
	exe, command, ok := p.claims(h)
	if !ok {
		return described{}, false
	}
	chain, ok := l.chain(p)
	if !ok {
		return described{}, false
	}
	level := len(chain[len(chain)-1].pids) - 1
	return described{exe, command, &audit.Process{PID: chain[0].pids[level], UID: chain[len(chain)-1].uid, Exe: exe,
		Command: l.mask(command), Parents: parents(chain[1:], level)}}, true
}

// claims returns what a process says of itself, if it still has the socket.
func (p process) claims(h holder) (exe, command string, ok bool) {
	if exe, err := p.link(h.base + "/exe"); err == nil {
		text, more, err := p.read(h.base+"/cmdline", maxCommand)
		if more { // the last argument is not whole: a secret could not be told from it
			text = append(text[:strings.LastIndexByte(string(text), 0)+1], "…"...)
		}
		link, linkErr := p.link(h.base + "/fd/" + h.fd)
		return exe, string(text), err == nil && linkErr == nil && link == socketLink(h.inode)
	}
	return "", "", false
}

// mask returns a command line of /proc as it is shown. A flood asks for the same
// few again and again.
func (f *Finder) mask(command string) string {
	if shown, ok := f.masked[command]; ok {
		return shown
	}
	if len(f.masked) >= 256 || f.masked == nil {
		f.masked = map[string]string{}
	}
	shown := Mask(strings.Split(strings.TrimRight(command, "\x00"), "\x00"))
	f.masked[command] = shown
	return shown
}

// link is one process of a chain of parents.
type link struct {
	pid  int // as seen from here
	pids []int
	uid  int // of the chain's first process, in its own user namespace
	name string
}

// chain returns a process and its parents, up to the sandbox's first one.
func (l *look) chain(p process) ([]link, bool) {
	first, err := p.status()
	if err != nil {
		return nil, false
	}
	chain := []link{p.as(first, first.uid)}
	child, now := p, first
	defer func() {
		if child != p {
			child.close()
		}
	}()
	for range maxDepth {
		if now.parent <= 0 {
			return chain, true
		}
		parent, err := openProcess(l.root, now.parent)
		if err != nil {
			return nil, false
		}
		above, err := parent.status()
		again, err2 := child.status()
		if err != nil || err2 != nil || again.parent != now.parent {
			parent.close()
			return nil, false // it ended, and its child went to another one
		}
		if !l.above(parent, above, now) {
			parent.close()
			return chain, true
		}
		if child != p {
			child.close()
		}
		child, now = parent, above
		chain = append(chain, parent.as(above, first.uid))
	}
	return nil, false
}

// above says whether the parent of one of the sandbox's processes is one too. One
// that cannot be read is, where both are in one pid namespace that is not ours:
// the engine, which started the first one, is not in it.
func (l *look) above(parent process, p, child status) bool {
	if _, err := parent.netns("."); err != nil {
		is := len(p.pids) == len(child.pids) && len(p.pids) > 1
		if is && denied(err) && parent.pid != l.sandbox.Holder {
			l.hiding[parent.pid] = true
		}
		return is
	}
	return l.belongs(parent.pid)
}

func (p process) as(s status, uid uint32) link {
	name := "[" + s.name + "]" // the name that it gave itself
	if exe, err := p.link("exe"); err == nil {
		name = path.Base(exe)
	}
	return link{pid: p.pid, pids: s.pids, uid: p.inside(uid), name: name}
}

// parents returns a chain with pids of the given pid namespace.
func parents(chain []link, level int) []audit.Parent {
	var ps []audit.Parent
	for i, q := range chain {
		if left := len(chain) - maxParents; left > 0 && i >= maxParents-2 && i < len(chain)-1 {
			if i == maxParents-2 {
				ps = append(ps, audit.Parent{Name: fmt.Sprintf("(%d more)", left+1)})
			}
			continue
		}
		ps = append(ps, audit.Parent{PID: q.pids[level], Name: q.name})
	}
	return ps
}

// shared tells of processes that have one socket open: who of them made the
// attempt is unknown. Their nearest common ancestor, which may be one of them,
// is the first of the parents.
func (l *look) shared(pids []int, uid uint32) *audit.Process {
	answer := &audit.Process{UID: l.uidInside(uid), Unknown: Shared(len(pids))}
	if len(pids) > maxSharing {
		return answer
	}
	var common []link
	for i, pid := range pids {
		p, err := openProcess(l.root, pid)
		if err != nil {
			return answer
		}
		chain, ok := l.chain(p)
		p.close()
		if !ok {
			return answer
		}
		if i == 0 {
			common = chain
			continue
		}
		above := map[int]bool{}
		for _, q := range chain {
			above[q.pid] = true
		}
		common = slices.DeleteFunc(common, func(q link) bool { return !above[q.pid] })
	}
	if len(common) > 0 {
		answer.Parents = parents(common, len(common[len(common)-1].pids)-1)
	}
	return answer
}
