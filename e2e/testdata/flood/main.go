// Command flood makes many attempts from many processes at once, and counts them
// by itself, with one attempt at another place in their midst.
//
//	flood tcp|udp ADDRESS:PORT ATTEMPTS PROCESSES ADDRESS:PORT
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: flood tcp|udp ADDRESS:PORT ATTEMPTS PROCESSES ADDRESS:PORT")
	}
	to, err := netip.ParseAddrPort(args[1])
	n, numErr := strconv.Atoi(args[2])
	if err := errors.Join(err, numErr); err != nil {
		return err
	}
	if len(args) == 3 {
		made, err := attempt(args[0], to, n)
		fmt.Println(made)
		return err
	}
	processes, err := strconv.Atoi(args[3])
	once, onceErr := netip.ParseAddrPort(args[4])
	if err := errors.Join(err, onceErr); err != nil {
		return err
	}
	dropped, err := drops()
	if err != nil {
		return err
	}
	made, err := spread(args[:2], n, processes, func() error {
		_, err := attempt(args[0], once, 1)
		return err
	})
	if err != nil {
		return err
	}
	after, err := drops()
	fmt.Printf("made=%d dropped=%d\n", made, after-dropped)
	return err
}

// spread has processes make n attempts, and calls once when the first has ended.
func spread(args []string, n, processes int, once func() error) (made int, err error) {
	var mu sync.Mutex
	var running sync.WaitGroup
	errs := make([]error, processes)
	var first sync.Once
	for i := range processes {
		running.Go(func() {
			var out bytes.Buffer
			c := exec.Command("/proc/self/exe", append(args, strconv.Itoa(n/processes))...)
			c.Stdout, c.Stderr = &out, os.Stderr
			errs[i] = c.Run()
			m, err := strconv.Atoi(strings.TrimSpace(out.String()))
			mu.Lock()
			defer mu.Unlock()
			made += m
			errs[i] = errors.Join(errs[i], err)
			first.Do(func() { errs[i] = errors.Join(errs[i], once()) })
		})
	}
	running.Wait()
	return made, errors.Join(errs...)
}

// attempt makes n attempts, and counts those that the kernel of the sandbox did
// not refuse before there was a packet.
func attempt(proto string, to netip.AddrPort, n int) (made int, err error) {
	address := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	if proto == "udp" {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(s)
		for range n {
			if err := unix.Sendto(s, []byte("x"), 0, address); err == nil {
				made++
			}
		}
		return made, nil
	}
	for range n {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return made, err
		}
		if err := unix.Connect(s, address); !errors.Is(err, unix.EADDRNOTAVAIL) {
			made++
		}
		unix.Close(s)
	}
	return made, nil
}

// drops is how many packets the sandbox's end of its veth could not pass on.
func drops() (int, error) {
	text, err := os.ReadFile("/sys/class/net/eth0/statistics/tx_dropped")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
