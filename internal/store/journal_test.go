package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/blob"
	"hallmark/internal/digest"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// filled makes a database with rows in every table and gives its path.
func filled(t *testing.T) (string, *blob.Store, []byte) {
	t.Helper()
	ctx, dir, key := t.Context(), t.TempDir(), []byte("a key of the tests")
	b, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hallmark.db")
	s, err := store.OpenWriter(ctx, path, b, store.WithKey(key))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, b, key
}

// fill puts rows into every table of an empty database.
func fill(t *testing.T, s *store.Store, b *blob.Store) {
	t.Helper()
	ctx := t.Context()
	put := func(what string) digest.Digest {
		d, err := b.PutBytes(ctx, []byte(what))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.CreateProject(ctx, "acme", "web", at)
	must(err)
	c1, c2 := put("commit 1"), put("commit 2")
	must(s.AddCommit(ctx, store.Commit{ID: c1, Org: "acme", Name: "web", Document: c1, Created: at}))
	must(s.SetHead(ctx, "acme", "web", "", c1))
	must(s.AddCommit(ctx, store.Commit{ID: c2, Org: "acme", Name: "web", Parent: c1, Document: c2, Created: at}))
	must(s.SetHead(ctx, "acme", "web", c1, c2))
	for i, c := range []digest.Digest{c1, c2} {
		must(s.PutSolution(ctx, store.Solution{Commit: c, Plan: put(fmt.Sprint("plan", i)), Answers: put("answers"), Created: at}))
		step := put(fmt.Sprint("step", i))
		must(s.PutStep(ctx, store.Step{ID: step, PURL: "pkg:pypi/x@1", Document: step}))
		var last digest.Digest
		for seq := 1; seq <= 2; seq++ {
			out := put(fmt.Sprint("out", i))
			_, err := s.AppendBuild(ctx, store.Build{Step: step, ID: fmt.Sprint("build", i, seq), Purpose: record.First, Outcome: record.Succeeded,
				Builder: "b", Record: put(fmt.Sprint("record", i, seq)), Output: out, Started: at, Finished: at})
			must(err)
			doc := put(fmt.Sprint("rebuild", i, seq))
			must(s.AppendRebuild(ctx, store.Rebuild{Step: step, Seq: seq, Outcome: record.Identical, Document: doc, Previous: last, Created: at}))
			last = doc
			must(s.AddFile(ctx, store.File{Digest: out, PURL: "pkg:pypi/x@1", Name: fmt.Sprint("x", i, seq, ".whl"), Size: 4, Kind: store.FileBuilt, Step: step}))
			index := int64(2*i + seq)
			must(s.AddEvidence(ctx, store.Evidence{Subject: out, Name: "vsa.sigstore.json", PredicateType: "p", Blob: put(fmt.Sprint("vsa", i, seq)), LogIndex: &index, Step: step, Created: at}))
		}
	}
	must(s.Hold(ctx, "acme", "web", []digest.Digest{put("private"), put("step0")}, nil))
	must(s.AddPending(ctx, store.Pending{Blob: put("batch"), Created: at}))
	must(s.AddPending(ctx, store.Pending{Blob: put("batch 2"), Created: at}))
	must(s.FinishPending(ctx, put("batch"), []store.Evidence{{Subject: put("out0"), Name: "late", PredicateType: "p", Blob: put("late"), Created: at}}))
	by := store.By{Actor: "root", Via: "system", At: at}
	for i, name := range []string{"ann", "bob"} {
		u := store.User{ID: "u-" + name, Name: name, Display: name, Password: "hash " + name, Admin: i == 0, Created: at}
		must(s.CreateUser(ctx, u, by))
		must(s.AddIdentity(ctx, store.Identity{Issuer: "https://id.example", Subject: name, User: u.ID, Created: at}, by))
		must(s.AddPasskey(ctx, store.Passkey{ID: "key-" + name, User: u.ID, Label: "phone", Credential: "{}", Created: at}, by))
		must(s.AddSession(ctx, store.Session{Hash: "session " + name, User: u.ID, Agent: "a", Created: at, Seen: at, Expires: at.Add(time.Hour)}, by))
		must(s.SetMember(ctx, store.Member{Org: "acme", User: u.ID, Role: "owner"}, by))
		must(s.AddToken(ctx, store.Token{ID: "t-" + name, Hash: "token " + name, User: u.ID, Org: "acme", Label: "ci", Scopes: "read", Created: at, Expires: at.Add(time.Hour)}, by))
		must(s.AddLink(ctx, store.Link{Hash: "link " + name, Purpose: store.LinkInvite, Org: "acme", Role: "member", Created: at, Expires: at.Add(time.Hour)}, by))
		must(s.AddWaiver(ctx, store.Waiver{ID: "w-" + name, Org: "acme", Name: "web", PURL: "pkg:pypi/x@1", Owner: name, Reason: "why", Created: at, Expires: at.Add(time.Hour)}, by))
		must(s.SetBranch(ctx, "acme", "web", name, "", c1, by))
		must(s.AddRun(ctx, store.Run{ID: "r-" + name, Org: "acme", Name: "web", Commit: c2, Asked: name, Created: at}, by, nil))
		must(s.SetPriority(ctx, store.Priority{Run: "r-" + name, Level: i, Over: -i}, by))
		_, err := s.AddAttempt(ctx, store.Attempt{Run: "r-" + name, State: store.AttemptCutOff, Message: "why " + name, Started: at, Ended: at, Document: put("what " + name + " built")})
		must(err)
		must(s.AddRun(ctx, store.Run{ID: "task-" + name, Org: "acme", Name: "web", Commit: c2, Asked: name, Created: at,
			Task: &store.Task{Kind: store.TaskBuild, What: name, At: at, Overrides: put("overrides " + name)}}, by, nil))
		must(s.SetTaskResult(ctx, "task-"+name, put("result "+name)))
	}
	must(s.RevokeToken(ctx, "t-bob", by))
	must(s.UseToken(ctx, "t-ann", at))
	must(s.SetSettings(ctx, store.Settings{Org: "acme", Name: "web", Public: true}, by))
	must(s.SetDefaultBranch(ctx, "acme", "web", "bob", by))
	if found, err := s.Check(ctx); err != nil || len(found) != 0 {
		t.Fatalf("before anything was changed: %+v, %v", found, err)
	}
}

// tampered is a database in the hands of somebody who may write to its file: no
// trigger, check or link stands in the way.
type tampered struct {
	path, original string
	blobs          *blob.Store
	key            []byte
	triggers       []string // their SQL
	off            string   // SQL that takes them away
}

func newTampered(t *testing.T) *tampered {
	t.Helper()
	c := &tampered{}
	c.original, c.blobs, c.key = filled(t)
	c.path = filepath.Join(filepath.Dir(c.original), "copy.db")
	db := c.open(t, c.original)
	if _, err := db.Exec("PRAGMA journal_mode = DELETE"); err != nil {
		t.Fatal(err)
	}
	c.triggers = column(t, db, "SELECT sql FROM sqlite_master WHERE type = 'trigger'")
	for _, n := range column(t, db, "SELECT name FROM sqlite_master WHERE type = 'trigger'") {
		c.off += "DROP TRIGGER " + n + ";"
	}
	if len(c.triggers) < 10 {
		t.Fatalf("%d triggers", len(c.triggers))
	}
	return c
}

func (c *tampered) open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(0)&_pragma=ignore_check_constraints(1)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// change runs SQL on a copy of the database, has the copy checked and gives what
// was found; false if the database itself refuses the change.
func (c *tampered) change(t *testing.T, q string) (string, bool) {
	t.Helper()
	b, err := os.ReadFile(c.original)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	db := c.open(t, c.path)
	_, err = db.Exec("BEGIN;" + c.off + q + ";" + strings.Join(c.triggers, ";") + ";COMMIT")
	db.Close()
	if err != nil {
		os.Remove(c.path + "-journal")
		return err.Error(), false
	}
	return c.check(t), true
}

func (c *tampered) check(t *testing.T) string {
	t.Helper()
	r, err := store.OpenReader(t.Context(), c.path, c.blobs, store.WithKey(c.key))
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	found, err := r.Check(t.Context())
	out := ""
	for _, f := range found {
		out += f.Message + "\n"
	}
	if err != nil {
		out += err.Error()
	}
	return out
}

// column gives all that a query gives in its first column.
func column(t *testing.T, db *sql.DB, q string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(q, args...)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s.String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryCell changes every cell of every row of every table, each in several
// ways, takes every row out, doubles it, and exchanges cells between rows: each is
// found, and the finding names the table.
func TestEveryCell(t *testing.T) {
	c := newTampered(t)
	db := c.open(t, c.original)
	tried, refused := 0, 0
	try := func(what, table, q string) {
		t.Helper()
		tried++
		found, ok := c.change(t, q)
		switch {
		case !ok:
			refused++
		case found == "":
			t.Errorf("not found: %s", what)
		case !strings.Contains(found, table) && !strings.Contains(found, "its schema is version"):
			t.Errorf("%s: %s is not named in %s", what, table, found)
		}
	}
	for _, table := range column(t, db, "SELECT name FROM sqlite_master WHERE type = 'table'") {
		cols := column(t, db, "SELECT name FROM pragma_table_info(?)", table)
		ids := column(t, db, "SELECT rowid FROM "+table)
		if len(ids) == 0 {
			t.Errorf("%s has no rows to change", table)
		}
		if testing.Short() && len(ids) > 1 {
			ids = ids[len(ids)-1:]
		}
		for i, id := range ids {
			at := " WHERE rowid = " + id
			for _, col := range cols {
				q := `"` + col + `"`
				kinds := []string{
					"CASE WHEN typeof(" + q + ") = 'integer' THEN " + q + " + 1 ELSE COALESCE(" + q + ", '') || 'x' END",
					"CASE WHEN typeof(" + q + ") = 'integer' THEN -" + q + " - 5 ELSE 'y' || substr(" + q + ", 2) END",
					"CAST(" + q + " AS BLOB)", // the same bytes, another type
					"CASE WHEN typeof(" + q + ") = 'text' THEN " + q + " || char(0, 97) ELSE " + q + " END", // bytes behind what C takes for the end
					"NULL",
				}
				if testing.Short() {
					kinds = kinds[:1]
				}
				for _, to := range kinds {
					// Whatever SQLite makes of it, what is the same is no change.
					if column(t, db, "SELECT "+q+" IS ("+to+") AND typeof("+q+") = typeof("+to+") FROM "+table+at)[0] != "1" {
						try(fmt.Sprintf("%s %s.%s := %s", table, id, col, to), table, "UPDATE "+table+" SET "+q+" = "+to+at)
					}
				}
				// Exchanged with the next row's. Where all else is the same, the two rows have
				// changed places, and nothing else has changed.
				elsewhere := slices.DeleteFunc(slices.Clone(cols), func(c string) bool { return c == col })
				if other := ids[(i+1)%len(ids)]; other != id && !alike(t, db, table, elsewhere, id, other) && column(t, db, "SELECT (SELECT "+q+" FROM "+table+at+") IS (SELECT "+q+" FROM "+table+" WHERE rowid = "+other+")")[0] == "0" {
					try(fmt.Sprintf("%s %s and %s exchange %s", table, id, other, col), table,
						fmt.Sprintf("CREATE TEMP TABLE x AS SELECT rowid AS r, %[1]s AS v FROM %[2]s WHERE rowid IN (%[3]s, %[4]s); UPDATE %[2]s SET %[1]s = (SELECT v FROM x WHERE r <> %[2]s.rowid) WHERE rowid IN (%[3]s, %[4]s); DROP TABLE x",
							q, table, id, other))
				}
			}
			try(fmt.Sprintf("%s %s taken out", table, id), table, "DELETE FROM "+table+at)
			names := `"` + strings.Join(cols, `", "`) + `"`
			try(fmt.Sprintf("%s %s doubled", table, id), table, "INSERT INTO "+table+" ("+names+") SELECT "+names+" FROM "+table+at)
			// Doubled under another key.
			for _, col := range cols {
				others := strings.ReplaceAll(names, `"`+col+`"`, `CASE WHEN typeof("`+col+`") = 'integer' THEN "`+col+`" + 100 ELSE "`+col+`" || '0' END`)
				try(fmt.Sprintf("%s %s doubled with another %s", table, id, col), table, "INSERT INTO "+table+" ("+names+") SELECT "+others+" FROM "+table+at)
			}
		}
	}
	t.Logf("%d changes, %d of them refused by the database itself", tried, refused)
	if refused > tried/2 {
		t.Error("most changes were refused, so little was tried")
	}
}

// alike tells whether two rows of a table are the same in some columns.
func alike(t *testing.T, db *sql.DB, table string, columns []string, a, b string) bool {
	t.Helper()
	for _, c := range columns {
		q := fmt.Sprintf("SELECT (SELECT \"%[1]s\" FROM %[2]s WHERE rowid = %[3]s) IS (SELECT \"%[1]s\" FROM %[2]s WHERE rowid = %[4]s)", c, table, a, b)
		if column(t, db, q)[0] != "1" {
			return false
		}
	}
	return true
}

// TestSchemaIsChecked: a trigger, an index or a table that somebody takes out or
// puts in is found.
func TestSchemaIsChecked(t *testing.T) {
	c := newTampered(t)
	for _, q := range []string{"DROP TRIGGER evidence_no_update", "DROP INDEX files_once", "CREATE TABLE more (x)",
		"CREATE VIEW v AS SELECT 1", "ALTER TABLE steps ADD COLUMN more", "DROP TABLE pending",
		"CREATE TABLE river_job (x); CREATE TRIGGER t AFTER INSERT ON river_job BEGIN DELETE FROM members; END"} {
		if err := os.WriteFile(c.path, read(t, c.original), 0o644); err != nil {
			t.Fatal(err)
		}
		db := c.open(t, c.path)
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		db.Close()
		if found := c.check(t); found == "" {
			t.Errorf("not found: %s", q)
		} else {
			t.Logf("%s: %s", q, found)
		}
	}
}

// TestAnotherKey: a database with the keys of another data directory is found.
func TestAnotherKey(t *testing.T) {
	c := newTampered(t)
	c.path, c.key = c.original, []byte("another key")
	if found := c.check(t); !strings.Contains(found, "keys") {
		t.Errorf("found: %s", found)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestJournalOfAnOlderDatabase: what a database of version 1 holds is entered when
// it is brought up to date.
func TestJournalOfAnOlderDatabase(t *testing.T) {
	c := newTampered(t)
	db := c.open(t, c.original)
	first := []string{"projects", "commits", "solutions", "steps", "builds", "rebuilds", "files", "evidence", "goose_db_version", "sqlite_sequence"}
	q, on := "DELETE FROM goose_db_version WHERE version_id > 1;", func(trigger string) bool { return true }
	for _, table := range column(t, db, "SELECT name FROM sqlite_master WHERE type = 'table'") {
		if !slices.Contains(first, table) {
			q += "DROP TABLE " + table + ";"
			before := on
			on = func(trigger string) bool { return before(trigger) && !strings.Contains(trigger, " ON "+table+" ") }
		}
	}
	if _, err := db.Exec(c.off + q + strings.Join(slices.DeleteFunc(c.triggers, func(q string) bool { return !on(q) }), ";")); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s, err := store.OpenWriter(t.Context(), c.original, c.blobs, store.WithKey(c.key))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, err := s.Check(t.Context())
	// The version's number was counted on: that alone is not as it was.
	if err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}
