package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// The journal says of every row that it is the one that was written. Each
// insertion, and each move of a project's head, appends an entry in its own
// transaction: the row's table, its name, the digest of all its cells, and a
// code over these and the entry before (HMAC-SHA-256, under a key that is kept
// with the other keys and not in the database). So Check finds a cell that was
// changed, a row that was taken out or put in, and two that were exchanged, and
// names them. What it cannot show is that the whole database was put back to an
// older state; the log shows that, whose entries then have no rows.

// entry is one line of the journal.
type entry struct {
	bun.BaseModel `bun:"table:journal"`

	Seq   int64  `bun:"seq,pk"` // from 1, without gaps
	Table string `bun:"tbl"`
	Row   string `bun:"row"` // what names the row: its key
	Sum   string `bun:"sum"` // of all its cells; empty: the row was taken out
	MAC   string `bun:"mac"`
}

// code is an entry's code, given the code of the one before it.
func (s *Store) code(e entry, previous string) string {
	m := hmac.New(sha256.New, s.key)
	for _, part := range []string{previous, strconv.FormatInt(e.Seq, 10), e.Table, e.Row, e.Sum} {
		// Lengths in front, so that no two lists of parts are the same bytes.
		fmt.Fprintf(m, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(m.Sum(nil))
}

// sealedTable is a table whose rows the journal vouches for.
type sealedTable struct {
	name    string
	key     string // SQL that names a row
	columns []string
	since   int // the migration that made it, or gave it the last of these columns while it was empty
}

// sealed are the tables whose rows the journal vouches for.
var sealed = []sealedTable{
	{"projects", "org || '/' || name", []string{"org", "name", "head", "created"}, 1},
	{"commits", "id", []string{"id", "org", "name", "parent", "document", "created"}, 1},
	{"solutions", `"commit"`, []string{"commit", "plan", "answers", "created"}, 1},
	{"steps", "id", []string{"id", "purl", "document"}, 1},
	{"builds", "step || '#' || seq", []string{"step", "seq", "id", "purpose", "outcome", "builder", "record", "output", "started", "finished"}, 1},
	{"rebuilds", "step || '#' || seq", []string{"step", "seq", "outcome", "document", "previous", "created"}, 1},
	{"files", "CAST(id AS TEXT)", []string{"id", "digest", "purl", "name", "size", "kind", "step"}, 1},
	{"evidence", "CAST(id AS TEXT)", []string{"id", "subject", "name", "predicate_type", "blob", "log_index", "step", "created"}, 1},
	{"pending", "blob", []string{"blob", "created"}, 2},
	{versionTable, "CAST(id AS TEXT)", []string{"id", "version_id", "is_applied", "tstamp"}, 1},
	{"users", "id", []string{"id", "name", "display", "password", "admin", "disabled", "created"}, 3},
	{"identities", "issuer || ' ' || subject", []string{"issuer", "subject", "user_id", "created", "label", "used"}, 4},
	{"passkeys", "id", []string{"id", "user_id", "label", "credential", "created", "used"}, 4},
	{"orgs", "name", []string{"name", "tier", "created"}, 3},
	{"members", "org || '/' || user_id", []string{"org", "user_id", "role", "created"}, 3},
	{"tokens", "id", []string{"id", "hash", "user_id", "org", "label", "scopes", "created", "expires", "used", "revoked"}, 3},
	{"links", "hash", []string{"hash", "purpose", "user_id", "org", "role", "created", "expires", "used"}, 3},
	{"branches", "org || '/' || name || '/' || branch", []string{"org", "name", "branch", "head", "created"}, 3},
	{"settings", "org || '/' || name", []string{"org", "name", "public", "require_secure"}, 3},
	{"waivers", "id", []string{"id", "org", "name", "purl", "owner", "reason", "created", "expires", "ended"}, 3},
	{"sessions", "hash", []string{"hash", "user_id", "agent", "created", "seen", "expires"}, 3},
	{"runs", "id", []string{"id", "org", "name", "commit", "asked", "retry", "state", "message", "created", "started", "finished"}, 3},
	{"audit", "CAST(seq AS TEXT)", []string{"seq", "at", "actor", "via", "address", "org", "project", "action", "object", "detail"}, 3},
	{"default_branches", "org || '/' || name", []string{"org", "name", "branch"}, 5},
	{"priorities", "run", []string{"run", "level", "over"}, 6},
	{"attempts", "run || '#' || seq", []string{"run", "seq", "state", "message", "started", "ended", "document"}, 8},
	{"held", "thing || ' ' || org || '/' || project", []string{"thing", "org", "project"}, 7},
	{"tasks", "run", []string{"run", "kind", "what", "at", "overrides", "result"}, 9},
}

func tableOf(name string) sealedTable {
	for _, t := range sealed {
		if t.name == name {
			return t
		}
	}
	panic("store: no sealed table " + name)
}

// place tells which row a model is: its table, its name, and how to find it by
// its key's index.
type place struct {
	table, row, where string
	args              []any
}

// keyed is a model that knows its place.
type keyed interface{ place() place }

func (p Project) place() place {
	return place{"projects", p.Org + "/" + p.Name, "org = ? AND name = ?", []any{p.Org, p.Name}}
}
func (c Commit) place() place { return place{"commits", string(c.ID), "id = ?", []any{c.ID}} }
func (v Solution) place() place {
	return place{"solutions", string(v.Commit), `"commit" = ?`, []any{v.Commit}}
}
func (v Step) place() place { return place{"steps", string(v.ID), "id = ?", []any{v.ID}} }
func (b Build) place() place {
	return place{"builds", string(b.Step) + "#" + strconv.Itoa(b.Seq), "step = ? AND seq = ?", []any{b.Step, b.Seq}}
}
func (r Rebuild) place() place {
	return place{"rebuilds", string(r.Step) + "#" + strconv.Itoa(r.Seq), "step = ? AND seq = ?", []any{r.Step, r.Seq}}
}
func (f File) place() place {
	return place{"files", strconv.FormatInt(f.RowID, 10), "id = ?", []any{f.RowID}}
}
func (e Evidence) place() place {
	return place{"evidence", strconv.FormatInt(e.RowID, 10), "id = ?", []any{e.RowID}}
}
func (p Pending) place() place { return place{"pending", string(p.Blob), "blob = ?", []any{p.Blob}} }

// sumOf is the digest of a row's cells as cells gave them.
func sumOf(cells string) string { return digest.FromBytes([]byte(cells)).Hex() }

// seal appends to the journal what the row at p says now.
func (s *Store) seal(ctx context.Context, tx bun.IConn, p place) error {
	var cells []string
	if err := s.db.NewRaw("SELECT "+s.cells(tableOf(p.table))+" FROM "+p.table+" WHERE "+p.where, p.args...).Conn(tx).Scan(ctx, &cells); err != nil {
		return err
	}
	if len(cells) != 1 {
		return fmt.Errorf("%s %s: %d rows have this key", p.table, p.row, len(cells))
	}
	return s.journal(ctx, tx, p.table, p.row, sumOf(cells[0]))
}

// journal appends an entry; an empty sum says that the row was taken out.
func (s *Store) journal(ctx context.Context, tx bun.IConn, table, row, sum string) error {
	var last []entry
	if err := s.db.NewSelect().Conn(tx).Model(&last).OrderExpr("seq DESC").Limit(1).Scan(ctx); err != nil {
		return err
	}
	e := entry{Seq: 1, Table: table, Row: row, Sum: sum}
	previous := ""
	if len(last) > 0 {
		e.Seq, previous = last[0].Seq+1, last[0].MAC
	}
	e.MAC = s.code(e, previous)
	_, err := s.db.NewInsert().Conn(tx).Model(&e).Exec(ctx)
	return err
}

// sealAll appends an entry for each row of a table that has none.
func (s *Store) sealAll(ctx context.Context, tx bun.IConn, t sealedTable) error {
	var rows []string
	q := "SELECT " + t.key + " FROM " + t.name + " WHERE " + t.key + ` NOT IN (SELECT "row" FROM journal WHERE tbl = ?) ORDER BY 1`
	if err := s.db.NewRaw(q, t.name).Conn(tx).Scan(ctx, &rows); err != nil {
		return err
	}
	for _, r := range rows {
		if err := s.seal(ctx, tx, place{t.name, r, t.key + " = ?", []any{r}}); err != nil {
			return err
		}
	}
	return nil
}

// checkJournal compares every row with the newest entry about it, and the
// entries with one another.
func (s *Store) checkJournal(ctx context.Context, db bun.IDB, add finder) error {
	var es []entry
	if err := db.NewSelect().Model(&es).OrderExpr("seq").Scan(ctx); err != nil {
		return fmt.Errorf("read the journal: %w", kind(err))
	}
	type key struct{ table, row string }
	newest := map[key]string{}
	previous, next := "", int64(1)
	for _, e := range es {
		name := strconv.FormatInt(e.Seq, 10)
		switch {
		case e.Seq != next:
			add("journal", name, "seq", "the journal goes from %d to it: entries were taken out or changed", next-1)
		case e.MAC != s.code(e, previous):
			add("journal", name, "mac", "its code does not fit what it says, the entry before it, and this data directory's keys: it was changed")
		}
		previous, next = e.MAC, e.Seq+1
		newest[key{e.Table, e.Row}] = e.Sum
	}
	for _, t := range sealed {
		var rows []struct {
			Row   string `bun:"row_name"`
			Cells string `bun:"cells"`
		}
		if err := db.NewRaw("SELECT COALESCE("+t.key+", '') AS row_name, "+s.cells(t)+" AS cells FROM "+t.name).Scan(ctx, &rows); err != nil {
			return fmt.Errorf("read %s: %w", t.name, kind(err))
		}
		for _, r := range rows {
			k := key{t.name, r.Row}
			sum, ok := newest[k]
			switch {
			case !ok || sum == "":
				add(t.name, r.Row, "", "the journal knows no such row: it was put in or its key was changed")
			case sum != sumOf(r.Cells):
				add(t.name, r.Row, "", "it is not what was written: one of its fields was changed")
			}
			delete(newest, k)
		}
	}
	for k, sum := range newest {
		if sum != "" {
			add(k.table, k.row, "", "the journal knows it, but it is not there: it was taken out or its key was changed")
		}
	}
	return nil
}

// Pending is a batch of statements that are signed and on their way into the
// log: a blob that says what they are.
type Pending struct {
	bun.BaseModel `bun:"table:pending"`

	Blob    digest.Digest `bun:"blob,pk"`
	Created time.Time     `bun:"created"`
}

// AddPending stores that a batch is on its way into the log. It is written
// before the log is, so that whatever entered the log has its row in the end.
func (s *Store) AddPending(ctx context.Context, p Pending) error {
	what := "batch " + p.Blob.String()
	if !p.Blob.Valid() {
		return fault.New(fault.Usage, "store %s: it needs a blob", what)
	}
	if err := s.need(what, p.Blob); err != nil {
		return err
	}
	p.Created = utc(p.Created)
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		_, err := once(ctx, s, tx, &p, func(Pending) bool { return true }, "blob = ?", p.Blob)
		return err
	})
}

