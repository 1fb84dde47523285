package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/models/hub"
)

// usualWeights is where Hugging Face's library keeps files, where nothing says
// otherwise.
const usualWeights = "~/.cache/huggingface"

// folder asks where the weights are, or will be.
func (v *interview) folder(ctx context.Context) error {
	usual := usualWeights
	if v.site != nil {
		usual = v.site.facts.HFHome
		if found := v.snapshot(ctx, usual); v.ask != nil && v.flags.weights == "" && found.Complete {
			v.say("  %s is there already, in %s", v.said.profile.Weights().Repo, audit.Printable(usual))
		}
	}
	return v.question(ctx, "3. Which folder for weights, on "+titleOf(v.said.host)+"?", v.flags.weights, usual, func(ctx context.Context, answer string) error {
		return v.testFolder(ctx, answer, usual)
	})
}

// snapshot looks for the model's weights in a folder; the zero Found: there are none.
func (v *interview) snapshot(ctx context.Context, folder string) hub.Found {
	bounded, cancel := context.WithTimeoutCause(ctx, checkTime, errTooLong)
	defer cancel()
	found, err := hub.Find(bounded, v.site.Machine, folder, wanted(v.said.profile.Weights()))
	if err != nil {
		return hub.Found{}
	}
	return found
}

// folderScript finds the nearest folder at or above $1, and says whether it may
// be written to.
const folderScript = `p=$1
while [ ! -e "$p" ] && [ "$p" != / ]; do p=$(dirname -- "$p"); done
if [ ! -d "$p" ]; then echo "file $p"; elif [ -w "$p" ] && [ -x "$p" ]; then echo "yes $p"; else echo "no $p"; fi`

func (v *interview) testFolder(ctx context.Context, answer, usual string) error {
	v.said.weights, v.complete = "", false
	if err := checkFolderName(answer); err != nil {
		return err
	}
	folder := strings.TrimSuffix(answer, "/")
	if folder != usual && folder != usualWeights {
		v.said.weights = folder
	}
	if v.site == nil {
		return nil
	}
	there := v.site.path(folder, "")
	if there == usual {
		v.said.weights = ""
	}
	bounded, cancel := context.WithTimeoutCause(ctx, checkTime, errTooLong)
	defer cancel()
	out, err := v.site.Sh(bounded, folderScript, nil, there)
	if err != nil {
		return err
	}
	state, at, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	found := v.snapshot(ctx, there)
	v.complete = found.Complete
	switch {
	case state == "file":
		return usage(fmt.Errorf("%s on %s is no folder; hint: choose another", audit.Printable(at), titleOf(v.said.host)))
	case found.Complete:
		v.show("weights", fine("%s at %.12s is in %s", v.said.profile.Weights().Repo, found.Revision, there))
		return nil
	case state != "yes":
		return usage(fmt.Errorf("the login may not write to %s on %s; hint: choose another folder, or have it given to you", audit.Printable(at), titleOf(v.said.host)))
	}
	return v.testSpace(ctx, there, found)
}

// testSpace compares what is free with what is to be downloaded.
func (v *interview) testSpace(ctx context.Context, folder string, found hub.Found) error {
	bounded, cancel := context.WithTimeoutCause(ctx, checkTime, errTooLong)
	defer cancel()
	free, err := v.site.DiskFree(bounded, folder)
	if err != nil {
		return err
	}
	need := max(0, int64(v.said.profile.Weights().GB)*1e9-found.HaveBytes)
	if need > free {
		v.show("disk", warned("another folder, or make room", "%s free at %s, and %s are to be downloaded", gigabytes(free), folder, gigabytes(need)))
		return v.allTheSame(ctx)
	}
	v.show("disk", fine("%s free at %s, %s to be downloaded", gigabytes(free), folder, gigabytes(need)))
	return nil
}

// checkFolderName refuses what the configuration would refuse.
func checkFolderName(folder string) error {
	p := folder
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		p = "/" + rest
	}
	switch {
	case !path.IsAbs(p):
		return usage(fmt.Errorf("%q is no absolute path; hint: start it with / or ~/", audit.Printable(folder)))
	case path.Clean(p) == "/" || path.Clean(p) != strings.TrimSuffix(p, "/"):
		return usage(fmt.Errorf("%q is not the plain path of a folder; hint: without . and .. and //", audit.Printable(folder)))
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }):
		return usage(errors.New("a path with a colon or control characters cannot be mounted; hint: choose another folder"))
	}
	return nil
}
