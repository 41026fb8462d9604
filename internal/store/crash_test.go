package store_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/blob"
	"hallmark/internal/digest"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// TestMain runs the writer that TestKilledWriter kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HALLMARK_TEST_WRITER"); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(dir string) (*blob.Store, *store.Store, error) {
	b, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		return nil, nil, err
	}
	where := os.Getenv("HALLMARK_TEST_DATABASE") // of TestPostgres
	if where == "" {
		where = filepath.Join(dir, "hallmark.db")
	}
	s, err := store.OpenWriter(context.Background(), where, b)
	return b, s, err
}

func writeForEver(dir string) error {
	ctx := context.Background()
	b, s, err := open(dir)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		content := func(what string) (digest.Digest, error) {
			return b.PutBytes(ctx, fmt.Appendf(nil, "%s %d %d", what, os.Getpid(), n))
		}
		step, err := content("step")
		if err != nil {
			return err
		}
		if err := s.PutStep(ctx, store.Step{ID: step, PURL: "pkg:pypi/x@1", Document: step}); err != nil {
			return err
		}
		var last digest.Digest
		for i := 1; i <= 3; i++ {
			doc, err := content(fmt.Sprint("doc", i))
			if err != nil {
				return err
			}
			if _, err := s.AppendBuild(ctx, store.Build{Step: step, ID: doc.Hex(), Purpose: record.First, Outcome: record.Succeeded,
				Record: doc, Output: doc, Started: time.Now(), Finished: time.Now()}); err != nil {
				return err
			}
			if err := s.AppendRebuild(ctx, store.Rebuild{Step: step, Seq: i, Outcome: record.Identical, Document: doc, Previous: last, Created: time.Now()}); err != nil {
				return err
			}
			last = doc
		}
	}
}

// TestKilledWriter kills a writer in the middle, again and again: whatever the
// moment, no row points at nothing, no series is broken, no blob is half.
func TestKilledWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	killWriters(t, 6)
}

func killWriters(t *testing.T, times int) {
	dir := t.TempDir()
	total := 0
	for i := range times {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HALLMARK_TEST_WRITER="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(150+67*i*6/times) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("it ended by itself: %v", err)
		}
		_ = cmd.Wait()
		b, s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := s.Check(context.Background())
		if err != nil || len(findings) > 0 {
			t.Errorf("after kill %d: %v, %v", i, findings, err)
		}
		total = 0
		if err := b.Walk(func(d digest.Digest, _ int64) error { total++; return b.Check(d) }); err != nil {
			t.Errorf("after kill %d: %v", i, err)
		}
		if left, err := b.Leftovers(time.Now().Add(2 * blob.StaleAfter)); err != nil || len(left) > 0 {
			t.Errorf("after kill %d: left over %v, %v", i, left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if total == 0 {
		t.Error("nothing was written at all")
	}
}
