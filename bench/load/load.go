// Package load is what puts load on something and counts what comes back. It runs
// in containers: a worker reads jobs from its standard input, one in each line, and
// prints an answer for each. It knows nothing of who is measured.
package load

import (
	"context"
	"encoding/json"
	"fmt"
)

// Job does what arg says and returns what is printed as JSON. It ends early when
// ctx does. An answer that is wrong or cut short is an error.
type Job func(ctx context.Context, arg json.RawMessage) (any, error)

// As makes a Job of a function with a typed argument. An argument with a field that
// the type does not have is an error.
func As[A, R any](f func(ctx context.Context, arg A) (R, error)) Job {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var arg A
		if err := strict(raw, &arg); err != nil {
			return nil, fmt.Errorf("the job's argument: %w", err)
		}
		return f(ctx, arg)
	}
}
