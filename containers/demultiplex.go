package containers

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The streams of a frame, and the length of its header.
const (
	streamIn    = 0 // "is written on stdout"
	streamOut   = 1
	streamErr   = 2
	frameHeader = 8
)

// demultiplex takes apart what a container without a terminal wrote, until from
// ends: Docker Engine API v1.47, "Attach to a container", "Stream format"
// (https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerAttach).
// A frame is {stream, 0, 0, 0, size as a big-endian uint32} and then size bytes.
// An engine may be another machine's, so nothing is set aside by what a header
// says: the bytes are passed on as they come. Another stream's number, or an end
// in the middle of a frame, is an error.
func demultiplex(out, errOut io.Writer, from io.Reader) error {
	var head [frameHeader]byte
	for {
		if _, err := io.ReadFull(from, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		to := out
		switch head[0] {
		case streamIn, streamOut:
		case streamErr:
			to = errOut
		default:
			return fmt.Errorf("the engine sent a frame of stream %d, which there is not", head[0])
		}
		size := int64(binary.BigEndian.Uint32(head[4:]))
		if _, err := io.CopyN(to, from, size); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
}
