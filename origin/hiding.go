package origin

import (
	"errors"

	"golang.org/x/sys/unix"
)

// denied says whether a process may not be read.
func denied(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// unlessGone returns err, or nil: what was to be read has ended.
func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// hide notes a process that may not be read, unless it is surely not the
// sandbox's, or has ended. The holder is ours.
func (l *look) hide(pid int) {
	if pid == l.sandbox.Holder || l.ended(pid) {
		return
	}
	if is, sure := l.ancestry(pid); is || !sure {
		l.hiding[pid] = true
	}
}

// refused notes a process whose descriptors could not be read though its
// namespace could, a moment before.
func (l *look) refused(p process, base string, err error) error {
	if !denied(err) {
		return unlessGone(err)
	}
	if _, err := p.netns(base); err == nil || denied(err) { // else: it has ended
		l.hide(p.pid)
	}
	return nil
}

// ended says whether nothing is left of a process but what its parent will ask.
func (l *look) ended(pid int) bool {
	p, err := openProcess(l.root, pid)
	if err != nil {
		return unlessGone(err) == nil
	}
	defer p.close()
	s, err := p.status()
	return err == nil && s.ended || err != nil && unlessGone(err) == nil
}

// hides says whether a process is not dumpable: what is in its folder is then
// root's, proc(5).
func (l *look) hides(pid int) bool {
	q, err := openProcess(l.root, pid)
	if err != nil {
		return false
	}
	defer q.close()
	s, err := q.status()
	if err != nil || s.uid != l.uid {
		return false
	}
	var st unix.Stat_t
	return unix.Fstatat(q.fd, "fd", &st, 0) == nil && st.Uid != s.uid
}

// belongs says whether a process is in the sandbox's namespace, or below one that
// is.
func (l *look) belongs(pid int) bool {
	is, _ := l.ancestry(pid)
	return is
}

// ancestry is belongs; not sure: a parent ended while it was looked for.
func (l *look) ancestry(pid int) (is, sure bool) {
	var path []int
	sure = true
	for pid > 0 && len(path) < maxDepth {
		if in, ok := l.inside[pid]; ok {
			is = in
			break
		}
		p, err := openProcess(l.root, pid)
		if err != nil {
			sure = len(path) == 0 && unlessGone(err) == nil // what has ended has no socket
			break
		}
		path = append(path, pid)
		ns, _ := p.netns(".")
		s, err := p.status()
		p.close()
		if is = ns == l.sandbox.Netns; is || ns == l.own {
			break
		}
		if err != nil {
			sure = len(path) == 1
			break
		}
		pid = s.parent
	}
	if sure {
		for _, pid := range path {
			l.inside[pid] = is
		}
	}
	return is, sure
}

// sameDescriptors says whether a thread has the descriptors of its process's
// first one: then what the first one has open is all. False too where the kernel
// cannot tell.
func sameDescriptors(pid, tid int) bool {
	const files = 2 // KCMP_FILES, kcmp(2)
	order, _, err := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(tid), files, 0, 0, 0)
	return err == 0 && order == 0
}
