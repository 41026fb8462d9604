package app

import (
	"context"
	"crypto"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/store"
	"time"
)

// LogKey is the log's public key, for tests that look at the log themselves.
func (a *App) LogKey() crypto.PublicKey { return a.keys.Log.Public() }

// StopSigning signs the builds of a commit and stops as a killed process would:
// when the batch is "kept", or when it is "logged" and its rows are not written.
func (a *App) StopSigning(ctx context.Context, commit digest.Digest, at string) error {
	s, err := a.Stored(ctx, commit)
	if err != nil {
		return err
	}
	check, err := a.checker(true)
	if err != nil {
		return err
	}
	g, err := a.gather(ctx, s.Plan.Steps)
	if err != nil {
		return err
	}
	auth, err := a.Authority(ctx)
	if err != nil {
		return err
	}
	var ps []pending
	for _, st := range s.Plan.Steps {
		more, err := a.unsigned(g, s, st, check)
		if err != nil {
			return err
		}
		ps = append(ps, more...)
	}
	if at == "kept" {
		ps = ps[:1]
	}
	var sts []evidence.Statement
	for _, p := range ps {
		sts = append(sts, p.st)
	}
	signed, err := auth.Sign(sts)
	if err != nil {
		return err
	}
	b := batch{Schema: batchSchema}
	if b.From, err = auth.Size(ctx); err != nil {
		return err
	}
	for i, p := range ps {
		b.Items = append(b.Items, batchItem{Prepared: signed[i], Subject: p.st.Subject.Digest, PredicateType: p.st.PredicateType, Name: p.name, DSSE: p.dsse, Step: p.step})
	}
	id, err := a.put(ctx, b)
	if err != nil {
		return err
	}
	if err := a.Store.AddPending(ctx, store.Pending{Blob: id, Created: time.Now()}); err != nil || at == "kept" {
		return err
	}
	_, err = auth.Enter(ctx, signed[:len(signed)/2+1], -1)
	return err
}
