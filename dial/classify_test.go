package dial_test

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/dial"
)

// Each range by its first and last address, with the public neighbours just
// outside it.
func TestClassify(t *testing.T) {
	const public = ""
	for _, c := range []struct{ addr, want string }{
		{"0.0.0.0", "an unspecified address"},
		{"0.255.255.255", "an unspecified address"},
		{"1.0.0.0", public},
		{"9.255.255.255", public},
		{"10.0.0.0", "a private address"},
		{"10.255.255.255", "a private address"},
		{"11.0.0.0", public},
		{"100.63.255.255", public},
		{"100.64.0.0", "a carrier-grade NAT address"},
		{"100.100.100.199", "a carrier-grade NAT address"},
		{"100.100.100.200", "a cloud metadata address"},
		{"100.127.255.255", "a carrier-grade NAT address"},
		{"100.128.0.0", public},
		{"126.255.255.255", public},
		{"127.0.0.0", "a loopback address"},
		{"127.0.0.1", "a loopback address"},
		{"127.255.255.255", "a loopback address"},
		{"128.0.0.0", public},
		{"168.63.129.15", public},
		{"168.63.129.16", "a cloud metadata address"},
		{"168.63.129.17", public},
		{"169.253.255.255", public},
		{"169.254.0.0", "a link-local address"},
		{"169.254.170.2", "a cloud metadata address"},
		{"169.254.169.253", "a link-local address"},
		{"169.254.169.254", "a cloud metadata address"},
		{"169.254.255.255", "a link-local address"},
		{"169.255.0.0", public},
		{"172.15.255.255", public},
		{"172.16.0.0", "a private address"},
		{"172.31.255.255", "a private address"},
		{"172.32.0.0", public},
		{"191.255.255.255", public},
		{"192.0.0.0", "an IETF protocol address"},
		{"192.0.0.192", "an IETF protocol address"},
		{"192.0.0.255", "an IETF protocol address"},
		{"192.0.1.0", public},
		{"192.88.98.255", public},
		{"192.88.99.0", "a 6to4 relay address"},
		{"192.88.99.255", "a 6to4 relay address"},
		{"192.88.100.0", public},
		{"192.167.255.255", public},
		{"192.168.0.0", "a private address"},
		{"192.168.255.255", "a private address"},
		{"192.169.0.0", public},
		{"198.17.255.255", public},
		{"198.18.0.0", "a benchmarking address"},
		{"198.19.255.255", "a benchmarking address"},
		{"198.20.0.0", public},
		{"198.51.100.1", public}, // documentation: routes nowhere
		{"203.0.113.7", public},  // documentation: the lab's internet
		{"223.255.255.255", public},
		{"224.0.0.0", "a multicast address"},
		{"239.255.255.255", "a multicast address"},
		{"240.0.0.0", "a reserved address"},
		{"255.255.255.254", "a reserved address"},
		{"255.255.255.255", "the broadcast address"},

		{"::", "an unspecified address"},
		{"::1", "a loopback address"},
		{"::2", "an IPv4-compatible address"},
		{"::203.0.113.7", "an IPv4-compatible address"},
		{"::1:0:0:0", "outside the global IPv6 range"},
		{"::ffff:127.0.0.1", "a loopback address"},
		{"::ffff:169.254.169.254", "a cloud metadata address"},
		{"::ffff:203.0.113.7", public},
		{"::ffff:0:203.0.113.7", "an IPv4-translated address"},
		{"64:ff9a::1", "outside the global IPv6 range"},
		{"64:ff9b::", "a NAT64 address"},
		{"64:ff9b::10.0.0.1", "a NAT64 address"},
		{"64:ff9b::255.255.255.255", "a NAT64 address"},
		{"64:ff9b::1:0:0", "outside the global IPv6 range"},
		{"64:ff9b:1::", "a NAT64 address"},
		{"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "a NAT64 address"},
		{"64:ff9b:2::", "outside the global IPv6 range"},
		{"100::1", "a discard-only address"},
		{"100:0:0:1::", "outside the global IPv6 range"},
		{"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "outside the global IPv6 range"},
		{"2000::", public},
		{"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public},
		{"2001::", "a Teredo address"},
		{"2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "a Teredo address"},
		{"2001:1::", "an IETF protocol address"},
		{"2001:2::1", "an IETF protocol address"},
		{"2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "an IETF protocol address"},
		{"2001:200::", public},
		{"2001:db8::1", public}, // documentation: the lab's internet
		{"2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public},
		{"2002::", "a 6to4 address"},
		{"2002:7f00:1::1", "a 6to4 address"},
		{"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a 6to4 address"},
		{"2003::", public},
		{"3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", public},
		{"4000::", "outside the global IPv6 range"},
		{"5f00::1", "outside the global IPv6 range"},
		{"fbff:ffff::1", "outside the global IPv6 range"},
		{"fc00::", "a unique local address"},
		{"fd00:ec1:ffff::1", "a unique local address"},
		{"fd00:ec2::254", "a cloud metadata address"},
		{"fd00:ec3::", "a unique local address"},
		{"fd20:ce::254", "a cloud metadata address"},
		{"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a unique local address"},
		{"fe00::1", "outside the global IPv6 range"},
		{"fe80::1", "a link-local address"},
		{"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a link-local address"},
		{"fec0::1", "a site-local address"},
		{"fe80::1%eth0", "an address with a zone"},
		{"2001:db8::1%eth0", "an address with a zone"},
		{"ff02::fb", "a multicast address"},
	} {
		why, ok := dial.Classify(netip.MustParseAddr(c.addr))
		if why != c.want || ok != (c.want == public) {
			t.Errorf("Classify(%s) = %q, %v; want %q", c.addr, why, ok, c.want)
		}
	}
	if why, ok := dial.Classify(netip.Addr{}); ok || why == "" {
		t.Errorf("Classify(zero) = %q, %v; want a refusal", why, ok)
	}
}

// Whatever is public to us must be so to the standard library as well.
func FuzzClassify(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{0xfd, 0, 0xe, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		_, public := dial.Classify(a)
		_, mapped := dial.Classify(netip.AddrFrom16(a.As16()))
		if a.Is4() && public != mapped {
			t.Fatalf("%s: public %v, but mapped into IPv6 %v", a, public, mapped)
		}
		if u := a.Unmap(); public && (!u.IsGlobalUnicast() || u.IsPrivate()) {
			t.Fatalf("%s is public", a)
		}
	})
}
