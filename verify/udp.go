package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/net/dns/dnsmessage"
)

// probeUDP sends one datagram and waits for an answer or for the refusal.
func probeUDP(ctx context.Context, a Attempt) (Outcome, string) {
	conn, err := dial(ctx, "udp", a.Target)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("sallyport probe")); err != nil {
		return failed(err)
	}
	buf := make([]byte, maxAnswer)
	n, err := conn.Read(buf)
	if isTimeout(err) { // as for a multicast group: nobody is told that it was refused
		return Blocked, "silent: no answer until the deadline"
	}
	if err != nil {
		return failed(err)
	}
	return Reached, fmt.Sprintf("it answered %.80q", buf[:n])
}

// queryTypes that dnsmessage has no name for are numbers (RFC 1035, 9460).
var queryTypes = map[string]dnsmessage.Type{
	"": dnsmessage.TypeA, "A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "TXT": dnsmessage.TypeTXT,
	"MX": dnsmessage.TypeMX, "NULL": 10, "ANY": dnsmessage.TypeALL, "HTTPS": 65, "SVCB": 64,
}

func question(a Attempt) (dnsmessage.Question, error) {
	kind, ok := queryTypes[a.Record]
	if !ok {
		return dnsmessage.Question{}, fmt.Errorf("query type %q is not known", a.Record)
	}
	text := a.Target
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	name, err := dnsmessage.NewName(text)
	if err != nil {
		return dnsmessage.Question{}, fmt.Errorf("%.80q is not a name: %w", a.Target, err)
	}
	q := dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET}
	if _, err := pack(q); err != nil {
		return dnsmessage.Question{}, fmt.Errorf("%.80q is not a name: %w", a.Target, err)
	}
	return q, nil
}

// edeBlocked is the extended error (RFC 8914) with which the sandbox's own DNS
// answers. A bare NXDOMAIN could have come from a real server.
const (
	optionEDE  = 15
	edeBlocked = 15
)

func pack(q dnsmessage.Question) ([]byte, error) {
	var opt dnsmessage.ResourceHeader
	if err := opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: 0x5a11, RecursionDesired: true},
		Questions:   []dnsmessage.Question{q},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}},
	}
	return m.Pack()
}

func probeDNS(ctx context.Context, a Attempt) (Outcome, string) {
	answer, err := exchange(ctx, a)
	if err != nil {
		return failed(err)
	}
	switch {
	case len(answer.Answers) > 0:
		return Reached, fmt.Sprintf("%d records came back", len(answer.Answers))
	case blockedByUs(answer):
		return Blocked, fmt.Sprintf("%s, extended error %d (blocked)", rcode(answer), edeBlocked)
	}
	return Unproven, fmt.Sprintf("%s, without the sandbox's own mark: somebody else may have answered", rcode(answer))
}

func rcode(m dnsmessage.Message) string {
	if m.RCode == dnsmessage.RCodeSuccess {
		return "no records"
	}
	return strings.TrimPrefix(m.RCode.String(), "RCode")
}

func blockedByUs(m dnsmessage.Message) bool {
	for _, r := range m.Additionals {
		opt, ok := r.Body.(*dnsmessage.OPTResource)
		if !ok {
			continue
		}
		for _, o := range opt.Options {
			if o.Code == optionEDE && len(o.Data) >= 2 && int(o.Data[0])<<8|int(o.Data[1]) == edeBlocked {
				return true
			}
		}
	}
	return false
}

// exchange sends one query and reads one answer.
func exchange(ctx context.Context, a Attempt) (dnsmessage.Message, error) {
	var m dnsmessage.Message
	q, err := question(a)
	if err != nil {
		return m, err
	}
	query, err := pack(q)
	if err != nil {
		return m, err
	}
	network := "udp"
	if a.TCP {
		network = "tcp"
		query = append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)
	}
	conn, err := dial(ctx, network, a.Via)
	if err != nil {
		return m, err
	}
	defer conn.Close()
	if _, err := conn.Write(query); err != nil {
		return m, err
	}
	data, err := readDNS(conn, a.TCP)
	if err != nil {
		return m, err
	}
	if err := m.Unpack(data); err != nil {
		return m, fmt.Errorf("not a DNS answer: %w", err)
	}
	if !m.Response || m.ID != 0x5a11 {
		return m, errors.New("an answer to something else")
	}
	return m, nil
}

// socket makes a socket that receives for at most the time ctx leaves.
func socket(ctx context.Context, family, kind, proto int) (fd int, err error) {
	fd, err = syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, err
	}
	tv := syscall.NsecToTimeval(max(remaining(ctx).Nanoseconds(), 1e6))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv); err != nil {
		return -1, errors.Join(err, syscall.Close(fd))
	}
	return fd, nil
}
