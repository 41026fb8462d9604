package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hallmark/internal/blob"
	"hallmark/internal/fault"
	"hallmark/internal/store"
	"hallmark/internal/store/pgtest"
	"hallmark/internal/store/storetest"
)

// TestPostgres runs all that needs a PostgreSQL server, on one server.
func TestPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL server")
	}
	server := pgtest.Start(t)
	t.Run("contract", func(t *testing.T) { storetest.Contract(t, postgresBackend(server)) })
	t.Run("platform", func(t *testing.T) { storetest.Platform(t, postgresBackend(server)) })
	t.Run("queries", func(t *testing.T) { storetest.Queries(t, postgresBackend(server)) })
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"readers":               postgresReaders,
		"every cell":            postgresCells,
		"the schema":            postgresSchema,
		"other data directory":  postgresOthers,
		"versions":              postgresVersions,
		"two writers":           postgresWriters,
		"two that begin":        postgresRace,
		"what cannot be opened": postgresRefused,
		"a server that ends":    postgresEnds,
		"a transaction's fault": postgresLockWaits,
		"killed writers":        postgresKilled,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

func postgresBackend(server *pgtest.Server) storetest.Backend {
	var where string
	return storetest.Backend{
		Open: func(t *testing.T, blobs store.Blobs) *store.Store {
			where = server.Fresh()
			return openAt(t, where, blobs)
		},
		Exec: func(t *testing.T, q string) error { return server.Exec(t, where, q) },
	}
}

