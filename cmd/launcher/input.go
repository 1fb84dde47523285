package main

import (
	"io"
	"os"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/verify"
)

// maxKept bounds, in bytes, what is typed while no agent is attached.
const maxKept = 64 << 10

// input is the user's keyboard or file, read by one goroutine, so that an agent
// that is attached to again loses nothing of it.
type input struct {
	stdin  *os.File
	open   chan struct{} // closed by begin
	chunks chan []byte   // closed at the end of stdin
	closed chan struct{} // closed by end
	word   *strings.Reader

	mu   sync.Mutex
	kept []byte // taken from chunks and not read yet
}

func newInput(stdin *os.File) *input {
	return &input{stdin: stdin, open: make(chan struct{}), chunks: make(chan []byte), closed: make(chan struct{}),
		word: strings.NewReader(verify.GoAhead)}
}

// begin lets the agent have the go-ahead, and then the user's input. The
// goroutine that reads it ends with the input, or with the read after end.
func (in *input) begin() {
	go func() {
		defer close(in.chunks)
		for {
			b := make([]byte, 32<<10)
			n, err := in.stdin.Read(b)
			if n > 0 {
				select {
				case in.chunks <- b[:n]:
				case <-in.closed:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	close(in.open)
}

// end says that nobody reads any more.
func (in *input) end() { close(in.closed) }

// keep gives back what was taken from chunks, for the next reader.
func (in *input) keep(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.kept = append(in.kept, b[:min(len(b), maxKept-len(in.kept))]...)
}

func (in *input) takeKept() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.kept
	in.kept = nil
	return b
}

// reader returns what an attached session reads until stop is closed.
func (in *input) reader(stop <-chan struct{}) io.Reader {
	return &inputReader{input: in, stop: stop}
}

type inputReader struct {
	*input
	stop <-chan struct{}
	rest []byte
}

// Read implements io.Reader: nothing before begin, then the go-ahead, then stdin.
// What a reader was given and had not passed on when it was stopped is kept.
func (r *inputReader) Read(b []byte) (int, error) {
	select {
	case <-r.open:
	case <-r.stop:
		return 0, io.ErrClosedPipe
	}
	if r.word.Len() > 0 {
		return r.word.Read(b)
	}
	if len(r.rest) == 0 {
		r.rest = r.takeKept()
	}
	if len(r.rest) == 0 {
		select {
		case chunk, ok := <-r.chunks:
			if !ok {
				return 0, io.EOF
			}
			r.rest = chunk
		case <-r.stop:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	select {
	case <-r.stop: // the session has ended: what it cannot send any more is the next one's
		r.keep(append(b[:n:n], r.rest...))
		r.rest = nil
		return 0, io.ErrClosedPipe
	default:
		return n, nil
	}
}
