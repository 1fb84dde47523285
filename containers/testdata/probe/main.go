// Command probe is what the tests run inside containers: a static binary that
// shows what its container lets it do, one argument after the other.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		op, n := args[0], operands[args[0]]
		if err := run(op, args[1:1+n]); err != nil {
			fmt.Printf("%s %s: %v\n", op, strings.Join(args[1:1+n], " "), unwrapped(err))
		} else {
			fmt.Printf("%s %s: ok\n", op, strings.Join(args[1:1+n], " "))
		}
		args = args[1+n:]
	}
}

// operands says how many arguments follow an operation.
var operands = map[string]int{"write": 1, "read": 1, "mkdir": 1, "remove": 1, "rename": 2, "execcopy": 1, "size": 2, "exit": 1}

func unwrapped(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || inner.Unwrap() == nil {
			return err
		}
		err = inner.Unwrap()
	}
}

func run(op string, arg []string) error {
	switch op {
	case "caps":
		return caps()
	case "raise":
		return raise()
	case "links":
		return links()
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	case "write":
		return os.WriteFile(arg[0], []byte("x\n"), 0o644)
	case "read":
		_, err := os.ReadFile(arg[0])
		return err
	case "mkdir":
		return os.Mkdir(arg[0], 0o755)
	case "remove":
		return os.RemoveAll(arg[0])
	case "rename":
		return os.Rename(arg[0], arg[1])
	case "execcopy":
		return execCopy(arg[0])
	case "echo":
		fmt.Fprintln(os.Stderr, "to stderr")
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "size":
		return size(arg[0] + "x" + arg[1])
	case "wait":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("waiting")
		<-c
		return nil
	case "eat":
		var held [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			held = append(held, b)
			_ = held
		}
	case "exit":
		os.Exit(int(arg[0][0] - '0'))
	}
	return fmt.Errorf("unknown operation %q", op)
}

func caps() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Uid") || strings.HasPrefix(line, "Gid") || strings.HasPrefix(line, "Groups") || strings.HasPrefix(line, "Seccomp:") {
			fmt.Print(strings.Join(strings.Fields(line), " "), "\n")
		}
	}
	return nil
}

// links shows the network's interfaces and how many routes there are.
func links() error {
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range list {
		fmt.Println("link", l.Name)
	}
	routes, err := os.ReadFile("/proc/net/route")
	fmt.Println("routes", max(0, strings.Count(string(routes), "\n")-1)) // the first line is a heading
	return err
}

// raise puts NET_ADMIN into the effective set, as wall and holder do.
func raise() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Effective |= 1 << unix.CAP_NET_ADMIN
	return unix.Capset(&head, &data[0])
}

// execCopy runs a copy of this program from path.
func execCopy(path string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, self, 0o755); err != nil {
		return err
	}
	p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}

// size waits until the terminal has the wanted size.
func size(want string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	for {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		if fmt.Sprintf("%dx%d", ws.Col, ws.Row) == want {
			return nil
		}
		<-c
	}
}
