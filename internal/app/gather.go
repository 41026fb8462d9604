package app

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// built is a stored build with the digest of its record.
type built struct {
	record.Build
	doc digest.Digest
}

// gathered is what is stored of a plan's steps.
type gathered struct {
	builds   map[digest.Digest][]built                // by step, in their order
	rebuilds map[digest.Digest][]record.RebuildResult // by step, in their order
	evidence map[digest.Digest][]store.Evidence       // by the files that were built, oldest first
}

// gather reads what is stored of steps: rows in few queries, documents on all
// processors.
func (a *App) gather(ctx context.Context, steps []plan.Step) (*gathered, error) {
	ids := make([]digest.Digest, len(steps))
	for i, s := range steps {
		ids[i] = s.ID
	}
	builds, err := a.Store.BuildsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	rebuilds, err := a.Store.RebuildsOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	g := &gathered{builds: map[digest.Digest][]built{}, rebuilds: map[digest.Digest][]record.RebuildResult{}}
	for _, id := range ids {
		g.builds[id] = make([]built, len(builds[id]))
		g.rebuilds[id] = make([]record.RebuildResult, len(rebuilds[id]))
	}
	err = each(ctx, len(ids), func(_ context.Context, i int) error {
		for k, row := range builds[ids[i]] {
			b := &g.builds[ids[i]][k]
			b.doc = row.Record
			if err := a.get(b.doc, &b.Build); err != nil {
				return fmt.Errorf("build %s: %w", row.ID, err)
			}
		}
		for k, row := range rebuilds[ids[i]] {
			if err := a.get(row.Document, &g.rebuilds[ids[i]][k]); err != nil {
				return fmt.Errorf("rebuild %d of step %s: %w", row.Seq, row.Step.Short(), err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g, a.gatherEvidence(ctx, g)
}

// gatherEvidence reads the rows of evidence anew: after something was signed.
func (a *App) gatherEvidence(ctx context.Context, g *gathered) error {
	var files []digest.Digest
	seen := map[digest.Digest]bool{"": true}
	for _, bs := range g.builds {
		for _, b := range bs {
			if b.Output != nil && !seen[b.Output.Digest] {
				seen[b.Output.Digest] = true
				files = append(files, b.Output.Digest)
			}
		}
	}
	var err error
	g.evidence, err = a.Store.EvidenceOf(ctx, files)
	return err
}

// each runs fn for 0 to n-1 on all processors; the first error ends it.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(ctx, i)
		})
	}
	return g.Wait()
}
