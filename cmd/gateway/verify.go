package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// newVerifyCommand hands over to the launcher: containers are its part, and this
// program's other half is not to know how to start one.
func newVerifyCommand(p process) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [flags]",
		Short: "Try every known way out of a sandbox, and show that each is blocked and recorded",
		Long: `Try every known way out of a sandbox: from inside one, exactly as an agent gets it, and
once more as root with Docker's default capabilities. For each attempt it says whether it was
blocked and is in the record, or was stopped inside the container; and shows, in containers
without a wall and against listeners of its own, that the same attempt can succeed.
Nothing outside this machine is aimed at, unless you name an address.

Flags:
      --json               print JSON
      --list               print the probes and why they matter, and run none
      --only GLOB,…        only probes whose name or group matches
      --as agent,root      run as one of them only
      --address ADDRESS    aim at this IPv4 address in place of a listener of verify's own
      --address6 ADDRESS   the same for IPv6
      --rebinding NAME,…   names that your rules allow and that resolve to private addresses
      --config FILE        the configuration

Exit code 0: all closed. 1: something got out, was not recorded, or could not be shown.`,
		Example: `  gateway verify                    after an upgrade of Docker or the kernel
  gateway verify --only 'dns*' --as agent
  gateway verify --json > proof.json`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "-h" || arg == "--help" {
					return c.Help()
				}
			}
			path, err := findLauncher()
			if err != nil {
				return usage(err)
			}
			args = append([]string{path, "verify"}, args...)
			return fmt.Errorf("run %s: %w", path, syscall.Exec(path, args, p.environ()))
		},
	}
}

// findLauncher finds launcher beside this program, or else on PATH.
func findLauncher() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the launcher: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "launcher")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("launcher")
	if err != nil {
		return "", errors.New("launcher is neither beside this program nor on PATH; hint: make install installs both")
	}
	return path, nil
}
