package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hallmark/internal/fault"
)

//go:embed sqlite/00001_first.sql
var sqliteMigrations embed.FS

// sqliteJournal makes the tables of migration 2, which is code since it also
// enters every row that is there.
//
//go:embed sqlite/00002_journal.sql
var sqliteJournal string

// sqlitePlatform makes the tables of migration 3: accounts, organizations and what
// belongs to them.
//
//go:embed sqlite/00003_platform.sql
var sqlitePlatform string

// sqliteLatest is the newest migration in sqlite/. Raise it with each.
const sqliteLatest = 3

// OpenWriter opens the SQLite database at path, makes it if it is missing, and
// brings its schema up to date. The caller holds the data directory's lock: one
// writer at a time. Every row's blobs are looked for in blobs before the row is
// written.
func OpenWriter(ctx context.Context, path string, blobs Blobs, opts ...Option) (*Store, error) {
	db, err := openSQLite(path, false, false)
	if err != nil {
		return nil, err
	}
	s := newStore(db, blobs, false, opts)
	if err := s.migrateSQLite(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, kind(err))
	}
	return s, nil
}

func newStore(db *sql.DB, blobs Blobs, readOnly bool, opts []Option) *Store {
	s := &Store{db: bun.NewDB(db, sqlitedialect.New()), blobs: blobs, readOnly: readOnly}
	for _, o := range opts {
		o(s)
	}
	return s
}

// OpenReader opens the SQLite database at path for reading only; a writer may be
// at work on it. It is fault.NotFound if there is none, fault.Unsupported if its
// schema is another than this version's.
func OpenReader(ctx context.Context, path string, blobs Blobs, opts ...Option) (*Store, error) {
	return openReader(ctx, path, blobs, false, opts)
}

// OpenStill is OpenReader for a caller who must not change a single file: a reader
// leaves the log and the shared memory of SQLite beside the database. If a writer
// has left something there, it is as OpenReader. A writer that comes later is not
// noticed: what is read is good only if the database is as it was when the caller
// has ended.
func OpenStill(ctx context.Context, path string, blobs Blobs, opts ...Option) (*Store, error) {
	return openReader(ctx, path, blobs, true, opts)
}

func openReader(ctx context.Context, path string, blobs Blobs, still bool, opts []Option) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "open database %s: there is none", path)
	}
	db, err := openSQLite(path, true, still)
	if err != nil {
		return nil, err
	}
	var version int64
	err = db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version WHERE is_applied").Scan(&version)
	switch {
	case err != nil:
		err = fmt.Errorf("read its schema version: %w", kind(err))
	case version < sqliteLatest:
		err = fault.Advise(fault.Unsupported, "Run any hallmark command that writes, such as hallmark builds, to bring it up to date.",
			"its schema is version %d, this hallmark reads %d", version, sqliteLatest)
	case version > sqliteLatest:
		err = fault.Advise(fault.Unsupported, "Use the hallmark that wrote it, or a newer one.",
			"its schema is version %d, this hallmark reads %d", version, sqliteLatest)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return newStore(db, blobs, true, opts), nil
}

// openSQLite sets the pragmas in the DSN, so that every pooled connection has
// them. Transactions begin IMMEDIATE: two that read before they write cannot
// deadlock. synchronous=FULL, since in WAL mode NORMAL may lose the last commits
// at a power cut, and a signed statement must not outlive its row.
func openSQLite(path string, readOnly, still bool) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	q := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)"}}
	if readOnly {
		q.Set("mode", "ro")
		if frozen(abs) || still && quiet(abs) {
			q.Set("immutable", "1")
		}
		q["_pragma"] = append(q["_pragma"], "query_only(1)")
	} else {
		q.Set("_txlock", "immediate")
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)")
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(8)
	return db, nil
}

// frozen tells whether the database's folder cannot be written and no writer has
// left anything beside the database: then a reader must not ask for the shared
// memory that it would otherwise need.
func frozen(path string) bool {
	return unix.Access(filepath.Dir(path), unix.W_OK) != nil && quiet(path)
}

