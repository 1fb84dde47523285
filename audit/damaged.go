package audit

import "fmt"

// DamagedError says that events of a store could not be read, after all others
// were. Verify tells more.
type DamagedError struct {
	Path   string
	Events int   // how many
	First  int64 // the number of the first one
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("audit store %s: %d unreadable event(s), the first is number %d; all others were read\nhint: `gateway audit verify` tells more", e.Path, e.Events, e.First)
}

func (e *DamagedError) add(seq int64) {
	if e.Events++; e.Events == 1 {
		e.First = seq
	}
}

// orNil is e, or nil if nothing was damaged.
func (e *DamagedError) orNil() error {
	if e.Events == 0 {
		return nil
	}
	return e
}
