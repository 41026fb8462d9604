package store_test

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/store"
	"hallmark/internal/store/storetest"
)

func TestSQLite(t *testing.T) { storetest.Contract(t, sqliteBackend()) }

func sqliteBackend() storetest.Backend {
	var path string
	return storetest.Backend{
		Open: func(t *testing.T, blobs store.Blobs) *store.Store {
			// A name that would end a careless DSN.
			path = filepath.Join(t.TempDir(), "a?mode=memory&x#y %20.db")
			s, err := store.OpenWriter(context.Background(), path, blobs)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			if _, err := os.Stat(path); err != nil {
				t.Fatal(err)
			}
			return s
		},
		Exec: func(t *testing.T, q string) error {
			db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)"}).String())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			_, err = db.Exec(q)
			return err
		},
	}
}

func TestSQLitePlatform(t *testing.T) { storetest.Platform(t, sqliteBackend()) }

func TestSQLiteQueries(t *testing.T) { storetest.Queries(t, sqliteBackend()) }

func TestReaderBesideWriter(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "hallmark.db")
	blobs := &storetest.Blobs{}
	if _, err := store.OpenReader(ctx, path, blobs); !fault.Is(err, fault.NotFound) {
		t.Fatalf("reader of nothing: %v", err)
	}
	w, err := store.OpenWriter(ctx, path, blobs)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := store.OpenReader(ctx, path, blobs)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.CreateProject(ctx, "acme", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	if ps, err := r.Projects(ctx); err != nil || len(ps) != 1 {
		t.Errorf("reader sees %v, %v", ps, err)
	}
	if _, err := r.CreateProject(ctx, "acme", "evil", time.Now()); !fault.Is(err, fault.Conflict) {
		t.Errorf("reader wrote: %v", err)
	}
}

func TestReaderAfterWriterClosed(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "hallmark.db")
	blobs := &storetest.Blobs{}
	w, err := store.OpenWriter(ctx, path, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateProject(ctx, "acme", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for range 2 { // and a second writer migrates nothing twice
		r, err := store.OpenReader(ctx, path, blobs)
		if err != nil {
			t.Fatal(err)
		}
		if ps, err := r.Projects(ctx); err != nil || len(ps) != 1 {
			t.Errorf("reader sees %v, %v", ps, err)
		}
		r.Close()
		w, err := store.OpenWriter(ctx, path, blobs)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}

func TestOtherVersions(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "hallmark.db")
	blobs := &storetest.Blobs{}
	w, err := store.OpenWriter(ctx, path, blobs)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenReader(ctx, path, blobs); !fault.Is(err, fault.Unsupported) {
		t.Errorf("reader of a newer schema: %v", err)
	}
	if _, err := store.OpenWriter(ctx, path, blobs); !fault.Is(err, fault.Unsupported) {
		t.Errorf("writer of a newer schema: %v", err)
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hallmark.db")
	if err := os.WriteFile(path, []byte("this is a letter to my aunt, and long enough to be read as a header of pages and so on and so forth, and so on"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenWriter(context.Background(), path, &storetest.Blobs{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("error is %v", err)
	}
}
