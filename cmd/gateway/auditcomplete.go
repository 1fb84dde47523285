package main

import (
	"context"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/view"
	"github.com/spf13/cobra"
)

const (
	completeMost = 50              // values that are offered
	completeTime = 2 * time.Second // for looking them up: somebody waits at a prompt
)

// completeWords offers fixed values.
func completeWords(c *cobra.Command, flag string, words []string) {
	must(c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
}

// completeKeys offers what the record holds most of.
func completeKeys(p process, c *cobra.Command, flag string, by audit.By) {
	must(c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		var found []string
		p.complete(c.Context(), func(ctx context.Context, r *audit.Reader) error {
			groups, err := r.Group(ctx, audit.Filter{}, by, completeMost, nil)
			for _, g := range groups {
				found = offer(found, g.Key, typed, "")
			}
			return err
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}))
}

// completeIDs offers the newest refused events' ids.
func (p process) completeIDs(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	var found []string
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	p.complete(c.Context(), func(ctx context.Context, r *audit.Reader) error {
		return r.Events(ctx, audit.Filter{Denied: true}, audit.Page{Newest: true, Limit: completeMost}, func(e audit.Event) error {
			found = offer(found, e.ID, strings.ToUpper(typed), e.Time.Local().Format("15:04:05 ")+view.What(e))
			return nil
		})
	})
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// complete reads the record. What goes wrong is not said: there is a prompt.
func (p process) complete(ctx context.Context, read func(context.Context, *audit.Reader) error) {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	paths, err := p.paths()
	if err != nil {
		return
	}
	r, err := audit.OpenReader(paths.Audit())
	if err != nil {
		return
	}
	defer r.Close() // it was only read
	_ = read(ctx, r)
}

// offer adds a value that a shell may be given: shells take completions apart
// again, so what a container named is offered only if nothing in it can mean
// something to one.
func offer(found []string, value, typed, about string) []string {
	if value == "" || strings.ContainsFunc(value, notForShells) || !strings.HasPrefix(value, typed) {
		return found
	}
	if about != "" && !strings.ContainsFunc(about, func(c rune) bool { return c != ' ' && notForShells(c) }) {
		value += "\t" + about
	}
	return append(found, value)
}

func notForShells(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	return !letter && !strings.ContainsRune("-._/:", c)
}

// must is for what can only be wrong in the source: a flag's name.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
