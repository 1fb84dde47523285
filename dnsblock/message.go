package dnsblock

import (
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// This file alone knows the DNS library: all parsing and packing is its own.

// headerSize is that of a DNS message's header (bytes).
const headerSize = 12

// udpSize is the size of an answer that we say we could take (bytes); our own
// are far below the 512 that need no such word.
const udpSize = 1232

// hint is the text of the extended error: what a user who looks closer reads.
const hint = "blocked by sallyport: no name is looked up here; an allowed host is reached through the proxy"

// outcome is what a message gets.
type outcome struct {
	name   string // as asked, without the last dot; empty: no question could be read
	qtype  string // "A", "TYPE65280", …; empty as name
	reason string // one line for the record
	silent bool   // no answer: it is no query, or has no header to answer to
	answer *dns.Msg
}

// judge reads one message and makes its answer. No message makes it panic.
func judge(message []byte) outcome {
	if len(message) < headerSize {
		return outcome{reason: "malformed DNS message: shorter than a header", silent: true}
	}
	q := firstQuestion(message)
	o := outcome{answer: new(dns.Msg)}
	o.answer.SetReply(q)
	o.answer.RecursionAvailable = true // without it Go's resolver takes NODATA for a lame server
	if len(q.Question) == 1 {
		o.name, o.qtype = nameOf(q.Question[0]), typeName(q.Question[0].Qtype)
	}
	switch {
	case q.Response:
		o.reason, o.silent = "a DNS response, not a query", true
	case q.Opcode != dns.OpcodeQuery:
		o.refuse(dns.RcodeNotImplemented, "DNS opcode not supported")
	default:
		o.query(message)
	}
	return o
}

// firstQuestion unpacks header and first question alone. Header counts can make
// the library unpack ten thousand names out of one message.
func firstQuestion(message []byte) *dns.Msg {
	questions := min(1, message[4]|message[5])
	if compressed(message) {
		questions = 0
	}
	one := append([]byte(nil), message...)
	copy(one[4:headerSize], []byte{0, questions, 0, 0, 0, 0, 0, 0})
	q := new(dns.Msg)
	// On an error the header stands and there is no question.
	if err := q.Unpack(one); err != nil {
		q.Question = nil
	}
	return q
}

// compressed says whether the first name has a pointer (RFC 1035 §4.1.4), which could
// lead to nothing but the header, whose counts are no labels.
func compressed(message []byte) bool {
	for at := headerSize; at < len(message); at += 1 + int(message[at]) {
		if message[at] == 0 || message[at] > 63 {
			return message[at] >= 0xc0
		}
	}
	return false
}

// query answers a message whose opcode is QUERY.
func (o *outcome) query(message []byte) {
	q, err := unpackQuery(message)
	if err != nil {
		o.refuse(dns.RcodeFormatError, "malformed DNS message: "+err.Error())
		return
	}
	if opt := q.IsEdns0(); opt != nil {
		o.answer.SetEdns0(udpSize, opt.Do())
		if opt.Version() != 0 {
			o.refuse(dns.RcodeBadVers, "EDNS version not supported")
			return
		}
		o.extend(dns.ExtendedErrorCodeBlocked, hint)
	}
	o.refuse(sentence(q.Question[0].Qclass, q.Question[0].Qtype))
}

// sentence is what a question gets, by its class and type. The code fits into a
// header.
func sentence(class, qtype uint16) (rcode int, reason string) {
	switch {
	case class != dns.ClassINET:
		return dns.RcodeRefused, "DNS class not supported"
	case qtype == dns.TypeAXFR || qtype == dns.TypeIXFR:
		return dns.RcodeRefused, "DNS zone transfers are never made"
	case qtype == dns.TypeHTTPS || qtype == dns.TypeSVCB:
		// No data rather than no name: a browser then goes on to ask for A.
		return dns.RcodeSuccess, "names are not looked up"
	}
	return dns.RcodeNameError, "names are not looked up"
}

// unpackQuery unpacks a message that should be a query. It takes no more records
// than one has: an SOA with IXFR; OPT and a signature.
func unpackQuery(message []byte) (*dns.Msg, error) {
	count := func(i int) int { return int(message[i])<<8 | int(message[i+1]) }
	switch {
	case count(4) != 1:
		return nil, errors.New("not exactly one question")
	case count(6) > 1 || count(8) > 1 || count(10) > 2:
		return nil, errors.New("more records than a query has")
	}
	if compressed(message) {
		return nil, errors.New("its question is compressed")
	}
	q := new(dns.Msg)
	if err := q.Unpack(message); err != nil {
		return nil, errors.New("it cannot be parsed")
	}
	if len(q.Question) != 1 || len(q.Answer) != count(6) || len(q.Ns) != count(8) || len(q.Extra) != count(10) {
		return nil, errors.New("less in it than its header says")
	}
	options := 0
	for _, rr := range q.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			options++
		}
	}
	if options > 1 {
		return nil, errors.New("more than one OPT record") // RFC 6891, 6.1.1
	}
	return q, nil
}

func (o *outcome) refuse(rcode int, reason string) {
	o.answer.Rcode = rcode
	o.reason = reason
}

// extend sets the extended error (RFC 8914), if the query had EDNS.
func (o *outcome) extend(code uint16, text string) {
	if opt := o.answer.IsEdns0(); opt != nil {
		opt.Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code, ExtraText: text}}
	}
}

// fail turns the answer into SERVFAIL.
func (o *outcome) fail(reason string) {
	o.answer.Rcode = dns.RcodeServerFailure
	o.extend(dns.ExtendedErrorCodeOther, reason)
}

// pack returns the answer's bytes, nil if there is none.
func (o *outcome) pack() []byte {
	if o.silent {
		return nil
	}
	packed, err := o.answer.Pack()
	if err != nil {
		// A question that can be unpacked and not packed: answer without it.
		o.answer.Question = nil
		packed, err = o.answer.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

// nameOf is the name in presentation format: bytes that are not printable are
// \DDD, a dot inside of a label is \. .
func nameOf(q dns.Question) string {
	if q.Name == "." {
		return q.Name
	}
	return strings.TrimSuffix(q.Name, ".")
}

// typeName is a query type's: "A", "TYPE65280".
func typeName(qtype uint16) string { return dns.Type(qtype).String() }
