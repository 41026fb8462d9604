package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"hallmark/internal/fault"
)

//go:embed sqlite/*.sql
var sqliteMigrations embed.FS

// sqliteLatest is the newest migration in sqlite/. Raise it with each.
const sqliteLatest = 1

// OpenWriter opens the SQLite database at path, makes it if it is missing, and
// brings its schema up to date. The caller holds the data directory's lock: one
// writer at a time. Every row's blobs are looked for in blobs before the row is
// written.
func OpenWriter(ctx context.Context, path string, blobs Blobs) (*Store, error) {
	db, err := openSQLite(path, false)
	if err != nil {
		return nil, err
	}
	if err := migrateSQLite(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, kind(err))
	}
	return &Store{db: bun.NewDB(db, sqlitedialect.New()), blobs: blobs}, nil
}

// OpenReader opens the SQLite database at path for reading only; a writer may be
// at work on it. It is fault.NotFound if there is none, fault.Unsupported if its
// schema is another than this version's.
func OpenReader(ctx context.Context, path string, blobs Blobs) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "open database %s: there is none", path)
	}
	db, err := openSQLite(path, true)
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
	return &Store{db: bun.NewDB(db, sqlitedialect.New()), blobs: blobs, readOnly: true}, nil
}

// openSQLite sets the pragmas in the DSN, so that every pooled connection has
// them. Transactions begin IMMEDIATE: two that read before they write cannot
// deadlock. synchronous=FULL, since in WAL mode NORMAL may lose the last commits
// at a power cut, and a signed statement must not outlive its row.
func openSQLite(path string, readOnly bool) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	q := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)"}}
	if readOnly {
		q.Set("mode", "ro")
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

func migrateSQLite(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(sqliteMigrations, "sqlite")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
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
	_, err = p.Up(ctx)
	return err
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
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_READONLY:
		return fault.New(fault.Conflict, "%w", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.Advise(fault.Unavailable, "Another hallmark is writing to it; try again when it is done.", "%w", err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fault.New(fault.Corrupt, "%w", err)
	}
	return err
}
