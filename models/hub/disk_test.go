package hub

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	standin "github.com/sallyport/sallyport/internal/hub"
	"golang.org/x/sys/unix"
)

const diskChild = "SALLYPORT_TEST_SMALL_DISK"

// A disk that fills during the download ends it with a clear line; what came is
// kept, and when there is room again it goes on. The disk is a small one, in a
// mount namespace that ends with the process that the test starts for this.
func TestFetchDiskFull(t *testing.T) {
	if os.Getenv(diskChild) != "" {
		fillDisk(t)
		return
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestFetchDiskFull$", "-test.timeout=60s")
	c.Env = append(os.Environ(), diskChild+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T) {
	r := newRig(t)
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", r.job.Dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(r.job.Dir, unix.MNT_DETACH) }()
	if _, err := r.fetch(KindDisk); !strings.Contains(err.Error(), "2.1 MB are free") {
		t.Error(err)
	}
	r.opt.free = func(*store) (int64, error) { return 1 << 40, nil } // it seems to fit
	hold := make(chan struct{})
	r.hub.Break(standin.Fault{Path: "model-00001-of-00002.safetensors", Cut: 200_000, Hold: hold})
	filler := filepath.Join(r.job.Dir, "filler")
	var once sync.Once
	report := r.opt.Report
	r.opt.Report = func(p Progress) {
		report(p)
		if p.Bytes >= 500_000 {
			once.Do(func() {
				_ = os.WriteFile(filler, make([]byte, 2<<20), 0o600) // until nothing is left
				close(hold)
			})
		}
	}
	_, err := r.fetch(KindDisk)
	if !strings.Contains(err.Error(), "is full") || !strings.Contains(err.Error(), "goes on where it stopped") || len(r.pauses) > 0 {
		t.Errorf("%v, %v", err, r.pauses)
	}
	kept, _ := filepath.Glob(r.inRepo("blobs/*"))
	if len(kept) == 0 {
		t.Error("nothing was kept")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	result, _ := r.fetch("")
	r.complete()
	if result.Downloaded > 600_000 {
		t.Errorf("%d bytes were downloaded again", result.Downloaded)
	}
}
