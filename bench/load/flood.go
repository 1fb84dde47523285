package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// FloodArg says what to attempt: connections, or datagrams of one byte.
type FloodArg struct {
	Proto     string `json:"proto"` // tcp or udp
	To        string `json:"to"`    // address:port, IPv4
	N         int    `json:"n"`
	Processes int    `json:"processes"` // that share it; zero: this one alone
}

// Flooded is what a flood came to.
type Flooded struct {
	Made    int `json:"made"`    // attempts that this kernel did not refuse before there was a packet
	Dropped int `json:"dropped"` // of them, packets that the sandbox's end of its network had no room for
}

// flood makes attempts as fast as they are refused. They are spread over processes, as
// an agent's are: each of them is looked for.
func flood(ctx context.Context, arg FloodArg) (Flooded, error) {
	to, err := netip.ParseAddrPort(arg.To)
	if err != nil || !to.Addr().Is4() || arg.Proto != "tcp" && arg.Proto != "udp" {
		return Flooded{}, fmt.Errorf("flood %s at %q: %w", arg.Proto, arg.To, errors.Join(err, errors.New("no IPv4 address and port, or neither tcp nor udp")))
	}
	if arg.Processes == 0 {
		made, err := attempts(ctx, arg.Proto, to, arg.N)
		return Flooded{Made: made}, err
	}
	before, err := dropped()
	if err != nil {
		return Flooded{}, err
	}
	part := arg
	part.N, part.Processes = arg.N/arg.Processes, 0
	all, err := inProcesses[Flooded](ctx, arg.Processes, "flood", part)
	if err != nil {
		return Flooded{}, err
	}
	after, err := dropped()
	sum := Flooded{Dropped: after - before}
	for _, f := range all {
		sum.Made += f.Made
	}
	return sum, err
}

// attempts makes n attempts. A failure is what they are for; only those that made no
// packet do not count.
func attempts(ctx context.Context, proto string, to netip.AddrPort, n int) (made int, err error) {
	address := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	kind := unix.SOCK_STREAM
	if proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	s := -1
	defer func() { unix.Close(s) }() // none: it is closed, or was never made
	for ; n > 0 && ctx.Err() == nil; n-- {
		if s < 0 {
			if s, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
				return made, fmt.Errorf("make a socket: %w", err)
			}
		}
		if proto == "udp" {
			if unix.Sendto(s, []byte("x"), 0, address) == nil {
				made++
			}
			continue
		}
		if err := unix.Connect(s, address); !errors.Is(err, unix.EADDRNOTAVAIL) {
			made++
		}
		unix.Close(s)
		s = -1
	}
	return made, ctx.Err()
}

// dropped is how many packets the sandbox's end of its network had no room for.
func dropped() (int, error) {
	text, err := os.ReadFile("/sys/class/net/eth0/statistics/tx_dropped")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// SpinArg says how long to be busy, and in how many processes.
type SpinArg struct {
	For       time.Duration `json:"for"`
	Processes int           `json:"processes"` // zero: this one alone
}

// Spun is what that came to.
type Spun struct {
	Calls int64 `json:"calls"`
}

// spin makes system calls that lead nowhere: a flood's load without its traffic.
func spin(ctx context.Context, arg SpinArg) (Spun, error) {
	if arg.Processes > 0 {
		all, err := inProcesses[Spun](ctx, arg.Processes, "spin", SpinArg{For: arg.For})
		var sum Spun
		for _, s := range all {
			sum.Calls += s.Calls
		}
		return sum, err
	}
	var s Spun
	for end := time.Now().Add(arg.For); time.Now().Before(end) && ctx.Err() == nil; {
		for range 1000 {
			unix.Getpid()
			s.Calls++
		}
	}
	return s, ctx.Err()
}

// inProcesses has a job done by processes of this program at the same time.
func inProcesses[A any](ctx context.Context, n int, job string, arg any) ([]A, error) {
	raw, err := json.Marshal(arg)
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(Request{ID: 1, Job: job, Arg: raw})
	if err != nil {
		return nil, err
	}
	answers, errs := make([]A, n), make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { answers[i], errs[i] = inProcess[A](ctx, request) })
	}
	running.Wait()
	return answers, errors.Join(errs...)
}

func inProcess[A any](ctx context.Context, request []byte) (answer A, err error) {
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Stdin, c.Stderr = bytes.NewReader(request), os.Stderr
	out, err := c.Output()
	if err != nil {
		return answer, err
	}
	in := json.NewDecoder(bytes.NewReader(out))
	for {
		var a Answer
		if err := in.Decode(&a); err != nil {
			return answer, fmt.Errorf("a process of a job: %w", err)
		}
		switch {
		case a.ID == Ready:
		case a.Error != "":
			return answer, errors.New(a.Error)
		default:
			return answer, json.Unmarshal(a.Value, &answer)
		}
	}
}
