package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Monotonic is CLOCK_MONOTONIC in nanoseconds: the same for all processes of one
// kernel, in whatever container.
func Monotonic() (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return t.Nano(), nil
}

// Ways in which a stream fails. Lost: no answer with a status of 200 came. Cut: it
// ended before its end. Wrong: it says something else than the origin did.
var (
	ErrLost  = errors.New("stream lost")
	ErrCut   = errors.New("stream cut")
	ErrWrong = errors.New("stream wrong")
)

// openStream asks for the stream of a script. The request's body is pad bytes
// longer than it has to be.
func openStream(ctx context.Context, client *http.Client, url string, s Script, pad int) (*http.Response, error) {
	body := `{"model":"bench","max_tokens":4096,"stream":true,"messages":[{"role":"user","content":"` +
		strings.Repeat("x", pad) + `"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if err := s.Set(req.Header); err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // for the message alone
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: status %d: %s", ErrLost, resp.StatusCode, text)
	}
	return resp, nil
}

const (
	dataStart  = `data: `
	deltaStart = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`
	deltaEnd   = `"}}`
)

// AppendDelta appends the event of delta number n, sent at ns.
func AppendDelta(b []byte, n int, ns int64, fill []byte) []byte {
	b = append(b, "event: content_block_delta\n"+dataStart+deltaStart...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, ns, 10)
	b = append(b, ' ')
	b = append(b, fill...)
	return append(b, deltaEnd+"\n\n"...)
}

// StreamStart and StreamEnd are what comes before and after the deltas.
const StreamStart = `event: message_start
data: {"type":"message_start","message":{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

`

// StreamEnd ends a stream of n deltas.
func StreamEnd(n int) string {
	return fmt.Sprintf(`event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":%d}}

event: message_stop
data: {"type":"message_stop"}

`, n)
}

// readStream reads a stream to its end, or with Hold to its last delta, and checks
// each byte. each is told how long a delta took, in nanoseconds; nil: nobody is.
func readStream(body *bufio.Reader, s Script, each func(ns int64)) error {
	if err := expect(body, StreamStart); err != nil {
		return err
	}
	fill := bytes.Repeat([]byte("."), s.Fill)
	for n := range s.Deltas {
		if err := expect(body, "event: content_block_delta\n"); err != nil {
			return err
		}
		if err := readDelta(body, n, fill, each); err != nil {
			return err
		}
	}
	if s.Hold {
		return nil
	}
	if err := expect(body, StreamEnd(s.Deltas)); err != nil {
		return err
	}
	switch _, err := body.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: more comes after its last event", ErrWrong)
	default:
		return fmt.Errorf("%w: after its last event: %w", ErrCut, err)
	}
}

func readDelta(body *bufio.Reader, n int, fill []byte, each func(ns int64)) error {
	line, err := body.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("%w: in delta %d: %w", ErrCut, n, err)
	}
	now, err := Monotonic()
	if err != nil {
		return err
	}
	text, starts := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte(dataStart+deltaStart))
	text, ends := bytes.CutSuffix(text, []byte(deltaEnd))
	parts := bytes.SplitN(text, []byte(" "), 3)
	if !starts || !ends || len(parts) != 3 || string(parts[0]) != strconv.Itoa(n) || !bytes.Equal(parts[2], fill) {
		return fmt.Errorf("%w: delta %d is %.200q", ErrWrong, n, line)
	}
	sent, err := strconv.ParseInt(string(parts[1]), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: delta %d: %w", ErrWrong, n, err)
	}
	if each != nil {
		each(now - sent)
	}
	return expect(body, "\n")
}

// expect reads want, which is no longer than body's buffer.
func expect(body *bufio.Reader, want string) error {
	got, err := body.Peek(len(want))
	if err != nil {
		return fmt.Errorf("%w: before %.60q: %w", ErrCut, want, err)
	}
	if string(got) != want {
		return fmt.Errorf("%w: %.200q instead of %.60q", ErrWrong, got, want)
	}
	_, err = body.Discard(len(want))
	return err
}
