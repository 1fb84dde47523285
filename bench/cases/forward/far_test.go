package forward

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/bench/load"
)

// The far end resets what its caller has closed, so that no port of the caller waits.
func TestFarEndResets(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() { // until the call has ended
		c, err := l.Accept()
		if err == nil {
			err = answer(c)
			err = errors.Join(err, c.Close())
		}
		ended <- err
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(append(load.Call{Kind: load.CallEcho}.AppendTo(nil), 'x')); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 'x' {
		t.Fatalf("%q came back, %v", b, err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the far end: %v", err)
	}
	if _, err := c.Read(b[:]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a closed call ends with %v", err)
	}
}
