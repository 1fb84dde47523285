package names

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/verify"
	"github.com/sallyport/sallyport/verify/probe"
)

// many carries a file out in the labels of many names.
type many struct {
	names  int
	beside int // sockets at a time
	limit  time.Duration
}

// bulk allows for a resolver that writes each name down before it answers.
var bulk = many{names: 1000, beside: 16, limit: 15 * time.Second}

func (m many) probe() probe.Probe {
	return probe.Probe{
		Name: "dns-data-in-names", Group: probe.DNS, Source: cve, Try: m.try, Own: ownResolver, Alone: true,
		Why: fmt.Sprintf("%d names carry a file out, a line in each", m.names),
	}
}

// asks are how often one name is asked for.
const asks = 3

// try asks for each name, and wants each of them in the record, by name.
func (m many) try(ctx context.Context, t probe.Target) probe.Finding {
	if !resolver(t).IsValid() {
		return probe.Missing("DNS server")
	}
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	findings := make([]probe.Finding, m.names)
	var wait sync.WaitGroup
	for first := range min(m.beside, m.names) {
		wait.Go(func() {
			for i := first; i < m.names; i += m.beside {
				host := fmt.Sprintf("%04d-line-of-a-file.%s", i, t.Name("data"))
				for range asks { // a datagram may be dropped, as resolvers know
					findings[i] = attempt{message: ask(host, typeA).pack(), host: host, server: resolver(t), limit: m.limit / asks}.try(ctx)
					if findings[i].Outcome != verify.Unproven {
						break
					}
				}
				if findings[i].Outcome == verify.Unproven {
					return // the others would wait as long
				}
			}
		})
	}
	wait.Wait()
	return merge(t, findings)
}
