package app

import (
	"bytes"
	"context"

	"hallmark/internal/api"
	"hallmark/internal/blob"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// runTask does what a run is for that does not build its whole commit, and keeps what
// came of it.
func (a *App) runTask(ctx context.Context, r store.Run) error {
	var out api.TaskResult
	switch t := r.Task; t.Kind {
	case store.TaskRebuild:
		rep, err := a.Status(ctx, r.Commit)
		if err != nil {
			return err
		}
		f, err := rep.Find(t.What)
		if err != nil {
			return err
		}
		if out.Again, err = a.Rebuild(ctx, rep, f); err != nil {
			return err
		}
	case store.TaskBuild:
		c, err := a.Commit(ctx, r.Commit)
		if err != nil {
			return err
		}
		if t.Overrides != "" {
			c.Overrides = t.Overrides
		}
		own, err := a.committed(c)
		if err != nil {
			return err
		}
		rows, s, err := a.buildOne(ctx, r.Org+"/"+r.Name, t.What, t.At, own)
		if err != nil {
			return err
		}
		out.Built, out.Plan = rows, s.ID
	default:
		return fault.New(fault.Unsupported, "run %s is for a task of kind %.40q: this version knows none such", r.ID, t.Kind)
	}
	d, err := a.put(ctx, out)
	if err != nil {
		return err
	}
	return a.Store.SetTaskResult(ctx, r.ID, d)
}

// ReadOverrides is platform.Documents's.
func (documents) ReadOverrides(list []plan.PackageOverrides) (digest.Digest, []byte, error) {
	if len(list) == 0 {
		return "", nil, nil
	}
	if err := pypi.CheckOverrides(list); err != nil {
		return "", nil, err
	}
	return canonical.Digest(list)
}

// from is where documents are read.
func (d documents) from() *blob.Store {
	if d.blobs != nil {
		return d.blobs
	}
	return d.Blobs
}

// OverridesOf is platform.Documents's.
func (d documents) OverridesOf(c project.Commit) ([]plan.PackageOverrides, error) {
	return committedOverrides(d.from(), c)
}

// KeepDocument is platform.Documents's.
func (d documents) KeepDocument(ctx context.Context, id digest.Digest, b []byte) error {
	_, _, err := d.blobs.Put(ctx, bytes.NewReader(b), id, maxDocument)
	return err
}

// Document is platform.Documents's.
func (d documents) Document(id digest.Digest, v any) error { return getFrom(d.from(), id, v) }
