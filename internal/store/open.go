package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	"github.com/uptrace/bun"

	"hallmark/internal/fault"
)

// OpenWriter opens the database at where, makes it if it is missing, and brings its
// schema up to date. where is the path of an SQLite file, whose data directory's lock
// the caller holds: one writer at a time; or the URL of a PostgreSQL database, which
// must be there (see IsPostgres). Every row's blobs are looked for in blobs before
// the row is written.
func OpenWriter(ctx context.Context, where string, blobs Blobs, opts ...Option) (*Store, error) {
	var asked Store
	for _, o := range opts {
		o(&asked)
	}
	s, err := connect(ctx, where, manner{exist: asked.exist}, blobs, opts)
	if err != nil {
		return nil, err
	}
	err = s.migrate(ctx)
	if err == nil {
		err = s.belongs(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open database %s: %w", Name(where), kind(err))
	}
	return s, nil
}

// OpenReader opens the database at where for reading only; a writer may be at work
// on it. It is fault.NotFound if there is none, fault.Unsupported if its schema is
// another than this version's.
func OpenReader(ctx context.Context, where string, blobs Blobs, opts ...Option) (*Store, error) {
	return openReader(ctx, where, blobs, manner{read: true}, opts)
}

// OpenStill is OpenReader for a caller who must not change a single file: a reader
// leaves the log and the shared memory of SQLite beside the database. If a writer
// has left something there, it is as OpenReader. A writer that comes later is not
// noticed: what is read is good only if the database is as it was when the caller
// has ended.
func OpenStill(ctx context.Context, where string, blobs Blobs, opts ...Option) (*Store, error) {
	return openReader(ctx, where, blobs, manner{read: true, still: true}, opts)
}

func openReader(ctx context.Context, where string, blobs Blobs, how manner, opts []Option) (*Store, error) {
	s, err := connect(ctx, where, how, blobs, opts)
	if err != nil {
		return nil, err
	}
	if err = s.current(ctx); err == nil {
		err = s.belongs(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open database %s: %w", Name(where), err)
	}
	return s, nil
}

// manner is how a database is opened.
type manner struct{ read, still, exist bool }

// connect opens a database as it is.
func connect(ctx context.Context, where string, how manner, blobs Blobs, opts []Option) (*Store, error) {
	var d engine = sqliteDialect{}
	open := openSQLite
	if IsPostgres(where) {
		d, open = postgresDialect{}, openPostgres
	}
	db, err := open(ctx, where, how)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", Name(where), err)
	}
	return newStore(db, d, blobs, how.read, opts), nil
}

func newStore(db *sql.DB, d engine, blobs Blobs, readOnly bool, opts []Option) *Store {
	s := &Store{db: bun.NewDB(db, d.bun()), d: d, blobs: blobs, readOnly: readOnly}
	for _, o := range opts {
		o(s)
	}
	return s
}

// current is fault.Unsupported if the schema is not this version's.
func (s *Store) current(ctx context.Context) error {
	list, err := scripts(s.d)
	if err != nil {
		return err
	}
	var version int64
	if err := s.db.DB.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+versionTable+" WHERE is_applied").Scan(&version); err != nil {
		return fmt.Errorf("read its schema version: %w", kind(err))
	}
	switch want := int64(len(list)); {
	case version < want:
		return fault.Advise(fault.Unsupported, "Run any hallmark command that writes, such as hallmark builds, to bring it up to date.",
			"its schema is version %d, this hallmark reads %d", version, want)
	case version > want:
		return newer(version, want, "reads")
	}
	return nil
}

// belongs is fault.Conflict if the database is not the caller's: its journal was
// begun under other keys. A file beside its keys needs no such question; a database
// somewhere else could be any data directory's.
func (s *Store) belongs(ctx context.Context) error {
	if !s.Postgres() {
		return nil
	}
	var first []entry
	if err := s.db.NewSelect().Model(&first).Where("seq = 1").Scan(ctx); err != nil {
		return kind(err)
	}
	if len(first) == 1 && first[0].MAC != s.code(first[0], "") {
		return fault.Advise(fault.Conflict, "Each data directory has a database, or a schema in one (?search_path=NAME), of its own: name another one, or the data directory with the keys that this one was begun with.",
			"its first row was not written with the keys of this data directory")
	}
	return nil
}

// Postgres tells whether the database is PostgreSQL.
func (s *Store) Postgres() bool { return s.d == postgresDialect{} }

// IsPostgres tells whether a place is the URL of a PostgreSQL database:
// postgres://USER@HOST/DATABASE, as libpq reads it (PostgreSQL's manual, "Connection
// URIs").
func IsPostgres(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

// Name is what a database is called in what people read: a path, or a URL without
// the password and all else that it may hold.
func Name(where string) string {
	if !IsPostgres(where) {
		return where
	}
	u, err := url.Parse(where)
	if err != nil {
		return "postgres://… (an address that cannot be read)"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil {
		shown.User = url.User(u.User.Username())
	}
	if h := u.Query().Get("host"); h != "" {
		shown.RawQuery = url.Values{"host": {h}}.Encode()
	}
	return shown.String()
}
