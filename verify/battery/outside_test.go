package battery

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// A question that gets lost is asked again.
func TestEndedIsAskedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() { // one is held, and nobody listens after it
		defer close(done)
		c, err := l.Accept()
		if err == nil {
			l.Close()
			defer c.Close()
			c.Read(make([]byte, 1<<10)) // the question
			c.Read(make([]byte, 1<<10)) // until it is given up
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	if f := TryEnded(t.Context(), probe.Target{Model: at}); f.Outcome != verify.StoppedInside || f.Errno != "ECONNREFUSED" {
		t.Errorf("%+v", f)
	}
	<-done
}
