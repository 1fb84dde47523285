package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// content is n bytes, no two pieces of which are the same.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	return b
}

// io.Copy uses the stream's own ways, and nothing is lost or changed on them.
func TestCopy(t *testing.T) {
	s := startSSHD(t, []string{"ed25519"})
	c := start(t, s.host(t, s.port))
	conn, err := c.Dial(testContext(t), "unix", listenUnix(t, echo))
	ok(t, err)
	defer conn.Close()
	if _, is := conn.(io.WriterTo); !is {
		t.Error("a stream is no io.WriterTo")
	}
	if _, is := conn.(io.ReaderFrom); !is {
		t.Error("a stream is no io.ReaderFrom")
	}
	sent := content(3<<20 + 7)
	var wg sync.WaitGroup
	wg.Go(func() {
		n, err := io.Copy(conn, struct{ io.Reader }{bytes.NewReader(sent)})
		if err != nil || n != int64(len(sent)) {
			t.Errorf("copied %d bytes to the stream, %v", n, err)
		}
		ok(t, conn.(*stream).CloseWrite())
	})
	// What Read left of a chunk comes first.
	got := make([]byte, 10)
	_, err = io.ReadFull(conn, got[:1])
	ok(t, err)
	rest := bytes.NewBuffer(got[:1])
	n, err := io.Copy(rest, conn)
	if err != nil || n != int64(len(sent)-1) || !bytes.Equal(rest.Bytes(), sent) {
		t.Errorf("%d of %d bytes came back, %v", n+1, len(sent), err)
	}
	wg.Wait()
}

var errOurs = errors.New("ours")

type failing struct{ n int } // writes n bytes, then no more

func (f *failing) Write(p []byte) (int, error) {
	n := min(f.n, len(p))
	f.n -= n
	if n < len(p) {
		return n, errOurs
	}
	return n, nil
}

// Copying ends with the error of whoever made it, and says how far it came.
func TestCopyFails(t *testing.T) {
	f := newFake()
	s := f.stream(t)
	f.arrive(content(5 << 10))
	if n, err := io.Copy(&failing{n: 100}, s); n != 100 || err != errOurs {
		t.Errorf("to a writer that fails: %d, %v", n, err)
	}
	short := io.MultiReader(bytes.NewReader(content(50)), errReader{})
	if n, err := io.Copy(s, struct{ io.Reader }{short}); n != 50 || err != errOurs || !bytes.Equal(f.sent(), content(50)) {
		t.Errorf("from a reader that fails: %d, %v; %d bytes were sent", n, err, len(f.sent()))
	}
	ok(t, s.SetDeadline(time.Unix(1, 0)))
	var timeout net.Error
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != 0 || !errors.As(err, &timeout) {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
	if n, err := s.WriteTo(io.Discard); n != 0 || !errors.As(err, &timeout) {
		t.Errorf("WriteTo after the deadline: %d, %v", n, err)
	}
	if n, err := s.ReadFrom(bytes.NewReader(content(9))); n != 0 || !errors.As(err, &timeout) {
		t.Errorf("ReadFrom after the deadline: %d, %v", n, err)
	}
	// Nothing was sent too late, so that the stream is not spoilt.
	ok(t, s.SetDeadline(time.Time{}))
	if n, err := s.ReadFrom(bytes.NewReader(content(9))); n != 9 || err != nil || !bytes.Equal(f.sent(), append(content(50), content(9)...)) {
		t.Errorf("ReadFrom with a new deadline: %d, %v; %d bytes were sent", n, err, len(f.sent()))
	}
	ok(t, s.Close())
	if n, err := s.WriteTo(io.Discard); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteTo after Close: %d, %v", n, err)
	}
	if n, err := s.ReadFrom(bytes.NewReader(content(9))); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadFrom after Close: %d, %v", n, err)
	}
}

