package dnsblock

import (
	"log/slog"
	"net"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Queries that have come are taken, recorded and answered together: under a flood
// many of them share one wait for the record and two system calls. Nothing is waited
// for to make a batch larger.
const (
	firstBatch   = 4 // how many at first: a sandbox that asks little takes little memory
	maxBatch     = 128
	batchWorkers = 2 // while one batch waits for its record, the next is taken
)

// maxAnswer is room for an answer (bytes). A quick one has a question of at most 259
// bytes, and an OPT record.
const maxAnswer = 384

// batch is room for queries that are taken at once, and for their answers.
type batch struct {
	in, out []ipv4.Message // on an IPv6 socket too: the type is the same
	events  []audit.Event  // one for each query
	replies []reply        // the same
	space   []byte         // that quick answers lie in
	// Most queries of a batch come from one socket and ask one server.
	client, server address
}

// reply is what is sent for a query.
type reply struct {
	answer  []byte // nil: nothing
	control []byte // from which address
}

// address is one that was seen last, and what is made of it.
type address struct {
	netip.AddrPort
	text    string
	control []byte // that makes a datagram leave from it
}

func newBatch(size int) *batch {
	b := &batch{
		in: make([]ipv4.Message, size), out: make([]ipv4.Message, size),
		events: make([]audit.Event, size), replies: make([]reply, size), space: make([]byte, size*maxAnswer),
	}
	messages, control, buffers := make([]byte, size*maxQuery), make([]byte, size*maxControl), make([][]byte, 2*size)
	for i := range b.in {
		b.in[i].Buffers, b.out[i].Buffers = buffers[2*i:2*i+1], buffers[2*i+1:2*i+2]
		b.in[i].Buffers[0] = messages[i*maxQuery : (i+1)*maxQuery]
		b.in[i].OOB = control[i*maxControl : (i+1)*maxControl]
	}
	return b
}

// read takes the queries that are there, and waits for one if there is none.
func (b *batch) read(c *ipv4.PacketConn) (n int, err error) {
	return c.ReadBatch(b.in, unix.MSG_TRUNC) // which has the kernel tell the whole length
}

// message is the i-th query. Of a longer one than any is, it is what there is room
// for.
func (b *batch) message(i int) []byte {
	buf := b.in[i].Buffers[0]
	return buf[:min(b.in[i].N, len(buf))]
}

// answer has the first n queries of b recorded, and then sends their answers.
func (s *Server) answer(c *ipv4.PacketConn, b *batch, n int) {
	for i := range n {
		s.judge(b, i)
	}
	recorded := s.recordAll(b.events[:n])
	sent := 0
	for i, r := range b.replies[:n] {
		if r.answer != nil && !recorded {
			o := judge(b.message(i))
			o.fail(notRecorded)
			r.answer = o.pack()
		}
		if r.answer == nil {
			continue
		}
		out := &b.out[sent]
		out.Buffers[0], out.OOB, out.Addr = r.answer, r.control, b.in[i].Addr
		sent++
	}
	clear(b.events[:n]) // the next queries may be long in coming
	b.send(c, sent, s.Log)
}

// judge fills in the i-th event and reply of b.
func (s *Server) judge(b *batch, i int) {
	message := b.message(i)
	o, answer, ok := quick(message, b.space[i*maxAnswer:i*maxAnswer:(i+1)*maxAnswer])
	if !ok {
		o = judge(message)
		answer = o.pack()
	}
	if asker, ok := b.in[i].Addr.(*net.UDPAddr); ok {
		b.client.set(unmapped(asker.AddrPort()))
	}
	if to := asked(b.in[i].OOB[:b.in[i].NN]); b.server.set(to) {
		b.server.control = from(to)
	}
	e := &b.events[i]
	*e = s.event(peer{proto: "udp"}, o.reason)
	e.Src, e.Dst, e.Port = b.client.text, b.server.text, b.server.Port()
	e.Host, e.Method = o.name, o.qtype
	e.BytesIn, e.BytesOut = int64(b.in[i].N), int64(len(answer))
	b.replies[i] = reply{answer: answer, control: b.server.control}
}

// set makes a the address to, and says whether it was another one.
func (a *address) set(to netip.AddrPort) bool {
	if a.AddrPort == to {
		return false
	}
	a.AddrPort, a.text = to, ""
	if to.IsValid() {
		a.text = to.String()
	}
	return true
}

// send sends the first n answers. One that cannot be sent takes none of the others
// with it.
func (b *batch) send(c *ipv4.PacketConn, n int, log *slog.Logger) {
	for rest := b.out[:n]; len(rest) > 0; {
		sent, err := c.WriteBatch(rest, 0)
		if err != nil {
			// The query is recorded and refused; its sender just does not hear of it
			// (a broadcast address was asked, say).
			log.Debug("DNS answer not sent", "to", rest[0].Addr, "error", err)
			sent = 1
		}
		rest = rest[sent:]
	}
}
