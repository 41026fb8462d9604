package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"hallmark/internal/blob"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// maxDocument bounds a stored JSON document, in bytes.
const maxDocument = plan.MaxBytes

// put stores a document as canonical JSON and gives its digest.
func (a *App) put(ctx context.Context, v any) (digest.Digest, error) { return putInto(ctx, a.Blobs, v) }

// putInto stores a document.
func putInto(ctx context.Context, blobs *blob.Store, v any) (digest.Digest, error) {
	d, b, err := canonical.Digest(v)
	if err != nil {
		return "", err
	}
	_, _, err = blobs.Put(ctx, bytes.NewReader(b), d, maxDocument)
	return d, err
}

// get reads a stored document.
func (a *App) get(d digest.Digest, v any) error { return getFrom(a.Blobs, d, v) }

// getFrom reads a stored document.
func getFrom(blobs *blob.Store, d digest.Digest, v any) error {
	b, err := blobs.ReadAll(d, maxDocument)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("document %s: %w", d.Short(), err)
	}
	return nil
}

// records is the engine's memory: documents as blobs, rows that point at them.
type records struct{ a *App }

// AppendBuild is build.Records's. The row of the step is made if it is not
// there: a query step is in no plan yet when it runs.
func (r records) AppendBuild(ctx context.Context, s plan.Step, b record.Build) error {
	if err := r.a.putSteps(ctx, s); err != nil {
		return err
	}
	doc, err := r.a.put(ctx, b)
	if err != nil {
		return err
	}
	row := store.Build{Step: b.Step, ID: b.ID, Purpose: b.Purpose, Outcome: b.Outcome, Builder: b.Builder,
		Record: doc, Started: b.Started, Finished: b.Finished}
	if b.Output != nil {
		row.Output = b.Output.Digest
	}
	if _, err := r.a.Store.AppendBuild(ctx, row); err != nil {
		return err
	}
	if b.Output == nil || b.Purpose != record.First && b.Purpose != record.Rebuild {
		return nil
	}
	return r.a.Store.AddFile(ctx, store.File{Digest: b.Output.Digest, PURL: s.PURL, Name: b.Output.File, Size: b.Output.Size,
		Kind: store.FileBuilt, Step: b.Step})
}

// Builds is build.Records's. Builds whose signer is believed no more are left out:
// for the engine they were not made.
func (r records) Builds(ctx context.Context, step digest.Digest) ([]record.Build, error) {
	rows, err := r.a.Store.Builds(ctx, step)
	if err != nil {
		return nil, err
	}
	out := make([]record.Build, 0, len(rows))
	for _, row := range rows {
		var b record.Build
		if err := r.a.get(row.Record, &b); err != nil {
			return nil, fmt.Errorf("build %s: %w", row.ID, err)
		}
		revoked, err := r.a.revoked(ctx, b)
		if err != nil {
			return nil, err
		}
		if !revoked {
			out = append(out, b)
		}
	}
	return out, nil
}

// AppendRebuild is build.Records's.
func (r records) AppendRebuild(ctx context.Context, res record.RebuildResult) error {
	doc, err := r.a.put(ctx, res)
	if err != nil {
		return err
	}
	return r.a.Store.AppendRebuild(ctx, store.Rebuild{Step: res.Step, Seq: res.Sequence, Outcome: res.Outcome,
		Document: doc, Previous: res.Previous, Created: res.Time})
}

// Rebuilds is build.Records's.
func (r records) Rebuilds(ctx context.Context, step digest.Digest) ([]record.RebuildResult, error) {
	rows, err := r.a.Store.Rebuilds(ctx, step)
	if err != nil {
		return nil, err
	}
	out := make([]record.RebuildResult, len(rows))
	for i, row := range rows {
		if err := r.a.get(row.Document, &out[i]); err != nil {
			return nil, fmt.Errorf("rebuild %d of step %s: %w", row.Seq, row.Step.Short(), err)
		}
	}
	return out, nil
}

// putSteps stores steps and their rows.
func (a *App) putSteps(ctx context.Context, steps ...plan.Step) error {
	for _, s := range steps {
		doc, err := a.put(ctx, s)
		if err != nil {
			return err
		}
		if err := a.Store.PutStep(ctx, store.Step{ID: s.ID, PURL: s.PURL, Document: doc}); err != nil {
			return err
		}
	}
	return nil
}

// sink is the blob store in the words of the seed's fetcher.
type sink struct{ a *App }

func (s sink) Put(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (int64, error) {
	_, n, err := s.a.Blobs.Put(ctx, r, want, limit)
	return n, err
}

func (s sink) Has(d digest.Digest) bool { return s.a.Blobs.Has(d) }
