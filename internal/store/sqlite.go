package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hallmark/internal/fault"
)

// sqliteDialect is SQLite.
type sqliteDialect struct{}

func (sqliteDialect) goose() goose.Dialect     { return goose.DialectSQLite3 }
func (sqliteDialect) bun() schema.Dialect      { return sqlitedialect.New() }
func (sqliteDialect) folder() string           { return "sqlite" }
func (sqliteDialect) snapshot() *sql.TxOptions { return &sql.TxOptions{ReadOnly: true} }

// cell is engine's: a cell's type and bytes are what SQLite says they are, since a
// column takes any.
func (sqliteDialect) cell(column string) string {
	return fmt.Sprintf(`typeof("%[1]s") || ':' || hex("%[1]s")`, column)
}

// lock is engine's: a writer's transactions begin IMMEDIATE.
func (sqliteDialect) lock(context.Context, bun.IConn) error { return nil }

// alone is engine's: the data directory's lock has seen to it.
func (sqliteDialect) alone(_ context.Context, _ *sql.DB, fn func() error) error { return fn() }

// openSQLite sets the pragmas in the DSN, so that every pooled connection has
// them. Transactions begin IMMEDIATE: two that read before they write cannot
// deadlock. synchronous=FULL, since in WAL mode NORMAL may lose the last commits
// at a power cut, and a signed statement must not outlive its row.
func openSQLite(_ context.Context, path string, how manner) (*sql.DB, error) {
	if how.read {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "there is none")
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)"}}
	if how.read {
		q.Set("mode", "ro")
		if frozen(abs) || how.still && quiet(abs) {
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
		return nil, err
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

// check is engine's: SQLite checks its own file, and schema and counters are compared
// with what they must be.
func (sqliteDialect) check(ctx context.Context, s *Store, db bun.IDB, add finder) error {
	var said []string
	if err := db.NewRaw("PRAGMA integrity_check(20)").Scan(ctx, &said); err != nil {
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
	if err := db.NewRaw("PRAGMA foreign_key_check").Scan(ctx, &links); err != nil {
		return fmt.Errorf("check the database's links: %w", kind(err))
	}
	for _, l := range links {
		add(l.Table, fmt.Sprintf("(row %d)", l.RowID.Int64), "", "it names a row of %s that is not there", l.Parent)
	}
	want, err := freshSQLite()
	if err != nil {
		return err
	}
	have, err := schemaOfSQLite(ctx, db)
	if err != nil {
		return err
	}
	checkSchema(have, want, add)
	var odd []int64
	if err := db.NewRaw("SELECT seq FROM journal WHERE typeof(tbl) <> 'text' OR typeof(\"row\") <> 'text' OR typeof(sum) <> 'text' OR typeof(mac) <> 'text' ORDER BY seq").Scan(ctx, &odd); err != nil {
		return fmt.Errorf("read the journal: %w", kind(err))
	}
	for _, seq := range odd {
		add("journal", strconv.FormatInt(seq, 10), "", "it holds something else than text: it was changed")
	}
	var counters []struct {
		Name string `bun:"name"`
		Seq  string `bun:"counted"`
	}
	if err := db.NewRaw("SELECT CASE typeof(name) WHEN 'text' THEN name ELSE typeof(name) END AS name, typeof(seq) || ':' || COALESCE(seq, '') AS counted FROM sqlite_sequence").Scan(ctx, &counters); err != nil {
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
		if err := db.NewRaw("SELECT COALESCE('integer:' || MAX(id), '') FROM "+t).Scan(ctx, &want); err != nil {
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

// freshSQLite is the schema of a database made now: the one that every database
// must have.
var freshSQLite = sync.OnceValues(func() (map[string]string, error) {
	db, err := sql.Open("sqlite", "file::memory:?_txlock=immediate")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	s := newStore(db, sqliteDialect{}, nil, false, nil)
	if err := s.migrate(context.Background()); err != nil {
		return nil, fmt.Errorf("make a database to compare with: %w", err)
	}
	return schemaOfSQLite(context.Background(), s.db)
})

// schemaOfSQLite gives what the database consists of, by kind and name.
func schemaOfSQLite(ctx context.Context, db bun.IDB) (map[string]string, error) {
	var parts []struct {
		Name string `bun:"part"`
		SQL  string `bun:"made_by"`
	}
	if err := db.NewRaw("SELECT type || ' ' || name AS part, tbl_name || char(10) || COALESCE(sql, '') AS made_by FROM sqlite_master").Scan(ctx, &parts); err != nil {
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
		return postgresKind(err)
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
