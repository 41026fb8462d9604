package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"hallmark/internal/fault"
)

// engine is what is particular to one kind of database.
type engine interface {
	goose() goose.Dialect
	bun() schema.Dialect
	// folder holds its migrations: 00001_NAME.sql and so on, without gaps.
	folder() string
	// cell is SQL that gives a cell's type and bytes as one text that is never null, no
	// two of which are the same for different cells.
	cell(column string) string
	// lock makes a transaction the only one that writes. It comes first in each, so that
	// whatever is read afterwards stays true until the end: the journal has one order.
	lock(ctx context.Context, tx bun.IConn) error
	// alone runs fn while nobody else brings this database's schema up to date.
	alone(ctx context.Context, db *sql.DB, fn func() error) error
	// snapshot are the options of a transaction that reads one state of the database.
	snapshot() *sql.TxOptions
	// check looks for what only this kind of database can have: a damaged file, another
	// schema than a new database has, counters that are behind.
	check(ctx context.Context, s *Store, db bun.IDB, add finder) error
}

// finder is told what Check finds.
type finder func(table, row, column, format string, args ...any)

// migrations are one ordered set a dialect. The versions of both mean the same, so
// a migration comes as two files. Each is a whole script: no program's annotations
// are needed to run it.
//
//go:embed sqlite/*.sql postgres/*.sql
var migrations embed.FS

// scripts gives a dialect's migrations; the first has version 1.
func scripts(d engine) ([]string, error) {
	files, err := fs.ReadDir(migrations, d.folder())
	if err != nil {
		return nil, err
	}
	var out []string
	for i, f := range files {
		if v, _, _ := strings.Cut(f.Name(), "_"); v != fmt.Sprintf("%05d", i+1) {
			return nil, fmt.Errorf("migration %s of %s: want version %d", f.Name(), d.folder(), i+1)
		}
		b, err := migrations.ReadFile(d.folder() + "/" + f.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	return out, nil
}

// versionTable is where goose keeps which migrations were run.
const versionTable = "goose_db_version"

// migrate brings the schema up to date, each migration in a transaction.
func (s *Store) migrate(ctx context.Context) error {
	return s.d.alone(ctx, s.db.DB, func() error { return s.migrateAlone(ctx) })
}

func (s *Store) migrateAlone(ctx context.Context) error {
	list, err := scripts(s.d)
	if err != nil {
		return err
	}
	var steps []*goose.Migration
	for i, script := range list {
		steps = append(steps, s.migration(i+1, script))
	}
	p, err := goose.NewProvider(s.d.goose(), s.db.DB, nil, goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	latest := int64(len(list))
	if have > latest {
		return newer(have, latest, "writes")
	}
	if _, err = p.Up(ctx); err != nil || have == latest {
		return err
	}
	return s.inTx(ctx, "schema version", func(ctx context.Context, tx bun.Tx) error { return s.sealAll(ctx, tx, tableOf(versionTable)) })
}

// migration runs a script. Each after the first enters into the journal what it
// finds and makes, in its own transaction: no later moment takes a row for granted.
func (s *Store) migration(version int, script string) *goose.Migration {
	return goose.NewGoMigration(int64(version), &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		if version > 2 { // the journal is there
			if err := s.d.lock(ctx, tx); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, script); err != nil {
			return fmt.Errorf("version %s: %w", strconv.Itoa(version), err)
		}
		if version < 2 {
			return nil
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

func newer(have, want int64, does string) error {
	return fault.Advise(fault.Unsupported, "Use the hallmark that wrote it, or a newer one.",
		"its schema is version %d, this hallmark %s %d", have, does, want)
}

// checkVersions compares the versions that were run with those that there are.
func (s *Store) checkVersions(ctx context.Context, db bun.IDB, add finder) error {
	list, err := scripts(s.d)
	if err != nil {
		return err
	}
	var versions []struct {
		ID      int64 `bun:"id"`
		Version int64 `bun:"version_id"`
		Applied bool  `bun:"is_applied"`
	}
	if err := db.NewRaw("SELECT id, version_id, is_applied FROM "+versionTable+" ORDER BY id").Scan(ctx, &versions); err != nil {
		return fmt.Errorf("check the schema's versions: %w", kind(err))
	}
	if len(versions) != len(list)+1 {
		add(versionTable, "all", "", "there are %d versions, want 0 to %d", len(versions), len(list))
	}
	for i, v := range versions {
		if v.Version != int64(i) || !v.Applied {
			add(versionTable, fmt.Sprint(v.ID), "version_id", "it says version %d, want %d", v.Version, i)
		}
	}
	return nil
}

// checkSchema compares what a database consists of, by kind and name, with what a
// new one does.
func checkSchema(have, want map[string]string, add finder) {
	for name, sql := range have {
		if ofQueue(name, sql) {
			continue
		}
		if want[name] != sql {
			add("schema", name, "sql", "it is not as this version makes it: somebody changed it")
		}
	}
	for name := range want {
		if _, ok := have[name]; !ok {
			add("schema", name, "sql", "it is missing: somebody took it out")
		}
	}
}

// queuePrefix begins the names of the tables that the queue of jobs keeps in the
// same database (internal/jobs). They say what is to be done, never what was; they
// are not in the journal, and their form is the queue's own.
const queuePrefix = "river_"

// queueFunction is the one function of the queue's, which an index of its own uses.
const queueFunction = "function river_job_state_in_bitmask("

// ofQueue tells whether a part of the schema, whose SQL begins with the table that
// it belongs to, is the queue's: nothing that acts on its own, such as a trigger.
func ofQueue(name, sql string) bool {
	switch kind, _, _ := strings.Cut(name, " "); kind {
	case "table", "index", "column", "constraint", "sequence", "type":
		return strings.HasPrefix(sql, queuePrefix)
	}
	return strings.HasPrefix(name, queueFunction)
}
