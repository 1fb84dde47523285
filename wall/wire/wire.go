// Package wire is what the gateway, the wall and the holders say to each other
// on the wall socket: one JSON message per SOCK_SEQPACKET datagram, with the
// descriptors that belong to it as SCM_RIGHTS. It knows how a message travels,
// not what anybody does about it.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// MaxMessage is the size in bytes of the largest message; a longer one is an
// error at both ends.
const MaxMessage = 60 << 10

// sendTimeout bounds a Send to a peer that does not read.
const sendTimeout = 5 * time.Second

// maxFiles is the number of descriptors that one message may carry.
const maxFiles = 2

// Roles of a Hello.
const (
	RoleWall = "wall"
	RoleHold = "hold"
)

// Message is one datagram. Exactly one field is set.
type Message struct {
	Hello   *Hello   `json:"hello,omitempty"`
	Plug    *Plug    `json:"plug,omitempty"`
	Plugged *Plugged `json:"plugged,omitempty"`
	Unplug  *Unplug  `json:"unplug,omitempty"`
	Address *Address `json:"address,omitempty"`
	Ready   *Ready   `json:"ready,omitempty"`
	Replug  *Replug  `json:"replug,omitempty"`
	Netns   *Netns   `json:"netns,omitempty"`
	Packets *Packets `json:"packets,omitempty"`
	Taken   *Taken   `json:"taken,omitempty"`
	Settled *Settled `json:"settled,omitempty"`
	Foreign *Foreign `json:"foreign,omitempty"`
	Refused *Refused `json:"refused,omitempty"`
}

// Hello is the first message of a connection, to the gateway. A holder's is
// followed by Netns.
type Hello struct {
	Role  string `json:"role"`
	Token string `json:"token"`
	IPv6  bool   `json:"ipv6"` // wall: it serves IPv6 too
}

// Refused ends a connection whose Hello was not accepted, to the wall or holder.
type Refused struct {
	Reason string `json:"reason"`
}

// Netns carries the descriptor of a holder's network namespace, to the gateway, and
// a socket of NETLINK_SOCK_DIAG that was made there, where the kernel has it.
type Netns struct{}

// Plug asks the wall to connect the sandbox whose network namespace comes with
// it. The prefixes are the wall's own side: a /31 and, unless invalid, a /127.
type Plug struct {
	Sandbox string       `json:"sandbox"`
	Wall4   netip.Prefix `json:"wall4"`
	Wall6   netip.Prefix `json:"wall6"`
}

// Plugged answers Plug, to the gateway. Without an Error it carries two
// descriptors: the TCP listener and the UDP socket for port 53.
type Plugged struct {
	Sandbox string `json:"sandbox"`
	Error   string `json:"error,omitempty"`
}

// Unplug asks the wall to remove a sandbox's interface.
type Unplug struct {
	Sandbox string `json:"sandbox"`
}

// Address tells a holder what to give to its eth0 and where its default routes
// go. Invalid IPv6 values: no IPv6.
type Address struct {
	Addr4 netip.Prefix `json:"addr4"`
	Addr6 netip.Prefix `json:"addr6"`
	Gate4 netip.Addr   `json:"gate4"`
	Gate6 netip.Addr   `json:"gate6"`
}

// Ready answers Address, to the gateway.
type Ready struct {
	Error string `json:"error,omitempty"`
}

// Replug tells a holder that its plug is lost: it deletes its eth0 and sends
// Netns again.
type Replug struct{}

// Foreign reports an interface that the wall did not plug, to the gateway.
type Foreign struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Removed bool   `json:"removed"`
	Error   string `json:"error,omitempty"`
	More    int64  `json:"more,omitempty"` // further ones, of which only the number was kept
}

// Packets reports what the wall's rules refused, and what the wall put right, to
// the gateway.
type Packets struct {
	Packets  []Packet   `json:"packets,omitempty"`
	Lost     []Lost     `json:"lost,omitempty"`
	Begun    []Begun    `json:"begun,omitempty"`
	Restored []Restored `json:"restored,omitempty"`
}

// What a Restored can be of.
const (
	Rules     = "rules"     // the tables of nf_tables
	Routing   = "routing"   // of what the rules mark for the gateway's listeners
	Interface = "interface" // one that the wall did not plug was deleted
)

// Restored is how often the wall found its own network namespace changed by
// somebody else, and put it right.
type Restored struct {
	What  string `json:"what"`
	Times int64  `json:"times"`
}

