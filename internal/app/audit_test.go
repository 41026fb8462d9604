package app_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"hallmark/internal/api"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// The whole audit log is exported, oldest first; an entry that was changed, taken out
// in the middle or at the end, or put in, ends the export.
func TestExportAudit(t *testing.T) {
	for name, attack := range map[string]string{
		"nothing":  "",
		"changed":  "UPDATE audit SET detail = 'nothing to see' WHERE seq = 3",
		"out":      "DELETE FROM audit WHERE seq = 3",
		"the last": "DELETE FROM audit WHERE seq = 5",
		"put in":   "INSERT INTO audit SELECT 6, at, actor, via, address, org, project, action, object, detail FROM audit WHERE seq = 5",
		"journal":  "UPDATE journal SET sum = 'x' WHERE tbl = 'audit' AND row = '3'",
	} {
		data := filepath.Join(t.TempDir(), "data")
		w := open(t, data, true)
		for i := range 5 {
			if err := w.Store.Note(t.Context(), store.By{Actor: "ada", Via: "test", At: time.Now()}, "sign-in", "", "", "ada", string(rune('a'+i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if attack != "" {
			db, err := sql.Open("sqlite", filepath.Join(data, "hallmark.db"))
			if err != nil {
				t.Fatal(err)
			}
			rows, err := db.Query("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('audit', 'journal')")
			if err != nil {
				t.Fatal(err)
			}
			var triggers []string
			for rows.Next() {
				var n string
				if err := rows.Scan(&n); err != nil {
					t.Fatal(err)
				}
				triggers = append(triggers, n)
			}
			_ = rows.Close()
			for _, n := range triggers {
				if _, err := db.Exec("DROP TRIGGER " + n); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := db.Exec(attack); err != nil {
				t.Fatal(name, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		a := open(t, data, false)
		text := ""
		n, err := a.ExportAudit(t.Context(), func(e api.AuditEntry) error { text += e.Detail; return nil })
		switch {
		case attack == "" && (err != nil || n != 5 || text != "abcde"):
			t.Errorf("exported %d entries, %q, %v", n, text, err)
		case attack != "" && !fault.Is(err, fault.Corrupt):
			t.Errorf("%s: %v", name, err)
		}
		_ = a.Close()
	}
}
