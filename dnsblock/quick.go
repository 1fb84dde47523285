package dnsblock

import "encoding/binary"

// quick is judge of the query that nearly all are: one question for a name of
// letters, digits, hyphens and underscores, without compression, and no other record
// than an OPT of EDNS version 0 without options. It appends to buf the same bytes that
// judge's answer packs to, without the library. ok is false for every other message,
// which judge has to see.
func quick(message, buf []byte) (o outcome, answer []byte, ok bool) {
	// No response, opcode QUERY; one question, no record or one additional.
	if len(message) < headerSize || message[2]&0xf8 != 0 || binary.BigEndian.Uint64(message[4:])&^1 != 1<<48 {
		return outcome{}, nil, false
	}
	edns := message[11] == 1
	name, end := plainName(message)
	if name == "" || len(message) < end+4 {
		return outcome{}, nil, false
	}
	do, plain := plainOPT(message[end+4:])
	if edns != plain || !edns && len(message) > end+4 {
		return outcome{}, nil, false
	}
	o.name, o.qtype = name, typeName(binary.BigEndian.Uint16(message[end:]))
	rcode, reason := sentence(binary.BigEndian.Uint16(message[end+2:]), binary.BigEndian.Uint16(message[end:]))
	o.reason = reason
	// The flags: a response, RD as asked; RA, CD as asked.
	answer = append(buf, message[0], message[1], 0x80|message[2]&1, 0x80|message[3]&0x10|byte(rcode))
	answer = append(answer, message[4:end+4]...)
	if edns {
		answer = append(answer, 0, 0, typeOPT, udpSize>>8, udpSize&0xff, 0, 0, do, 0,
			0, byte(4+2+len(hint)), 0, optionExtended, 0, byte(2+len(hint)), 0, extendedBlocked)
		answer = append(answer, hint...)
	}
	return o, answer, true
}

// Numbers of RFC 6891 and RFC 8914.
const (
	typeOPT         = 41
	optionExtended  = 15
	extendedBlocked = 15
)

// plainName reads the name after the header, and says where it ends; an empty name
// is one that is not plain.
func plainName(message []byte) (name string, end int) {
	var text [254]byte // 255 bytes on the wire, the last of which is the root's
	n := 0
	for at := headerSize; at < len(message); {
		length := int(message[at])
		at++
		switch {
		case length == 0 && n > 0:
			return string(text[:n-1]), at
		case length == 0 || length > 63 || n+length+1 > len(text) || at+length > len(message):
			return "", 0
		}
		for _, c := range message[at : at+length] {
			if lower := c | 0x20; !(lower >= 'a' && lower <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", 0
			}
			text[n] = c
			n++
		}
		text[n] = '.'
		n++
		at += length
	}
	return "", 0
}

// plainOPT says whether rest is one OPT record of version 0 without options and with
// no flag but DO, which is returned as it stands in its byte.
func plainOPT(rest []byte) (do byte, ok bool) {
	// Root, type, size of datagrams, extended code, version, flags, length of options.
	if len(rest) != 11 || rest[0] != 0 || rest[1] != 0 || rest[2] != typeOPT ||
		rest[5] != 0 || rest[6] != 0 || rest[7]&^0x80 != 0 || rest[8] != 0 || rest[9] != 0 || rest[10] != 0 {
		return 0, false
	}
	return rest[7], true
}
