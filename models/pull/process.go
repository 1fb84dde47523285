package pull

import (
	"context"
	"errors"
	"io"

	"github.com/sallyport/sallyport/machine"
	"github.com/sallyport/sallyport/models/hub"
)

// processScript runs the downloader, which reads stdin. A token of the login's own
// is none of it.
const processScript = `unset HF_TOKEN
exec "$@"`

func (d *downloader) asProcess(ctx context.Context) (hub.Result, error) {
	job, err := d.job(d.Weights)
	if err != nil {
		return hub.Result{}, err
	}
	var more []string
	if !d.Direct {
		more = []string{"--netns"}
	}
	out := newOutput(d.Report)
	feed, end := feeder(d.Token, job)
	defer end()
	err = d.Machine.Stream(ctx, processScript, feed, out, append([]string{d.Binary}, d.args(d.ProxySocket, more...)...)...)
	if sh, ok := errors.AsType[*machine.ShError](err); ok {
		_, _ = io.WriteString(&out.errors, sh.Stderr)
	}
	return out.result(ctx, err)
}
