//go:build lab

package e2e_test

import "strings"

// What the processes are called on the laptop, for pgrep.
const (
	gatewayProcess = "gateway run"
	wallProcess    = "^/gateway wall"
	holderProcess  = "^/gateway hold"
)

// holderLost is what the launcher says when the sandbox's namespace is gone.
const holderLost = `the sandbox's holder ended, and with it the way to the model`

// killed are the scenarios in which a process of ours dies or stands still. A
// panic ends a Go program as SIGABRT does: exit code 2, after every goroutine was
// written out; nothing deferred runs in other goroutines.
var killed = []scenario{
	{name: "gateway killed", do: signalled(gatewayProcess, "KILL")},
	{name: "gateway panics", do: signalled(gatewayProcess, "ABRT")},
	{name: "gateway out of memory", do: outOfMemory(gatewayProcess)},
	{name: "gateway stopped and continued", do: stopped(gatewayProcess)},
	{name: "gateway down --force", do: gatewayDown},
	{name: "wall killed", do: signalled(wallProcess, "KILL")},
	{name: "wall panics", do: signalled(wallProcess, "ABRT")},
	{name: "wall out of memory", do: outOfMemory(wallProcess)},
	{name: "wall stopped and continued", do: stopped(wallProcess)},
	{name: "wall's container killed", do: func(c *closed) {
		c.root("docker", "kill", "sallyport-wall-1000")
		c.closed()
	}},
	{name: "holder killed", do: signalled(holderProcess, "KILL"), ended: holderLost},
	{name: "holder panics", do: signalled(holderProcess, "ABRT"), ended: holderLost},
	{name: "holder out of memory", do: outOfMemory(holderProcess), ended: holderLost},
	{name: "holder stopped and continued", do: stopped(holderProcess)},
}

// signalled ends a process. What it holds may be looked at for a moment only: the
// agent's own attempts, which never pause, fill the time.
func signalled(process, signal string) func(c *closed) {
	return func(c *closed) {
		c.root("kill", "-"+signal, c.pgrep(process))
		if process != holderProcess { // with which the agent goes
			c.closed()
		}
	}
}

// stopped has a process stand still while the agent tries to get out.
func stopped(process string) func(c *closed) {
	return func(c *closed) {
		pid := c.pgrep(process)
		c.root("kill", "-STOP", pid)
		defer c.root("kill", "-CONT", pid)
		c.closed()
		c.untouched()
	}
}

// outOfMemory has the kernel kill a process for want of memory in its group.
func outOfMemory(process string) func(c *closed) {
	return func(c *closed) {
		if err := c.lab.Laptop.ExhaustMemory(c.ctx, c.pgrep(process)); err != nil {
			c.Fatal(err)
		}
		if process != holderProcess {
			c.closed()
		}
	}
}

func gatewayDown(c *closed) {
	if out, err := c.command("gateway", "down").CombinedOutput(); err == nil || !strings.Contains(string(out), "--force") {
		c.Errorf("gateway down with a sandbox running: %v\n%s", err, out)
	}
	if out, err := c.command("gateway", "down", "--force").CombinedOutput(); err != nil {
		c.Fatalf("gateway down --force: %v\n%s", err, out)
	}
	c.closed()
}
