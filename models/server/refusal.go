package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sallyport/sallyport/containers"
)

// noNetwork is how an engine calls the network of a container that has none.
const noNetwork = "none"

// refused says why a container is not used though it runs and its labels are
// right: whoever may use the engine can make such a one. Empty: it is as we make
// them.
func refused(st containers.ServerState) string {
	if phaseOf(st) != PhaseRunning || st.Network == noNetwork {
		return ""
	}
	return fmt.Sprintf("its container has network %q, not none: it was not started by us like this", printable(st.Network, maxName))
}

// socketScript says whether something else than a socket lies at $1. What is not
// there yet is no matter.
const socketScript = `if [ -L "$1" ] || { [ -e "$1" ] && [ ! -S "$1" ]; }; then echo replaced; fi`

// refusal says why one that runs is not to be used; empty: it is. An error means
// that nobody knows. The server writes the folder that its socket lies in, and a
// link there would have us ask another socket of the login's, with its rights.
func (s *Server) refusal(ctx context.Context, st RuntimeState) (string, error) {
	if st.Refused != "" {
		return printable(st.Refused, 2*maxText), nil
	}
	replaced, err := s.replaced(ctx)
	if err != nil {
		return "", fmt.Errorf("look at the socket of model server %s on %s: %w", s.Name, s.place(), err)
	}
	if replaced {
		return printable(s.Socket, maxText) + " is not a socket: the server replaced it", nil
	}
	return "", nil
}

// replaced looks at the path itself, not at what it leads to.
func (s *Server) replaced(ctx context.Context) (bool, error) {
	if s.Machine == nil {
		info, err := os.Lstat(s.Socket)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && info.Mode().Type() != fs.ModeSocket, err
	}
	out, err := s.Machine.Sh(ctx, socketScript, nil, s.Socket)
	return strings.TrimSpace(string(out)) != "", err
}
