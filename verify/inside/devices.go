package inside

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/sallyport/sallyport/verify/probe"
	"golang.org/x/sys/unix"
)

// deviceProbes open devices, or make and then open them: root may make every one in
// an ordinary container, and open none (the device controller of cgroups).
func deviceProbes() []probe.Probe {
	node := []string{"MKNOD"}
	rows := []row{
		{"block-device", "the disk under the host's file systems", "mknod(2), Linux, Documentation/admin-guide/cgroup-v1/devices.rst", node, openDisk},
		{"dev-mem", "the machine's memory", "mem(4)", []string{"MKNOD", "SYS_RAWIO"}, device{"/dev/mem", 1, 1, unix.O_RDONLY}.open},
		{"dev-kmsg", "addresses in the kernel, what the host does, and a false line in its log", "Linux, Documentation/ABI/testing/dev-kmsg", []string{"MKNOD", "SYSLOG"}, device{"/dev/kmsg", 1, 11, unix.O_RDONLY | unix.O_NONBLOCK}.open},
		{"dev-kvm", "a machine of its own, with a network of its own", "Linux, Documentation/virt/kvm/api.rst", node, device{"/dev/kvm", 10, 232, unix.O_RDWR}.open},
		{"dev-vhost-net", "packets past the packet filter", "CVE-2019-14835", node, device{"/dev/vhost-net", 10, 238, unix.O_RDWR}.open},
		{"dev-vhost-vsock", "sockets to other machines, past every network namespace", "moby/moby pull request 44562", node, device{"/dev/vhost-vsock", 10, 241, unix.O_RDWR}.open},
		{"dev-fuse", "a file system that holds the kernel still", "fuse(4)", node, device{"/dev/fuse", 10, 229, unix.O_RDWR}.open},
		{"dev-uinput", "a keyboard of the host's", "Linux, Documentation/input/uinput.rst", node, device{"/dev/uinput", 10, 223, unix.O_WRONLY}.open},
		{"dev-loop-control", "a file as a disk of the host's", "loop(4)", node, device{"/dev/loop-control", 10, 237, unix.O_RDWR}.open},
		{"tun", "an interface of its own", "Linux, Documentation/networking/tuntap.rst", []string{"NET_ADMIN", "MKNOD"}, makeTun},
	}
	return probes(rows)
}

// device is a character device by its usual path and number (Linux,
// Documentation/admin-guide/devices.txt).
type device struct {
	path         string
	major, minor uint32
	flags        int
}

func (d device) open(ctx context.Context, t probe.Target) (string, error) {
	fd, err := d.descriptor(t, unix.S_IFCHR)
	return opened("open "+d.path, fd, err)
}

// descriptor opens the device at its path, or else at one that it makes.
func (d device) descriptor(t probe.Target, kind uint32) (int, error) {
	fd, err := unix.Open(d.path, d.flags|unix.O_CLOEXEC, 0)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	for _, folder := range []string{"/", "/tmp"} {
		node := path.Join(folder, fmt.Sprintf("sallyport-probe-%s-%d-%d-%d", t.Run, kind, d.major, d.minor))
		if err = unix.Mknod(node, kind|0o600, int(unix.Mkdev(d.major, d.minor))); err != nil {
			continue
		}
		fd, err = unix.Open(node, d.flags|unix.O_CLOEXEC, 0)
		_ = unix.Unlink(node) // of a container that is thrown away
		if err == nil {
			return fd, nil
		}
	}
	return -1, err
}

// openDisk opens the machine's first block device, and reads nothing.
func openDisk(_ context.Context, t probe.Target) (string, error) {
	d, err := firstDisk()
	if err != nil {
		return "", err
	}
	fd, err := d.descriptor(t, unix.S_IFBLK)
	return opened("open block device "+d.path, fd, err)
}

func firstDisk() (device, error) {
	text, err := os.ReadFile("/proc/partitions")
	if err != nil {
		return device{}, err
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		d, blocks, name := device{flags: unix.O_RDONLY}, 0, ""
		if n, _ := fmt.Sscan(s.Text(), &d.major, &d.minor, &blocks, &name); n == 4 {
			d.path = "/dev/" + name
			return d, nil
		}
	}
	return device{}, absence("block device on this machine")
}

// makeTun makes an interface that ends with its descriptor.
func makeTun(_ context.Context, t probe.Target) (string, error) {
	fd, err := device{"/dev/net/tun", 10, 200, unix.O_RDWR}.descriptor(t, unix.S_IFCHR)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("spprobe%d")
	if err != nil {
		return "", err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return passed("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
}
