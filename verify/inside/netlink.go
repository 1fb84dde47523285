package inside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// loopback is lo's index: it is the first interface of every network namespace.
const loopback = 1

// The addresses that are added and taken away again (RFC 5737).
var (
	addedAddress = netip.MustParseAddr("198.51.100.77")
	addedRoute   = netip.MustParseAddr("198.51.100.78")
	addedAlias   = netip.MustParseAddr("198.51.100.79")
)

func netlinkProbes() []probe.Probe {
	admin := []string{"NET_ADMIN"}
	return probes([]row{
		{"netlink-address", "another address is another sandbox's, or the gateway's", "rtnetlink(7)", admin, changing(addressMessages)},
		{"netlink-route", "another route is another way out", "rtnetlink(7)", admin, changing(routeMessages)},
		{"netlink-rename", "a renamed or changed link escapes what watches its name", "rtnetlink(7)", admin, changing(linkMessages)},
		{"netlink-veth", "an interface of its own is a wire to elsewhere", "veth(4)", admin, changing(vethMessages)},
		{"netlink-rules", "who changes the packet filter decides what is recorded; nf_tables has been a way to root", "CVE-2024-1086", admin, changeRules},
		{"ioctl-address", "the older way to another address", "netdevice(7)", admin, ioctlAddress},
	})
}

// message is one of netlink(7).
type message struct {
	kind, flags uint16
	body        []byte
}

func (m message) encode(sequence uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(m.body)))
	b = binary.NativeEndian.AppendUint16(b, m.kind)
	b = binary.NativeEndian.AppendUint16(b, m.flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = append(b, 0, 0, 0, 0)
	return pad(append(b, m.body...))
}

// attribute encodes one of rtnetlink(7).
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

const creating = unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL

func addressMessages() (there, back message) {
	body := append([]byte{unix.AF_INET, 32, 0, unix.RT_SCOPE_HOST, loopback, 0, 0, 0}, attribute(unix.IFA_LOCAL, addedAddress.AsSlice())...)
	return message{unix.RTM_NEWADDR, creating, body}, message{unix.RTM_DELADDR, unix.NLM_F_ACK, body}
}

func routeMessages() (there, back message) {
	body := append([]byte{unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_BLACKHOLE, 0, 0, 0, 0},
		attribute(unix.RTA_DST, addedRoute.AsSlice())...)
	return message{unix.RTM_NEWROUTE, creating, body}, message{unix.RTM_DELROUTE, unix.NLM_F_ACK, body}
}

func linkMessages() (there, back message) {
	link := make([]byte, unix.SizeofIfInfomsg)
	link[4] = loopback
	return message{unix.RTM_SETLINK, unix.NLM_F_ACK, append(link, attribute(unix.IFLA_IFALIAS, []byte("sallyport"))...)},
		message{unix.RTM_SETLINK, unix.NLM_F_ACK, append(link, attribute(unix.IFLA_IFALIAS, nil)...)}
}

func vethMessages() (there, back message) {
	link := append(make([]byte, unix.SizeofIfInfomsg), attribute(unix.IFLA_IFNAME, []byte("spprobe\x00"))...)
	kind := attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth\x00")))
	return message{unix.RTM_NEWLINK, creating, append(link, kind...)}, message{unix.RTM_DELLINK, unix.NLM_F_ACK, link}
}

// changing makes a change and takes it back.
func changing(messages func() (there, back message)) attempt {
	return func(context.Context, probe.Target) (string, error) {
		there, back := messages()
		if err := netlink(unix.NETLINK_ROUTE, there); err != nil {
			return "", fmt.Errorf("netlink: %w", err)
		}
		if err := netlink(unix.NETLINK_ROUTE, back); err != nil {
			return fmt.Sprintf("the change was made, and stays: %v", err), nil
		}
		return "the change was made", nil
	}
}

// changeRules makes a table and deletes it, in one transaction.
func changeRules(context.Context, probe.Target) (string, error) {
	const begin, end, newTable, deleteTable = 0x10, 0x11, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE
	batch := []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES}
	table := append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attribute(1, []byte("sallyport_probe\x00"))...) // NFTA_TABLE_NAME
	err := netlink(unix.NETLINK_NETFILTER, message{begin, 0, batch}, message{newTable, creating, table},
		message{deleteTable, unix.NLM_F_ACK, table}, message{end, 0, batch})
	if err != nil {
		return "", fmt.Errorf("nfnetlink: %w", err)
	}
	return "a table of rules was made", nil
}

// netlink sends messages in one datagram, and reads an answer to each that wants
// one. The first error counts.
func netlink(protocol int, messages ...message) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	second := unix.NsecToTimeval(1e9)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second); err != nil {
		return err
	}
	var data []byte
	answers := 0
	for i, m := range messages {
		data = append(data, m.encode(uint32(i+1))...)
		if m.flags&unix.NLM_F_ACK != 0 {
			answers++
		}
	}
	if err := unix.Sendto(fd, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return readAnswers(fd, answers)
}

func readAnswers(fd, answers int) error {
	buf := make([]byte, 8192)
	for answers > 0 {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofNlMsghdr+4; answers-- {
			size := int(binary.NativeEndian.Uint32(rest))
			kind := binary.NativeEndian.Uint16(rest[4:])
			code := int32(binary.NativeEndian.Uint32(rest[unix.SizeofNlMsghdr:]))
			if kind == unix.NLMSG_ERROR && code != 0 {
				return syscall.Errno(-code)
			}
			if size < unix.SizeofNlMsghdr {
				return errors.New("an answer that is none")
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
	return nil
}

func ioctlAddress(context.Context, probe.Target) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo:sp")
	if err == nil {
		err = request.SetInet4Addr(addedAlias.AsSlice())
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request)
	}
	if err != nil {
		return "", os.NewSyscallError("SIOCSIFADDR", err)
	}
	request.SetUint16(0) // down: the address is gone with its label
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Sprintf("lo got an address, and keeps it: %v", err), nil
	}
	return "lo got an address", nil
}
