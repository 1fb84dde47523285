package main

import "sync"

// aside runs step while its caller goes on. It returns what waits for the step and
// gives its error, at each call.
func aside(step func() error) (wait func() error) {
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = step()
	}()
	return func() error {
		<-ended
		return err
	}
}

// sideBySide runs steps that do not need each other, waits for all of them, and
// returns the error of the first that failed, first as they stand here: what a user
// is told hangs on no race.
func sideBySide(steps ...func() error) error {
	errs := make([]error, len(steps))
	var all sync.WaitGroup
	for i, step := range steps {
		all.Go(func() { errs[i] = step() })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
