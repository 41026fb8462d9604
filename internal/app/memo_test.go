package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// settled is a project of some packages for which nothing is left to do.
type settled struct {
	data, dir string
	commit    digest.Digest
	json      string // its status
}

func open(t *testing.T, data string, writer bool) *app.App {
	t.Helper()
	a, err := app.Open(t.Context(), app.Config{Data: data}, writer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func settle(t *testing.T) settled {
	t.Helper()
	p := settled{data: filepath.Join(t.TempDir(), "data"), dir: t.TempDir()}
	a := open(t, p.data, true)
	defer a.Close()
	var err error
	if p.commit, err = apptest.Fill(t.Context(), a, p.dir, apptest.Spec{Name: "acme/web", Packages: 2, FailEvery: 2}); err != nil {
		t.Fatal(err)
	}
	p.json = p.build(t, a)
	return p
}

// build does what hallmark builds does, and gives the status.
func (p settled) build(t *testing.T, a *app.App) string {
	t.Helper()
	r, err := a.Builds(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SaveLock(p.dir, r); err != nil {
		t.Fatal(err)
	}
	if err := a.Settle(t.Context(), p.dir, r); err != nil {
		t.Fatal(err)
	}
	return text(t, r.Document)
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// quick tells whether the kept status is used, and checks that it is the right one.
func (p settled) quick(t *testing.T) bool {
	t.Helper()
	a := open(t, p.data, false)
	defer a.Close()
	c, err := a.Commit(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := a.Settled(t.Context(), p.commit, c, p.dir)
	if ok && text(t, doc) != p.json {
		t.Errorf("kept status\n%s\nwant\n%s", text(t, doc), p.json)
	}
	return ok
}

// bundles lists the evidence of the project's first package, newest first.
func (p settled) bundles(t *testing.T) []store.Evidence {
	t.Helper()
	a := open(t, p.data, false)
	defer a.Close()
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := a.Store.EvidenceHistory(t.Context(), *r.Document.Artifacts[0].Digest)
	if err != nil || len(rows) < 4 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	slices.Reverse(rows)
	return rows
}

// TestSettled: the second time, the status that was kept is shown, with what its
// JSON leaves out, to writers and readers.
func TestSettled(t *testing.T) {
	p := settle(t)
	if !p.quick(t) {
		t.Fatal("nothing is to be done, but that is not known")
	}
	for _, writer := range []bool{false, true} {
		a := open(t, p.data, writer)
		full, err := a.Status(t.Context(), p.commit)
		if err != nil {
			t.Fatal(err)
		}
		glance, err := a.Glance(t.Context(), p.commit)
		if err != nil {
			t.Fatal(err)
		}
		if glance.Solved != nil || !reflect.DeepEqual(full.Document, glance.Document) || full.PolicyID != glance.PolicyID {
			t.Errorf("at a glance\n%+v\nlooked at\n%+v", glance.Document, full.Document)
		}
		if got := full.Document.Summary; got.Secure != 1 || got.Community != 1 || len(full.Document.Caveats) == 0 {
			t.Errorf("summary %+v", got)
		}
		a.Close()
	}
	for _, cfg := range []app.Config{{Data: p.data, Retry: true}, {Data: p.data, Fresh: true}} {
		a, err := app.Open(t.Context(), cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Commit(t.Context(), p.commit)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := a.Settled(t.Context(), p.commit, c, p.dir); ok {
			t.Errorf("%+v: a kept status is no answer", cfg)
		}
		a.Close()
	}
}

// TestSettledNoMore: what a kept status rests on is touched, and it is not used.
func TestSettledNoMore(t *testing.T) {
	memo := func(p settled) string { return filepath.Join(p.data, "cache", "status", p.commit.Hex()) }
	flip := func(t *testing.T, path string, at int64) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[at%int64(len(b))] ^= 1
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(t *testing.T, p settled, d digest.Digest) string {
		a := open(t, p.data, false)
		defer a.Close()
		return a.Blobs.Path(d)
	}
	p := settle(t)
	t.Run("any byte of it", func(t *testing.T) {
		whole, err := os.ReadFile(memo(p))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(whole); at += 1 + len(whole)/40 {
			flip(t, memo(p), int64(at))
			if p.quick(t) {
				t.Fatalf("byte %d was changed, and it is shown all the same", at)
			}
			if err := os.WriteFile(memo(p), whole, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range []int{0, 1, 31, 32, 36, 40, len(whole) / 2, len(whole) - 1} {
			if err := os.WriteFile(memo(p), whole[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			if p.quick(t) {
				t.Fatalf("it was cut to %d bytes, and is shown all the same", n)
			}
		}
		if err := os.WriteFile(memo(p), whole, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("but not by another project", func(t *testing.T) {
		a := open(t, p.data, true)
		other := settled{data: p.data, dir: t.TempDir()}
		var err error
		if other.commit, err = apptest.Fill(t.Context(), a, other.dir, apptest.Spec{Name: "acme/other", Packages: 1, Prefix: "other"}); err != nil {
			t.Fatal(err)
		}
		other.json = other.build(t, a)
		a.Close()
		if !p.quick(t) || !other.quick(t) {
			t.Error("two projects disturb each other")
		}
	})
	t.Run("a file is gone", func(t *testing.T) {
		path := blob(t, p, p.bundles(t)[0].Subject)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if p.quick(t) {
			t.Error("the kept status is shown all the same")
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		a := open(t, p.data, true)
		defer a.Close()
		p.json = p.build(t, a)
	})
	for _, c := range []struct {
		name  string
		touch func(t *testing.T, p settled)
	}{
		{"a bundle was changed", func(t *testing.T, p settled) { flip(t, blob(t, p, p.bundles(t)[0].Blob), 1000) }},
		{"the lock was changed", func(t *testing.T, p settled) { flip(t, filepath.Join(p.dir, "hallmark.lock"), 20) }},
		{"the lock is gone", func(t *testing.T, p settled) {
			if err := os.Remove(filepath.Join(p.dir, "hallmark.lock")); err != nil {
				t.Fatal(err)
			}
		}},
		{"the kept status is gone", func(t *testing.T, p settled) {
			if err := os.Remove(memo(p)); err != nil {
				t.Fatal(err)
			}
		}},
		{"there is other evidence", func(t *testing.T, p settled) {
			a := open(t, p.data, true)
			defer a.Close()
			e := p.bundles(t)[0]
			e.Name = "another"
			if err := a.Store.AddEvidence(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}},
		{"another builder is trusted", func(t *testing.T, p settled) {
			a, err := app.Open(t.Context(), app.Config{Data: p.data, ExternalURL: "https://builds.example"}, true)
			if err != nil {
				t.Fatal(err)
			}
			a.Close()
		}},
		{"there is another build", func(t *testing.T, p settled) {
			a := open(t, p.data, true)
			defer a.Close()
			e := p.bundles(t)[0]
			if _, err := a.Store.AppendBuild(t.Context(), store.Build{Step: e.Step, ID: "another", Purpose: record.Rebuild, Outcome: record.Failed,
				Builder: "b", Record: e.Blob, Started: time.Now(), Finished: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.touch(t, p)
			if p.quick(t) {
				t.Error("the kept status is shown all the same")
			}
			if t.Failed() || c.name == "there is another build" { // whose record is none
				return
			}
			a := open(t, p.data, true)
			defer a.Close()
			p.json = p.build(t, a)
			a.Close()
			if !p.quick(t) {
				t.Error("after the next builds it is not shown")
			}
		})
	}
}

// TestRememberedBundle: a bundle that was verified, remembered and then changed,
// with its size and time put back, is verified again and does not count; verify
// names it.
func TestRememberedBundle(t *testing.T) {
	p := settle(t)
	var changed store.Evidence
	for _, e := range p.bundles(t) {
		if e.PredicateType == evidence.TypeProvenance {
			changed = e
		}
	}
	a := open(t, p.data, true)
	path := a.Blobs.Path(changed.Blob)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	r, err := a.Glance(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	if row := r.Document.Artifacts[0]; row.Class != policy.Community || !slices.ContainsFunc(row.Reasons, func(x policy.Reason) bool { return x.Code == policy.EvidenceMissing }) {
		t.Errorf("row %+v", row)
	}
	full, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.VerifyCommit(t.Context(), full)
	if err != nil || v.OK {
		t.Errorf("verified: %v", err)
	}
	// What builds mends is as good as it was.
	if _, err := a.Builds(t.Context(), p.commit); err != nil {
		t.Fatal(err)
	}
	if r, err = a.Glance(t.Context(), p.commit); err != nil || r.Document.Artifacts[0].Class != policy.Secure {
		t.Errorf("signed again: %+v, %v", r.Document.Artifacts[0], err)
	}
}

// TestVerifyBelievesNothing: verify looks at each bundle itself, whatever a report
// says that was made from memory.
func TestVerifyBelievesNothing(t *testing.T) {
	p := settle(t)
	a := open(t, p.data, false)
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.VerifyCommit(t.Context(), r)
	if err != nil || !v.OK {
		t.Fatalf("%+v, %v", v, err)
	}
	for u := range r.Input.Steps {
		st := r.Input.Steps[u]
		for i := range st.Builds {
			st.Builds[i].Verified = false // a report that is not true
		}
		r.Input.Steps[u] = st
	}
	if v, err := a.VerifyCommit(t.Context(), r); err != nil || !v.OK {
		t.Errorf("verify believes a report: %+v, %v", v, err)
	}
}