// quiet tells whether no writer has left anything beside the database.
func quiet(path string) bool {
	fi, err := os.Stat(path + "-wal")
	return err != nil || fi.Size() == 0
}

// versionTable is where goose keeps which migrations were run.
const versionTable = "goose_db_version"

func (s *Store) migrateSQLite(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(sqliteMigrations, "sqlite")
	if err != nil {
		return err
	}
	// Each migration after the first enters into the journal what it finds and makes,
	// in its own transaction: no later moment takes a row for granted.
	after := func(version int, script string) *goose.Migration {
		return goose.NewGoMigration(int64(version), &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, script); err != nil {
				return err
			}
			for _, t := range sealed {
				if t.name == versionTable || t.since > version || t.since < version && version > 2 {
					continue
				}
				if err := s.sealAll(ctx, tx, t); err != nil {
					return err
				}
			}
			return nil
		}}, nil)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithGoMigrations(after(2, sqliteJournal), after(3, sqlitePlatform)))
	if err != nil {
		return err
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if have > sqliteLatest {
		return fault.Advise(fault.Unsupported, "Use the hallmark that wrote it, or a newer one.",
			"its schema is version %d, this hallmark writes %d", have, sqliteLatest)
	}
	if _, err = p.Up(ctx); err != nil || have == sqliteLatest {
		return err
	}
	return s.inTx(ctx, "schema version", func(ctx context.Context, tx bun.Tx) error { return s.sealAll(ctx, tx, tableOf(versionTable)) })
}

// checkFile has SQLite check its own file, and compares the schema, the versions
// and the counters with what they must be.
func (s *Store) checkFile(ctx context.Context, add func(table, row, column, format string, args ...any)) error {
	var said []string
	if err := s.db.NewRaw("PRAGMA integrity_check(20)").Scan(ctx, &said); err != nil {
		return fmt.Errorf("check the database's file: %w", kind(err))
	}
	for _, t := range said {
		if t != "ok" {
			add("database", "file", "", "%s", t)
		}
	}
	var links []struct {
		Table  string        `bun:"table"`
		RowID  sql.NullInt64 `bun:"rowid"`
		Parent string        `bun:"parent"`
		FKID   int           `bun:"fkid"`
	}
	if err := s.db.NewRaw("PRAGMA foreign_key_check").Scan(ctx, &links); err != nil {
		return fmt.Errorf("check the database's links: %w", kind(err))
	}
	for _, l := range links {
		add(l.Table, fmt.Sprintf("(row %d)", l.RowID.Int64), "", "it names a row of %s that is not there", l.Parent)
	}
	want, err := freshSchema()
	if err != nil {
		return err
	}
	want = maps.Clone(want)
	have, err := s.schema(ctx)
	if err != nil {
		return err
	}
	for name, sql := range have {
		if ofQueue(name, sql) {
			continue
		}
		if want[name] != sql {
			add("schema", name, "sql", "it is not as this version makes it: somebody changed it")
		}
		delete(want, name)
	}
	for name := range want {
		add("schema", name, "sql", "it is missing: somebody took it out")
	}
	var versions []struct {
		ID      int64 `bun:"id"`
		Version int64 `bun:"version_id"`
		Applied bool  `bun:"is_applied"`
	}
	if err := s.db.NewRaw("SELECT id, version_id, is_applied FROM "+versionTable+" ORDER BY id").Scan(ctx, &versions); err != nil {
		return fmt.Errorf("check the schema's versions: %w", kind(err))
	}
	if len(versions) != sqliteLatest+1 {
		add(versionTable, "all", "", "there are %d versions, want 0 to %d", len(versions), sqliteLatest)
	}
	for i, v := range versions {
		if v.Version != int64(i) || !v.Applied {
			add(versionTable, fmt.Sprint(v.ID), "version_id", "it says version %d, want %d", v.Version, i)
		}
	}
	var counters []struct {
		Name string `bun:"name"`
		Seq  string `bun:"counted"`
	}
	if err := s.db.NewRaw("SELECT CASE typeof(name) WHEN 'text' THEN name ELSE typeof(name) END AS name, typeof(seq) || ':' || COALESCE(seq, '') AS counted FROM sqlite_sequence").Scan(ctx, &counters); err != nil {
		return fmt.Errorf("check the database's counters: %w", kind(err))
	}
	seen := map[string]string{}
	for _, c := range counters {
		if _, twice := seen[c.Name]; twice {
			add("sqlite_sequence", c.Name, "", "it is there twice")
		}
		seen[c.Name] = c.Seq
	}
	for _, t := range []string{"files", "evidence", versionTable} {
		var want string
		if err := s.db.NewRaw("SELECT COALESCE('integer:' || MAX(id), '') FROM "+t).Scan(ctx, &want); err != nil {
			return fmt.Errorf("check the database's counters: %w", kind(err))
		}
		if seen[t] != want {
			add("sqlite_sequence", t, "seq", "the counter says %q, the newest row %q", seen[t], want)
		}
		delete(seen, t)
	}
	for name := range seen {
		if strings.HasPrefix(name, queuePrefix) {
			continue
		}
		add("sqlite_sequence", name, "name", "no table counts under this name")
	}
	return nil
}