// Copying what is cut off by a lost link does not look like a whole copy.
func TestCopyLinkLost(t *testing.T) {
	f := newFake()
	s := f.stream(t)
	f.arrive(content(10))
	copied := make(chan error, 1)
	got := &bytes.Buffer{}
	go func() { _, err := io.Copy(got, s); copied <- err }()
	f.link.fail(errOurs)
	f.end()
	if err := <-copied; !errors.Is(err, ErrLinkDown) {
		t.Errorf("%d bytes, then %v", got.Len(), err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errOurs }

// A stream with much to carry asks for several packets at a time, and goes back to
// small buffers when it has little.
func TestChunksGrow(t *testing.T) {
	f := newFake()
	s := f.stream(t)
	const all = 4<<10 + 32<<10 + 128<<10 + 200
	f.arrive(content(all))
	got := make([]byte, all)
	_, err := io.ReadFull(s, got)
	ok(t, err)
	if !bytes.Equal(got, content(all)) {
		t.Error("other bytes")
	}
	f.arrive([]byte{1})
	_, err = io.ReadFull(s, got[:1])
	ok(t, err)
	if want := []int{4 << 10, 32 << 10, 128 << 10, 128 << 10, 4 << 10}; !slices.Equal(f.asked()[:5], want) {
		t.Errorf("read with %v, want %v", f.asked(), want)
	}
}

func TestChunkSizes(t *testing.T) {
	for _, tt := range []struct{ n, want int }{
		{0, 0}, {1, 0}, {4 << 10, 0}, {4<<10 + 1, 1}, {32 << 10, 1}, {32<<10 + 1, 2}, {128 << 10, 2}, {1 << 30, 2},
	} {
		if got := sizeFor(tt.n); got != tt.want {
			t.Errorf("sizeFor(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
	for _, tt := range []struct{ i, n, want int }{
		{0, 4 << 10, 1}, {1, 32 << 10, 2}, {2, 128 << 10, 2}, {0, 5, 0}, {2, 4 << 10, 0}, {2, 4<<10 + 1, 1}, {2, 100 << 10, 2}, {1, 4<<10 + 1, 1}, {0, 0, 0},
	} {
		if got := sizeAfter(tt.i, tt.n); got != tt.want {
			t.Errorf("sizeAfter(%d, %d) = %d, want %d", tt.i, tt.n, got, tt.want)
		}
	}
	var b buffers
	for i, size := range chunkSizes {
		c := b.get(i)
		if len(*c.buf) != size {
			t.Errorf("chunk %d has %d bytes, want %d", i, len(*c.buf), size)
		}
		b.put(c)
		if c = b.get(i); len(*c.buf) != size {
			t.Errorf("chunk %d has %d bytes when it is used again, want %d", i, len(*c.buf), size)
		}
	}
}

// Small reads of the library's are served from what one read of the transport got.
func TestTransportBuffer(t *testing.T) {
	in := &counted{data: content(transportBuffer + 100)}
	l := newLink(Host{Name: "gpu"}, &buffers{})
	w, err := l.add(in)
	ok(t, err)
	got := make([]byte, 0, len(in.data))
	buf := make([]byte, 4<<10)
	for len(got) < transportBuffer+100 {
		n, err := w.Read(buf)
		ok(t, err)
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, content(transportBuffer+100)) || in.reads != 2 {
		t.Errorf("%d bytes by %d reads, want 2", len(got), in.reads)
	}
	if _, err := w.Read(buf); err != io.EOF || !errors.Is(l.cause(), ErrLinkDown) {
		t.Errorf("at the end: %v; the link: %v", err, l.cause())
	}
}

// counted is a transport that counts reads of it.
type counted struct {
	net.Conn
	data  []byte
	reads int
}

func (c *counted) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	c.reads++
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

func (c *counted) Close() error { return nil }

func (c *counted) SetWriteDeadline(time.Time) error { return nil }

// What each piece of a stream passes through allocates nothing.
func TestNoAllocations(t *testing.T) {
	f := newFake()
	f.drop = true
	s := f.stream(t)
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { ok(t, s.pass(p)) }); n != 0 {
		t.Errorf("a write: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { ok(t, ready(s.closed, &s.readTill)) }); n != 0 {
		t.Errorf("a look whether the stream is ready: %v allocations", n)
	}
}

// A stream's own part of a write: no SSH, no network.
func BenchmarkStreamWrite(b *testing.B) {
	f := newFake()
	f.drop = true
	s := f.stream(b)
	p := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}

// A stream's own part of a short connection that is copied both ways: no SSH, no
// network.
func BenchmarkCopyShort(b *testing.B) {
	f := newFake()
	f.drop = true
	s := f.stream(b)
	request, one := struct{ io.Reader }{bytes.NewReader(nil)}, content(100)
	b.ReportAllocs()
	for b.Loop() {
		request.Reader.(*bytes.Reader).Reset(one)
		if _, err := io.Copy(s, request); err != nil {
			b.Fatal(err)
		}
		f.arrive(one)
		if _, err := io.Copy(&failing{}, s); err != errOurs { // one piece, and the end
			b.Fatal(err)
		}
	}
}

// A stream's own part of many bytes that arrive.
func BenchmarkCopyBulk(b *testing.B) {
	f := newFake()
	s := f.stream(b)
	block := content(1 << 20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		f.arrive(block)
		if _, err := io.Copy(&failing{n: 1<<20 - 1}, s); err != errOurs {
			b.Fatal(err)
		}
	}
}
