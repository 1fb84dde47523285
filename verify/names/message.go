package names

import (
	"encoding/binary"
	"strings"
)

// Types, classes, opcodes and options of DNS, by number.
const (
	typeA     = 1   // RFC 1035 §3.2.2, and those without a number of their own here
	typeCNAME = 5   //
	typeSOA   = 6   //
	typeNULL  = 10  //
	typePTR   = 12  //
	typeMX    = 15  //
	typeTXT   = 16  //
	typeAAAA  = 28  // RFC 3596
	typeSRV   = 33  // RFC 2782
	typeOPT   = 41  // RFC 6891
	typeHTTPS = 65  // RFC 9460
	typeIXFR  = 251 // RFC 1995
	typeAXFR  = 252 // RFC 5936
	typeANY   = 255 //
	typeOther = 65280

	classIN    = 1
	classCHAOS = 3

	opcodeNotify = 4 // RFC 1996
	opcodeUpdate = 5 // RFC 2136

	optionSubnet  = 8  // RFC 7871
	optionPadding = 12 // RFC 7830
	optionError   = 15 // RFC 8914
	errorBlocked  = 15 // of optionError

	flagResponse  = 1 << 15
	flagRecursion = 1 << 8
)

const headerSize = 12

// id is that of every message: a socket asks once.
const id = 0x5a11

// message is a DNS message to be sent.
type message struct {
	flags     uint16
	questions []question
	authority []byte // a record, packed
	options   []byte // of OPT, packed
	bare      bool   // no OPT
}

type question struct {
	labels      []string // whatever bytes are in them
	kind, class uint16
}

// ask is a plain query, as a resolver's library sends it.
func ask(name string, kind uint16) message {
	return message{flags: flagRecursion, questions: []question{{labels(name), kind, classIN}}}
}

func labels(name string) []string { return strings.Split(name, ".") }

// pack encodes m. Labels have 63 bytes at most.
func (m message) pack() []byte {
	n := binary.BigEndian
	b := n.AppendUint16(n.AppendUint16(nil, id), m.flags)
	b = n.AppendUint16(b, uint16(len(m.questions)))
	b = append(b, 0, 0, 0, flag(len(m.authority) > 0), 0, flag(!m.bare))
	for _, q := range m.questions {
		b = append(b, packName(q.labels)...)
		b = n.AppendUint16(n.AppendUint16(b, q.kind), q.class)
	}
	b = append(b, m.authority...)
	if m.bare {
		return b
	}
	b = append(b, 0)
	b = n.AppendUint16(n.AppendUint16(b, typeOPT), 1232)
	b = n.AppendUint16(append(b, 0, 0, 0, 0), uint16(len(m.options)))
	return append(b, m.options...)
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func packName(labels []string) []byte {
	var b []byte
	for _, l := range labels {
		b = append(append(b, byte(len(l))), l...)
	}
	return append(b, 0)
}

// option is one of OPT's.
func option(code uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// soa is the record with which IXFR says what the client has.
func soa(name string) []byte {
	data := append(packName([]string{"a"}), packName([]string{"b"})...)
	data = append(data, make([]byte, 20)...)
	b := packName(labels(name))
	b = binary.BigEndian.AppendUint16(b, typeSOA)
	b = append(b, 0, classIN, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}
