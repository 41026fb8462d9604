package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/fault"
)

// Audit says who did what to what, and when. Every change of what the platform's
// tables hold is written together with its entry, in one transaction. It names
// people and things and never holds a secret.
type Audit struct {
	bun.BaseModel `bun:"table:audit"`

	Seq     int64     `bun:"seq,pk"` // from 1, without gaps
	At      time.Time `bun:"at"`
	Actor   string    `bun:"actor"`   // login name; "system" for the server itself
	Via     string    `bun:"via"`     // session, token ID, command, system
	Address string    `bun:"address"` // of the client; empty: none
	Org     string    `bun:"org"`
	Project string    `bun:"project"`
	Action  string    `bun:"action"` // such as member.set
	Object  string    `bun:"object"` // what it was done to
	Detail  string    `bun:"detail"` // a sentence, or empty
}

// By is who does something, for the audit log.
type By struct {
	Actor, Via, Address string
	At                  time.Time
}

// did is the entry that by did action to object.
func (by By) did(action, org, project, object, detail string) Audit {
	return Audit{At: utc(by.At), Actor: by.Actor, Via: by.Via, Address: by.Address, Org: org, Project: project, Action: action, Object: object, Detail: detail}
}

// record appends e to the audit log.
func (s *Store) record(ctx context.Context, tx bun.Tx, e Audit) error {
	if e.Actor == "" || e.Action == "" || e.At.IsZero() {
		return fault.New(fault.Usage, "nobody is named who did %q, or no time", e.Action)
	}
	if err := tx.NewSelect().Model((*Audit)(nil)).ColumnExpr("COALESCE(MAX(seq), 0) + 1").Scan(ctx, &e.Seq); err != nil {
		return err
	}
	if _, err := tx.NewInsert().Model(&e).Exec(ctx); err != nil {
		return err
	}
	return s.seal(ctx, tx, e.place())
}

// Note appends to the audit log what changed none of the tables, such as a
// sign-in.
func (s *Store) Note(ctx context.Context, by By, action, org, project, object, detail string) error {
	return s.change(ctx, "audit entry "+action, func(ctx context.Context, tx bun.Tx) error {
		return s.record(ctx, tx, by.did(action, org, project, object, detail))
	})
}

// AuditLog lists the entries of an organization (empty: all) before the entry
// before (0: the newest), newest first, at most limit.
func (s *Store) AuditLog(ctx context.Context, org string, before int64, limit int) ([]Audit, error) {
	var rows []Audit
	q := s.db.NewSelect().Model(&rows).OrderExpr("seq DESC").Limit(int64(limit))
	if org != "" {
		q = q.Where("org = ?", org)
	}
	if before > 0 {
		q = q.Where("seq < ?", before)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, kind(err)
	}
	return rows, nil
}

// KeyChanges lists what the audit log tells of the keys, oldest first.
func (s *Store) KeyChanges(ctx context.Context) ([]Audit, error) {
	return list[Audit](ctx, s, "audit", "seq", "action IN ('key.rotate', 'key.revoke')")
}

// change runs fn in a transaction of a database that may be written.
func (s *Store) change(ctx context.Context, what string, fn func(ctx context.Context, tx bun.Tx) error) error {
	if err := s.need(what); err != nil {
		return err
	}
	return s.inTx(ctx, what, fn)
}

// insert adds a row and enters it into the journal; a row of the same key is
// fault.Conflict with the sentence taken.
func insert[T keyed](ctx context.Context, s *Store, tx bun.Tx, row *T, taken string) error {
	p := (*row).place()
	n, err := tx.NewSelect().Model((*T)(nil)).Where(p.where, p.args...).Count(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Conflict, "%s", taken)
	}
	if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
		return err
	}
	return s.seal(ctx, tx, p)
}

// update sets columns of the one row and enters it into the journal; without such
// a row it is fault.NotFound.
func update[T keyed](ctx context.Context, s *Store, tx bun.Tx, row *T, columns ...string) error {
	p := (*row).place()
	res, err := tx.NewUpdate().Model(row).Column(columns...).Where(p.where, p.args...).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.New(fault.NotFound, "it is not stored")
	}
	return s.seal(ctx, tx, p)
}

// remove takes the one row out and says so in the journal; without such a row it
// is fault.NotFound.
func remove[T keyed](ctx context.Context, s *Store, tx bun.Tx, row T) error {
	p := row.place()
	res, err := tx.NewDelete().Model((*T)(nil)).Where(p.where, p.args...).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.New(fault.NotFound, "it is not stored")
	}
	return s.journal(ctx, tx, p.table, p.row, "")
}
