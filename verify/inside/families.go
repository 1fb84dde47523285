package inside

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// familyProbes are about sockets that the wall does not see, since their packets
// do not go through the network namespace. Having one is success: what it
// reaches, a hypervisor or a modem, is not verify's to contact.
func familyProbes() []probe.Probe {
	raw, admin := []string{"NET_RAW"}, []string{"NET_ADMIN"}
	list := probes([]row{
		{"vsock", "to the hypervisor and to other machines on it, past every network namespace", "moby/moby pull request 44562", nil, family{"AF_VSOCK", unix.AF_VSOCK, unix.SOCK_STREAM, 0}.open},
		{"vsock-32-bit", "the 32-bit socketcall, whose arguments no filter sees, opens one all the same", "moby/moby pull request 53551", nil, compatVsock},
		{"bluetooth", "to devices nearby", "CVE-2020-12351", []string{"NET_RAW", "NET_ADMIN"}, family{"HCI", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1}.open},
		{"nfc", "to devices nearby", "CVE-2021-23134", raw, family{"NFC_LLCP", unix.AF_NFC, unix.SOCK_STREAM, 1}.open},
		{"qipcrtr", "to modem and signal processors, past every network namespace", "Linux, net/qrtr", nil, family{"QIPCRTR", unix.AF_QIPCRTR, unix.SOCK_DGRAM, 0}.open},
		{"can", "to the machines on a bus", "CVE-2021-3609", nil, sendCAN},
		{"tipc", "to other machines of a cluster", "CVE-2021-43267", nil, family{"TIPC", unix.AF_TIPC, unix.SOCK_RDM, 0}.open},
		{"rds", "to other machines, by the kernel's own connections", "CVE-2010-3904", nil, family{"RDS", unix.AF_RDS, unix.SOCK_SEQPACKET, 0}.open},
		{"smc", "to other machines by remote memory access", "RFC 7609", nil, family{"SMC", unix.AF_SMC, unix.SOCK_STREAM, 0}.open},
		{"kernel-crypto", "the kernel's ciphers have been a way to root, and to other containers' files", "CVE-2026-31431", nil, family{"ALG", unix.AF_ALG, unix.SOCK_SEQPACKET, 0}.open},
		{"xdp", "frames that no packet filter inside sees", "CVE-2020-14386, Linux, Documentation/networking/af_xdp.rst", raw, withoutRaw(family{"XDP", unix.AF_XDP, unix.SOCK_RAW, 0}.open)},
		{"pfkey", "tunnels that the kernel keeps", "RFC 2367", admin, family{"KEY", unix.AF_KEY, unix.SOCK_RAW, 2}.open},
		{"rare-families", "old protocols, which hardly anybody looks after", "CVE-2020-25661, moby/moby pull request 29076", raw, rare},
	})
	abstract := row{"abstract-socket", "abstract unix sockets have no file that a mount could hide: the host's display and bus", "unix(7), CVE-2020-15257", nil, connectAbstract}.probe()
	abstract.Own = ownAbstract
	return append(list, abstract)
}

// family is a kind of socket.
type family struct {
	listed                 string // its name in /proc/net/protocols
	domain, kind, protocol int
}

// open opens a socket of a family that the kernel has. One that it has not is left
// alone: the attempt would have it load a module that stays.
func (f family) open(context.Context, probe.Target) (string, error) {
	if !listed(f.listed) {
		return "", absence("protocol " + f.listed + " in the running kernel")
	}
	fd, err := unix.Socket(f.domain, f.kind|unix.SOCK_CLOEXEC, f.protocol)
	return opened("socket "+f.listed, fd, err)
}

func listed(protocol string) bool {
	text, err := os.ReadFile("/proc/net/protocols")
	if err != nil {
		return true // then the attempt tells
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if name, _, _ := strings.Cut(s.Text(), " "); name == protocol {
			return true
		}
	}
	return false
}

// withoutRaw leaves out who has NET_RAW in a sandbox: raw sockets by another name,
// whose packets the wall refuses.
func withoutRaw(do attempt) attempt {
	return func(ctx context.Context, t probe.Target) (string, error) {
		if t.Setting == probe.Sandbox && t.Root {
			return "", absence("user without NET_RAW")
		}
		return do(ctx, t)
	}
}

// rares are families without networks in a container's namespace, if all is well.
var rares = []family{
	{"LLC", unix.AF_LLC, unix.SOCK_DGRAM, 0}, {"DDP", unix.AF_APPLETALK, unix.SOCK_DGRAM, 0}, {"X25", unix.AF_X25, unix.SOCK_SEQPACKET, 0},
	{"IEEE-802.15.4-MAC", unix.AF_IEEE802154, unix.SOCK_DGRAM, 0}, {"PHONET", unix.AF_PHONET, unix.SOCK_DGRAM, 0},
	{"AX25", unix.AF_AX25, unix.SOCK_DGRAM, 0}, {"MCTP", unix.AF_MCTP, unix.SOCK_DGRAM, 0}, {"CAIF", unix.AF_CAIF, unix.SOCK_SEQPACKET, 0},
}

func rare(ctx context.Context, t probe.Target) (string, error) {
	refused := error(absence("rare protocol in the running kernel"))
	for _, f := range rares {
		did, err := f.open(ctx, t)
		lacks := absence("")
		switch {
		case err == nil:
			return did, nil
		case !errors.As(err, &lacks):
			refused = err
		}
	}
	return "", refused
}

// sendCAN sends a frame to an interface that is no bus, if all is well.
func sendCAN(context.Context, probe.Target) (string, error) {
	if !listed("CAN_RAW") {
		return "", absence("protocol CAN_RAW in the running kernel")
	}
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.CAN_RAW)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	const second, frameSize = 2, 16
	return passed("send a CAN frame", unix.Sendto(fd, make([]byte, frameSize), 0, &unix.SockaddrCAN{Ifindex: second}))
}

func connectAbstract(_ context.Context, t probe.Target) (string, error) {
	if t.Host.Abstract == "" {
		return "", absence("abstract socket of verify's own on the host")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return passed("connect", unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + t.Host.Abstract}))
}

func ownAbstract(ctx context.Context, t *probe.Target) error {
	if t.Host.Abstract == "" {
		t.Host.Abstract = "sallyport-verify-" + t.Run
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + t.Host.Abstract}), unix.Listen(fd, 1)); err != nil {
		return errors.Join(fmt.Errorf("listen on abstract socket %s: %w", t.Host.Abstract, err), unix.Close(fd))
	}
	context.AfterFunc(ctx, func() { _ = unix.Close(fd) })
	return nil
}
