package origin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary runs itself as the gateway that looks, as the holder of a
// sandbox and as what runs in it: role and arguments are its command line.
const roleVariable = "SALLYPORT_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runRole(role, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runRole(role string, args []string) error {
	switch role {
	case "gateway":
		return runGateway(args)
	case "holder":
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return err
		}
		fmt.Println("ready")
		return waitForEnd()
	case "agent":
		return runAgent(args)
	}
	return fmt.Errorf("no such role: %s", role)
}

// waitForEnd returns when the test has closed our standard input.
func waitForEnd() error {
	_, err := bufio.NewReader(os.Stdin).ReadByte()
	if err == nil {
		return fmt.Errorf("standard input is only there to be closed")
	}
	return nil
}

// question is one that the gateway's role is asked.
type question struct {
	Proto    string
	Src, Dst netip.AddrPort
	Accepted bool
	Open     bool
	Inode    uint64
}

// runGateway answers questions as an ordinary user.
func runGateway(args []string) error {
	holder, _ := strconv.Atoi(args[1])
	ns, _ := strconv.ParseUint(args[2], 10, 64)
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", holder)); err == nil && os.Getuid() != 0 {
		return fmt.Errorf("the holder can be read: %s", link)
	}
	f := newFinder(Sandbox{Holder: holder, Netns: ns}, args[0])
	out := json.NewEncoder(os.Stdout)
	for in := json.NewDecoder(os.Stdin); in.More(); {
		var q question
		if err := in.Decode(&q); err != nil {
			return err
		}
		var p *audit.Process
		if q.Accepted {
			p = f.FindAccepted(Accepted{Src: q.Src, Dst: q.Dst, Inode: q.Inode}, func() bool { return q.Open })
		} else {
			p = f.Find(q.Proto, q.Src, q.Dst)
		}
		if err := out.Encode(p); err != nil {
			return err
		}
	}
	return nil
}
