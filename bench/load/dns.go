package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// NamesArg says what to ask a DNS server. Each client asks from a socket of its own for
// the address of names that nobody asked for before, NUMBER.cCLIENT.Zone, and each
// answer has to be NXDOMAIN.
type NamesArg struct {
	Server  string        `json:"server"` // address:port
	Clients int           `json:"clients"`
	Window  int           `json:"window"` // queries of a client that wait for an answer at a time; a power of two
	For     time.Duration `json:"for"`
	Zone    string        `json:"zone"` // "run1.example": another one each time
}

// Names is what came of it. Rate has the answers that count.
type Names struct {
	Rate
	Answered int64 `json:"answered"` // names, with those before and after the time that counts
	Again    int64 `json:"again"`    // queries that were sent again since no answer came in time
}

// Queries that have no answer after lostAfter are sent again, at most lostOften times:
// a datagram may be lost.
const (
	lostAfter = time.Second
	lostOften = 5
)

// names asks for names.
func names(ctx context.Context, arg NamesArg) (Names, error) {
	if arg.Window <= 0 || arg.Window > 1<<12 || arg.Window&(arg.Window-1) != 0 {
		return Names{}, fmt.Errorf("a window of %d is no power of two, or too large", arg.Window)
	}
	begin := time.Now().Add(min(warmUp, arg.For))
	parts, errs := make([]Names, arg.Clients), make([]error, arg.Clients)
	var wg sync.WaitGroup
	for c := range arg.Clients {
		wg.Go(func() {
			parts[c], errs[c] = namesOf(ctx, arg, ".c"+strconv.Itoa(c)+"."+arg.Zone, begin)
		})
	}
	wg.Wait()
	sum := Names{Rate: Rate{NS: int64(arg.For)}}
	for _, part := range parts {
		sum.N += part.N
		sum.Answered += part.Answered
		sum.Again += part.Again
	}
	return sum, errors.Join(errs...)
}

func namesOf(ctx context.Context, arg NamesArg, suffix string, begin time.Time) (n Names, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", arg.Server)
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	a := newAsker(ipv4.NewPacketConn(conn.(*net.UDPConn)), arg.Window, suffix)
	end := begin.Add(arg.For)
	for i := range a.asked {
		a.next(i, time.Now())
	}
	for {
		if err := a.flush(); err != nil {
			return n, err
		}
		if a.waiting == 0 {
			n.Again = a.again
			return n, nil
		}
		answered, err := a.take()
		now := time.Now()
		if err != nil {
			return n, err
		}
		n.Answered += int64(len(answered))
		if now.After(begin) && now.Before(end) {
			n.N += int64(len(answered))
		}
		if now.Before(end) && ctx.Err() == nil {
			for _, i := range answered {
				a.next(i, now)
			}
		}
		if err := a.repeat(now); err != nil {
			return n, err
		}
	}
}

// asked is one query of the window. Its place in the window is its id's remainder.
type asked struct {
	query []byte
	sent  time.Time
	often int
	open  bool // no answer yet
}

// asker is a client: one socket and its window.
type asker struct {
	conn     *ipv4.PacketConn
	suffix   []byte // of the names, on the wire, with type and class
	asked    []asked
	number   int // of the last name
	waiting  int
	again    int64
	out, in  []ipv4.Message
	sending  int // the first of out
	answered []int
	checked  time.Time // when repeat last looked
}

func newAsker(conn *ipv4.PacketConn, window int, suffix string) *asker {
	a := &asker{conn: conn, asked: make([]asked, window), out: make([]ipv4.Message, window), in: make([]ipv4.Message, window), checked: time.Now()}
	label := 0
	for i := range suffix { // ".c0.run1.example": a length instead of each dot
		if suffix[i] == '.' {
			label = len(a.suffix)
			a.suffix = append(a.suffix, 0)
			continue
		}
		a.suffix = append(a.suffix, suffix[i])
		a.suffix[label]++
	}
	a.suffix = append(a.suffix, 0, 0, 1, 0, 1)
	for i := range window {
		a.asked[i].query = binary.BigEndian.AppendUint16(nil, uint16(i))
		a.out[i].Buffers, a.in[i].Buffers = make([][]byte, 1), [][]byte{make([]byte, 1232)}
	}
	return a
}

// next has the i-th of the window ask for another name, with another id.
func (a *asker) next(i int, now time.Time) {
	q := &a.asked[i]
	a.number++
	id := binary.BigEndian.Uint16(q.query) + uint16(len(a.asked))
	query := binary.BigEndian.AppendUint16(q.query[:0], id)
	query = append(query, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
	query = strconv.AppendInt(query, int64(a.number), 10)
	query[12] = byte(len(query) - 13)
	*q = asked{query: append(query, a.suffix...), open: true}
	a.waiting++
	a.send(i, now)
}

func (a *asker) send(i int, now time.Time) {
	a.asked[i].sent = now
	a.asked[i].often++
	a.out[a.sending].Buffers[0] = a.asked[i].query
	a.sending++
}

// flush sends what there is to send.
func (a *asker) flush() error {
	for rest := a.out[:a.sending]; len(rest) > 0; {
		n, err := a.conn.WriteBatch(rest, 0)
		if err != nil {
			return fmt.Errorf("send queries: %w", err)
		}
		rest = rest[n:]
	}
	a.sending = 0
	return nil
}

// take waits for answers and returns whose they are.
func (a *asker) take() ([]int, error) {
	if err := a.conn.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
		return nil, err
	}
	a.answered = a.answered[:0]
	n, err := a.conn.ReadBatch(a.in, 0)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read answers: %w", err)
	}
	for _, m := range a.in[:n] {
		i, err := a.check(m.Buffers[0][:m.N])
		if err != nil {
			return nil, err
		}
		if i >= 0 {
			a.asked[i].open = false
			a.waiting--
			a.answered = append(a.answered, i)
		}
	}
	return a.answered, nil
}

// check says whose answer it is; -1: of one that was sent again and has its answer.
func (a *asker) check(answer []byte) (int, error) {
	if len(answer) < 12 {
		return 0, fmt.Errorf("an answer of %d bytes", len(answer))
	}
	i := int(binary.BigEndian.Uint16(answer)) % len(a.asked)
	q := a.asked[i]
	switch {
	case !q.open || string(answer[:2]) != string(q.query[:2]):
		if a.again > 0 {
			return -1, nil
		}
		return 0, fmt.Errorf("an answer that nobody asked for: %x", answer)
	case answer[2]&0x80 == 0 || answer[3]&0xf != 3:
		return 0, fmt.Errorf("%x is not answered NXDOMAIN: %x", q.query, answer)
	case len(answer) < len(q.query) || string(answer[4:6]) != string(q.query[4:6]) || string(answer[12:len(q.query)]) != string(q.query[12:]):
		return 0, fmt.Errorf("%x is answered with another question: %x", q.query, answer)
	}
	return i, nil
}

// repeat sends again what has no answer for too long.
func (a *asker) repeat(now time.Time) error {
	if now.Sub(a.checked) < lostAfter/4 {
		return nil
	}
	a.checked = now
	for i := range a.asked {
		q := &a.asked[i]
		switch {
		case !q.open || now.Sub(q.sent) < lostAfter:
		case q.often > lostOften:
			return fmt.Errorf("no answer to %x, though it was sent %d times", q.query, q.often)
		default:
			a.again++
			a.send(i, now)
		}
	}
	return nil
}
