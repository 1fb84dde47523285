package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/verify/probe"
)

// mark stands in each refusal that the gateway words itself.
const mark = "sallyport"

// unmarked are the statuses with which an HTTP server refuses what it cannot read as
// a request; nobody behind the proxy has seen one then.
var unmarked = map[int]bool{
	http.StatusBadRequest: true, http.StatusRequestTimeout: true, http.StatusExpectationFailed: true,
	http.StatusRequestHeaderFieldsTooLarge: true, http.StatusNotImplemented: true, http.StatusHTTPVersionNotSupported: true,
}

// judge says what an answer of the proxy's means. Several may have come on the one
// connection: each has to be a refusal.
func judge(said []byte, err error, unreachable bool, events ...probe.Event) probe.Finding {
	switch {
	case bytes.Contains(said, []byte(probe.Greeting)):
		return probe.Reached("an origin answered: %.80q", said)
	case len(said) > 5 && said[3] == 4 && said[0] == 0: // a SETTINGS frame (RFC 9113 §6.5)
		return probe.Reached("it speaks HTTP/2: %.40q", said)
	case len(said) == 0:
		return silent(err, events)
	}
	var refusals []string
	r := bufio.NewReader(bytes.NewReader(said))
	for {
		if _, err := r.Peek(1); err != nil {
			break
		}
		status, ours, err := readAnswer(r)
		switch {
		case err != nil:
			return probe.Unproven("not an HTTP answer: %.80q", said)
		case status == http.StatusSwitchingProtocols || status/100 == 2:
			return probe.Reached("the proxy obeyed: %.80q", said)
		case ours && (status/100 == 4 || unreachable && status == http.StatusBadGateway):
			refusals = append(refusals, fmt.Sprintf("%d by the gateway", status))
		case !ours && unmarked[status]:
			refusals = append(refusals, fmt.Sprintf("%d", status))
		case status != http.StatusContinue: // a 5xx comes after the rules let it pass
			return probe.Unproven("it answered %d, without a refusal of the gateway's own: %.80q", status, said)
		}
	}
	if refusals == nil {
		return probe.Unproven("no final answer: %.80q", said)
	}
	return probe.Blocked(strings.Join(refusals, ", "), events...)
}

// readAnswer reads one answer and says whether the gateway worded it.
func readAnswer(r *bufio.Reader) (status int, ours bool, err error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // it was cut off by most or pause
	}
	return resp.StatusCode, resp.Header.Get("X-Sallyport-Reason") != "" || bytes.Contains(body, []byte(mark)), err
}

// silent judges a peer that did not say a word. Silence until the deadline is no
// refusal: the proxy may be connecting to somewhere.
func silent(err error, events []probe.Event) probe.Finding {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		return probe.Blocked("closed without an answer", events...)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return probe.Unproven("silent until the deadline: a refusal comes at once")
	case !errors.As(err, &errno):
		return probe.Unproven("%.200q", fmt.Sprint(err))
	}
	switch errno {
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNABORTED:
		return probe.Blocked(errno.Error(), events...)
	}
	return probe.Stopped(err, "the kernel")
}
