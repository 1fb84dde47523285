package models

import (
	"regexp"
	"sync"
)

// lazily compiles an expression when it is first needed. Many of our processes live
// a moment, as those in containers that an agent's start waits for, and use none.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
