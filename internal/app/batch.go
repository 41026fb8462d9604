package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// batch is a number of signed statements on their way into the log, as a stored
// document: what is needed to finish them after an interruption.
type batch struct {
	Schema string      `json:"schema"` // batchSchema
	From   int64       `json:"from"`   // the log's size before; what of the batch is in the log lies behind it
	Items  []batchItem `json:"items"`
}

// batchItem is one statement of a batch, with the rows that it gets.
type batchItem struct {
	evidence.Prepared
	Subject       digest.Digest `json:"subject"`
	PredicateType string        `json:"predicate_type"`
	Name          string        `json:"name"`
	DSSE          string        `json:"dsse,omitempty"` // name of the bare envelope, if it is kept as well
	Step          digest.Digest `json:"step,omitempty"`
	Project       string        `json:"project,omitempty"` // whose it is; empty: as the step and the subject are
}

const batchSchema = "urn:hallmark:batch:v1"

// Limits of one batch, which is one stored document: a thousand provenances would
// be more than a document may have.
const (
	batchItems = 256
	batchBytes = 16 << 20 // of statements
)

// sign signs, logs and stores statements. What is signed is kept before it goes
// into the log, and its rows are written all at once: so each entry of the log has
// its evidence, whatever moment the process was killed at, if not now then as soon
// as the next writer has finished the batch.
func (a *App) sign(ctx context.Context, ps []pending) error {
	if len(ps) == 0 {
		return nil
	}
	auth, err := a.Authority(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(ps, batchItems) {
		sts := make([]evidence.Statement, len(part))
		for i, p := range part {
			sts[i] = p.st
		}
		signed, err := auth.Sign(sts)
		if err != nil {
			return err
		}
		var items []batchItem
		size := 0
		for i, p := range part {
			if n := len(signed[i].Payload); size+n > batchBytes && len(items) > 0 {
				if err := a.signBatch(ctx, auth, items); err != nil {
					return err
				}
				items, size = nil, 0
			}
			size += len(signed[i].Payload)
			items = append(items, batchItem{Prepared: signed[i], Subject: p.st.Subject.Digest, PredicateType: p.st.PredicateType,
				Name: p.name, DSSE: p.dsse, Step: p.step, Project: p.project})
		}
		if err := a.signBatch(ctx, auth, items); err != nil {
			return err
		}
	}
	return nil
}

// signBatch logs and stores what was signed.
func (a *App) signBatch(ctx context.Context, auth *evidence.Authority, items []batchItem) error {
	b := batch{Schema: batchSchema, Items: items}
	var err error
	if b.From, err = auth.Size(ctx); err != nil {
		return err
	}
	id, err := a.put(ctx, b)
	if err != nil {
		return err
	}
	if err := a.Store.AddPending(ctx, store.Pending{Blob: id, Created: time.Now().UTC()}); err != nil {
		return err
	}
	return a.enter(ctx, auth, id, b, -1)
}

// enter brings a batch into the log and stores its evidence: bundles as blobs
// first, then all rows. from is as for evidence.Authority.Enter.
func (a *App) enter(ctx context.Context, auth *evidence.Authority, id digest.Digest, b batch, from int64) error {
	prepared := make([]evidence.Prepared, len(b.Items))
	for i, it := range b.Items {
		prepared[i] = it.Prepared
	}
	signed, err := auth.Enter(ctx, prepared, from)
	if err != nil {
		return err
	}
	var rows []store.Evidence
	var held []store.Held
	for i, sg := range signed {
		it := b.Items[i]
		keep := func(name string, content []byte) error {
			d, err := a.putBytes(ctx, "", content)
			if err != nil {
				return err
			}
			if it.Project != "" {
				org, name, err := project.ParseName(it.Project)
				if err != nil {
					return err
				}
				held = append(held, store.Held{Thing: d, Org: org, Project: name})
			}
			at := a.logFirst() + sg.LogIndex
			rows = append(rows, store.Evidence{Subject: it.Subject, Name: name, PredicateType: it.PredicateType,
				Blob: d, LogIndex: &at, Step: it.Step, Created: time.Now().UTC()})
			return nil
		}
		if err := keep(it.Name, sg.Bundle); err != nil {
			return err
		}
		if it.DSSE != "" {
			if err := keep(it.DSSE, sg.DSSE); err != nil {
				return err
			}
		}
	}
	return a.Store.FinishPending(ctx, id, rows, held...)
}

// finish brings to their end the batches that an interrupted writer left on their
// way into the log.
func (a *App) finish(ctx context.Context, auth *evidence.Authority) error {
	left, err := a.Store.AllPending(ctx)
	if err != nil {
		return err
	}
	for _, p := range left {
		var b batch
		if err := a.get(p.Blob, &b); err != nil {
			return fmt.Errorf("finish what was being signed: %w", err)
		}
		if b.Schema != batchSchema {
			return fault.New(fault.Unsupported, "finish what was being signed: batch %s has schema %.80q, want %s", p.Blob.Short(), b.Schema, batchSchema)
		}
		if err := a.enter(ctx, auth, p.Blob, b, b.From); err != nil {
			return fmt.Errorf("finish what was being signed: %w", err)
		}
	}
	return nil
}
