package wall

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reports go out one by one, each until it is taken; those of a gateway that went
// away go to the next. None is lost: beyond the bound their number is kept.
func TestReportsAreKeptUntilTaken(t *testing.T) {
	g := newGuard(slog.New(slog.DiscardHandler))
	const total = maxReports + 5
	for i := range total {
		g.report(wire.Foreign{Name: itoa(i), Removed: i != total-2})
	}
	if len(g.reports) != maxReports {
		t.Fatalf("%d are kept", len(g.reports))
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func() (client, server *wire.Conn) {
		t.Helper()
		client, err := wire.Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		server = wire.NewConn(c)
		timer := time.AfterFunc(patient, func() { server.Close() })
		t.Cleanup(func() { timer.Stop(); client.Close(); server.Close() })
		return client, server
	}
	receive := func(server *wire.Conn) wire.Foreign {
		t.Helper()
		m, _, err := server.Receive()
		if err != nil || m.Foreign == nil {
			t.Fatalf("%+v, %v", m, err)
		}
		return *m.Foreign
	}
	client, server := connect()
	g.reportTo(client)
	receive(server) // and never takes it
	server.Close()
	g.reportTo(nil)

	client, server = connect()
	g.reportTo(client)
	told := int64(0)
	for i := range maxReports {
		f := receive(server)
		if f.Name != itoa(i) {
			t.Fatalf("report %d is of %s", i, f.Name)
		}
		if f.Removed != (i < maxReports-1) { // that one stays must not get lost
			t.Errorf("report %d: removed is %t", i, f.Removed)
		}
		told += 1 + f.More
		g.taken()
	}
	g.taken() // that nobody sent
	if told != total || len(g.reports) != 0 {
		t.Errorf("%d of %d told, %d left", told, total, len(g.reports))
	}
}

// An interface that is busy is tried again; of one that stays the gateway hears.
func TestInterfacesThatAreNotDeletedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		errs    []error // of each try; the last one's stays
		tries   int
		removed bool
	}{
		"busy":        {[]error{unix.EBUSY, unix.EBUSY, nil}, 3, true},
		"always busy": {[]error{unix.EBUSY}, deleteTries, false},
		"gone":        {[]error{unix.ENODEV}, 1, true},
		"a real one":  {[]error{unix.EOPNOTSUPP}, 1, false},
	} {
		g, tries := newGuard(slog.New(slog.DiscardHandler)), 0
		g.del = func(netlink.Link) error {
			tries++
			return c.errs[min(tries, len(c.errs))-1]
		}
		f := g.remove(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "none7", Index: 1 << 30}})
		if tries != c.tries || f.Removed != c.removed || (f.Error == "") != c.removed || g.stuck[1<<30] == c.removed {
			t.Errorf("%s: %d tries, %+v", name, tries, f)
		}
	}
}
