package confine

import (
	"debug/elf"
	"fmt"
	"strings"
)

// self is the running program, also where its folder is closed to us or its name
// was given to another one.
const self = "/proc/self/exe"

// Program returns what is needed to execute the running program anew: itself, and
// where it is not static, its loader and the folders of libraries.
func Program() (run, read []string, err error) {
	f, err := elf.Open(self)
	if err != nil {
		return nil, nil, fmt.Errorf("look at our own program: %w", err)
	}
	defer f.Close()
	run = []string{self}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil, nil, fmt.Errorf("look for our program's loader: %w", err)
		}
		run = append(run, strings.TrimRight(string(name), "\x00"))
		read = []string{"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store"}
	}
	return run, read, nil
}
