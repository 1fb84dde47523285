//go:build !linux

package tunnel

import "net"

// quickAck is for Linux alone.
func quickAck(c net.Conn) net.Conn { return c }
