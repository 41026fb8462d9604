package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hallmark/internal/api"
	"hallmark/internal/evidence"
	"hallmark/internal/record"
)

// verifyPass is one verification: artifacts are checked on all processors, and
// each bundle and each checkpoint once.
type verifyPass struct {
	a     *App
	r     *Report // of a fresh checker
	check *checker
	v     *api.Verification
	todo  []func(ctx context.Context) ([]api.Check, error)

	mu    sync.Mutex
	grown map[string]error // whether the log grew from a checkpoint, by size and root
}

// verifyPass begins a verification with the log. A report that rests on what was
// verified before is made anew.
func (a *App) verifyPass(ctx context.Context, r *Report) (*verifyPass, error) {
	p := &verifyPass{a: a, r: r, check: r.check, v: &api.Verification{OK: true}, grown: map[string]error{}}
	if p.check == nil || !p.check.fresh {
		var err error
		if p.check, err = a.checker(true); err != nil {
			return nil, err
		}
		g, err := a.gather(ctx, r.Solved.Plan.Steps)
		if err != nil {
			return nil, err
		}
		if p.r, err = a.reportOf(ctx, r.CommitID, r.Commit, r.Solved, g, p.check); err != nil {
			return nil, err
		}
	}
	size, err := a.checkWholeLog(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.v.Add("", fmt.Sprintf("log of %d entries agrees with its checkpoint", size), err)
	return p, nil
}

// what lists an artifact to be checked; more, if there is any, is a further check.
func (p *verifyPass) what(name string, f Found, more func() error) {
	p.todo = append(p.todo, func(ctx context.Context) ([]api.Check, error) {
		v := &api.Verification{}
		if err := p.one(ctx, f, v); err != nil {
			return nil, err
		}
		if more != nil {
			v.Add(f.PURL, name, more())
		}
		return v.Checks, nil
	})
}

// run checks what was listed and gives everything in the order of the list.
func (p *verifyPass) run(ctx context.Context) (*api.Verification, error) {
	found := make([][]api.Check, len(p.todo))
	err := each(ctx, len(p.todo), func(ctx context.Context, i int) (err error) {
		found[i], err = p.todo[i](ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, cs := range found {
		for _, c := range cs {
			p.v.Checks = append(p.v.Checks, c)
			p.v.OK = p.v.OK && c.OK
		}
	}
	return p.v, nil
}

// one checks an artifact's bytes and every signed statement about it.
func (p *verifyPass) one(ctx context.Context, f Found, v *api.Verification) error {
	if f.Digest == "" {
		v.Add(f.PURL, "file", errors.New("there is none"))
		return nil
	}
	v.Add(f.PURL, "file "+f.File+" has digest "+f.Digest.Short(), p.a.Blobs.Check(f.Digest))
	rows, err := p.a.Store.EvidenceHistory(ctx, f.Digest)
	if err != nil {
		return err
	}
	// Another project's summary may speak of what only that one has.
	if rows, err = p.a.visible(ctx, rows, only(p.r.Document.Project)); err != nil {
		return err
	}
	var summary bool
	for _, row := range rows {
		if row.Name == vsaDSSEFile || row.Step != f.Step {
			continue
		}
		what := fmt.Sprintf("%s: signature, log entry, time stamp", row.Name)
		o := p.check.verify(row.Blob, f.Digest, row.PredicateType)
		err := o.err
		switch {
		case err == nil:
			err = p.consistent(ctx, &o.verified)
			summary = summary || row.PredicateType == evidence.TypeVSA
		case p.a.outlived(ctx, row):
			// It is as it was made; nothing rests on it any more.
			what, err = row.Name+": by a key that is believed no more, so it counts for nothing", nil
		}
		v.Add(f.PURL, what, err)
	}
	if !summary {
		v.Add(f.PURL, "verification summary", errors.New("there is none; run hallmark builds"))
	}
	// Each build that counts must be signed exactly as it is recorded.
	for _, b := range p.r.Input.Steps[f.Step].Builds {
		if b.Outcome == record.Succeeded && (b.Purpose == record.First || b.Purpose == record.Rebuild) && b.Output.Digest == f.Digest {
			if b.Revoked {
				v.Add(f.PURL, fmt.Sprintf("%s build %s: by a key that is believed no more, so it counts for nothing", b.Purpose, b.ID[:8]), nil)
				continue
			}
			var err error
			if !b.Verified {
				err = errors.New("no verified provenance says what the record says")
			}
			v.Add(f.PURL, fmt.Sprintf("%s build %s is signed as it is recorded", b.Purpose, b.ID[:8]), err)
		}
	}
	return nil
}

// consistent tells whether the log has grown from what a bundle's checkpoint
// shows; bundles that were logged together share one.
func (p *verifyPass) consistent(ctx context.Context, vf *evidence.Verified) error {
	k := fmt.Sprintf("%s %d %x", vf.LogOrigin, vf.TreeSize, vf.RootHash)
	p.mu.Lock()
	defer p.mu.Unlock()
	err, ok := p.grown[k]
	if !ok {
		err = p.a.logConsistent(ctx, vf)
		p.grown[k] = err
	}
	return err
}
