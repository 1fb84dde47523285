package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// WayArg is about what is reached at an address, by several clients at the same
// time, with a connection each.
type WayArg struct {
	Address string `json:"address"` // host:port
	Clients int    `json:"clients"`
	N       int    `json:"n"`            // of each client: round trips, connections, or bytes
	Up      bool   `json:"up,omitempty"` // bytes go to the far end, instead of coming from it
}

// Rate is what all clients did together, and how long that took.
type Rate struct {
	N  int64 `json:"n"`
	NS int64 `json:"ns"`
}

// PerSecond is the rate of what was done.
func (r Rate) PerSecond() float64 { return float64(r.N) / time.Duration(r.NS).Seconds() }

// wayTimeout bounds one job: a way that hangs is a failure, and no slow one.
const wayTimeout = 2 * time.Minute

// roundTrips sends a small message, waits until it is back, and so on.
func roundTrips(ctx context.Context, arg WayArg) (Rate, error) {
	return together(ctx, arg, func(c net.Conn, client int) error {
		if _, err := c.Write(Call{Kind: CallEcho}.AppendTo(nil)); err != nil {
			return err
		}
		if err := echoes(c, client, 1); err != nil { // the way is open
			return err
		}
		return echoes(c, client, arg.N)
	})
}

// messageSize is of a small message, in bytes.
const messageSize = 128

// echoes makes n round trips over c, each with other bytes.
func echoes(c net.Conn, client, n int) error {
	sent, got := make([]byte, messageSize), make([]byte, messageSize)
	for i := range n {
		binary.BigEndian.PutUint64(sent, uint64(client))
		binary.BigEndian.PutUint64(sent[messageSize-8:], uint64(i))
		if _, err := c.Write(sent); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return fmt.Errorf("round trip %d: %w", i, err)
		}
		if !bytes.Equal(got, sent) {
			return fmt.Errorf("round trip %d: %w", i, errOther)
		}
	}
	return nil
}

// newChannels connects, makes a round trip of one byte, and closes, again and again.
func newChannels(ctx context.Context, arg WayArg) (Rate, error) {
	return together(ctx, arg, func(first net.Conn, client int) error {
		c := first
		for i := range arg.N {
			if i > 0 {
				var err error
				if c, err = dialWay(ctx, arg.Address); err != nil {
					return err
				}
			}
			if err := greet(c, byte(client+i)); err != nil {
				_ = c.Close() // what failed says more
				return fmt.Errorf("channel %d: %w", i, err)
			}
			if err := reset(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// greet sends one byte, which has to come back.
func greet(c net.Conn, b byte) error {
	if _, err := c.Write(append(Call{Kind: CallEcho}.AppendTo(nil), b)); err != nil {
		return err
	}
	var got [1]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return err
	}
	if got[0] != b {
		return errOther
	}
	return nil
}

// bulk moves bytes, and checks them.
func bulk(ctx context.Context, arg WayArg) (Rate, error) {
	return together(ctx, arg, func(c net.Conn, client int) error {
		call := Call{Kind: CallSource, Seed: uint64(client) + 1, Length: uint64(arg.N)}
		if arg.Up {
			call.Kind = CallSink
		}
		if _, err := c.Write(call.AppendTo(nil)); err != nil {
			return err
		}
		pattern := NewPattern(call.Seed)
		if !arg.Up {
			return pattern.Take(c, call.Length)
		}
		if err := pattern.Send(c, call.Length); err != nil {
			return err
		}
		var taken [1]byte
		if _, err := io.ReadFull(c, taken[:]); err != nil {
			return fmt.Errorf("what was sent was not taken: %w", err)
		}
		if taken[0] != SinkTaken {
			return errOther
		}
		return nil
	})
}

// together has each client do f on a connection of its own, and times them from
// the moment when all are connected.
func together(ctx context.Context, arg WayArg, f func(c net.Conn, client int) error) (Rate, error) {
	if arg.Clients < 1 || arg.N < 1 {
		return Rate{}, fmt.Errorf("%d clients with %d things to do", arg.Clients, arg.N)
	}
	ctx, cancel := context.WithTimeout(ctx, wayTimeout)
	defer cancel()
	conns := make([]net.Conn, arg.Clients)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // done with, or failed
			}
		}
	}()
	for i := range conns {
		c, err := dialWay(ctx, arg.Address)
		if err != nil {
			return Rate{}, err
		}
		conns[i] = c
	}
	errs := make(chan error, arg.Clients)
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { errs <- f(c, i) })
	}
	wg.Wait()
	took := time.Since(began)
	for range arg.Clients {
		if err := <-errs; err != nil {
			return Rate{}, fmt.Errorf("%s: %w", arg.Address, err)
		}
	}
	return Rate{N: int64(arg.N) * int64(arg.Clients), NS: int64(took)}, nil
}

// dialWay connects; the connection ends with ctx's deadline.
func dialWay(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // together sets one
	if err := c.SetDeadline(deadline); err != nil {
		_ = c.Close() // of no use
		return nil, err
	}
	return c, nil
}

// reset ends a connection by a reset: of many that are closed one after the other,
// ports would run out waiting (TIME_WAIT).
func reset(c net.Conn) error {
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}
