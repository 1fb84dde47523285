package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/control"
	"github.com/sallyport/sallyport/sandbox"
	"golang.org/x/sync/errgroup"
)

// checkModel asks each place of a model server whether it is healthy and what it
// serves, all at once, and chooses one.
func (g *gateway) checkModel(ctx context.Context, u sandbox.Upstream) control.ModelCheck {
	if err := u.CheckPlaces(); err != nil {
		return control.ModelCheck{Error: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return summarize(g.checkPlaces(ctx, u, u.Places()), u.Name)
}

// summarize is the check of a model by those of its places.
func summarize(places []control.PlaceCheck, name string) control.ModelCheck {
	best := choose(places, name)
	if best < 0 {
		return control.ModelCheck{Error: ailments(places), Places: places}
	}
	p := places[best]
	return control.ModelCheck{OK: true, Models: p.Models, Version: p.Version, Places: places, Chosen: best}
}

// checkPlaces asks places, which CheckPlaces bounds, all at once.
func (g *gateway) checkPlaces(ctx context.Context, u sandbox.Upstream, places []sandbox.Place) []control.PlaceCheck {
	sessions := map[sandbox.Place]int{}
	for _, s := range g.hub.List() {
		sessions[s.Upstream.Place()]++
	}
	checks := make([]control.PlaceCheck, len(places))
	var asked errgroup.Group
	for i, p := range places {
		asked.Go(func() error {
			checks[i] = askPlace(ctx, g.asker(u.Token, p))
			checks[i].Place, checks[i].Sessions = p, sessions[p]
			return nil
		})
	}
	_ = asked.Wait() // what is wrong stands in each check
	return checks
}

func (g *gateway) asker(token string, p sandbox.Place) asker {
	return newAsker(token, func(ctx context.Context) (net.Conn, error) { return g.dialPlace(ctx, p) })
}

// choose returns the index of the healthy place that has the model name (or does
// not say), is the least busy, and comes first; -1: none is healthy.
func choose(places []control.PlaceCheck, name string) int {
	best := -1
	for i, p := range places {
		if p.OK && (best < 0 || cmp.Or(cmp.Compare(stranger(p, name), stranger(places[best], name)),
			cmp.Compare(max(p.Running, 0), max(places[best].Running, 0)),
			cmp.Compare(p.Sessions, places[best].Sessions)) < 0) {
			best = i
		}
	}
	return best
}

// stranger is 1 for a place that serves other models than name.
func stranger(p control.PlaceCheck, name string) int {
	if len(p.Models) == 0 || slices.Contains(p.Models, name) {
		return 0
	}
	return 1
}

// ailments says why no place is healthy.
func ailments(places []control.PlaceCheck) string {
	if len(places) == 1 {
		return places[0].Error
	}
	parts := make([]string, len(places))
	for i, p := range places {
		parts[i] = fmt.Sprintf("%s: %s", p.Place, p.Error)
	}
	return strings.Join(parts, "; ")
}

// askPlace asks a model server how it is. One without /health (not every one that
// speaks the protocol has it) is asked for its models alone.
func askPlace(ctx context.Context, a asker) control.PlaceCheck {
	_, healthErr := a.get(ctx, "/health")
	unknown := isStatus(healthErr, http.StatusNotFound)
	if healthErr != nil && !unknown {
		return control.PlaceCheck{Error: healthErr.Error(), Running: -1}
	}
	body, err := a.get(ctx, "/v1/models")
	switch {
	case isStatus(err, http.StatusUnauthorized), isStatus(err, http.StatusForbidden):
		return control.PlaceCheck{Error: err.Error() + "; is models.token right?", Running: -1}
	case err != nil && unknown:
		return control.PlaceCheck{Error: err.Error(), Running: -1}
	}
	check := control.PlaceCheck{OK: true}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err == nil && json.Unmarshal(body, &list) == nil {
		for _, m := range list.Data {
			check.Models = append(check.Models, audit.Printable(m.ID))
		}
	}
	check.Version, check.Running = a.details(ctx)
	return check
}

// askHealth says why a model server is not healthy, or nil. One that does not know
// /health is.
func askHealth(ctx context.Context, a asker) error {
	if _, err := a.get(ctx, "/health"); !isStatus(err, http.StatusNotFound) {
		return err
	}
	return nil
}
