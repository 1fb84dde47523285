package wall

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ports are the TCP ports that a Wall listens on; a Holder listens on none, and
// neither connects anywhere by TCP.
func Ports() []uint16 { return []uint16{tproxyPort} }

// raiseNetAdmin makes CAP_NET_ADMIN effective on every thread. The helper image
// gives the binary that capability as permitted only, so that the same file runs
// where it is not to be had.
func raiseNetAdmin() error {
	const bit = 1 << unix.CAP_NET_ADMIN
	caps, err := getCaps()
	if err != nil {
		return err
	}
	if caps[0].Permitted&bit == 0 {
		return errors.New("the capability NET_ADMIN is missing; hint: this container must be started by launcher " +
			"(its binary carries a file capability, which no-new-privileges would disable)")
	}
	if caps[0].Effective == bit && caps[0].Permitted == bit && caps[1].Permitted == 0 {
		return nil // every thread got it at the start
	}
	data := [2]unix.CapUserData{{Effective: bit, Permitted: bit}}
	return setCaps(&data)
}

func getCaps() ([2]unix.CapUserData, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return data, fmt.Errorf("read capabilities: %w", err)
	}
	return data, nil
}

func setCaps(data *[2]unix.CapUserData) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(data)), 0)
	if errno != 0 {
		return fmt.Errorf("set capabilities: %w", errno)
	}
	return nil
}
