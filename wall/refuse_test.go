package wall

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/wall/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	pair4 = netip.MustParsePrefix("10.213.0.1/31")
	pair6 = netip.MustParsePrefix("fd00::1/127")
)

func TestPlugRefuses(t *testing.T) {
	own, other := newNamespace(t, nil), newNamespace(t, nil)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var mount *os.File
	if mount, err = os.Open("/proc/self/ns/mnt"); err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	const id = "0123456789ab"
	for name, c := range map[string]struct {
		file *os.File
		req  wire.Plug
		want string
	}{
		"the wall's own":            {own.file, wire.Plug{Sandbox: id, Wall4: pair4}, "the wall's own network namespace"},
		"no namespace":              {null, wire.Plug{Sandbox: id, Wall4: pair4}, "not a network namespace"},
		"a mount namespace":         {mount, wire.Plug{Sandbox: id, Wall4: pair4}, "not a network namespace"},
		"no sandbox id":             {other.file, wire.Plug{Sandbox: "../x", Wall4: pair4}, "not a sandbox id"},
		"a name too long for links": {other.file, wire.Plug{Sandbox: id + "0", Wall4: pair4}, "not a sandbox id"},
		"a public address":          {other.file, wire.Plug{Sandbox: id, Wall4: netip.MustParsePrefix("203.0.113.1/31")}, "no pair of private addresses"},
		"a wide prefix":             {other.file, wire.Plug{Sandbox: id, Wall4: netip.MustParsePrefix("10.213.0.1/8")}, "no pair of private addresses"},
		"a wide IPv6 prefix":        {other.file, wire.Plug{Sandbox: id, Wall4: pair4, Wall6: netip.MustParsePrefix("fd00::1/64")}, "no pair of private addresses"},
	} {
		own.in(t, func() error {
			tcp, udp, err := plugs{}.plug(c.req, c.file, true)
			if err == nil || !strings.Contains(err.Error(), c.want) || tcp != nil || udp != nil {
				t.Errorf("%s: %v, wanted %q", name, err, c.want)
			}
			return nil
		})
		if own, other := own.links(t), other.links(t); len(own) != 1 || len(other) != 1 {
			t.Errorf("%s left interfaces behind: %v, %v", name, own, other)
		}
	}
}

// A second namespace of the same sandbox replaces the first; the same one stays.
func TestPlugAgain(t *testing.T) {
	own, first, second := newNamespace(t, nil), newNamespace(t, nil), newNamespace(t, nil)
	own.in(t, func() error {
		p, req := plugs{}, wire.Plug{Sandbox: "0123456789ab", Wall4: pair4, Wall6: pair6}
		var index []int
		for _, ns := range []namespace{first, first, second} {
			tcp, udp, err := p.plug(req, ns.file, true)
			if err != nil {
				return err
			}
			wire.CloseAll([]*os.File{tcp, udp})
			link, err := netlink.LinkByName("sp0123456789ab")
			if err != nil {
				return err
			}
			index = append(index, link.Attrs().Index)
		}
		if index[0] != index[1] || index[1] == index[2] {
			t.Errorf("interfaces: %v", index)
		}
		return errors.Join(p.unplug(req.Sandbox), p.unplug(req.Sandbox))
	})
	for _, ns := range []namespace{own, first, second} {
		if links := ns.links(t); len(links) != 1 {
			t.Errorf("left: %v", links)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	good := newNamespace(t, nil)
	for name, c := range map[string]struct {
		ns   namespace
		caps []uintptr
		want string
	}{
		"no capability":       {good, nil, "the capability NET_ADMIN is missing; hint: "},
		"another capability":  {good, []uintptr{unix.CAP_NET_RAW}, "the capability NET_ADMIN is missing"},
		"a sysctl of wg":      {newNamespace(t, map[string]string{"net.ipv4.conf.all.src_valid_mark": "1"}), []uintptr{unix.CAP_NET_ADMIN}, "src_valid_mark is \"1\", not \"0\"; hint: "},
		"forwarding":          {newNamespace(t, map[string]string{"net.ipv4.ip_forward": "1"}), []uintptr{unix.CAP_NET_ADMIN}, "ip_forward"},
		"IPv6 forwarding":     {newNamespace(t, map[string]string{"net.ipv6.conf.all.forwarding": "1"}), []uintptr{unix.CAP_NET_ADMIN}, "forwarding"},
		"router solicitation": {newNamespace(t, map[string]string{"net.ipv6.conf.default.accept_ra": "1"}), []uintptr{unix.CAP_NET_ADMIN}, "accept_ra"},
	} {
		for _, role := range []string{"wall", "hold"} {
			t.Run(name+", "+role, func(t *testing.T) {
				c.ns.start(t, role, "/nowhere", "token", c.caps...).wantError(t, c.want)
			})
		}
	}
}

func TestWallRefusesAnUplink(t *testing.T) {
	n := newNamespace(t, nil)
	n.in(t, func() error { return netlink.LinkAdd(veth("eth0")) })
	n.startWall(t, "/nowhere").wantError(t, "has an interface \"eth0")
}

func TestFieldsAreRequired(t *testing.T) {
	if err := (&Wall{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "needs") {
		t.Error(err)
	}
	if err := (&Holder{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "needs") {
		t.Error(err)
	}
}

// A kernel without tproxy says ENOENT and no more.
func TestMissingModuleIsNamed(t *testing.T) {
	for _, err := range []error{unix.ENOENT, unix.EOPNOTSUPP, &os.SyscallError{Syscall: "sendmsg", Err: unix.ENOENT}} {
		for _, want := range []string{"nft_tproxy", "nft_socket", "nft_fib_inet", "modprobe", "hint:"} {
			if got := rulesError(err).Error(); !strings.Contains(got, want) {
				t.Errorf("%v: %q does not name %s", err, got, want)
			}
		}
	}
	if got := rulesError(unix.EPERM).Error(); strings.Contains(got, "modprobe") {
		t.Errorf("EPERM: %q", got)
	}
}

// A gateway that sends nonsense is left, and tried again.
func TestNonsenseFromTheGateway(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for role, messages := range map[string][]wire.Message{
		"wall": {{Plug: &wire.Plug{Sandbox: "0123456789ab"}}, {Address: &wire.Address{}}, {Hello: &wire.Hello{}}},
		"hold": {{Plug: &wire.Plug{}}, {Unplug: &wire.Unplug{}}, {Packets: &wire.Packets{}}},
	} {
		t.Run(role, func(t *testing.T) {
			ns, path := newNamespace(t, nil), socketPath(t)
			l := listen(t, path)
			ns.start(t, role, path, wallToken, unix.CAP_NET_ADMIN)
			for _, m := range messages {
				c, err := l.AcceptUnix()
				if err != nil {
					t.Fatal(err)
				}
				conn := wire.NewConn(c)
				hello, _, err := conn.Receive()
				if err != nil || hello.Hello == nil || hello.Hello.Role != role || hello.Hello.Token != wallToken {
					t.Fatalf("hello: %+v, %v", hello, err)
				}
				if err := conn.Send(m); err != nil {
					t.Fatal(err)
				}
				for err == nil {
					var files []*os.File
					_, files, err = conn.Receive()
					wire.CloseAll(files)
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("%+v: %v", m, err)
				}
				conn.Close()
			}
			if links := ns.links(t); len(links) != 1 {
				t.Errorf("interfaces: %v", links)
			}
		})
	}
}
