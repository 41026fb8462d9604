package app_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/store/pgtest"
)

// A backup of a live server whose rows are in PostgreSQL, with a log in two parts, is
// restored into an empty database by the same one command, and is whole; one that is
// not empty, or none, is refused.
func TestBackupAndRestorePostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL server")
	}
	server := pgtest.Start(t)
	cfg := app.Config{Data: filepath.Join(t.TempDir(), "data"), Database: server.Fresh()}
	w, err := app.Open(t.Context(), cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := apptest.Fill(t.Context(), w, t.TempDir(), apptest.Spec{Name: "acme/web", Packages: 3})
	if err == nil {
		_, err = w.Builds(t.Context(), commit)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ChangeKey(t.Context(), cfg, app.KeyChange{Role: keys.RoleLog}); err != nil {
		t.Fatal(err)
	}
	h, err := app.Host(t.Context(), cfg, nil) // its tables of jobs are in the backup, too
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var b bytes.Buffer
	info, err := app.Backup(t.Context(), cfg, &b)
	if err != nil {
		t.Fatal(err)
	}
	if info.Blobs == 0 || bytes.Contains(b.Bytes(), []byte(pgtest.Password)) {
		t.Errorf("backed up %+v, or the password is in it", info)
	}
	if err := server.Exec(t, cfg.Database, "CREATE DATABASE restored"); err != nil {
		t.Fatal(err)
	}
	schema := cfg.Database[strings.Index(cfg.Database, "search_path=")+len("search_path="):]
	to := app.Config{Data: filepath.Join(t.TempDir(), "data"), Database: server.URL("restored", schema)}
	for name, c := range map[string]struct {
		database string
		kind     fault.Kind
	}{
		"the same again": {cfg.Database, fault.Conflict}, "no database": {"", fault.Usage},
		"another schema": {server.URL("restored", "elsewhere"), fault.Conflict}, "nobody there": {server.URL("nowhere", schema), fault.NotFound},
	} {
		if _, err := app.Restore(t.Context(), to.Data, c.database, bytes.NewReader(b.Bytes())); !fault.Is(err, c.kind) || pgtest.Betrays(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a data directory was made", name)
		}
	}
	if _, err := app.Restore(t.Context(), to.Data, to.Database, bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to.Data, "hallmark.pgdump")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the dump is left over")
	}
	a, err := app.Open(t.Context(), to, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	clean(t, a)
	if n, codes := count(t, a, commit); n != 3 {
		t.Errorf("of what was restored %d are secure: %v", n, codes)
	}
	again, err := app.Host(t.Context(), to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
