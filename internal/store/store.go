// Package store keeps rows that point at blobs: what has to be found again.
//
// Documents (commits, plans, build records, rebuild results, bundles) are blobs;
// a row holds their digests and the few fields that are searched for. The rule
// for crashes is blob first, row after: a row whose blobs are not there is
// refused, so the worst that a crash leaves is a blob that nothing points at.
// A journal vouches for every row (see journal.go). Everything but a project's head is append-only, and the database itself
// refuses to change it. Writing the same row again is no error, so a caller who
// did not hear the answer may ask again.
//
// The models are neutral to the dialect; a dialect is a file such as sqlite.go or
// postgres.go and a folder of migrations such as sqlite/ or postgres/. Package
// storetest holds the contract.
//
// Errors have the kinds of internal/fault: NotFound, Conflict (a different row
// is there, a series does not continue, a blob is missing), Unavailable (busy),
// Corrupt.
package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Blobs tells whether a blob is there.
type Blobs interface {
	Has(d digest.Digest) bool
}

// Store is an open database. Its methods may be called from several goroutines.
type Store struct {
	db       *bun.DB
	d        engine
	blobs    Blobs
	key      []byte // of the journal's codes
	exist    bool   // a PostgreSQL database without our schema is not begun
	readOnly bool
	allHeld  atomic.Bool // AllHeld said so
}

// Option changes how a database is opened.
type Option func(*Store)

// WithKey gives the key under which the journal's codes are made; without one
// they are plain checksums. It must be the same each time.
func WithKey(key []byte) Option { return func(s *Store) { s.key = key } }

// MustExist has OpenWriter not begin a PostgreSQL database that holds nothing of
// ours: it is fault.NotFound, for a caller who knows that something was there.
func MustExist() Option { return func(s *Store) { s.exist = true } }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Project is a line of commits.
type Project struct {
	bun.BaseModel `bun:"table:projects"`

	Org     string        `bun:"org,pk"`
	Name    string        `bun:"name,pk"`
	Head    digest.Digest `bun:"head,nullzero"` // empty: no commit yet
	Created time.Time     `bun:"created"`
}

// Commit is one configuration of a project; immutable.
type Commit struct {
	bun.BaseModel `bun:"table:commits"`

	ID       digest.Digest `bun:"id,pk"`
	Org      string        `bun:"org"`
	Name     string        `bun:"name"`
	Parent   digest.Digest `bun:"parent,nullzero"` // empty: the first
	Document digest.Digest `bun:"document"`        // blob
	Created  time.Time     `bun:"created"`
}

// Solution is what a commit was solved to; written once.
type Solution struct {
	bun.BaseModel `bun:"table:solutions"`

	Commit  digest.Digest `bun:"commit,pk"`
	Plan    digest.Digest `bun:"plan"`             // blob, and the plan's name
	Answers digest.Digest `bun:"answers,nullzero"` // blob: the pinned index answers; may be empty
	Created time.Time     `bun:"created"`
}

// Step is one build of some plan.
type Step struct {
	bun.BaseModel `bun:"table:steps"`

	ID       digest.Digest `bun:"id,pk"`
	PURL     purl.PURL     `bun:"purl"`
	Document digest.Digest `bun:"document"` // blob
}

// Build is one run of a step. Its series counts from 1 and has no gaps.
type Build struct {
	bun.BaseModel `bun:"table:builds"`

	Step     digest.Digest  `bun:"step,pk"`
	Seq      int            `bun:"seq,pk"` // AppendBuild gives it
	ID       string         `bun:"id"`     // record.Build.ID
	Purpose  record.Purpose `bun:"purpose"`
	Outcome  record.Outcome `bun:"outcome"`
	Builder  string         `bun:"builder"`
	Record   digest.Digest  `bun:"record"`          // blob: record.Build
	Output   digest.Digest  `bun:"output,nullzero"` // blob: the file it made; empty if it failed
	Started  time.Time      `bun:"started"`
	Finished time.Time      `bun:"finished"`
}

// Rebuild is one result of comparing builds of a step.
type Rebuild struct {
	bun.BaseModel `bun:"table:rebuilds"`

	Step     digest.Digest     `bun:"step,pk"`
	Seq      int               `bun:"seq,pk"` // 1 for the first
	Outcome  record.Comparison `bun:"outcome"`
	Document digest.Digest     `bun:"document"`          // blob: record.RebuildResult
	Previous digest.Digest     `bun:"previous,nullzero"` // Document of the one before; empty for the first
	Created  time.Time         `bun:"created"`
}

