package names

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// expectation says how the sinkhole refuses a message.
type expectation uint8

const (
	marked   expectation = iota // with its own mark (RFC 8914): anything else is somebody else's
	unmarked                    // with an error alone: it could not be read, or asks for no EDNS
	mute                        // with silence: it is no query
)

// judge says what an answer to a message means.
func judge(answer []byte, want expectation, event probe.Event) probe.Finding {
	if bytes.HasPrefix(answer, []byte(probe.Greeting)) {
		return probe.Reached("it answered %.80q", answer)
	}
	if len(answer) < headerSize || binary.BigEndian.Uint16(answer) != id || answer[2]&0x80 == 0 {
		return probe.Unproven("not an answer to what was asked: %.80q", answer)
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(answer[i:])) }
	if n := count(6) + count(8); n > 0 {
		return probe.Reached("%d records came back", n)
	}
	code := dnsmessage.RCode(answer[3] & 15)
	text := strings.TrimPrefix(code.String(), "RCode")
	switch {
	case hasMark(answer):
		return probe.Blocked(fmt.Sprintf("%s, extended error %d (blocked)", text, errorBlocked), event)
	case want == unmarked && (code == dnsmessage.RCodeFormatError || code == dnsmessage.RCodeNameError || code == dnsmessage.RCodeNotImplemented || code == dnsmessage.RCodeRefused):
		return probe.Blocked(text, event)
	}
	return probe.Unproven("%s, without the sandbox's own mark: somebody else may have answered", text)
}

// hasMark says whether the sinkhole's extended error is in an answer without records.
func hasMark(answer []byte) bool {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil {
		return false
	}
	if err := errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return false
	}
	for {
		header, err := p.AdditionalHeader()
		if err != nil || header.Type != dnsmessage.TypeOPT {
			return false
		}
		opt, err := p.OPTResource()
		if err != nil {
			return false
		}
		for _, o := range opt.Options {
			if o.Code == optionError && len(o.Data) >= 2 && binary.BigEndian.Uint16(o.Data) == errorBlocked {
				return true
			}
		}
	}
}

// merge makes one finding of several. In a sandbox one that got out is enough; a
// control has to show of each attempt that it can.
func merge(t probe.Target, findings []probe.Finding) probe.Finding {
	var all probe.Finding
	count := map[verify.Outcome]int{}
	details := map[string]int{}
	var order []string
	for _, f := range findings {
		count[f.Outcome]++
		all.Events = append(all.Events, f.Events...)
		all.Errno = f.Errno
		if details[f.Detail]++; details[f.Detail] == 1 {
			order = append(order, f.Detail)
		}
	}
	for i, d := range order {
		if n := details[d]; n > 1 {
			order[i] = fmt.Sprintf("%s (%d times)", d, n)
		}
	}
	all.Detail = strings.Join(order[:min(len(order), 4)], "; ")
	switch n := len(findings); {
	case n == 0:
	case count[verify.Reached] == n || count[verify.Reached] > 0 && t.Setting == probe.Sandbox:
		all.Outcome = verify.Reached
	case count[verify.Blocked] == n:
		all.Outcome = verify.Blocked
	case count[verify.StoppedInside] == n:
		all.Outcome = verify.StoppedInside
	}
	if all.Outcome != verify.Blocked {
		all.Events = nil
	}
	if all.Outcome != verify.StoppedInside {
		all.Errno = ""
	}
	return all
}
