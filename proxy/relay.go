package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// forward sends a checked request on and records it when its answer has passed.
func (m *model) forward(w http.ResponseWriter, r *http.Request, q *request) {
	q.event.Verdict = policy.Allow.String()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := newStream(w, m, cancel)
	defer func() { m.finish(out, r, q, recover()) }()
	resp, err := m.ask(ctx, r, q)
	if err != nil {
		m.failed(ctx, out, q, err)
		return
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	maps.Copy(out.Header(), resp.Header)
	out.WriteHeader(resp.StatusCode)
	if err := m.relay(out, resp.Body); err != nil {
		panic(http.ErrAbortHandler) // finish ends what began
	}
}

// smallRead is a relay's buffer in bytes while little comes at a time, as from a
// model that writes: an idle stream holds it. The other is for answers in bulk.
const (
	smallRead = 2 << 10
	bulkRead  = 32 << 10
)

// relay passes on each piece of an answer as it comes.
func (m *model) relay(out *stream, body io.Reader) error {
	small := make([]byte, smallRead)
	buf, bulk := small, (*[bulkRead]byte)(nil)
	defer func() { m.putBulk(bulk) }()
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case bulk == nil && n == len(small):
			bulk = m.getBulk()
			buf = bulk[:]
		case bulk != nil && n <= len(small):
			m.putBulk(bulk)
			buf, bulk = small, nil
		}
	}
}

func (m *model) getBulk() *[bulkRead]byte {
	if b, ok := m.bulk.Get().(*[bulkRead]byte); ok {
		return b
	}
	return new([bulkRead]byte)
}

func (m *model) putBulk(b *[bulkRead]byte) {
	if b != nil {
		m.bulk.Put(b)
	}
}

// failed answers for a model server that did not.
func (m *model) failed(ctx context.Context, out *stream, q *request, err error) {
	q.failure = err
	if ctx.Err() != nil {
		return // the client is gone, or the server was silent for too long: finish tells
	}
	writeError(out, &apiRefusal{http.StatusBadGateway, "api_error", m.unreachable(err)})
}

func (m *model) unreachable(err error) string {
	return fmt.Sprintf("cannot get an answer from the model server at %s: %s. Is it running? `launcher status` shows it",
		m.where(), shown(err))
}

// finish records a forwarded request. Where the answer is not whole, or the
// record not kept, the connection is cut so that the answer does not look whole.
func (m *model) finish(out *stream, r *http.Request, q *request, panicked any) {
	gone := r.Context().Err() != nil
	if panicked != nil && !gone {
		out.interrupted(m.interruption(q.failure))
	}
	status, n, u, silent := out.end()
	e := q.event
	e.Status, e.BytesOut, e.TokensIn, e.TokensOut, e.Duration = status, n, u.in, u.out, seconds(q.start)
	e.FirstToken, e.TokensPerSecond = u.firstToken(q.start), u.perSecond()
	switch {
	case silent:
		e.Reason = fmt.Sprintf("the model server was silent for %v", m.maxSilence)
	case gone:
		e.Reason = "the client hung up"
	case q.failure != nil:
		e.Reason = "the model server's answer failed: " + q.failure.Error()
	case q.overflow != "":
		e.Reason = "the request does not fit the model's context: " + q.overflow
	}
	unanswered := status == 0
	if unanswered && silent && !gone {
		e.Status = http.StatusGatewayTimeout
	}
	kept := m.record(q, e)
	if m.Trouble != nil && !gone && (silent || q.failure != nil || status >= http.StatusInternalServerError) {
		m.Trouble(orDefault(e.Reason, fmt.Sprintf("it answered %d", status)))
	}
	switch {
	case panicked != nil && panicked != http.ErrAbortHandler:
		panic(panicked)
	case panicked != nil || !kept || unanswered && e.Status == 0:
		panic(http.ErrAbortHandler)
	case unanswered:
		writeError(out.ResponseWriter, &apiRefusal{e.Status, "timeout_error", m.unreachable(errors.New(e.Reason))})
	}
}

func (m *model) interruption(err error) string {
	if err == nil {
		err = errors.New("it ended early")
	}
	return fmt.Sprintf("the answer of the model server at %s broke off: %s", m.where(), shown(err))
}

// shown is an error for the agent's eyes. It may hold what the server said, which
// must not move anything on the terminal.
func shown(err error) string { return bound(audit.Printable(err.Error()), maxReason) }
