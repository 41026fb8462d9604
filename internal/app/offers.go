package app

import (
	"container/list"
	"context"
	"sync"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// What a commit can ever serve stands in its plan, which never changes: what its
// steps make, and the published files. So which branches may have a file is found out
// without a look at what is proven of them.

// maxOffers bounds how many of these digests are kept, of all commits.
const maxOffers = 200_000

// offers keeps what commits can serve, those that were asked for last. The zero value
// has none.
type offers struct {
	mu    sync.Mutex // guards all below
	all   map[digest.Digest]*list.Element
	order *list.List // of *offer, the one asked for last in front
	size  int
}

// offer is what one commit can serve: ids of steps, and digests of published files;
// false for steps that make what is only built with.
type offer struct {
	commit digest.Digest
	things map[digest.Digest]bool
}

// get gives what a commit can serve, or what find gives.
func (o *offers) get(commit digest.Digest, find func() (map[digest.Digest]bool, error)) (map[digest.Digest]bool, error) {
	o.mu.Lock()
	if at, ok := o.all[commit]; ok {
		o.order.MoveToFront(at)
		o.mu.Unlock()
		return at.Value.(*offer).things, nil
	}
	o.mu.Unlock()
	things, err := find()
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all, o.order = map[digest.Digest]*list.Element{}, list.New()
	}
	if _, ok := o.all[commit]; !ok {
		o.all[commit] = o.order.PushFront(&offer{commit, things})
		o.size += len(things) + 1
	}
	for o.size > maxOffers && o.order.Len() > 1 {
		old := o.order.Remove(o.order.Back()).(*offer)
		o.size -= len(old.things) + 1
		delete(o.all, old.commit)
	}
	return things, nil
}

// BranchesWith is server.Projects's.
func (b Backend) BranchesWith(ctx context.Context, org, name string, d digest.Digest) ([]string, error) {
	rows, err := b.branchesWith(ctx, org, name, d, func(serves, known bool) bool { return serves })
	var out []string
	for _, r := range rows {
		out = append(out, r.Branch)
	}
	return out, err
}

// branchesWith gives the branches but the default one of whose newest commit want is
// true: whether it can serve a file, and whether its plan has it at all.
func (b Backend) branchesWith(ctx context.Context, org, name string, d digest.Digest, want func(serves, known bool) bool) ([]store.Branch, error) {
	files, err := b.a.Store.Files(ctx, d)
	if err != nil || len(files) == 0 {
		return nil, err // nothing here has it
	}
	branches, err := b.a.Store.Branches(ctx, org, name)
	if err != nil {
		return nil, err
	}
	var out []store.Branch
	for _, br := range branches {
		things, err := b.a.offers.get(br.Head, func() (map[digest.Digest]bool, error) { return b.a.offersOf(ctx, br.Head) })
		if fault.Is(err, fault.NotFound) {
			continue // not solved yet
		}
		if err != nil {
			return nil, err
		}
		serves, known := things[d]
		for _, f := range files {
			if made, ok := things[f.Step]; ok && f.Step != "" {
				serves, known = serves || made, true
			}
		}
		if want(serves, known) {
			out = append(out, br)
		}
	}
	return out, nil
}

// offersOf reads what a commit can serve from its plan; fault.NotFound if it was not
// solved.
func (a *App) offersOf(ctx context.Context, commit digest.Digest) (map[digest.Digest]bool, error) {
	s, err := a.Stored(ctx, commit)
	if err != nil {
		return nil, err
	}
	things := make(map[digest.Digest]bool, 2*len(s.Plan.Artifacts))
	for _, x := range s.Plan.Steps {
		things[x.ID] = false
	}
	for _, x := range s.Plan.Artifacts {
		if x.Step != "" {
			things[x.Step] = true
		}
		if x.Published != nil {
			things[x.Published.Digest] = true
		}
	}
	return things, nil
}
