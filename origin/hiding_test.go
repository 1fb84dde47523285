package origin

import "testing"

// A socket that a process which cannot be read may have too is nobody's.
func TestSharedWithHiding(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	for _, proto := range []string{"tcp", "udp"} {
		// The parents of the one that hides can be read, or there are none.
		for _, depth := range []int{0, 1} {
			r, did := w.agent(t, testUID, depth, "hideandfork", proto, to.String())
			p := w.gateway.ask(t, question{Proto: proto, Src: did.Src, Dst: to})
			wantUnknown(t, p, MayShare)
			if p.UID != testUID {
				t.Errorf("its uid is told as %d", p.UID)
			}
			r.end()
		}
	}
}

// While a process hides in the sandbox nobody is named in it, by the first look
// or a later one; somebody else's that hides changes nothing.
func TestHidingBeside(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	elsewhere := command(t, "holder", testUID, 0)
	if err := elsewhere.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	elsewhere.watch(t)
	_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
	wantFound(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), did)
	hiding, hidden := w.agent(t, testUID, 1, "hide", "tcp", to.String())
	for range 3 {
		_, did := w.agent(t, testUID, 1, "plain", "tcp", to.String())
		wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), MayShare)
	}
	wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: hidden.Src, Dst: to}), Hidden)
	hiding.end()
	wantFound(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), did)
}

// What a thread with descriptors of its own, or a process with namespaces of its
// own, has open too is shared, whoever is found first.
func TestSharedOutOfSight(t *testing.T) {
	w := newWorld(t)
	_, to := w.listen(t, "127.0.0.1:0")
	for _, way := range []string{"threadandchild", "namespaces"} {
		_, did := w.agent(t, testUID, 1, way, "tcp", to.String())
		wantUnknown(t, w.gateway.ask(t, question{Proto: "tcp", Src: did.Src, Dst: to}), Shared(2))
	}
}
