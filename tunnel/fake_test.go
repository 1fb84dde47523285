package tunnel

import (
	"io"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// fake is a channel in memory, with a link of its own.
type fake struct {
	ssh.Channel
	link *link
	reqs chan *ssh.Request

	mu    sync.Mutex
	cond  sync.Cond
	in    []byte
	eof   bool
	out   []byte
	sizes []int // of the buffers that were read with
	drop  bool  // what is written is not kept
}

func newFake() *fake {
	f := &fake{link: newLink(Host{Name: "gpu"}, &buffers{}), reqs: make(chan *ssh.Request)}
	f.cond.L = &f.mu
	return f
}

// stream is one over f; all of it ends with the test.
func (f *fake) stream(t testing.TB) *stream {
	t.Helper()
	conn, err := newStream(f.link, f, f.reqs, target{"unix", "/model.sock"})
	ok(t, err)
	t.Cleanup(func() {
		f.link.fail(errOurs)
		conn.Close()
		f.end()
		close(f.reqs)
		f.link.wait()
	})
	return conn.(*stream)
}

func (f *fake) arrive(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in = append(f.in, p...)
	f.cond.Broadcast()
}

func (f *fake) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.eof = true
	f.cond.Broadcast()
}

func (f *fake) sent() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.out)
}

func (f *fake) asked() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sizes)
}

func (f *fake) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.in) == 0 && !f.eof {
		f.cond.Wait()
	}
	if len(f.in) == 0 {
		return 0, io.EOF
	}
	f.sizes = append(f.sizes, len(p))
	n := copy(p, f.in)
	f.in = f.in[n:]
	return n, nil
}

func (f *fake) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.drop {
		f.out = append(f.out, p...)
	}
	return len(p), nil
}

func (f *fake) Close() error { return nil }