// FileKind says where a file's bytes came from.
type FileKind string

// The kinds of files.
const (
	FileBuilt     FileKind = "built"     // a step of ours made it
	FilePublished FileKind = "published" // upstream's published file
	FileSource    FileKind = "source"    // upstream's source
)

// File is an artifact or a source by name. The same bytes may have several rows.
type File struct {
	bun.BaseModel `bun:"table:files"`

	RowID  int64         `bun:"id,pk,autoincrement"`
	Digest digest.Digest `bun:"digest"` // blob
	PURL   purl.PURL     `bun:"purl"`
	Name   string        `bun:"name"` // base name
	Size   int64         `bun:"size"` // bytes
	Kind   FileKind      `bun:"kind"`
	Step   digest.Digest `bun:"step,nullzero"` // for built files
}

// Evidence is one signed file about a subject.
type Evidence struct {
	bun.BaseModel `bun:"table:evidence"`

	RowID         int64         `bun:"id,pk,autoincrement"`
	Subject       digest.Digest `bun:"subject"` // of the artifact, or of a step that has none
	Name          string        `bun:"name"`    // provenance.sigstore.json, …
	PredicateType string        `bun:"predicate_type"`
	Blob          digest.Digest `bun:"blob"`
	LogIndex      *int64        `bun:"log_index"` // nil: not logged
	Step          digest.Digest `bun:"step,nullzero"`
	Created       time.Time     `bun:"created"`
}

// need refuses a row whose blobs are not there.
func (s *Store) need(what string, ds ...digest.Digest) error {
	if s.readOnly {
		return fault.New(fault.Conflict, "store %s: the database was opened for reading only", what)
	}
	for _, d := range ds {
		if d == "" {
			continue
		}
		if !d.Valid() {
			return fault.New(fault.Usage, "store %s: %.80q is no digest", what, d)
		}
		if !s.blobs.Has(d) {
			return fault.New(fault.Conflict, "store %s: its blob %s is not stored", what, d)
		}
	}
	return nil
}

// inTx runs fn in a transaction, while nobody else writes.
func (s *Store) inTx(ctx context.Context, what string, fn func(ctx context.Context, tx bun.Tx) error) error {
	err := s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := s.d.lock(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %s: %w", what, kind(err))
}

// once inserts row and enters it into the journal, unless find gives a row already; then that one must be the
// same by the caller's rule. It reports whether row was inserted.
func once[T keyed](ctx context.Context, s *Store, tx bun.Tx, row *T, same func(have T) bool, where string, args ...any) (bool, error) {
	var have []T
	if err := tx.NewSelect().Model(&have).Where(where, args...).Limit(1).Scan(ctx); err != nil {
		return false, err
	}
	if len(have) > 0 {
		if !same(have[0]) {
			return false, fault.New(fault.Conflict, "a different one is stored already and is never replaced")
		}
		*row = have[0]
		return false, nil
	}
	if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
		return false, err
	}
	return true, s.seal(ctx, tx, (*row).place())
}

// utc is t as the database keeps it: UTC, microseconds (PostgreSQL has no finer).
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// list gives rows for reading; an empty result is no error.
func list[T any](ctx context.Context, s *Store, what, order, where string, args ...any) ([]T, error) {
	var rows []T
	if err := s.db.NewSelect().Model(&rows).Where(where, args...).OrderExpr(order).Scan(ctx); err != nil {
		return nil, fmt.Errorf("list %s: %w", what, kind(err))
	}
	return rows, nil
}

// one gives one row; none is fault.NotFound.
func one[T any](ctx context.Context, s *Store, what, order, where string, args ...any) (T, error) {
	var rows []T
	if err := s.db.NewSelect().Model(&rows).Where(where, args...).OrderExpr(order).Limit(1).Scan(ctx); err != nil {
		return *new(T), fmt.Errorf("find %s: %w", what, kind(err))
	}
	if len(rows) == 0 {
		return *new(T), fault.New(fault.NotFound, "%s is not stored", what)
	}
	return rows[0], nil
}
