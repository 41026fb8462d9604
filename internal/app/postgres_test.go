package app_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/store"
	"hallmark/internal/store/pgtest"
)

// TestPostgres: a data directory whose rows are in PostgreSQL. A project is built,
// signed and shown; a server is begun on it, builds it again as a job, is stopped and
// begun anew; fsck is clean, finds what somebody changed, and repair mends what it
// can; and nobody finds it empty by leaving the address out.
func TestPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL server")
	}
	server := pgtest.Start(t)
	cfg := app.Config{Data: filepath.Join(t.TempDir(), "data"), Database: server.Fresh()}
	dir := t.TempDir()
	fsck := func(repair bool) (found []string) {
		t.Helper()
		a, damage, err := app.OpenFsck(t.Context(), cfg, repair)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		var more []app.Damage
		if repair {
			more, err = a.Repair(t.Context())
		} else {
			more, err = a.Fsck(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range append(damage, more...) {
			if !d.Repaired {
				found = append(found, d.Where+": "+d.Message)
			}
		}
		return found
	}

	if _, err := app.Open(t.Context(), cfg, false); !fault.Is(err, fault.NotFound) {
		t.Fatalf("a reader of nothing: %v", err)
	}
	a, err := app.Open(t.Context(), cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := apptest.Fill(t.Context(), a, filepath.Join(dir, "web"), apptest.Spec{Name: "acme/web", Packages: 5, FailEvery: 3})
	if err != nil {
		t.Fatal(err)
	}
	built, err := a.Builds(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if built.Document.Summary.Artifacts != 5 || built.Document.Summary.Secure == 0 {
		t.Fatalf("the status is %+v", built.Document.Summary)
	}
	if found := fsck(false); len(found) > 0 {
		t.Fatalf("fsck: %v", found)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "hallmark.db")); err == nil {
		t.Error("there is an SQLite file beside it")
	}
	r, err := app.Open(t.Context(), cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	shown, err := r.Glance(t.Context(), commit)
	if err != nil || shown.Document.Summary.Secure != built.Document.Summary.Secure {
		t.Errorf("a reader shows %+v, %v", shown, err)
	}

	// A server, twice.
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	who := platform.Who{Principal: access.SoleOwner("ann")}
	for range 2 {
		h, err := app.Host(t.Context(), cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		run, err := h.Platform.Build(t.Context(), who, "acme", "web", "main", false)
		if err != nil {
			h.Close()
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); !run.State.Done() && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			rs, err := h.Platform.Runs(t.Context(), who, "acme", "web", 1)
			if err != nil {
				h.Close()
				t.Fatal(err)
			}
			run = rs[0]
		}
		if run.State != store.RunSucceeded {
			t.Errorf("the run is %s: %s", run.State, run.Message)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if found := fsck(false); len(found) > 0 {
		t.Errorf("fsck after a server: %v", found)
	}

	// What somebody changes behind our back is named; rows of evidence come back out of
	// their bundles.
	for what, q := range map[string]string{
		"projects acme/web": "UPDATE projects SET created = created + interval '1 hour'; ",
		"audit 1":           "SET session_replication_role = replica; UPDATE audit SET actor = 'eve' WHERE seq = 1",
	} {
		if err := server.Exec(t, cfg.Database, q); err != nil {
			t.Fatal(err)
		}
		if found := strings.Join(fsck(false), "\n"); !strings.Contains(found, what) {
			t.Errorf("%s was changed; fsck says %s", what, found)
		}
	}
	if err := server.Exec(t, cfg.Database, "UPDATE projects SET created = created - interval '1 hour'; SET session_replication_role = replica; UPDATE audit SET actor = 'ann' WHERE seq = 1; DELETE FROM evidence WHERE log_index = (SELECT MAX(log_index) FROM evidence)"); err != nil {
		t.Fatal(err)
	}
	if found := fsck(false); len(found) == 0 {
		t.Error("rows of evidence were taken out and nothing is said")
	}
	if left := fsck(true); len(left) > 0 {
		t.Errorf("left after repair: %v", left)
	}

	// Nobody finds it empty.
	for what, c := range map[string]struct {
		cfg  app.Config
		kind fault.Kind
		says string
	}{
		"the address left out": {app.Config{Data: cfg.Data}, fault.Conflict, "--database"},
		"another place":        {app.Config{Data: cfg.Data, Database: server.Fresh()}, fault.NotFound, "search_path"},
		"another directory":    {app.Config{Data: filepath.Join(t.TempDir(), "other"), Database: cfg.Database}, fault.Conflict, "keys"},
		"no address":           {app.Config{Data: cfg.Data, Database: "mysql://root:" + pgtest.Password + "@x/y"}, fault.Usage, "--database"},
	} {
		for _, writer := range []bool{true, false} {
			if a, err := app.Open(t.Context(), c.cfg, writer); err == nil {
				t.Errorf("%s, writer %v: it was opened", what, writer)
				a.Close()
			} else if pgtest.Betrays(err.Error()) || writer && (!fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s, writer %v: %v (%s)", what, writer, err, fault.KindOf(err))
			}
		}
		if h, err := app.Host(t.Context(), c.cfg, log); err == nil {
			t.Errorf("%s: it was hosted", what)
			h.Close()
		}
	}
	lite := filepath.Join(t.TempDir(), "lite")
	a, err = app.Open(t.Context(), app.Config{Data: lite}, true)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := app.Open(t.Context(), app.Config{Data: lite, Database: server.Fresh()}, true); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "hallmark.db") {
		t.Errorf("a directory with a file and an address: %v", err)
	}

	// The password is nowhere.
	if pgtest.Betrays(said.String()) {
		t.Errorf("the password is in the log: %s", said.String())
	}
	err = filepath.WalkDir(cfg.Data, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err == nil && pgtest.Betrays(string(b)) {
			t.Errorf("the password is in %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
