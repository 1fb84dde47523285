package wall

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Counters are read over one connection, until that fails.
func TestLedgerKeepsItsConnection(t *testing.T) {
	newNamespace(t, nil).in(t, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		sets, err := applyRules(c)
		if err != nil {
			return err
		}
		gone := []*nftables.Set{{Table: &nftables.Table{Name: "gone", Family: nftables.TableFamilyINet}, Name: "counts"}}
		l := &ledger{sets: sets}
		defer l.forget()
		var used []*nftables.Conn
		for _, read := range []struct {
			sets  []*nftables.Set
			fails bool
		}{{sets, false}, {sets, false}, {gone, true}, {sets, false}} {
			l.restart(read.sets)
			_, err := l.read()
			if read.fails != errors.Is(err, unix.ENOENT) || (err != nil) != read.fails || (l.nft == nil) != read.fails {
				return fmt.Errorf("read %d: %w, connection %p", len(used), err, l.nft)
			}
			used = append(used, l.nft)
		}
		if used[0] != used[1] || used[3] == used[0] {
			return fmt.Errorf("its connections were %p", used)
		}
		return nil
	})
}

// BenchmarkReadCounters is what a wall does each second; run it as root.
func BenchmarkReadCounters(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("making a network namespace takes root")
	}
	onThread(b, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		sets, err := applyRules(c)
		if err != nil {
			return err
		}
		l := &ledger{sets: sets}
		defer l.forget()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.read(); err != nil {
				return err
			}
		}
		return nil
	})
}
