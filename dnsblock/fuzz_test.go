package dnsblock

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func FuzzHandle(f *testing.F) {
	f.Add(wire("api", "example", "com"))
	f.Add(wire("\x00\xff.", "example"))
	f.Add(wire("c2VjcmV0", "Evil", "example"))
	f.Add(pack(f, withEDNS(question("x.example.", dns.TypeHTTPS))))
	f.Add(pack(f, new(dns.Msg).SetUpdate("x.example.")))
	f.Add(pack(f, new(dns.Msg).SetAxfr("x.example.")))
	f.Add([]byte{1, 2, 3})
	f.Add([]byte("000000000000\xc0\t"))
	f.Add(append(wire("x"), 0xc0, 12, 0, 41, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1<<16 {
			return
		}
		s, b := newServer()
		before := bytes.Clone(message)
		answer := s.handle(message, testPeer)
		if !bytes.Equal(message, before) {
			t.Error("the message was changed")
		}
		events := b.all()
		if len(events) != 1 || events[0].Verdict != "denied" || len(events[0].Host) > 1020 || len(events[0].Reason) > 100 {
			t.Errorf("events %+v", events)
		}
		if events[0].Host != "" {
			labels, kind, ok := slowQuestion(message)
			if said := splitName(events[0].Host); !ok || !slices.Equal(said, labels) || events[0].Method != dns.Type(kind).String() {
				t.Errorf("recorded %s %q; the labels in it are %q, type %d", events[0].Method, said, labels, kind)
			}
		}
		silent := len(message) < headerSize || message[2]&0x80 != 0
		if silent != (answer == nil) {
			t.Fatalf("answer %x", answer)
		}
		if silent {
			return
		}
		m := unpack(t, answer)
		if !m.Response || !bytes.Equal(answer[:2], message[:2]) || len(answer) > 512 || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("answer %x\n%v", answer, m)
		}
		checkAnswer(t, message, answer)
	})
}

// checkAnswer reads the answer with another library than the one that wrote it.
func checkAnswer(t *testing.T, message, answer []byte) {
	t.Helper()
	var p dnsmessage.Parser
	header, err := p.Start(answer)
	if err != nil || !header.Response || header.ID != binary.BigEndian.Uint16(message) {
		t.Fatalf("answer %x: %+v, %v", answer, header, err)
	}
	questions, err := p.AllQuestions()
	if err != nil && !strings.Contains(err.Error(), "invalid dns name") { // a dot within a label
		t.Fatalf("answer %x: %v", answer, err)
	}
	if _, kind, ok := slowQuestion(message); len(questions) > 0 && (!ok || uint16(questions[0].Type) != kind) {
		t.Errorf("answer %x to a question of type %d: %v", answer, kind, questions)
	}
}

// slowQuestion reads the first question as RFC 1035 §4.1 lays it out. Its name has no
// pointer: there is no name before it.
func slowQuestion(message []byte) (labels []string, kind uint16, ok bool) {
	for at := headerSize; ; {
		if at >= len(message) {
			return nil, 0, false
		}
		n := int(message[at])
		switch {
		case n == 0:
			end := at + 1
			switch left := len(message) - end; {
			case left == 0: // the library takes a question that ends here, and all is refused
				return labels, 0, true
			case left == 2 || left >= 4:
				return labels, binary.BigEndian.Uint16(message[end:]), true
			}
			return nil, 0, false
		case n < 0x40 && at+1+n <= len(message):
			labels = append(labels, string(message[at+1:at+1+n]))
			at += 1 + n
		default:
			return nil, 0, false
		}
	}
}

// splitName takes a name in presentation format apart (RFC 1035 §5.1).
func splitName(name string) (labels []string) {
	if name == "." {
		return nil
	}
	var label []byte
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			labels, label = append(labels, string(label)), nil
		case c != '\\':
			label = append(label, c)
		case i+3 < len(name) && name[i+1] >= '0' && name[i+1] <= '9':
			n, _ := strconv.Atoi(name[i+1 : i+4])
			label = append(label, byte(n))
			i += 3
		case i+1 < len(name):
			label = append(label, name[i+1])
			i++
		}
	}
	return append(labels, string(label))
}

// Whatever comes over TCP, each whole message has its event and its answer, in
// their order, and what is none ends the connection with an event.
func FuzzStream(f *testing.F) {
	frame := func(message []byte) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
	}
	one := frame(wire("a", "example"))
	f.Add(one)
	f.Add(append(bytes.Clone(one), frame(wire("b", "example"))...))
	f.Add(append(bytes.Clone(one), one[:7]...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, stream []byte) {
		s, b := newServer()
		conn := &taped{in: bytes.NewReader(stream)}
		s.serveConn(t.Context(), conn)
		events := b.all()
		rest, answers := stream, conn.out.Bytes()
		for i := 0; ; i++ {
			length := 0
			if len(rest) >= 2 {
				length = int(binary.BigEndian.Uint16(rest))
			}
			if len(rest) < 2 || length > maxQuery || len(rest) < 2+length {
				want := i // one for each message, and one for what is none
				if len(rest) > 0 || i == 0 {
					want++
				}
				if len(events) != want || len(answers) > 0 || !conn.closed {
					t.Fatalf("%d events, want %d; %d bytes more of answers; closed %v", len(events), want, len(answers), conn.closed)
				}
				return
			}
			message := rest[2 : 2+length]
			rest = rest[2+length:]
			if silent := length < headerSize || message[2]&0x80 != 0; silent {
				if len(events) != i+1 || len(answers) > 0 {
					t.Fatalf("%d events, want %d", len(events), i+1)
				}
				return
			}
			if len(answers) < 2+headerSize || !bytes.Equal(answers[2:4], message[:2]) {
				t.Fatalf("message %d has the answer %x", i, answers)
			}
			answers = answers[2+int(binary.BigEndian.Uint16(answers)):]
		}
	})
}

// taped is a connection in memory.
type taped struct {
	in     *bytes.Reader
	out    bytes.Buffer
	closed bool
}

func (c *taped) Read(p []byte) (int, error)     { return c.in.Read(p) }
func (c *taped) Write(p []byte) (int, error)    { return c.out.Write(p) }
func (c *taped) Close() error                   { c.closed = true; return nil }
func (*taped) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*taped) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*taped) SetDeadline(time.Time) error      { return nil }
func (*taped) SetReadDeadline(time.Time) error  { return nil }
func (*taped) SetWriteDeadline(time.Time) error { return nil }

func FuzzAsked(f *testing.F) {
	f.Add(unix.PktInfo4(&unix.Inet4Pktinfo{}))
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 53, 203, 0, 113, 53, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, control []byte) {
		if server := asked(control); server.IsValid() != (from(server) != nil) {
			t.Errorf("server %v", server)
		}
	})
}
