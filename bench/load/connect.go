package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// ConnectArg says what to reach through a proxy. At Target a far end answers: see Call.
type ConnectArg struct {
	Proxy   string        `json:"proxy"`  // host:port; empty: Target is connected to
	Target  string        `json:"target"` // name:port
	Clients int           `json:"clients,omitempty"`
	For     time.Duration `json:"for,omitempty"`
	Bytes   uint64        `json:"bytes,omitempty"` // of bulk
	Up      bool          `json:"up,omitempty"`    // of bulk: to the far end
}

// open makes a tunnel to the target.
func (p *proxied) open(ctx context.Context, arg ConnectArg) error {
	if arg.Proxy == "" {
		c, err := dialWay(ctx, arg.Target)
		p.conn = c
		return err
	}
	p.address = arg.Proxy
	if err := p.ask(ctx, arg.Target); err != nil {
		return err
	}
	if p.status != 200 || p.r.Buffered() > 0 {
		return fmt.Errorf("status %d instead of 200 for %s, and %d bytes", p.status, arg.Target, p.r.Buffered())
	}
	return nil
}

// connects makes tunnels, one after the other, each with a message there and back.
func connects(ctx context.Context, arg ConnectArg) (Rate, error) {
	return during(ctx, arg.Clients, arg.For, func(ctx context.Context) (each, func()) {
		p := &proxied{}
		return func(i int) error {
			defer p.close()
			if err := p.open(ctx, arg); err != nil {
				return err
			}
			return echoed(p.conn, i)
		}, p.close
	})
}

// echoed sends a message of its own and reads it back.
func echoed(c net.Conn, i int) error {
	sent := Call{Kind: CallEcho}.AppendTo(nil)
	sent = binary.BigEndian.AppendUint64(sent, uint64(i))
	sent = binary.BigEndian.AppendUint64(sent, rand.Uint64())
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent)-CallSize)
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("read an echo: %w", err)
	}
	if string(got) != string(sent[CallSize:]) {
		return errOther
	}
	return nil
}

// passed takes bytes out of one tunnel, or puts them into it, and looks at each of
// them. The rate's N is bytes.
func passed(ctx context.Context, arg ConnectArg) (rate Rate, err error) {
	ctx, cancel := context.WithTimeout(ctx, wayTimeout)
	defer cancel()
	p := &proxied{}
	defer p.close()
	if err := p.open(ctx, arg); err != nil {
		return Rate{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	call := Call{Kind: CallSource, Seed: rand.Uint64(), Length: arg.Bytes}
	if arg.Up {
		call.Kind = CallSink
	}
	began := time.Now()
	if _, err := p.conn.Write(call.AppendTo(nil)); err != nil {
		return Rate{}, err
	}
	if arg.Up {
		err = put(p.conn, call)
	} else {
		err = NewPattern(call.Seed).Take(p.conn, call.Length)
	}
	return Rate{N: int64(arg.Bytes), NS: int64(time.Since(began))}, err
}

// put sends what a call promised and waits for the word that it has come.
func put(c net.Conn, call Call) error {
	if err := NewPattern(call.Seed).Send(c, call.Length); err != nil {
		return err
	}
	var taken [1]byte
	if _, err := io.ReadFull(c, taken[:]); err != nil {
		return fmt.Errorf("what was sent has not come: %w", err)
	}
	if taken[0] != SinkTaken {
		return errOther
	}
	return nil
}
