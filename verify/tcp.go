package verify

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// marker stands in every answer that the wall's gateway gives by itself.
const marker = "sallyport"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4096

// probeTCP connects, says something, and listens. A connection alone proves
// nothing: the wall accepts every one, to learn what was wanted, and then answers
// with a marked 403 or a reset.
func probeTCP(ctx context.Context, a Attempt) (Outcome, string) {
	return ask(ctx, a.Target, "GET / HTTP/1.0\r\nHost: "+a.Target+"\r\n\r\n")
}

func probeHTTP(ctx context.Context, a Attempt) (Outcome, string) {
	u, err := url.Parse(a.Target)
	if err != nil {
		return Unproven, err.Error()
	}
	to, what := a.Via, u.String()
	if to == "" {
		port := u.Port()
		if port == "" {
			port = "80"
		}
		to, what = net.JoinHostPort(u.Hostname(), port), u.RequestURI()
	}
	return ask(ctx, to, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", what, u.Host))
}

// ask sends request to addr and judges what comes back.
func ask(ctx context.Context, addr, request string) (Outcome, string) {
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		return failed(err)
	}
	answer, err := firstBytes(conn)
	if len(answer) == 0 {
		if errors.Is(err, io.EOF) {
			return Unproven, "connected; closed without a word and without a reset"
		}
		if isTimeout(err) {
			return Unproven, "connected; then silence until the deadline"
		}
		return failed(err)
	}
	return judgeHTTP(answer)
}

// judgeHTTP tells the gateway's own refusal from an answer of somebody else.
func judgeHTTP(answer []byte) (Outcome, string) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err == nil {
		defer resp.Body.Close()
		ours := bytes.Contains(bytes.ToLower(answer), []byte(marker))
		switch {
		case ours && resp.StatusCode/100 == 4:
			return Blocked, fmt.Sprintf("%d by the gateway: %s", resp.StatusCode, firstLine(resp.Body))
		case ours: // a 5xx comes after the rules let it pass
			return Unproven, fmt.Sprintf("%d by the gateway: %s", resp.StatusCode, firstLine(resp.Body))
		}
	}
	return Reached, fmt.Sprintf("it answered %.80q", answer)
}

func probeConnect(ctx context.Context, a Attempt) (Outcome, string) {
	status, code, err := connect(ctx, a)
	switch {
	case err != nil:
		return failed(err)
	case code/100 == 2:
		return Reached, fmt.Sprintf("the proxy opened the tunnel: %q", status)
	case code/100 == 4:
		return Blocked, fmt.Sprintf("the proxy refused: %q", status)
	}
	return Unproven, fmt.Sprintf("the proxy answered %q", status) // a 5xx comes after the rules let it pass
}

var errNoAnswer = errors.New("the proxy gave no answer")

// connect asks the proxy for a tunnel and returns the status it answers.
func connect(ctx context.Context, a Attempt) (status string, code int, err error) {
	conn, err := dial(ctx, "tcp", a.Via)
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", a.Target, a.Target); err != nil {
		return "", 0, err
	}
	// The head says it; the connection may stay open behind it.
	said := &bytes.Buffer{}
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(io.LimitReader(conn, maxAnswer), said)), &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil && said.Len() > 0:
		return "", 0, fmt.Errorf("not an HTTP answer: %.80q", said)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isTimeout(err):
		return "", 0, errNoAnswer
	case err != nil:
		return "", 0, err
	}
	defer resp.Body.Close()
	return resp.Status, resp.StatusCode, nil
}

// dial connects; the whole conversation ends with ctx.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// pause is how long a peer may pause before its answer counts as whole.
const pause = 300 * time.Millisecond

// firstBytes returns what the peer says until it pauses, closes or has said
// enough. The error is that of the first read.
func firstBytes(conn net.Conn) ([]byte, error) {
	buf := make([]byte, maxAnswer)
	n, err := conn.Read(buf)
	if err != nil || conn.SetReadDeadline(time.Now().Add(pause)) != nil {
		return buf[:n], err
	}
	more, _ := io.ReadFull(conn, buf[n:]) // however it ends, the rest is a detail
	return buf[:n+more], nil
}

func firstLine(r io.Reader) string {
	data, err := io.ReadAll(io.LimitReader(r, 300))
	if err != nil && len(data) == 0 {
		return "(no reason)"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return fmt.Sprintf("%q", line)
}

// failed judges an error of a socket call.
func failed(err error) (Outcome, string) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		if isTimeout(err) {
			return Unproven, "silent until the deadline: a closed sandbox refuses at once"
		}
		return Unproven, fmt.Sprintf("%.200q", err.Error())
	}
	switch errno {
	case syscall.EPERM, syscall.EAFNOSUPPORT, syscall.EADDRNOTAVAIL, syscall.EPROTONOSUPPORT, syscall.ESOCKTNOSUPPORT:
		return StoppedInside, errno.Error()
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.ECONNABORTED:
		return Blocked, errno.Error()
	}
	return Unproven, errno.Error()
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
