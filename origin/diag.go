package origin

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets asks the kernel for one TCP socket, where the tables of /proc name all and
// take a walk through those of the machine. It is a netlink socket of
// NETLINK_SOCK_DIAG, sock_diag(7), which tells of the network namespace that it was
// made in, whoever has it. To ask for one socket takes no capability; to destroy one
// takes NET_ADMIN of who asks, too (netlink_net_capable). A nil Sockets knows nothing.
type Sockets struct {
	conn syscall.RawConn

	mu     sync.Mutex
	last   uint32 // sequence number
	worked bool   // it has told of a socket
	missed int    // answers that it knows none
	asked  time.Time
}

// A kernel without the module tcp_diag says ENOENT, as of a socket that is not there,
// and looks for the module on disk each time: if that is all that was ever said, it is
// asked once in missedFor.
const (
	maxMissed = 16
	missedFor = time.Second
	maxStale  = 16 // messages that are passed over for an answer
)

// NewSockets asks by f, which stays its owner's: when it is closed, nothing is known.
func NewSockets(f *os.File) *Sockets {
	if f == nil {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	return &Sockets{conn: conn}
}

// Inode returns the inode of the TCP socket with exactly these addresses, as the
// sandbox sees them, that is or was connected. Zero: not known; the tables may know.
// Of a socket that is bound to an interface (SO_BINDTODEVICE) the kernel says nothing.
func (s *Sockets) Inode(src, dst netip.AddrPort) uint64 {
	r := &request{proto: "tcp", src: plain(src), dst: plain(dst), accepted: true}
	if s == nil || !r.src.IsValid() || !r.dst.IsValid() || r.src.Addr().BitLen() != r.dst.Addr().BitLen() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.worked && s.missed >= maxMissed && now.Sub(s.asked) < missedFor {
		return 0
	}
	s.asked = now
	s.last++
	var l line
	var err error
	if closed := s.conn.Control(func(fd uintptr) { l, err = askDiag(int(fd), s.last, r.src, r.dst) }); closed != nil {
		return 0
	}
	if errors.Is(err, unix.ENOENT) {
		s.missed++
	}
	if err != nil {
		return 0
	}
	s.worked = true
	if !l.fits(r, false) { // a listener, where there is no such socket
		return 0
	}
	return l.inode
}

// askDiag asks for one socket. The kernel answers before sendto(2) returns.
func askDiag(fd int, seq uint32, src, dst netip.AddrPort) (line, error) {
	if err := unix.Sendto(fd, diagRequest(seq, src, dst), unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return line{}, err
	}
	var b [1024]byte
	for range maxStale {
		n, from, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT)
		if err != nil {
			return line{}, err
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 { // not the kernel
			continue
		}
		if l, err := parseDiag(b[:n], seq); !errors.Is(err, errNoAnswer) {
			return l, err
		}
	}
	return line{}, errNoAnswer
}

// Sizes of the kernel's structures (linux/netlink.h, linux/inet_diag.h), and where
// they have what we use. Ports and addresses are in network byte order, all else in
// this machine's.
const (
	diagHeader   = 16 // struct nlmsghdr: length, type, flags, sequence number, port
	diagAsked    = 56 // struct inet_diag_req_v2: family, protocol, …, states, ID
	diagTold     = 72 // struct inet_diag_msg: family, state, …, ID, …, inode
	diagReqID    = 8  // struct inet_diag_sockid: ports, addresses, interface, cookie
	diagMsgID    = 4
	diagInode    = 68
	diagNoCookie = 0xffffffff // INET_DIAG_NOCOOKIE, twice
)

// diagRequest is SOCK_DIAG_BY_FAMILY without NLM_F_DUMP: for one socket.
func diagRequest(seq uint32, src, dst netip.AddrPort) []byte {
	b := make([]byte, diagHeader+diagAsked)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[8:], seq)
	q := b[diagHeader:]
	q[0], q[1] = unix.AF_INET, unix.IPPROTO_TCP
	if src.Addr().Is6() {
		q[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(q[4:], 0xffffffff) // any state
	id := q[diagReqID:]
	binary.BigEndian.PutUint16(id, src.Port())
	binary.BigEndian.PutUint16(id[2:], dst.Port())
	copy(id[4:], src.Addr().AsSlice())
	copy(id[20:], dst.Addr().AsSlice())
	binary.NativeEndian.PutUint32(id[40:], diagNoCookie)
	binary.NativeEndian.PutUint32(id[44:], diagNoCookie)
	return b
}

// errNoAnswer is a message that does not answer the question.
var errNoAnswer = errors.New("no answer of sock_diag")

// parseDiag reads the answer to question seq: a socket, whose uid is left out, or
// the kernel's error. IPv4 addresses are such, whatever the socket's family.
func parseDiag(b []byte, seq uint32) (line, error) {
	if len(b) < diagHeader {
		return line{}, errNoAnswer
	}
	size, kind := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint16(b[4:])
	if size < diagHeader || uint64(size) > uint64(len(b)) || binary.NativeEndian.Uint32(b[8:]) != seq {
		return line{}, errNoAnswer
	}
	b = b[diagHeader:size]
	switch {
	case kind == unix.NLMSG_ERROR && len(b) >= 4: // struct nlmsgerr
		if n := int32(binary.NativeEndian.Uint32(b)); n < 0 {
			return line{}, syscall.Errno(-int64(n))
		}
		return line{}, errNoAnswer // an acknowledgement
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(b) < diagTold:
		return line{}, errNoAnswer
	}
	n := 4
	switch b[0] {
	case unix.AF_INET:
	case unix.AF_INET6:
		n = 16
	default:
		return line{}, errNoAnswer
	}
	id := b[diagMsgID:]
	local, _ := netip.AddrFromSlice(id[4 : 4+n])
	remote, _ := netip.AddrFromSlice(id[20 : 20+n])
	return line{
		local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(id)),
		remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(id[2:])),
		state:  b[1],
		inode:  uint64(binary.NativeEndian.Uint32(b[diagInode:])),
	}, nil
}
