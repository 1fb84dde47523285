package verify

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"io/fs"
)

// rootThatChanges is a sandbox's /proc that is another one after some looks.
type rootThatChanges struct {
	looks         *atomic.Int32
	until         int32
	before, after fstest.MapFS
}

func (r rootThatChanges) Open(name string) (fs.File, error) {
	if name == "proc/net/route" && r.looks.Add(1) > r.until || r.looks.Load() > r.until {
		return r.after.Open(name)
	}
	return r.before.Open(name)
}

func TestAwaitPlug(t *testing.T) {
	six := rootWith("proc/net/ipv6_route", line6(zeros, "00", gate6, "00000003", "eth0"))
	for _, c := range []struct {
		name          string
		before, after fstest.MapFS
		gate6         bool
		looks         int32
		most          time.Duration
	}{
		{"it is plugged", goodRoot(), goodRoot(), false, 1, 0},
		{"it is plugged soon", rootWith("proc/net/route", routeHead+onLink4), goodRoot(), false, 11, 20 * time.Millisecond},
		{"IPv6 comes later", goodRoot(), six, true, 11, 20 * time.Millisecond},
		{"IPv6 never comes", goodRoot(), goodRoot(), true, 0, plugTime},
		{"it never is", rootWith("proc/net/route", routeHead), rootWith("proc/net/route", "-"), false, 0, plugTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root := rootThatChanges{new(atomic.Int32), 10, c.before, c.after}
				s := QuickSpec{Root: root}
				if c.gate6 {
					s.Gateway6 = netip.MustParseAddr("fd00::")
				}
				began := time.Now()
				AwaitPlug(t.Context(), s)
				if took := time.Since(began); took > c.most || c.most == plugTime && took < plugTime {
					t.Errorf("it waited %s", took)
				}
				if n := root.looks.Load(); c.looks > 0 && n != c.looks {
					t.Errorf("%d looks", n)
				}
			})
		})
	}
}

func TestAwaitPlugEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	AwaitPlug(ctx, QuickSpec{Root: rootWith("proc/net/route", "-")})
	AwaitPlug(t.Context(), QuickSpec{}) // nothing to look at
}
