package store

import (
	"context"
	"crypto/hmac"
	"fmt"
	"strconv"

	"github.com/uptrace/bun"

	"hallmark/internal/fault"
)

// exportPage is how many rows an export reads at a time.
const exportPage = 2000

// ExportAudit gives every entry of the audit log to fn, oldest first, and verifies it
// on the way: the codes of the whole journal, that each entry is what was written, and
// that none is missing, at the end neither. What does not verify is fault.Corrupt, and
// what fn was given before is then worth nothing. It looks at one state of the
// database. It gives how many entries there are.
func (s *Store) ExportAudit(ctx context.Context, fn func(Audit) error) (int64, error) {
	tx, err := s.db.BeginTx(ctx, s.d.snapshot())
	if err != nil {
		return 0, fmt.Errorf("export the audit log: %w", kind(err))
	}
	defer func() { _ = tx.Rollback() }() // it was only read
	bad := func(format string, args ...any) error {
		return fault.Advise(fault.Corrupt, "Run hallmark fsck: it names all that was changed.", "export the audit log: "+format, args...)
	}
	sums, err := s.auditSums(ctx, tx, bad)
	if err != nil {
		return 0, err
	}
	t, next := tableOf("audit"), int64(1)
	for {
		var cells []struct {
			Seq   int64  `bun:"seq"`
			Cells string `bun:"cells"`
		}
		if err := tx.NewRaw("SELECT seq, "+s.cells(t)+" AS cells FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?", next, exportPage).Scan(ctx, &cells); err != nil {
			return 0, fmt.Errorf("export the audit log: %w", kind(err))
		}
		var rows []Audit
		if err := tx.NewSelect().Model(&rows).Where("seq >= ?", next).OrderExpr("seq").Limit(exportPage).Scan(ctx); err != nil {
			return 0, fmt.Errorf("export the audit log: %w", kind(err))
		}
		if len(rows) != len(cells) {
			return 0, bad("it changed while it was read")
		}
		for i, r := range rows {
			switch {
			case r.Seq != next:
				return 0, bad("entry %d is missing", next)
			case sums[r.Seq] == "":
				return 0, bad("the journal knows no entry %d: it was put in", r.Seq)
			case sums[r.Seq] != sumOf(cells[i].Cells):
				return 0, bad("entry %d is not what was written", r.Seq)
			}
			if err := fn(r); err != nil {
				return 0, err
			}
			delete(sums, r.Seq)
			next++
		}
		if len(rows) < exportPage {
			break
		}
	}
	if len(sums) > 0 {
		return 0, bad("it has %d entries, and the journal knows of %d more: they were taken out", next-1, len(sums))
	}
	return next - 1, nil
}

// auditSums reads the journal, verifies its codes, and gives what it says of each
// entry of the audit log.
func (s *Store) auditSums(ctx context.Context, tx bun.Tx, bad func(string, ...any) error) (map[int64]string, error) {
	sums, previous, next := map[int64]string{}, "", int64(1)
	for {
		var es []entry
		if err := tx.NewSelect().Model(&es).Where("seq >= ?", next).OrderExpr("seq").Limit(exportPage).Scan(ctx); err != nil {
			return nil, fmt.Errorf("read the journal: %w", kind(err))
		}
		for _, e := range es {
			if e.Seq != next || !hmac.Equal([]byte(e.MAC), []byte(s.code(e, previous))) {
				return nil, bad("the journal's entry %d does not fit the one before it and this data directory's keys", next)
			}
			previous, next = e.MAC, e.Seq+1
			if e.Table == "audit" {
				n, err := strconv.ParseInt(e.Row, 10, 64)
				if err != nil {
					return nil, bad("the journal's entry %d names no entry of the audit log: %.40q", e.Seq, e.Row)
				}
				sums[n] = e.Sum
			}
		}
		if len(es) < exportPage {
			return sums, nil
		}
	}
}