// Lost is a number of refused packets of which nothing else is known.
type Lost struct {
	Sandbox string `json:"sandbox"` // empty: the interface is not known
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
}

// Begun is how many first segments of connections the wall has handed to a
// sandbox's listeners since it made them.
type Begun struct {
	Sandbox  string `json:"sandbox"`
	Segments uint64 `json:"segments"`
	Settled  uint64 `json:"settled"` // the last number that a gateway told
}

// Settled tells the wall of how many of these segments the record has what became
// of them, so that the next gateway need not ask.
type Settled struct {
	Sandbox  string `json:"sandbox"`
	Segments uint64 `json:"segments"`
}

// Taken answers Packets and Foreign: the gateway has recorded it, and the sender
// need not keep it any more. Without it, what lay in the socket's buffer when a
// gateway was killed would be lost.
type Taken struct{}

// Packet is one refused packet.
type Packet struct {
	Time    int64  `json:"time"`    // Unix nanoseconds
	Sandbox string `json:"sandbox"` // empty: the interface is gone
	Rule    string `json:"rule"`    // spoof, port, syn, closed, stray, fragment, options, address, other, frame
	Data    []byte `json:"data"`    // from the IP header on, or what follows that of the frame; at most SnapLen bytes

	EtherType uint16 `json:"ether_type,omitempty"` // of a frame; zero: it is an IP packet
}

// SnapLen is the number of bytes of a refused packet that the wall keeps.
const SnapLen = 128

var sandboxID = regexp.MustCompile(`^[0-9a-f]{12}$`)

// ValidSandbox reports whether id has the form of a sandbox id: twelve lower
// case hexadecimal digits.
func ValidSandbox(id string) bool { return sandboxID.MatchString(id) }

// Conn is one connection on the wall socket. Send may be called concurrently
// with Receive, and from several goroutines; Receive from one.
type Conn struct {
	c       *net.UnixConn
	timeout time.Duration // of a Send
	buffer  []byte        // of Receive: a flood's messages are all of full length
}

// Dial connects to the wall socket at path.
func Dial(path string) (*Conn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}

// NewConn wraps a connection that was accepted from a SOCK_SEQPACKET listener.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c, timeout: sendTimeout} }

// Close ends the connection. A Receive that waits returns an error.
func (c *Conn) Close() error { return c.c.Close() }

// CloseWrite ends what this end sends: the peer gets what was sent, then io.EOF.
func (c *Conn) CloseWrite() error { return c.c.CloseWrite() }

// Send sends m with files, which stay open here.
func (c *Conn) Send(m Message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a wall message: %w", err)
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("a wall message of %d bytes is over the limit of %d", len(data), MaxMessage)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if err := c.c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, _, err = c.c.WriteMsgUnix(data, rights, nil)
	return err
}

// Receive waits for the next message. The files belong to the caller. An end of
// the connection is an error that is io.EOF.
func (c *Conn) Receive() (Message, []*os.File, error) {
	var m Message
	if c.buffer == nil {
		c.buffer = make([]byte, MaxMessage)
	}
	data := c.buffer // Parse keeps nothing of it
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := c.c.ReadMsgUnix(data, oob)
	// An empty message reads as an end, and may carry descriptors none the less.
	files, rightsErr := parseRights(oob[:oobn])
	switch {
	case err != nil:
	case rightsErr != nil:
		err = rightsErr
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a wall message was longer than the limit")
	default:
		m, err = Parse(data[:n])
	}
	if err != nil {
		CloseAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// Parse decodes one message and checks that exactly one kind is in it.
func Parse(data []byte) (Message, error) {
	var m Message
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Message{}, fmt.Errorf("decode a wall message: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Message{}, errors.New("a wall message has something after its end")
	}
	kinds := 0
	for _, set := range []bool{m.Hello != nil, m.Plug != nil, m.Plugged != nil, m.Unplug != nil, m.Address != nil,
		m.Ready != nil, m.Replug != nil, m.Netns != nil, m.Packets != nil, m.Taken != nil, m.Settled != nil, m.Foreign != nil, m.Refused != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return Message{}, fmt.Errorf("a wall message must have one kind, not %d", kinds)
	}
	return m, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var files []*os.File
	for i := range controls {
		fds, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "wall"))
		}
	}
	return files, nil
}
