package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// lastCapability bounds the search for the newest one (linux/capability.h).
const lastCapability = 63

// Capabilities gives up every capability of this thread but those in keep, a set
// of 1<<unix.CAP_…: permitted, effective, inheritable, ambient, and bounding where
// the thread may change that. One that it does not have is not gained; one that is
// ambient stays so, since it would else end with the next program.
func Capabilities(keep uint64) error {
	have, err := capabilities()
	if err != nil {
		return err
	}
	if have.effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := Bounding(keep); err != nil {
			return err
		}
	}
	keep &= have.permitted
	ambient, err := ambient(keep)
	if err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 takes two, of 32 bits each
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Permitted: uint32(keep >> shift), Effective: uint32(have.effective & keep >> shift), Inheritable: uint32(ambient >> shift),
		}
	}
	// What is not inheritable any more is not ambient either, capabilities(7).
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// Bounding empties this thread's bounding set but for keep. It takes CAP_SETPCAP.
func Bounding(keep uint64) error {
	for capability := range uintptr(lastCapability + 1) {
		if keep&(1<<capability) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) { // past the last one
			return nil
		}
		if err != nil {
			return fmt.Errorf("empty the bounding set: %w", err)
		}
	}
	return nil
}

type sets struct{ permitted, effective uint64 }

func capabilities() (sets, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return sets{}, fmt.Errorf("read capabilities: %w", err)
	}
	return sets{
		permitted: uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32,
		effective: uint64(data[0].Effective) | uint64(data[1].Effective)<<32,
	}, nil
}

// ambient returns which of the given capabilities are ambient.
func ambient(of uint64) (uint64, error) {
	var set uint64
	for capability := range uintptr(lastCapability + 1) {
		if of&(1<<capability) == 0 {
			continue
		}
		is, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, capability, 0, 0)
		if err != nil {
			return 0, fmt.Errorf("read ambient capabilities: %w", err)
		}
		if is == 1 {
			set |= 1 << capability
		}
	}
	return set, nil
}
