package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is what modules a kernel has, as far as its files tell.
type kernel struct{ names map[string]bool }

// errNoModules says that the running kernel's modules are listed nowhere.
var errNoModules = errors.New("no list of its modules is on this machine")

// readKernel reads which modules the running kernel has loaded, built in, or can
// load; root is "/".
func readKernel(root string) (kernel, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return kernel{}, err
	}
	folder := filepath.Join(root, "lib/modules", unix.ByteSliceToString(u.Release[:]))
	k := kernel{names: map[string]bool{}}
	listed := false
	for _, file := range []string{"modules.builtin", "modules.dep"} {
		if data, err := os.ReadFile(filepath.Join(folder, file)); err == nil {
			listed = true
			for line := range strings.Lines(string(data)) {
				path, _, _ := strings.Cut(strings.TrimSpace(line), ":") // modules.dep: what it needs follows
				k.add(path)
			}
		}
	}
	if !listed { // a kernel without a list may have them all
		return k, errNoModules
	}
	if data, err := os.ReadFile(filepath.Join(root, "proc/modules")); err == nil {
		for line := range strings.Lines(string(data)) {
			name, _, _ := strings.Cut(line, " ")
			k.add(name)
		}
	}
	return k, nil
}

// add notes a module by its path: kernel/net/netfilter/nft_log.ko.zst.
func (k kernel) add(path string) {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	k.names[strings.ReplaceAll(name, "-", "_")] = true
}

func (k kernel) has(name string) bool { return k.names[name] }
