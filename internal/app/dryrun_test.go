package app_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/build"
)

// treeHash is the hash of a folder: names, modes and bytes of everything in it.
func treeHash(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, p, st.Mode())
		if st.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			h.Write(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// A dry run says what is due and changes not a byte, neither of the data directory
// nor of the project.
func TestDryRunChangesNothing(t *testing.T) {
	data, dir := filepath.Join(t.TempDir(), "data"), t.TempDir()
	w := open(t, data, true)
	if _, err := apptest.Fill(t.Context(), w, dir, apptest.Spec{Name: "acme/web", Packages: 4, FailEvery: 4}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(retry bool) *app.Forecast {
		t.Helper()
		before := treeHash(t, data) + treeHash(t, dir)
		a, err := app.Open(t.Context(), app.Config{Data: data, Still: true, Retry: retry}, false)
		if err != nil {
			t.Fatal(err)
		}
		f, err := a.DryRun(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if treeHash(t, data)+treeHash(t, dir) != before {
			t.Error("a dry run changed something")
		}
		if !f.Solved || f.Commit == "" || f.Plan == "" || !f.Complete || f.Schema != app.ForecastSchema {
			t.Errorf("%+v", f)
		}
		return f
	}
	f := run(false)
	if s := f.Summary; s.First != 0 || s.Rebuild != 0 || s.Done == 0 || len(f.Build) != 0 {
		t.Errorf("nothing is due: %+v", f)
	}
	failed := run(true)
	if s := failed.Summary; s.First == 0 || failed.Build[0].Why != build.DueRetry || s.Done >= f.Summary.Done {
		t.Errorf("a retry: %+v", failed)
	}
}
