package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/internal/lab"
)

// socketOf is where the program of a side listens on the GPU host.
func socketOf(side string) string {
	word := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" ,'", r) {
			return '-'
		}
		return r
	}, side)
	return "unix:" + filepath.Join(lab.ModelDir, "bench-"+word+".sock")
}

// place is an address without its network.
func place(listen string) string {
	_, at, _ := strings.Cut(listen, ":")
	return at
}

const (
	hostStart = 10 * time.Second // for a program on the GPU host to listen
	hostGrace = 5 * time.Second  // from SIGTERM to SIGKILL
)

// startOnHost runs one of the peer program's programs as the user on the GPU host,
// until the returned function is called. The laptop's home has the same path there.
func startOnHost(ctx context.Context, f *field.Field, program, listen string) (func(context.Context) error, error) {
	host := f.Lab.GPUHost
	if err := sshd(ctx, host); err != nil {
		return nil, err
	}
	cmd := host.Command(context.WithoutCancel(ctx), f.PeerProgram(), program, "-listen", listen)
	said := &strings.Builder{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ends is told by what it printed
	}()
	stop := func(context.Context) error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-ended:
		case <-time.After(hostGrace):
			_ = cmd.Process.Kill() // it may have ended
			<-ended
		}
		return nil
	}
	if err := await(ctx, host, listen, ended); err != nil {
		_ = stop(ctx)
		return nil, fmt.Errorf("%s on the GPU host: %w: %s", program, err, said)
	}
	return stop, nil
}

// sshd starts the GPU host's SSH server, unless it runs.
func sshd(ctx context.Context, host *lab.GPUHost) error {
	c, err := host.Dial(ctx, "tcp", net.JoinHostPort(lab.GPUHostLAN, "22"))
	if err != nil {
		return host.StartSSH(ctx)
	}
	return c.Close()
}

// await waits until a place on the GPU host answers; nothing announces that.
func await(ctx context.Context, host *lab.GPUHost, listen string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, hostStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	network, address, _ := strings.Cut(listen, ":")
	for {
		c, err := host.Dial(ctx, network, address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
