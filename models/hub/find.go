package hub

import (
	"context"

	"github.com/sallyport/sallyport/machine"
)

// Found is what lies in a machine's cache.
type Found struct {
	Complete          bool     // every wanted file is there with its size, and the vocabulary files if they are wanted
	Weights           string   // the cache's real folder, absolute; empty: it is not there
	Snapshot          string   // its folder, in Weights; empty: the revision is not there
	Revision          string   // commit; empty: not known
	HaveBytes         int64    // of wanted files, unfinished downloads included
	EncodingsComplete bool     // the vocabulary files are there and right; true if they are not wanted
	Missing           []string // what is not there, for people; bounded
	Others            []string // other commits of the repository that lie there
}

// Find looks for w in the cache in weightsDir ($HF_HOME) of m. What
// huggingface_hub downloaded counts as well as what Fetch did.
func Find(ctx context.Context, m *machine.Machine, weightsDir string, w Want) (Found, error) {
	return find(ctx, m.Sh, weightsDir, w)
}
