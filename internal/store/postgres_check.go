package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"

	"github.com/pressly/goose/v3/database"
	"github.com/uptrace/bun"

	"hallmark/internal/fault"
)

// check is engine's. Pages, indexes and links are PostgreSQL's own to keep; what
// it would not say of itself is that somebody took a trigger out or switched it off.
func (postgresDialect) check(ctx context.Context, s *Store, db bun.IDB, add finder) error {
	want, err := s.freshPostgres(ctx)
	if err != nil {
		return fmt.Errorf("make a schema to compare with: %w", kind(err))
	}
	have, err := schemaOfPostgres(ctx, db)
	if err != nil {
		return fmt.Errorf("read the database's schema: %w", kind(err))
	}
	checkSchema(have, want, add)
	for _, t := range []string{"files", "evidence", versionTable} {
		var counter struct {
			Newest  int64 `bun:"newest"`
			Counted int64 `bun:"counted"`
		}
		q := fmt.Sprintf("SELECT COALESCE(MAX(id), 0) AS newest, COALESCE(pg_sequence_last_value(pg_get_serial_sequence('%[1]s', 'id')::regclass), 0) AS counted FROM %[1]s", t)
		if err := db.NewRaw(q).Scan(ctx, &counter); err != nil {
			return fmt.Errorf("check the database's counters: %w", kind(err))
		}
		// Counting on past it is what a transaction that was given up leaves.
		if counter.Newest > counter.Counted {
			add(t, "all", "id", "the counter says %d, the newest row %d", counter.Counted, counter.Newest)
		}
	}
	return nil
}

// freshPostgres is the schema of a database made now, which every database must
// have: made beside ours in a transaction that is taken back.
func (s *Store) freshPostgres(ctx context.Context) (map[string]string, error) {
	list, err := scripts(s.d)
	if err != nil {
		return nil, err
	}
	versions, err := database.NewStore(s.d.goose(), versionTable)
	if err != nil {
		return nil, err
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fault.New(fault.Unavailable, "no random numbers: %w", err)
	}
	name := "hallmark_fresh_" + hex.EncodeToString(random[:])
	for _, q := range []string{"SET TRANSACTION READ WRITE", "CREATE SCHEMA " + name, "SET LOCAL search_path = " + name + ", pg_temp"} {
		if _, err := tx.Tx.ExecContext(ctx, q); err != nil {
			return nil, err
		}
	}
	if err := versions.CreateVersionTable(ctx, tx.Tx); err != nil {
		return nil, err
	}
	for _, script := range list {
		if _, err := tx.Tx.ExecContext(ctx, script); err != nil {
			return nil, err
		}
	}
	return schemaOfPostgres(ctx, tx)
}

// schemaQuery lists what a schema consists of, by kind and name, each with the table
// it belongs to and how it was made. PostgreSQL spells names of the search path
// without their schema, so two schemas made alike read alike. Access rights are left
// out: they are the operator's.
const schemaQuery = `
WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()),
rels AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM here))
SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.relname AS part, c.relname::text AS owner,
	concat_ws(' ', c.relkind::text, c.relpersistence::text, c.relrowsecurity, c.relforcerowsecurity, c.relispartition) AS made
	FROM rels c WHERE c.relkind NOT IN ('i', 'I')
UNION ALL SELECT 'column ' || c.relname || '.' || a.attname, c.relname,
	concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text, l.collname, pg_get_expr(d.adbin, d.adrelid, true))
	FROM rels c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum LEFT JOIN pg_collation l ON l.oid = a.attcollation
	WHERE c.relkind NOT IN ('i', 'I', 'S')
UNION ALL SELECT 'constraint ' || c.relname || '.' || k.conname, c.relname,
	concat_ws(' ', pg_get_constraintdef(k.oid, true), k.convalidated, k.condeferrable)
	FROM rels c JOIN pg_constraint k ON k.conrelid = c.oid
UNION ALL SELECT 'index ' || c.relname, t.relname, concat_ws(' ', pg_get_indexdef(c.oid, 0, true), i.indisvalid, i.indisready)
	FROM rels c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
UNION ALL SELECT 'trigger ' || c.relname || '.' || g.tgname, c.relname, concat_ws(' ', pg_get_triggerdef(g.oid, true), g.tgenabled::text)
	FROM rels c JOIN pg_trigger g ON g.tgrelid = c.oid WHERE NOT g.tgisinternal
UNION ALL SELECT DISTINCT 'trigger ' || c.relname || ' (links)', c.relname, 'switched off'
	FROM rels c JOIN pg_trigger g ON g.tgrelid = c.oid WHERE g.tgisinternal AND g.tgenabled <> 'O'
UNION ALL SELECT 'rule ' || c.relname || '.' || r.rulename, c.relname, pg_get_ruledef(r.oid, true)
	FROM rels c JOIN pg_rewrite r ON r.ev_class = c.oid
UNION ALL SELECT 'policy ' || c.relname || '.' || p.polname, c.relname, concat_ws(' ', p.polcmd::text, p.polpermissive)
	FROM rels c JOIN pg_policy p ON p.polrelid = c.oid
UNION ALL SELECT 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', p.proname,
	concat_ws(' ', (SELECT l.lanname FROM pg_language l WHERE l.oid = p.prolang), format_type(p.prorettype, NULL), p.prosecdef, p.provolatile::text, p.proconfig::text, p.prosrc)
	FROM pg_proc p WHERE p.pronamespace = (SELECT oid FROM here)
UNION ALL SELECT 'type ' || y.typname, y.typname, concat_ws(' ', y.typtype::text, y.typbasetype::regtype::text)
	FROM pg_type y WHERE y.typnamespace = (SELECT oid FROM here) AND y.typtype NOT IN ('c', 'b')`

func schemaOfPostgres(ctx context.Context, db bun.IDB) (map[string]string, error) {
	var parts []struct {
		Name  string `bun:"part"`
		Owner string `bun:"owner"`
		Made  string `bun:"made"`
	}
	if err := db.NewRaw(schemaQuery).Scan(ctx, &parts); err != nil {
		return nil, err
	}
	m := map[string]string{}
	for _, p := range parts {
		m[p.Name] = p.Owner + "\n" + p.Made
	}
	return m, nil
}
