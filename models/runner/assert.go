package runner

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo.
type mount struct {
	path, kind string
	writable   bool
}

// assertFiles fails unless f is what we find. f is resolved.
func (f Files) assertFiles() error {
	mounts, err := listMounts()
	if err != nil {
		return err
	}
	fresh := map[string]int{}
	for path := range freshFolders() {
		fresh[path] = 1
	}
	for _, m := range mounts {
		_, passing := fresh[m.path]
		switch {
		case !m.writable || below(m.path, f.Write):
		case passing && m.kind == "tmpfs":
			fresh[m.path]--
		default:
			return fmt.Errorf("%s is writable in the server's namespace", printable(m.path))
		}
	}
	for path, missing := range fresh {
		if missing != 0 {
			return fmt.Errorf("%s is not a fresh folder in the server's namespace", path)
		}
	}
	for _, path := range f.Hide {
		if err := f.assertHidden(path); err != nil {
			return err
		}
	}
	return nil
}

// assertHidden fails if a folder has more in it than what was put back.
func (f Files) assertHidden(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether %s is hidden: %w", printable(folder), err)
	}
	for _, e := range entries {
		path, wanted := filepath.Join(folder, e.Name()), false
		for _, list := range [][]string{f.Write, f.Read} {
			for _, kept := range list {
				wanted = wanted || below(kept, []string{path})
			}
		}
		if !wanted {
			return fmt.Errorf("the server would find %s", printable(path))
		}
	}
	return nil
}

// listMounts reads proc_pid_mountinfo(5).
func listMounts() ([]mount, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	defer file.Close()
	var mounts []mount
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 6 {
			return nil, errors.New("list the mounts: a line of /proc/self/mountinfo is not as it should be")
		}
		options := strings.Split(fields[5], ",")
		kind, _, _ := strings.Cut(after, " ")
		mounts = append(mounts, mount{path: unescape(fields[4]), kind: kind, writable: options[0] != "ro"})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list the mounts: %w", err)
	}
	if len(mounts) == 0 {
		return nil, errors.New("list the mounts: there are none")
	}
	return mounts, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// AssertNamespaces fails unless this process holds no capability and can gain
// none, has no way to the network, and finds of the file system what it should.
func AssertNamespaces(files Files) error {
	files, err := files.resolve()
	if err != nil {
		return err
	}
	if err := errors.Join(assertUnprivileged(), files.assertFiles()); err != nil {
		return err
	}
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list the namespace's interfaces: %w", err)
	}
	up := false
	for _, link := range links {
		loopback, running := link.Flags&net.FlagLoopback != 0, link.Flags&net.FlagUp != 0
		// The fallback devices that the kernel makes in each namespace (tunl0,
		// sit0, …) lead nowhere while down, and nobody here can raise one.
		if !loopback && running {
			return fmt.Errorf("the server's namespace has an interface %s besides lo", printable(link.Name))
		}
		up = up || loopback && running
	}
	if !up {
		return errors.New("the server's namespace has no lo that is up")
	}
	return nil
}

// assertUnprivileged reads proc_pid_status(5).
func assertUnprivileged() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return fmt.Errorf("read our own status: %w", err)
	}
	defer f.Close()
	const zero = "0000000000000000"
	want := map[string]string{"CapInh": zero, "CapPrm": zero, "CapEff": zero, "CapBnd": zero, "CapAmb": zero, "NoNewPrivs": "1"}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		if expected, checked := want[name]; checked && value != expected {
			return fmt.Errorf("the model server must hold no capability and gain none, but %s is %s", name, value)
		}
		delete(want, name)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read our own status: %w", err)
	}
	if len(want) > 0 {
		return errors.New("our own status does not say which capabilities we hold")
	}
	return nil
}
