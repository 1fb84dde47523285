package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// addKnownHost adds a line to a known_hosts file, which keeps its mode. A file
// that is missing is made, for the user alone.
func addKnownHost(file, line string) error {
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return errors.New("add a host key to known_hosts: it is no line")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("add a host key to known_hosts: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("add a host key to known_hosts: %w", err)
	}
	defer f.Close()
	before, err := lastByte(f)
	if err != nil {
		return fmt.Errorf("add a host key to known_hosts: %w", err)
	}
	text := line + "\n"
	if before != '\n' {
		text = "\n" + text
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("add a host key to known_hosts: %w", err)
	}
	return f.Close()
}

// lastByte is a file's; of an empty one, a line's end.
func lastByte(f *os.File) (byte, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New(f.Name() + " is no plain file")
	}
	if info.Size() == 0 {
		return '\n', nil
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, info.Size()-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[0], err
}
