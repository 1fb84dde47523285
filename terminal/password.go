package terminal

import (
	"fmt"
	"os"

	"golang.org/x/term"
)

// ReadPassword reads a line from a terminal without showing it.
func ReadPassword(tty *os.File) ([]byte, error) {
	line, err := term.ReadPassword(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("read from the terminal: %w", err)
	}
	return line, nil
}
