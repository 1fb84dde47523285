package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/bench/field"
	"github.com/sallyport/sallyport/bench/load"
	"github.com/sallyport/sallyport/internal/lab"
)

// The far end of the tunnels, in the lab's internet: a rule allows no address of the
// laptop's own networks.
const (
	farName = "far.bench.example"
	farAddr = "203.0.113.80"
	farPort = 7000 // of the first side; each has its own
)

// far has the far end served, where anything is to reach it, and the laptop know its
// name.
func (w *way) far(f *field.Field) error {
	w.target = net.JoinHostPort(farName, w.port)
	if !w.passing {
		return nil
	}
	path := f.Lab.Laptop.Outside("/etc/hosts")
	hosts, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(hosts), farName) {
		err = os.WriteFile(path, append(hosts, farAddr+" "+farName+"\n"...), 0o644)
	}
	if err != nil {
		return fmt.Errorf("name the far end: %w", err)
	}
	return w.farEnd(f.Lab.Internet.Host, net.JoinHostPort(farAddr, w.port))
}

// farEnd answers calls at an address of a host.
func (w *way) farEnd(h *lab.Host, at string) error {
	l, err := h.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("listen as the far end: %w", err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			wg.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				defer func() { _ = c.Close() }() // done with
				_ = answer(c)                    // who called sees that it failed
			})
		}
	})
	w.stops = append(w.stops, func(context.Context) error {
		cancel()
		err := l.Close()
		wg.Wait()
		return err
	})
	return nil
}

// resets has a connection end by a reset once it is closed: who called it has closed
// it first, and of a proxy that calls thousands of times a second ports would run out
// waiting (TIME_WAIT).
func resets(c net.Conn) error {
	if tcp, ok := c.(*net.TCPConn); ok {
		return tcp.SetLinger(0)
	}
	return nil
}

// callTimeout bounds one call.
const callTimeout = 3 * time.Minute

// answer does what one caller asks for.
func answer(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	call, err := load.ReadCall(c)
	if err != nil {
		return err
	}
	switch call.Kind {
	case load.CallSource:
		return load.NewPattern(call.Seed).Send(c, call.Length)
	case load.CallSink:
		if err := load.NewPattern(call.Seed).Take(c, call.Length); err != nil {
			return err
		}
		_, err := c.Write([]byte{load.SinkTaken})
		return err
	}
	buf := make([]byte, 256)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return errors.Join(err, resets(c))
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
	}
}