func openAt(t *testing.T, where string, blobs store.Blobs, opts ...store.Option) *store.Store {
	t.Helper()
	s, err := store.OpenWriter(t.Context(), where, blobs, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func postgresReaders(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	if _, err := store.OpenReader(t.Context(), where, blobs); !fault.Is(err, fault.NotFound) {
		t.Errorf("reader of nothing: %v", err)
	}
	w := openAt(t, where, blobs)
	r, err := store.OpenReader(t.Context(), where, blobs)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !r.Postgres() {
		t.Error("it is not said to be PostgreSQL")
	}
	if _, err := w.CreateProject(t.Context(), "acme", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	if ps, err := r.Projects(t.Context()); err != nil || len(ps) != 1 || ps[0].Created.Location() != time.UTC {
		t.Errorf("reader sees %v, %v", ps, err)
	}
	if _, err := r.CreateProject(t.Context(), "acme", "evil", time.Now()); !fault.Is(err, fault.Conflict) {
		t.Errorf("reader wrote: %v", err)
	}
	// Even past the store.
	if _, err := r.DB().Exec("DELETE FROM members"); err == nil {
		t.Error("a reader's connection may write")
	}
	if found, err := r.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("check by a reader: %+v, %v", found, err)
	}
	m, err := r.Mark(t.Context())
	if err != nil || m.Seq == 0 {
		t.Errorf("mark: %+v, %v", m, err)
	}
	if steps, ok, err := r.StepsSince(t.Context(), m); err != nil || !ok || len(steps) != 0 {
		t.Errorf("since: %v, %v, %v", steps, ok, err)
	}
	w.Close()
	r.Close()
	openAt(t, where, blobs) // and a second writer migrates nothing twice
}

// postgresCells changes every cell of a row of every table, takes rows out and
// doubles them, with triggers and links switched off: the journal names each.
func postgresCells(t *testing.T, server *pgtest.Server) {
	where := server.Fresh()
	b, err := blob.Open(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	s := openAt(t, where, b, store.WithKey([]byte("a key of the tests")))
	fill(t, s, b)
	db, err := sql.Open("pgx", where)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(q string) {
		t.Helper()
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	exec("SET session_replication_role = replica")
	tried, refused := 0, 0
	try := func(what, table, q string) {
		t.Helper()
		tried++
		exec("DROP TABLE IF EXISTS kept; CREATE TEMP TABLE kept AS SELECT * FROM " + table)
		if _, err := db.Exec(q); err != nil {
			refused++
			return
		}
		found, err := s.CheckJournal(t.Context())
		if err != nil || !strings.Contains(found, table) {
			t.Errorf("%s: found %q, %v", what, found, err)
		}
		exec("DELETE FROM " + table + "; INSERT INTO " + table + " SELECT * FROM kept")
	}
	for table, columns := range store.SealedTables() {
		if got := column(t, db, "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = '"+table+"' ORDER BY ordinal_position"); !slices.Equal(got, columns) {
			t.Errorf("%s has the columns %v, the journal vouches for %v", table, got, columns)
		}
		one := " WHERE ctid = (SELECT ctid FROM " + table + " ORDER BY 1 DESC LIMIT 1)"
		for _, c := range columns {
			q := `"` + c + `"`
			kind := column(t, db, "SELECT data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = '"+table+"' AND column_name = '"+c+"'")[0]
			if store.TimeColumn(c) != strings.HasPrefix(kind, "timestamp") {
				t.Errorf("%s.%s is %s, the journal takes it for something else", table, c, kind)
			}
			to := map[string]string{"text": "COALESCE(" + q + ", '') || 'x'", "boolean": "NOT " + q, "bigint": "COALESCE(" + q + ", 0) + 1000", "integer": q + " + 1000"}[kind]
			if strings.HasPrefix(kind, "timestamp") {
				to = "COALESCE(" + q + ", now()) + interval '1 microsecond'"
			}
			try(table+"."+c+" changed", table, "UPDATE "+table+" SET "+q+" = "+to+one)
			if column(t, db, "SELECT "+q+" IS NULL FROM "+table+one)[0] == "false" {
				try(table+"."+c+" set to null", table, "UPDATE "+table+" SET "+q+" = NULL"+one)
			} else {
				try(table+"."+c+" set to nothing", table, "UPDATE "+table+" SET "+q+" = ''"+one)
			}
			if strings.HasPrefix(kind, "timestamp") {
				try(table+"."+c+" without end", table, "UPDATE "+table+" SET "+q+" = 'infinity'"+one)
			}
		}
		try(table+" taken out", table, "DELETE FROM "+table+one)
	}
	// The journal itself.
	try("journal shortened", "journal", "DELETE FROM journal WHERE seq = 3")
	try("journal's sum", "journal", "UPDATE journal SET sum = 'x' WHERE seq = 3")
	try("journal's code", "journal", "UPDATE journal SET mac = 'x' WHERE seq = 3")
	try("journal's table", "journal", "UPDATE journal SET tbl = 'orgs' WHERE seq = 3")
	if found, err := s.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("all was put back, but: %+v, %v", found, err)
	}
	t.Logf("%d changes, %d of them refused by the database itself", tried, refused)
	if refused > tried/2 {
		t.Error("most changes were refused, so little was tried")
	}
}

// postgresSchema: whatever somebody takes out, puts in or switches off is found.
func postgresSchema(t *testing.T, server *pgtest.Server) {
	for _, q := range []string{"DROP TRIGGER evidence_no_change ON evidence", "ALTER TABLE evidence DISABLE TRIGGER evidence_no_change",
		"ALTER TABLE members DISABLE TRIGGER ALL", "DROP INDEX files_once", "CREATE TABLE more (x int)", "CREATE VIEW v AS SELECT 1",
		"ALTER TABLE steps ADD COLUMN more text", "ALTER TABLE orgs DROP CONSTRAINT orgs_tier_check", "ALTER TABLE pending ALTER created DROP NOT NULL",
		"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE RULE r AS ON INSERT TO audit DO INSTEAD NOTHING", "ALTER TABLE orgs ENABLE ROW LEVEL SECURITY",
		"CREATE TABLE river_job (x int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM members; RETURN NULL; END'; CREATE TRIGGER t AFTER INSERT ON river_job EXECUTE FUNCTION f()",
		"ALTER SEQUENCE evidence_id_seq RESTART; INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, true)"} {
		where := server.Fresh()
		s := openAt(t, where, &storetest.Blobs{})
		if err := server.Exec(t, where, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		found, err := s.Check(t.Context())
		if err != nil || len(found) == 0 {
			t.Errorf("%s: found %+v, %v", q, found, err)
		}
		s.Close()
	}
}

// postgresOthers: a database that was begun with other keys is another data
// directory's.
func postgresOthers(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	openAt(t, where, blobs, store.WithKey([]byte("one"))).Close()
	if _, err := store.OpenWriter(t.Context(), where, blobs, store.WithKey([]byte("two"))); !fault.Is(err, fault.Conflict) {
		t.Errorf("a writer: %v", err)
	}
	if _, err := store.OpenReader(t.Context(), where, blobs, store.WithKey([]byte("two"))); !fault.Is(err, fault.Conflict) {
		t.Errorf("a reader: %v", err)
	}
	openAt(t, where, blobs, store.WithKey([]byte("one")))
}

func postgresVersions(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	openAt(t, where, blobs).Close()
	if err := server.Exec(t, where, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenReader(t.Context(), where, blobs); !fault.Is(err, fault.Unsupported) {
		t.Errorf("reader of a newer schema: %v", err)
	}
	if _, err := store.OpenWriter(t.Context(), where, blobs); !fault.Is(err, fault.Unsupported) {
		t.Errorf("writer of a newer schema: %v", err)
	}
}

// postgresWriters: two processes write at the same time; the journal is one chain,
// series and audit log have no gaps.
func postgresWriters(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	a, b := openAt(t, where, blobs), openAt(t, where, blobs)
	by := store.By{Actor: "root", Via: "system", At: time.Now()}
	step := blobs.Add("step")
	if err := a.PutStep(t.Context(), store.Step{ID: step, PURL: "pkg:pypi/x@1", Document: step}); err != nil {
		t.Fatal(err)
	}
	doc := blobs.Add("record")
	var wg sync.WaitGroup
	for i, s := range []*store.Store{a, b, a, b} {
		wg.Go(func() {
			for n := range 10 {
				if err := s.Note(t.Context(), by, "test", "", "", fmt.Sprint(i, n), ""); err != nil {
					t.Error(err)
				}
				if _, err := s.AppendBuild(t.Context(), store.Build{Step: step, ID: fmt.Sprint(i, "-", n), Purpose: "first", Outcome: "failed", Record: doc, Started: by.At, Finished: by.At}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if found, err := a.Check(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
	if bs, err := b.Builds(t.Context(), step); err != nil || len(bs) != 40 || bs[39].Seq != 40 {
		t.Errorf("%d builds, %v", len(bs), err)
	}
}

// postgresRace: several that open an empty place at once make it once.
func postgresRace(t *testing.T, server *pgtest.Server) {
	where := server.Fresh()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := store.OpenWriter(t.Context(), where, &storetest.Blobs{}, store.WithKey([]byte("k")))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if found, err := s.Check(t.Context()); err != nil || len(found) > 0 {
				t.Errorf("check: %+v, %v", found, err)
			}
		})
	}
	wg.Wait()
}

// postgresRefused: what cannot be opened says what to do and never the password.
func postgresRefused(t *testing.T, server *pgtest.Server) {
	good := server.URL("postgres", "")
	u, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	with := func(f func(v *url.URL)) string {
		v := *u
		f(&v)
		return v.String()
	}
	for _, q := range []string{"CREATE ROLE weak LOGIN PASSWORD '" + pgtest.Password + "'", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0"} {
		if err := server.Exec(t, good, q); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		where, says string
		kind        fault.Kind
	}{
		"no such database": {with(func(v *url.URL) { v.Path = "/none" }), "createdb", fault.NotFound},
		"wrong password":   {with(func(v *url.URL) { v.User = url.UserPassword(pgtest.Role, pgtest.Password+"!") }), "password", fault.Conflict},
		"nobody there":     {with(func(v *url.URL) { v.RawQuery = "host=/nonexistent" }), "runs", fault.Unavailable},
		"no right": {with(func(v *url.URL) {
			v.User = url.UserPassword("weak", pgtest.Password)
			v.RawQuery += "&search_path=weak"
		}), "owner", fault.Conflict},
		"another encoding": {with(func(v *url.URL) { v.Path = "/latin" }), "UTF8", fault.Unsupported},
		"a strange schema": {good + "&search_path=pg_catalog", "schema", fault.Usage},
		"an injection":     {good + "&search_path=x%3Bdrop", "schema", fault.Usage},
		"no address":       {"postgres://hallmark:" + pgtest.Password + "%zz@/x", "PASSWORD", fault.Usage},
		"a bad port":       {"postgres://hallmark:" + url.QueryEscape(pgtest.Password) + "@localhost:99999999/x", "PASSWORD", fault.Usage},
	} {
		_, err := store.OpenWriter(t.Context(), c.where, &storetest.Blobs{})
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error is %v (kind %q), want kind %q", what, err, fault.KindOf(err), c.kind)
		}
		if err != nil && pgtest.Betrays(err.Error()) {
			t.Errorf("%s: the password is in the error", what)
		}
	}
}

// postgresEnds: a server that ends under our feet is Unavailable, and when it is
// there again, so are we, with all that was committed.
func postgresEnds(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	s := openAt(t, where, blobs)
	by := store.By{Actor: "root", Via: "system", At: time.Now()}
	back := func(what string, noted int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			log, err := s.AuditLog(t.Context(), "", 0, 100_000)
			if err == nil {
				if len(log) < noted {
					t.Errorf("%s: %d of %d entries are there", what, len(log), noted)
				}
				break
			}
			if !fault.Is(err, fault.Unavailable) || !errors.Is(err, store.ErrAway) || time.Now().After(end) {
				t.Fatalf("%s: %v (kind %q)", what, err, fault.KindOf(err))
			}
		}
		if found, err := s.Check(t.Context()); err != nil || len(found) > 0 {
			t.Errorf("%s: check: %+v, %v", what, found, err)
		}
	}
	// As a restart does: every connection is cut.
	err := server.Exec(t, server.URL("postgres", ""), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hallmark'")
	if err != nil {
		t.Fatal(err)
	}
	back("the connections were cut", 0)
	// As a crash does: a process of the server is killed while others write, and the
	// server recovers.
	var wg sync.WaitGroup
	var noted atomic.Int64
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := s.Note(t.Context(), by, "test", "", "", "", "")
				if err == nil {
					noted.Add(1)
				} else if !fault.Is(err, fault.Unavailable) {
					t.Errorf("while the server crashes: %v (kind %q)", err, fault.KindOf(err))
				}
			}
		})
	}
	var pid int
	for noted.Load() < 10 && !t.Failed() {
		time.Sleep(10 * time.Millisecond)
	}
	if err := s.DB().QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	back("the server crashed", int(noted.Load()))
}

// postgresKilled: TestKilledWriter, on PostgreSQL.
func postgresKilled(t *testing.T, server *pgtest.Server) {
	t.Setenv("HALLMARK_TEST_DATABASE", server.Fresh())
	killWriters(t, 3)
}

// postgresLockWaits: a writer that waits too long for another says so.
func postgresLockWaits(t *testing.T, server *pgtest.Server) {
	where, blobs := server.Fresh(), &storetest.Blobs{}
	s := openAt(t, where+"&lock_timeout=200", blobs)
	tx, err := s.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec("LOCK TABLE orgs IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateProject(t.Context(), "acme", "web", time.Now())
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("error is %v (kind %q)", err, fault.KindOf(err))
	}
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		t.Fatal(err)
	}
	if _, err := s.CreateProject(context.WithoutCancel(t.Context()), "acme", "web", time.Now()); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}

// TestMigrationsArePairs: each migration is there for both dialects, and no table or
// column for one alone.
func TestMigrationsArePairs(t *testing.T) {
	lite, pg, err := store.Scripts()
	if err != nil {
		t.Fatal(err)
	}
	if len(lite) != len(pg) || len(lite) == 0 {
		t.Fatalf("%d migrations for SQLite, %d for PostgreSQL", len(lite), len(pg))
	}
	for _, folder := range []string{"sqlite", "postgres"} {
		other := map[string]string{"sqlite": "postgres", "postgres": "sqlite"}[folder]
		names, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if _, err := os.Stat(filepath.Join(other, n.Name())); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestTLSBeyondThisMachine: a server elsewhere has to show a certificate, unless the
// URL says otherwise.
func TestTLSBeyondThisMachine(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for where, tls := range map[string]bool{
		"postgres://u@db.example/x":                 true,
		"postgres://u@192.0.2.1:5433/x":             true,
		"postgres://u@/x?host=db.example":           true,
		"postgres://u@localhost/x":                  false,
		"postgres://u@127.0.0.1/x":                  false,
		"postgres://u@[::1]/x":                      false,
		"postgres://u@/x?host=/run/postgresql":      false,
		"postgres://u@db.example/x?sslmode=disable": false,
	} {
		cfg, err := store.PostgresConfig(where)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		demanded := cfg.TLSConfig != nil && !cfg.TLSConfig.InsecureSkipVerify && cfg.TLSConfig.ServerName != ""
		for _, f := range cfg.Fallbacks {
			demanded = demanded && f.TLSConfig != nil
		}
		if demanded != tls {
			t.Errorf("%s: TLS demanded is %v, want %v", where, demanded, tls)
		}
	}
}

// FuzzName: whatever a URL holds, neither Name nor the error of postgresConfig shows
// its password.
func FuzzName(f *testing.F) {
	for _, s := range []string{"hallmark", "a:b", "x@y/z", "p%zz", "ä", " ", "?host=q"} {
		f.Add(s, "db.example", "x")
	}
	f.Fuzz(func(t *testing.T, password, host, database string) {
		if len(password) < 8 || strings.Contains(host+database+"postgres://user@host=…(an address that cannot be read)", password) {
			return
		}
		for _, where := range []string{
			"postgres://user:" + password + "@" + host + "/" + database,
			"postgresql://" + url.UserPassword("user", password).String() + "@" + host + "/" + database,
			"postgres://user@" + host + "/" + database + "?password=" + url.QueryEscape(password),
		} {
			said := store.Name(where)
			if _, err := store.PostgresConfig(where); err != nil {
				said += err.Error()
			}
			if u, err := url.Parse(where); err == nil {
				if p, _ := u.User.Password(); p != password && u.Query().Get("password") != password {
					continue // it is part of something else
				}
			}
			if strings.Contains(said, password) || strings.Contains(said, url.QueryEscape(password)) {
				t.Errorf("%q is shown as %q", where, said)
			}
		}
	})
}