// queuePrefix begins the names of the tables that the queue of jobs keeps in the
// same file (internal/jobs). They say what is to be done, never what was; they are
// not in the journal, and their form is the queue's own.
const queuePrefix = "river_"

// ofQueue tells whether a part of the schema, as schema gives it, is a table or an
// index of the queue's.
func ofQueue(name, sql string) bool {
	kind, _, _ := strings.Cut(name, " ")
	return (kind == "table" || kind == "index") && strings.HasPrefix(sql, queuePrefix)
}

// freshSchema is the schema of a database made now: the one that every database
// must have.
var freshSchema = sync.OnceValues(func() (map[string]string, error) {
	db, err := sql.Open("sqlite", "file::memory:?_txlock=immediate")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	s := newStore(db, nil, false, nil)
	if err := s.migrateSQLite(context.Background(), db); err != nil {
		return nil, fmt.Errorf("make a database to compare with: %w", err)
	}
	return s.schema(context.Background())
})

// schema gives what the database consists of, by kind and name.
func (s *Store) schema(ctx context.Context) (map[string]string, error) {
	var parts []struct {
		Name string `bun:"part"`
		SQL  string `bun:"made_by"`
	}
	if err := s.db.NewRaw("SELECT type || ' ' || name AS part, tbl_name || char(10) || COALESCE(sql, '') AS made_by FROM sqlite_master").Scan(ctx, &parts); err != nil {
		return nil, fmt.Errorf("read the database's schema: %w", kind(err))
	}
	m := map[string]string{}
	for _, p := range parts {
		m[p.Name] = p.SQL
	}
	return m, nil
}

// kind gives a database's error the kind that callers branch on.
func kind(err error) error {
	var e *sqlite.Error
	switch {
	case err == nil || fault.KindOf(err) != "":
		return err
	case errors.Is(err, sql.ErrNoRows):
		return fault.New(fault.NotFound, "%w", err)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR:
		return fault.Advise(fault.Unavailable, "See that the data directory's disk is there, is not full, and can be written by this user.", "%w", err)
	case sqlite3.SQLITE_READONLY:
		return fault.Advise(fault.Conflict, "See that the data directory is not mounted read-only and belongs to this user.", "%w", err)
	case sqlite3.SQLITE_CONSTRAINT:
		return fault.New(fault.Conflict, "%w", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.Advise(fault.Unavailable, "Another hallmark is writing to it; try again when it is done.", "%w", err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fault.Advise(fault.Corrupt, "Put hallmark.db back from a backup, with what lies beside it; blobs, log and keys of a later time may stay. Then run: hallmark fsck", "%w", err)
	}
	return err
}
