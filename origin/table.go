package origin

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
)

// States of a socket in the kernel's tables (include/net/tcp_states.h).
const (
	tcpSynSent  = 2
	tcpTimeWait = 6
	tcpClose    = 7 // an unconnected UDP socket has it too
	tcpListen   = 10
	tcpNewSyn   = 12
)

// errTooMany is a table, or a number of processes, beyond the bounds.
var errTooMany = errors.New("too many")

// line is one socket of /proc/PID/net/tcp, tcp6, udp or udp6. IPv4 addresses are
// such in all of them.
type line struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32 // of its inode, as seen from here
	inode         uint64 // zero: no process has it open any more
}

// eachLine calls each for the sockets of a table, whose first line is a heading.
// Nothing of the table is kept.
func eachLine(r io.Reader, limit int, each func(line)) error {
	lines := bufio.NewReaderSize(r, 8192)
	for n := -1; ; n++ {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a table of sockets: %w", err)
		}
		if n < 0 {
			continue
		}
		if n >= limit {
			return errTooMany
		}
		l, err := parseLine(text)
		if err != nil {
			return err
		}
		each(l)
	}
}

// parseLine reads "sl: local remote st tx:rx tr:when retransmits uid timeout
// inode …", proc_net_tcp.rst in the kernel's documentation.
func parseLine(text []byte) (line, error) {
	var fields [10][]byte
	rest := text
	for i := range fields {
		rest = bytes.TrimLeft(rest, " \n")
		end := bytes.IndexAny(rest, " \n")
		if end < 0 {
			end = len(rest)
		}
		fields[i], rest = rest[:end], rest[end:]
	}
	local, ok1 := parseAddress(fields[1])
	remote, ok2 := parseAddress(fields[2])
	state, err1 := strconv.ParseUint(string(fields[3]), 16, 8)
	uid, err2 := strconv.ParseUint(string(fields[7]), 10, 32)
	inode, err3 := strconv.ParseUint(string(fields[9]), 10, 64)
	if !ok1 || !ok2 || errors.Join(err1, err2, err3) != nil {
		return line{}, fmt.Errorf("a table of sockets has a line that is none: %.200q", text)
	}
	return line{local: local, remote: remote, state: uint8(state), uid: uint32(uid), inode: inode}, nil
}

// parseAddress reads ADDRESS:PORT, both in hexadecimal; the address is in words
// of 32 bits, each printed as a number of this machine's byte order.
func parseAddress(text []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(host) != 8 && len(host) != 32 || len(port) != 4 {
		return netip.AddrPort{}, false
	}
	var b [18]byte
	n := len(host) / 2
	if _, err := hex.Decode(b[:n], host); err != nil {
		return netip.AddrPort{}, false
	}
	if _, err := hex.Decode(b[16:], port); err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < n; i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[16:])), true
}

// fits says whether l can be the socket of r. A UDP socket can send from any
// address, to any address (sendto(2), IP_PKTINFO), so its port decides alone.
func (l line) fits(r *request, six bool) bool {
	if r.proto == "udp" {
		if l.local.Port() != r.src.Port() {
			return false
		}
		if r.src.Addr().Is4() { // an IPv6 socket bound to such an address sends no IPv4
			return l.local.Addr().Is4() || l.local.Addr().IsUnspecified()
		}
		return six
	}
	if l.local != r.src || l.remote != r.dst {
		return false
	}
	// One that only asks for a connection is not the one that we accepted.
	return l.state != tcpListen && l.state != tcpNewSyn && !(r.accepted && l.state == tcpSynSent)
}
