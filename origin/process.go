package origin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is the folder of a process in /proc, open. It stays that process's:
// when it has ended nothing is read in it, whoever has the pid by then.
type process struct {
	fd  int
	pid int // as seen from here
}

func openProcess(root string, pid int) (process, error) {
	fd, err := unix.Open(filepath.Join(root, strconv.Itoa(pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	return process{fd: fd, pid: pid}, nil
}

func (p process) close() { unix.Close(p.fd) }

// link returns where a symbolic link in the folder leads to.
func (p process) link(name string) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(p.fd, name, b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// netns returns the inode of the network namespace of a process, or of a thread.
func (p process) netns(base string) (uint64, error) {
	var b [32]byte
	n, err := unix.Readlinkat(p.fd, base+"/ns/net", b[:])
	if err != nil {
		return 0, err
	}
	return number(b[:n], "net:["), nil
}

// number reads PREFIX NUMBER "]"; zero: it is something else.
func number(link []byte, prefix string) uint64 {
	digits, ok := bytes.CutPrefix(link, []byte(prefix))
	if !ok {
		return 0
	}
	digits, ok = bytes.CutSuffix(digits, []byte("]"))
	if !ok {
		return 0
	}
	n, _ := strconv.ParseUint(string(digits), 10, 64)
	return n
}

// open opens a file in the folder.
func (p process) open(name string) (*os.File, error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// read returns at most limit bytes of a file in the folder, and whether there
// are more.
func (p process) read(name string, limit int) (b []byte, more bool, err error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	b = make([]byte, 0, 512)
	for len(b) <= limit {
		b = slices.Grow(b, 512)
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, false, err
		}
		if n == 0 {
			return b, false, nil
		}
		b = b[:len(b)+n]
	}
	return b[:limit], true, nil
}

// begin returns what one read of a file in the folder gives.
func (p process) begin(name string, b []byte) ([]byte, error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// status is what /proc/PID/status says, which everybody may read.
type status struct {
	name   string // which the process chose
	parent int
	uid    uint32 // effective
	gid    uint32
	pids   []int // from here down to its innermost pid namespace
	ended  bool  // all its threads; its parent has not asked for its end
}

func (p process) status() (status, error) {
	text, _, err := p.read("status", 1<<16)
	if err != nil {
		return status{}, err
	}
	s := status{parent: -1}
	zombie := false
	for row := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(row, []byte(":"))
		fields := strings.Fields(string(value))
		switch string(key) {
		case "Name":
			s.name = strings.TrimSpace(string(value))
		case "State":
			zombie = len(fields) > 0 && (fields[0] == "Z" || fields[0] == "X")
		case "Threads":
			s.ended = zombie && field(fields, 0) <= 1
		case "PPid":
			s.parent = field(fields, 0)
		case "Uid":
			s.uid = uint32(field(fields, 1))
		case "Gid":
			s.gid = uint32(field(fields, 1))
		case "NStgid":
			for i := range fields {
				s.pids = append(s.pids, field(fields, i))
			}
		}
	}
	if s.parent < 0 || len(s.pids) == 0 {
		return status{}, errors.New("the status of a process lacks its ids")
	}
	return s, nil
}

// field returns a number, or -1.
func field(fields []string, i int) int {
	if i >= len(fields) {
		return -1
	}
	n, err := strconv.ParseUint(fields[i], 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// inside returns the uid that a uid of ours is in p's user namespace; 65534, the
// kernel's own "nobody", where it has none.
func (p process) inside(uid uint32) int {
	const nobody = 65534
	text, _, err := p.read("uid_map", 1<<16)
	if err != nil {
		return nobody
	}
	for row := range bytes.Lines(text) {
		var in, out, count uint64
		if n, _ := fmt.Sscan(string(row), &in, &out, &count); n == 3 && uint64(uid) >= out && uint64(uid)-out < count {
			return int(in + uint64(uid) - out)
		}
	}
	return nobody
}

// entries calls each for what a folder holds until it returns false. ino tells
// an entry from a later one of the same name, which is each's until it returns.
func entries(dir *os.File, each func(ino uint64, name []byte) bool) error {
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(int(dir.Fd()), buf)
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) > 19; { // struct linux_dirent64, getdents64(2)
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size < 19 || size > len(b) {
				return errors.New("a folder of /proc cannot be read")
			}
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			if !each(binary.NativeEndian.Uint64(b), name) {
				return nil
			}
			b = b[size:]
		}
	}
}

// digits reads a number of at most nine digits, and nothing else: /proc has many
// entries, and those of processes are numbers below 2²².
func digits(name []byte) (n int, ok bool) {
	if len(name) == 0 || len(name) > 9 {
		return 0, false
	}
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