// AllPending lists the batches that are still on their way, oldest first.
func (s *Store) AllPending(ctx context.Context) ([]Pending, error) {
	return list[Pending](ctx, s, "pending", "created, blob", "1 = 1")
}

// FinishPending stores the rows of a batch whose statements are all in the log,
// whose they are if they are not public, and that it is on its way no more: all or
// nothing.
func (s *Store) FinishPending(ctx context.Context, blob digest.Digest, rows []Evidence, held ...Held) error {
	what := "batch " + blob.String()
	for _, e := range rows {
		if err := s.checkEvidence(e); err != nil {
			return err
		}
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		if err := s.hold(ctx, tx, held...); err != nil {
			return err
		}
		for _, e := range rows {
			if err := s.addEvidence(ctx, tx, e); err != nil {
				return err
			}
		}
		res, err := tx.NewDelete().Model((*Pending)(nil)).Where("blob = ?", blob).Exec(ctx)
		if err := changedOne(res, err, "it is not on its way"); err != nil {
			return err
		}
		return s.journal(ctx, tx, "pending", string(blob), "")
	})
}

// ForgetEvidence enters into the journal that rows of evidence were lost which the
// database no longer has; repair calls it once their statements are all there
// again, in rows of their own. It gives how many.
func (s *Store) ForgetEvidence(ctx context.Context) (int, error) {
	n := 0
	return n, s.inTx(ctx, "what became of lost evidence", func(ctx context.Context, tx bun.Tx) error {
		var lost []string
		err := tx.NewRaw(`SELECT j.row FROM journal AS j WHERE j.tbl = 'evidence' AND j.sum <> ''
			AND NOT EXISTS (SELECT 1 FROM journal AS k WHERE k.tbl = j.tbl AND k.row = j.row AND k.seq > j.seq)
			AND NOT EXISTS (SELECT 1 FROM evidence WHERE CAST(id AS TEXT) = j.row) ORDER BY j.seq`).Scan(ctx, &lost)
		if err != nil {
			return err
		}
		for _, row := range lost {
			if err := s.journal(ctx, tx, "evidence", row, ""); err != nil {
				return err
			}
		}
		n = len(lost)
		return nil
	})
}

// cells is SQL that gives a row's cells as one text, no two of which are the same
// for different cells.
func (s *Store) cells(t sealedTable) string {
	parts := make([]string, len(t.columns))
	for i, c := range t.columns {
		parts[i] = s.d.cell(c)
	}
	return strings.Join(parts, " || ',' || ")
}
