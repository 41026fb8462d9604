package app

import (
	"context"

	"hallmark/internal/api"
	"hallmark/internal/store"
)

// ExportAudit gives every entry of the audit log to fn, oldest first, verified on the
// way (see store.ExportAudit), and says how many there are.
func (a *App) ExportAudit(ctx context.Context, fn func(api.AuditEntry) error) (int64, error) {
	return a.Store.ExportAudit(ctx, func(e store.Audit) error {
		return fn(api.AuditEntry{Seq: e.Seq, At: e.At, Actor: e.Actor, Via: e.Via, Address: e.Address, Organization: e.Org,
			Project: e.Project, Action: e.Action, Object: e.Object, Detail: e.Detail})
	})
}
