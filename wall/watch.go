package wall

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errUnseen ends who keeps a namespace as it must be: it fails closed.
var errUnseen = errors.New("the kernel no longer reports changes of the namespace")

func anyMessage(netlink.Message) bool { return true }

// changesOfOthers matches the last message of each change of nf_tables, but for
// those that the socket own made.
func changesOfOthers(own uint32) func(netlink.Message) bool {
	const generation = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	return func(m netlink.Message) bool { return m.Header.Type == generation && m.Header.PID != own }
}

// watch returns a channel that has something to read after each message of the
// netlink groups that matters, and after messages were lost. It is closed when ctx
// ends, or when changes can no longer be seen.
func watch(ctx context.Context, family int, matters func(netlink.Message) bool, groups ...uint32) (<-chan struct{}, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("watch the namespace: %w", err)
	}
	err = conn.SetReadBuffer(netlinkBuffer)
	for _, group := range groups {
		err = errors.Join(err, conn.JoinGroup(group))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the namespace: %w", err), conn.Close())
	}
	changed := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	go func() {
		defer close(changed)
		defer conn.Close()
		defer stop()
		for {
			messages, err := conn.Receive()
			matter := errors.Is(err, unix.ENOBUFS)
			if err != nil && !matter {
				return
			}
			for _, m := range messages {
				matter = matter || matters(m)
			}
			if matter {
				select {
				case changed <- struct{}{}:
				default: // there is something to read already
				}
			}
		}
	}()
	return changed, nil
}

// await reads until changes are no longer watched.
func await(changes <-chan struct{}) {
	for range changes {
	}
}
