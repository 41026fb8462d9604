package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
)

// Finding is one thing that fsck reports.
type Finding struct {
	Table   string        `json:"table"`
	Row     string        `json:"row"`            // what names the row
	Column  string        `json:"column"`         // which of its fields
	Blob    digest.Digest `json:"blob,omitempty"` // the blob that is not there
	Message string        `json:"message"`        // a sentence
}

// pointers lists every column that names a blob, with what names its row.
var pointers = []struct{ table, row, column string }{
	{"commits", "id", "document"},
	{"solutions", `"commit"`, "plan"},
	{"solutions", `"commit"`, "answers"},
	{"steps", "id", "document"},
	{"builds", "id", "record"},
	{"builds", "id", "output"},
	{"rebuilds", "step || '#' || seq", "document"},
	{"files", "name", "digest"},
	{"evidence", "subject || '/' || name", "blob"},
	{"pending", "blob", "blob"},
	{"attempts", "run || '#' || seq", "document"},
	{"tasks", "run", "overrides"},
	{"tasks", "run", "result"},
}

// References calls fn with every blob that some row points at; a blob may come
// several times.
func (s *Store) References(ctx context.Context, fn func(table, row, column string, d digest.Digest) error) error {
	return references(ctx, s.db, fn)
}

func references(ctx context.Context, db bun.IDB, fn func(table, row, column string, d digest.Digest) error) error {
	for _, p := range pointers {
		var rows []struct {
			Row  string        `bun:"row_name"`
			Blob digest.Digest `bun:"blob_digest"`
		}
		q := fmt.Sprintf("SELECT COALESCE(%s, '') AS row_name, %s AS blob_digest FROM %s WHERE %s IS NOT NULL AND %s <> ''", p.row, p.column, p.table, p.column, p.column)
		if err := db.NewRaw(q).Scan(ctx, &rows); err != nil {
			return fmt.Errorf("list the blobs of %s: %w", p.table, kind(err))
		}
		for _, r := range rows {
			if err := fn(p.table, r.Row, p.column, r.Blob); err != nil {
				return err
			}
		}
	}
	return nil
}

// Check lists what is wrong: pages of the file that are damaged, rows that are not
// as they were written (see journal.go), rows whose blobs are not there, heads that
// do not belong, series with gaps or broken links. It does not read the blobs. The
// error, fault.Corrupt, is of a file that cannot be read on. It looks at one state of
// the database: others may go on writing.
func (s *Store) Check(ctx context.Context) ([]Finding, error) {
	var out []Finding
	add := func(table, row, column, format string, args ...any) {
		out = append(out, Finding{Table: table, Row: row, Column: column,
			Message: fmt.Sprintf("%s %s: ", table, row) + fmt.Sprintf(format, args...)})
	}
	db, err := s.db.BeginTx(ctx, s.d.snapshot())
	if err != nil {
		return nil, fmt.Errorf("check the database: %w", kind(err))
	}
	defer func() { _ = db.Rollback() }() // it was only read
	for _, part := range []func() error{
		func() error { return s.d.check(ctx, s, db, add) },
		func() error { return s.checkVersions(ctx, db, add) },
		func() error { return s.checkJournal(ctx, db, add) },
	} {
		if err := part(); err != nil {
			return out, err
		}
	}
	err = references(ctx, db, func(table, row, column string, d digest.Digest) error {
		if !d.Valid() || !s.blobs.Has(d) {
			out = append(out, Finding{Table: table, Row: row, Column: column, Blob: d,
				Message: fmt.Sprintf("%s %s: its %s %s is not stored", table, row, column, d)})
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	var rebuilds []Rebuild
	if err := db.NewSelect().Model(&rebuilds).OrderExpr("step, seq").Scan(ctx); err != nil {
		return out, fmt.Errorf("check rebuilds: %w", kind(err))
	}
	var last Rebuild
	for _, r := range rebuilds {
		if r.Step != last.Step {
			last = Rebuild{Step: r.Step}
		}
		if r.Seq != last.Seq+1 || r.Previous != last.Document {
			add("rebuilds", fmt.Sprintf("%s#%d", r.Step, r.Seq), "previous", "it does not continue its step's series")
		}
		last = r
	}
	var gaps []struct {
		Step digest.Digest `bun:"step"`
		N    int           `bun:"n"`
		Max  int           `bun:"last"`
	}
	if err := db.NewRaw("SELECT step, COUNT(*) AS n, MAX(seq) AS last FROM builds GROUP BY step HAVING COUNT(*) <> MAX(seq)").Scan(ctx, &gaps); err != nil {
		return out, fmt.Errorf("check builds: %w", kind(err))
	}
	for _, g := range gaps {
		add("builds", g.Step.String(), "seq", "its series has %d builds but goes up to %d", g.N, g.Max)
	}
	var heads []Project
	if err := db.NewSelect().Model(&heads).Where("head IS NOT NULL AND NOT EXISTS (SELECT 1 FROM commits c WHERE c.id = head AND c.org = project.org AND c.name = project.name)").Scan(ctx); err != nil {
		return out, fmt.Errorf("check heads: %w", kind(err))
	}
	for _, p := range heads {
		add("projects", p.Org+"/"+p.Name, "head", "its head %s is no commit of it", p.Head)
	}
	return out, nil
}
