package field

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/internal/lab"
)

// programs are built as the Makefile builds the product.
var programs = []string{"./cmd/gateway", "./cmd/launcher", "./bench/cmd/load", "./bench/cmd/peer"}

// build builds the programs into a new folder, which everybody may read.
func build(ctx context.Context) (dir string, err error) {
	top, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	if dir, err = os.MkdirTemp("", "sp-bench-"); err != nil {
		return "", err
	}
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, programs...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = strings.TrimSpace(string(top))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the programs: %w: %s", err, out), os.RemoveAll(dir))
	}
	return dir, os.Chmod(dir, 0o755)
}

// install copies the programs to the user's home.
func (f *Field) install() error {
	for _, program := range programs {
		if err := f.copyProgram(filepath.Base(program), f.Programs); err != nil {
			return err
		}
	}
	return nil
}

// copyProgram copies a program to a folder of the user's.
func (f *Field) copyProgram(name, dir string) error {
	text, err := os.ReadFile(filepath.Join(f.bin, name))
	if err != nil {
		return err
	}
	to := filepath.Join(dir, name)
	return errors.Join(os.WriteFile(to, text, 0o755), os.Chmod(to, 0o755), os.Chown(to, lab.UserID, lab.UserID))
}
