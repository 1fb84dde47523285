package addresses

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

const (
	patience = 2500 * time.Millisecond // for an answer or a refusal, both of which come at once
	brief    = 600 * time.Millisecond  // where a refusal may be silence
)

// attempt is one of a probe's attempts.
type attempt struct {
	what string // in the report
	try  func(ctx context.Context) probe.Finding
}

// together makes attempts side by side and merges what became of them.
func together(ctx context.Context, t probe.Target, attempts []attempt) probe.Finding {
	findings := make([]probe.Finding, len(attempts))
	var wait sync.WaitGroup
	for i, a := range attempts {
		wait.Go(func() {
			findings[i] = a.try(ctx)
			if len(attempts) > 1 {
				findings[i].Detail = a.what + ": " + findings[i].Detail
			}
		})
	}
	wait.Wait()
	return merge(t, findings)
}

// merge makes one finding of several. In a sandbox one that got out is enough; a
// control has to show of every attempt that it can.
func merge(t probe.Target, findings []probe.Finding) probe.Finding {
	var all probe.Finding
	var details []string
	number := map[verify.Outcome]int{}
	made := 0
	for _, f := range findings {
		details = append(details, f.Detail)
		if f.Absent {
			continue
		}
		made++
		number[f.Outcome]++
		all.Events = append(all.Events, f.Events...)
		if all.Errno == "" {
			all.Errno = f.Errno
		}
	}
	all.Absent = made == 0
	switch {
	case number[verify.Reached] > 0 && (t.Setting == probe.Sandbox || number[verify.Reached] == made):
		all.Outcome = verify.Reached
	case number[verify.Reached]+number[verify.Unproven] > 0 || made == 0:
		all.Outcome = verify.Unproven
	case number[verify.Blocked] > 0:
		all.Outcome = verify.Blocked
	default:
		all.Outcome = verify.StoppedInside
	}
	if all.Outcome != verify.StoppedInside {
		all.Errno = ""
	}
	if all.Outcome != verify.Blocked {
		all.Events = nil
	}
	all.Detail = strings.Join(details, "; ")
	return all
}

// refused is the finding of an error of a socket call, whose refusal from the way
// must have left event.
func refused(err error, event probe.Event) probe.Finding {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return probe.Unproven("%.200q", err.Error())
	}
	switch errno {
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
		syscall.EACCES, syscall.ECONNABORTED, syscall.EPROTO:
		return probe.Blocked(errno.Error(), event)
	case syscall.EAGAIN, syscall.EINPROGRESS, syscall.ETIMEDOUT:
		return probe.Unproven("silent until the deadline: a closed sandbox refuses at once")
	}
	return probe.Stopped(errno, "the kernel")
}

// ownOnly says, as the finding not to try, that an attempt would reach what is not
// verify's own: on an engine's network only the peer is.
func ownOnly(t probe.Target) (f probe.Finding, elsewhere bool) {
	if t.Setting == probe.Ordinary || t.Setting == probe.Unconfined {
		return probe.Missing("listener of verify's own at that address"), true
	}
	return f, false
}

// left is how long ctx leaves, at most limit.
func left(ctx context.Context, limit time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	return max(limit, time.Millisecond)
}

func describe(answer []byte) string { return fmt.Sprintf("it answered %.80q", answer) }
