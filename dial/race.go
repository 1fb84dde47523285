package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// outcome is what one attempt came to: a verified connection, or why not.
type outcome struct {
	conn net.Conn
	err  error
}

// first connects to the addresses, the next one joining in when the one before
// fails or takes longer than stagger, and returns the first that is verified.
// All attempts have ended when it returns.
func (d *Dialer) first(ctx context.Context, host string, port uint16, addrs []netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan outcome)
	next := time.NewTimer(0)
	defer next.Stop()

	var winner net.Conn
	var errs []error
	for started, ended := 0, 0; ended < started || winner == nil && started < len(addrs); {
		select {
		case <-next.C:
			if winner == nil && started < len(addrs) {
				to := netip.AddrPortFrom(addrs[started], port)
				started++
				go func() { results <- d.attempt(ctx, host, to) }()
				next.Reset(stagger)
			}
		case r := <-results:
			ended++
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				next.Reset(0)
			case winner != nil:
				_ = r.conn.Close() // it lost the race; nothing was sent on it
			default:
				winner = r.conn
				cancel()
			}
		}
	}
	if winner != nil {
		return winner, nil
	}
	return nil, errors.Join(errs...)
}

// attempt connects to one address and verifies the connection.
func (d *Dialer) attempt(ctx context.Context, host string, to netip.AddrPort) outcome {
	if err := ctx.Err(); err != nil {
		return outcome{err: err}
	}
	conn, err := d.Connect(ctx, to)
	if err != nil {
		return outcome{err: err}
	}
	if err := verify(host, to, conn); err != nil {
		_ = conn.Close()
		return outcome{err: err}
	}
	return outcome{conn: conn}
}
