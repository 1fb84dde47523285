package origin

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// diagAnswer is what the kernel says of a socket.
func diagAnswer(seq uint32, state uint8, local, remote netip.AddrPort, inode uint32) []byte {
	b := make([]byte, diagHeader+diagTold)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint32(b[8:], seq)
	m := b[diagHeader:]
	m[0], m[1] = unix.AF_INET, state
	if local.Addr().Is6() {
		m[0] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(m[4:], local.Port())
	binary.BigEndian.PutUint16(m[6:], remote.Port())
	copy(m[8:], local.Addr().AsSlice())
	copy(m[24:], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(m[64:], 1000)
	binary.NativeEndian.PutUint32(m[68:], inode)
	return b
}

// diagError is the kernel's error, struct nlmsgerr.
func diagError(seq uint32, errno int32) []byte {
	b := make([]byte, diagHeader+4+diagHeader)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[8:], seq)
	binary.NativeEndian.PutUint32(b[16:], uint32(-errno))
	return b
}

func TestParseDiag(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("203.0.113.9:443")
	a6, b6 := netip.MustParseAddrPort("[2001:db8::2]:40000"), netip.MustParseAddrPort("[2001:db8:1:2:3:4:5:6]:443")
	am, bm := netip.MustParseAddrPort("[::ffff:10.213.0.2]:40000"), netip.MustParseAddrPort("[::ffff:203.0.113.9]:443")
	with := func(b []byte, change func(b []byte)) []byte { change(b); return b }
	good := func() []byte { return diagAnswer(7, 1, a, b, 5) }
	four, six := line{local: a, remote: b, state: 1, inode: 5}, line{local: a6, remote: b6, state: 1, inode: 5}
	for _, c := range []struct {
		name string
		text []byte
		want line
		err  error
	}{
		{"IPv4", good(), four, nil},
		{"IPv6", diagAnswer(7, 1, a6, b6, 5), six, nil},
		{"IPv4 of a socket of IPv6", diagAnswer(7, 1, am, bm, 5), four, nil},
		{"more behind it", append(good(), 1, 2, 3), four, nil},
		{"attributes", with(append(good(), 8, 0, 1, 0, 0, 0, 0, 0), func(b []byte) { binary.NativeEndian.PutUint32(b, uint32(len(b))) }), four, nil},
		{"no such socket", diagError(7, int32(unix.ENOENT)), line{}, unix.ENOENT},
		{"the least error", diagError(7, -0x80000000), line{}, syscall.Errno(0x80000000)},
		{"another's error", diagError(8, int32(unix.ENOENT)), line{}, errNoAnswer},
		{"an acknowledgement", diagError(7, 0), line{}, errNoAnswer},
		{"a short error", with(diagError(7, 2)[:18], func(b []byte) { b[0] = 18 }), line{}, errNoAnswer},
		{"another's", diagAnswer(6, 1, a, b, 5), line{}, errNoAnswer},
		{"empty", nil, line{}, errNoAnswer},
		{"a heading", good()[:diagHeader], line{}, errNoAnswer},
		{"less than it says", good()[:len(good())-1], line{}, errNoAnswer},
		{"too short", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, uint32(len(b)-1)) }), line{}, errNoAnswer},
		{"shorter than its heading", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, 15) }), line{}, errNoAnswer},
		{"as long as can be said", with(good(), func(b []byte) { binary.NativeEndian.PutUint32(b, 0xffffffff) }), line{}, errNoAnswer},
		{"another message", with(good(), func(b []byte) { binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_DONE) }), line{}, errNoAnswer},
		{"another family", with(good(), func(b []byte) { b[16] = unix.AF_UNIX }), line{}, errNoAnswer},
	} {
		got, err := parseDiag(c.text, 7)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: it is %+v, %v; wanted %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzParseDiag(f *testing.F) {
	a, b := netip.MustParseAddrPort("10.213.0.2:40000"), netip.MustParseAddrPort("[2001:db8::2]:443")
	f.Add(diagAnswer(7, 1, a, a, 5))
	f.Add(diagAnswer(7, 1, b, b, 5))
	f.Add(diagError(7, int32(unix.ENOENT)))
	f.Add(diagAnswer(7, 1, a, a, 5)[:40])
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseDiag(text, 7)
		if err != nil {
			if l != (line{}) {
				t.Errorf("with %v it is %+v", err, l)
			}
			return
		}
		if l.uid != 0 || l.local.Addr().Is4In6() || !l.local.IsValid() || !l.remote.IsValid() {
			t.Errorf("it is %+v", l)
		}
		if l.local.Addr().BitLen() == l.remote.Addr().BitLen() {
			if again, err := parseDiag(diagAnswer(7, l.state, l.local, l.remote, uint32(l.inode)), 7); err != nil || again != l {
				t.Errorf("%+v is read as %+v, %v", l, again, err)
			}
		}
	})
}
