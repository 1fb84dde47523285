//go:build lab

package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// joined are the scenarios in which somebody with the host's root connects the
// sandbox or the wall to something else.
var joined = []scenario{
	{name: "second Docker network", do: secondNetwork},
	{name: "veth moved into the sandbox", do: func(c *closed) { c.moved(holderProcess, fmt.Sprintf("up%d", c.n)) }},
	{name: "look-alike veth in the sandbox", do: func(c *closed) { c.moved(holderProcess, "sp"+c.id) }},
	{name: "veth moved into the wall", do: func(c *closed) { c.moved(wallProcess, fmt.Sprintf("up%d", c.n)) }},
	{name: "look-alike veth in the wall", do: lookAlike},
}

// secondNetwork connects the sandbox to a network of the engine's, which has a way
// out. Where the engine refuses, that is the end of it.
func secondNetwork(c *closed) {
	before := c.disturbances()
	out, err := c.lab.Laptop.CommandRoot(c.ctx, "docker", "network", "connect", "bridge", "sallyport-holder-"+c.id).CombinedOutput()
	if err != nil {
		if c.n == 0 {
			c.Logf("the engine refuses: %s", strings.TrimSpace(string(out)))
		}
		c.closed()
		return
	}
	c.closed()
	c.eventually("an event of the second network", func() error {
		if c.disturbances() == before {
			return errors.New("none yet")
		}
		return nil
	})
	_ = c.lab.Laptop.CommandRoot(c.ctx, "docker", "network", "disconnect", "-f", "bridge", "sallyport-holder-"+c.id).Run() // it has nothing to take away any more
}

// disturbances counts what was put right in namespaces of ours: interfaces that
// nobody of ours plugged, and the wall's rules and routing.
func (c *closed) disturbances() int64 {
	return c.count(func(e audit.Event) bool { return e.Proto == "link" }, "--layer", "control")
}

// moved makes a veth whose other end has a way out, and moves it into a namespace
// of ours: it is deleted there, and recorded.
func (c *closed) moved(process, name string) {
	c.Helper()
	before := c.disturbances()
	ns, err := c.lab.Laptop.Namespace(c.pgrep(process))
	if err != nil {
		c.Fatal(err)
	}
	defer ns.Close()
	moved, err := c.lab.Laptop.MoveVeth(ns, "hostside", name)
	if err != nil {
		c.Fatal(err)
	}
	c.eventually("the interface is gone", func() error {
		_, err := ns.LinkByName(name)
		var none netlink.LinkNotFoundError
		if errors.As(err, &none) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
	c.Logf("%s was deleted within %d ms", name, time.Since(moved).Milliseconds())
	c.closed()
	c.eventually("an event of the interface", func() error {
		if c.disturbances() == before {
			return errors.New("none yet")
		}
		return nil
	})
}

// lookAlike puts a veth into the wall that is called as one of the wall's own. It
// leads nowhere, whether it stays or not: nothing that came in by another interface
// leaves by it, and nothing that comes in by it is served.
func lookAlike(c *closed) {
	name := fmt.Sprintf("sp%012x", 0xabcdef000000+c.n)
	ns, err := c.lab.Laptop.Namespace(c.pgrep(wallProcess))
	if err != nil {
		c.Fatal(err)
	}
	defer ns.Close()
	if _, err := c.lab.Laptop.MoveVeth(ns, "hostside", name); err != nil {
		c.Fatal(err)
	}
	c.closed()
	for _, to := range []string{lab.VethInside + ":8000", lab.VethInside + ":3128", lab.VethInside + ":53"} {
		if answer := c.askOver("hostside", to); answer != "" {
			c.Errorf("the look-alike is served at %s: %q", to, answer)
		}
	}
	if err := c.lab.Laptop.RemoveVeth("hostside"); err != nil {
		c.Fatal(err)
	}
}

// askOver connects from the host by one of its interfaces, and returns what answers;
// empty: nothing.
func (c *closed) askOver(link, to string) (answer string) {
	c.Helper()
	device := func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), link) })
		return errors.Join(err, controlErr)
	}
	err := c.lab.Laptop.Do(func() error {
		conn, err := (&net.Dialer{Timeout: time.Second, Control: device}).Dial("tcp", to)
		if err != nil {
			return nil // that is what should be
		}
		defer conn.Close()
		_, err = conn.Write([]byte("GET /health HTTP/1.0\r\n\r\n"))
		buf := make([]byte, 200)
		n, _ := conn.Read(buf)
		answer = "connected, and got " + string(buf[:n])
		return err
	})
	if err != nil {
		c.Error(err)
	}
	return answer
}
