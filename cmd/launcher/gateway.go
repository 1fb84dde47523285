package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/control"
)

const (
	gatewayStart = 10 * time.Second // for a gateway to listen
	exitRunning  = 3                // exit code of gateway run: another one runs
)

// startGateway starts the gateway in the background if none runs, and returns
// its status. started is false if one ran already.
func (s *session) startGateway(ctx context.Context) (status control.Status, started bool, err error) {
	status, err = s.client.Status(ctx)
	for range 25 { // one that is ending drops its last connections
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) || ctx.Err() != nil {
			break
		}
		pause(ctx)
		status, err = s.client.Status(ctx)
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return status, false, err
	}
	log, err := s.caller.openFile(s.caller.paths.State, filepath.Base(s.caller.paths.Log()), os.O_RDWR|os.O_APPEND)
	if err != nil {
		return status, false, fmt.Errorf("the gateway's log: %w", err)
	}
	defer log.Close()
	args := s.gatewayArgs()
	at, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return status, false, fmt.Errorf("look at the gateway's log: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, gatewayStart)
	defer cancel()
	for {
		cmd := exec.Command(s.binary, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = s.options.environ, log, log, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives us and our terminal
		if err := cmd.Start(); err != nil {
			return status, false, fmt.Errorf("start the gateway: %w", err)
		}
		status, err = s.awaitGateway(bounded, cmd)
		if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == exitRunning && bounded.Err() == nil {
			pause(bounded) // another one is about to listen, or about to end
			continue
		}
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w%s", err, tail(log, at))
		}
		return status, err == nil, err
	}
}

// gatewayArgs are the arguments that the gateway is started with.
func (s *session) gatewayArgs() []string {
	args := []string{"run"}
	if s.options.configFile != "" {
		args = append(args, "--config", s.options.configFile)
	}
	if s.caller.root {
		args = append(args, "--as", fmt.Sprintf("%d:%d", s.caller.uid, s.caller.gid))
	}
	return args
}

// awaitGateway waits until a gateway answers or cmd has ended.
func (s *session) awaitGateway(ctx context.Context, cmd *exec.Cmd) (control.Status, error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		status, err := s.client.Status(ctx)
		if err == nil {
			return status, nil
		}
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells when a socket begins to answer
		case err := <-ended:
			// A gateway that another launcher started in the same moment is as good.
			if status, other := s.client.Status(ctx); other == nil {
				return status, nil
			}
			return status, fmt.Errorf("the gateway ended at once: %w", err)
		case <-ctx.Done():
			return status, fmt.Errorf("wait for the gateway to listen: %w", ctx.Err())
		}
	}
}

// tail is what the gateway logged since offset at, for an error.
func tail(log io.ReaderAt, at int64) string {
	data, err := io.ReadAll(io.NewSectionReader(log, at, 4<<10))
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(data))
}

// hashFile is the SHA-256 of a file, in hexadecimal.
func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
