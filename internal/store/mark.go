package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
)

// Mark names a state of the database: the last entry of its journal, whose code
// is over all entries before it.
type Mark struct {
	Seq int64  `json:"seq"`
	MAC string `json:"mac"` // empty: nothing was ever written
}

// Mark gives the state as it is now.
func (s *Store) Mark(ctx context.Context) (Mark, error) {
	var last []entry
	if err := s.db.NewSelect().Model(&last).Column("seq", "mac").OrderExpr("seq DESC").Limit(1).Scan(ctx); err != nil {
		return Mark{}, fmt.Errorf("state of the database: %w", kind(err))
	}
	if len(last) == 0 {
		return Mark{}, nil
	}
	return Mark{last[0].Seq, last[0].MAC}, nil
}

// maxSince is how many entries Since looks at.
const maxSince = 5000

// Since is what was written since an earlier state.
type Since struct {
	Mark   Mark                   // the state as it is now
	Tables map[string]bool        // rows of these tables
	Steps  map[digest.Digest]bool // builds, rebuild results or evidence of these steps; the empty digest: evidence of no step
}

// Touch tells whether something was written that may concern one of steps.
func (s Since) Touch(steps map[digest.Digest]bool) bool {
	for d := range s.Steps {
		if d == "" || steps[d] {
			return true
		}
	}
	return false
}

// Since gives what was written since m. It is false if m is no earlier state of this
// database, or lies too far back.
func (s *Store) Since(ctx context.Context, m Mark) (Since, bool, error) {
	var rows []struct {
		Seq  int64         `bun:"seq"`
		MAC  string        `bun:"mac"`
		Tbl  string        `bun:"tbl"`
		Row  string        `bun:"row"`
		Step digest.Digest `bun:"step"`
	}
	// A row of evidence is named by its id alone.
	q := `SELECT j.seq, j.mac, j.tbl, j.row, COALESCE(e.step, '') AS step
		FROM journal j LEFT JOIN evidence e ON j.tbl = 'evidence' AND e.id = CASE WHEN j.tbl = 'evidence' THEN CAST(j.row AS BIGINT) END
		WHERE j.seq >= ? ORDER BY j.seq LIMIT ?`
	if err := s.db.NewRaw(q, m.Seq, maxSince+2).Scan(ctx, &rows); err != nil {
		return Since{}, false, fmt.Errorf("what was written since entry %d: %w", m.Seq, kind(err))
	}
	if len(rows) > maxSince || len(rows) == 0 || rows[0].Seq != m.Seq || rows[0].MAC != m.MAC {
		return Since{}, false, nil
	}
	last := rows[len(rows)-1]
	out := Since{Mark: Mark{last.Seq, last.MAC}, Tables: map[string]bool{}, Steps: map[digest.Digest]bool{}}
	for _, r := range rows[1:] {
		out.Tables[r.Tbl] = true
		switch r.Tbl {
		case "builds", "rebuilds":
			step, _, _ := strings.Cut(r.Row, "#")
			out.Steps[digest.Digest(step)] = true
		case "evidence":
			out.Steps[r.Step] = true
		}
	}
	return out, true, nil
}

// StepsSince gives the steps of which builds, rebuild results or evidence were
// written since m; evidence that belongs to no step, or is still on its way into the
// log, is under the empty digest. It is false if m is no earlier state of this database, or lies too far back.
func (s *Store) StepsSince(ctx context.Context, m Mark) (map[digest.Digest]bool, bool, error) {
	since, ok, err := s.Since(ctx, m)
	if err != nil || !ok {
		return nil, false, err
	}
	left, err := s.db.NewSelect().Model((*Pending)(nil)).Count(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("what is on its way into the log: %w", kind(err))
	}
	if left > 0 {
		since.Steps[""] = true
	}
	return since.Steps, true, nil
}

// Code is a code over b (HMAC-SHA-256) under the key that vouches for the rows,
// for what is derived from rows and kept beside the database. what names its kind,
// so that none can stand in for another or for a row. It is nil if the store was
// opened without a key.
func (s *Store) Code(what string, b []byte) []byte {
	if len(s.key) == 0 {
		return nil
	}
	m := hmac.New(sha256.New, s.key)
	fmt.Fprintf(m, "beside:%d:%s", len(what), what)
	m.Write(b)
	return m.Sum(nil)
}

// chunk is how many names one query asks for.
const chunk = 500

// in gives the rows whose column is one of names, in order.
func in[T any](ctx context.Context, s *Store, what, column, order string, names []digest.Digest) ([]T, error) {
	var out []T
	for from := 0; from < len(names); from += chunk {
		part := names[from:min(from+chunk, len(names))]
		rows, err := list[T](ctx, s, what, order, column+" IN ?", bun.Tuple(part))
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// BuildsOf lists the builds of several steps, by step, each in their order.
func (s *Store) BuildsOf(ctx context.Context, steps []digest.Digest) (map[digest.Digest][]Build, error) {
	rows, err := in[Build](ctx, s, "builds", "step", "step, seq", steps)
	out := make(map[digest.Digest][]Build, len(steps))
	for _, r := range rows {
		out[r.Step] = append(out[r.Step], r)
	}
	return out, err
}

// RebuildsOf lists the rebuild results of several steps, by step, each in their
// order.
func (s *Store) RebuildsOf(ctx context.Context, steps []digest.Digest) (map[digest.Digest][]Rebuild, error) {
	rows, err := in[Rebuild](ctx, s, "rebuilds", "step", "step, seq", steps)
	out := make(map[digest.Digest][]Rebuild, len(steps))
	for _, r := range rows {
		out[r.Step] = append(out[r.Step], r)
	}
	return out, err
}

// EvidenceOf lists all evidence of several subjects, by subject, oldest first.
func (s *Store) EvidenceOf(ctx context.Context, subjects []digest.Digest) (map[digest.Digest][]Evidence, error) {
	rows, err := in[Evidence](ctx, s, "evidence", "subject", "id", subjects)
	out := make(map[digest.Digest][]Evidence, len(subjects))
	for _, r := range rows {
		out[r.Subject] = append(out[r.Subject], r)
	}
	return out, err
}
