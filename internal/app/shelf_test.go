package app_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/server"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// truth is the status as another process computes it now, with nothing kept.
func (p settled) truth(t *testing.T) status.Document {
	t.Helper()
	a := open(t, p.data, false)
	defer a.Close()
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	return r.Document
}

// shown is what a server shows.
func shown(t *testing.T, b app.Backend) *server.Project {
	t.Helper()
	p, err := b.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// differs appends, as another process, a rebuild of a step that came out different.
func differs(t *testing.T, a *app.App, step digest.Digest) {
	t.Helper()
	rows, err := a.Store.Rebuilds(t.Context(), step)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rebuilds, %v", len(rows), err)
	}
	last := rows[len(rows)-1]
	other := digest.FromBytes([]byte("other bytes"))
	r := record.RebuildResult{Schema: record.RebuildSchema, Step: step, Sequence: last.Seq + 1, Previous: last.Document, First: "a", Second: "b",
		Outcome: record.Different, FirstDigest: digest.FromBytes([]byte("bytes")), SecondDigest: other, Builder: a.BuilderID(), Time: time.Now().UTC()}
	d, b, err := canonical.Digest(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Blobs.Put(t.Context(), bytes.NewReader(b), d, plan.MaxBytes); err != nil {
		t.Fatal(err)
	}
	if err := a.Store.AppendRebuild(t.Context(), store.Rebuild{Step: step, Seq: r.Sequence, Outcome: r.Outcome, Document: d, Previous: last.Document, Created: r.Time}); err != nil {
		t.Fatal(err)
	}
}

// Whatever a status rests on changes, in another process too, the next answer is the
// one that a computation gives; while nothing does, it is the same answer.
func TestShownIsSo(t *testing.T) {
	p := settle(t)
	reader := open(t, p.data, false)
	reader.NeverLate()
	b := reader.Backend()
	same := func(what string) {
		t.Helper()
		if got, want := text(t, shown(t, b).Document), text(t, p.truth(t)); got != want {
			t.Fatalf("%s: shown is\n%s\nand so is\n%s", what, got, want)
		}
	}
	// soon is for what happens to files: they are looked at every other second, and later
	// on a machine that has much to do.
	soon := func(what string, so func(status.Summary) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !so(shown(t, b).Document.Summary); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: after a minute %+v is shown", what, shown(t, b).Document.Summary)
			}
		}
		same(what)
	}
	same("at first")
	if s := shown(t, b).Document.Summary; s.Secure != 1 {
		t.Fatalf("%+v", s)
	}
	first := shown(t, b)
	if shown(t, b) != first {
		t.Error("nothing was touched, and it was computed anew")
	}
	bundles := p.bundles(t)

	a := open(t, p.data, true)
	other := settled{data: p.data, dir: t.TempDir()}
	var err error
	if other.commit, err = apptest.Fill(t.Context(), a, other.dir, apptest.Spec{Name: "acme/other", Packages: 1, Prefix: "other"}); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, b); got != first {
		t.Error("another project's builds had it computed anew")
	}
	e := bundles[0]
	e.Name = "another"
	if err := a.Store.AddEvidence(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if shown(t, b) == first {
		t.Error("there is other evidence, and nothing was computed")
	}
	same("other evidence")

	a.Close()
	// A bundle that is not what it was counts no more; then it is put back.
	e = bundles[0]
	path := a.Blobs.Path(e.Blob)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	for _, content := range [][]byte{changed, whole} {
		if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, content, 0o644), os.Chtimes(path, fi.ModTime(), fi.ModTime())); err != nil {
			t.Fatal(err)
		}
		soon("a bundle", func(s status.Summary) bool { return s.Secure == p.truth(t).Summary.Secure })
	}
	out := bundles[0].Subject
	path = a.Blobs.Path(out)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	soon("a file is gone", func(s status.Summary) bool { return s.Secure == p.truth(t).Summary.Secure })
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	soon("it is back", func(s status.Summary) bool { return s.Secure == 1 })

	a = open(t, p.data, true)
	defer a.Close()
	differs(t, a, bundles[0].Step)
	same("a rebuild that differs")
	if s := shown(t, b).Document.Summary; s.Secure != 0 {
		t.Errorf("what differs is shown as secure: %+v", s)
	}

	if err := os.Remove(filepath.Join(p.dir, "hallmark.lock")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "hallmark.yaml"), []byte("project: acme/web\nrequirements: [package-00000]\nat_time: 2026-09-01T00:00:00Z\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Sync(t.Context(), p.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Project(t.Context(), "acme", "web"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit that nobody solved is shown as %v", err)
	}
}

// A key that was taken out of use by another command: nothing is shown under the
// keys of before.
func TestShownUnderOtherKeys(t *testing.T) {
	p := settle(t)
	b := open(t, p.data, false).Backend()
	shown(t, b)
	name := filepath.Join(p.data, "keys", "signer.pem")
	key, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name+".new", key, 0o600), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := b.Project(t.Context(), "acme", "web"); fault.Is(err, fault.Unavailable) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("after five seconds it is still shown")
		}
	}
}

// Many look while another process changes what is proven: each answer is one that was
// so at some time between question and answer.
func TestShownWhileItChanges(t *testing.T) {
	const packages, viewers = 12, 16
	p := settled{data: filepath.Join(t.TempDir(), "data"), dir: t.TempDir()}
	a := open(t, p.data, true)
	defer a.Close()
	var err error
	if p.commit, err = apptest.Fill(t.Context(), a, p.dir, apptest.Spec{Name: "acme/web", Packages: packages}); err != nil {
		t.Fatal(err)
	}
	p.build(t, a)
	reader := open(t, p.data, false)
	reader.NeverLate()
	b := reader.Backend()
	r, err := reader.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	// The last ones first: nothing rests on them yet.
	var steps []digest.Digest
	for i := len(r.Solved.Plan.Artifacts) - 1; i >= 0; i-- {
		steps = append(steps, r.Solved.Plan.Artifacts[i].Step)
	}
	var mu sync.Mutex
	truth := []int{r.Document.Summary.Secure} // after each change
	var begun, ended atomic.Int64             // changes
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var answers atomic.Int64
	for range viewers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := ended.Load()
				got, err := b.Project(t.Context(), "acme", "web")
				if err != nil {
					t.Error(err)
					return
				}
				after := begun.Load()
				answers.Add(1)
				// The truth after the last change that began may not be known yet.
				for ended.Load() < after {
					time.Sleep(time.Millisecond)
				}
				mu.Lock()
				ok := false
				for _, n := range truth[before : after+1] {
					ok = ok || got.Document.Summary.Secure == n
				}
				if !ok {
					t.Errorf("%d secure are shown; between question and answer it was %v", got.Document.Summary.Secure, truth[before:after+1])
				}
				mu.Unlock()
			}
		})
	}
	for _, step := range steps {
		begun.Add(1)
		differs(t, a, step)
		n := p.truth(t).Summary.Secure
		mu.Lock()
		truth = append(truth, n)
		mu.Unlock()
		ended.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if truth[0] != packages || truth[len(truth)-1] != 0 || answers.Load() < viewers {
		t.Errorf("%v, %d answers", truth, answers.Load())
	}
}

// What is told of a file is found out once for all who ask, and anew when something
// that it rests on was touched.
func TestDescribedOnce(t *testing.T) {
	p := settle(t)
	reader := open(t, p.data, false)
	reader.NeverLate()
	b := reader.Backend()
	bundles := p.bundles(t)
	file := bundles[0].Subject
	told := func() *server.Artifact {
		t.Helper()
		a, err := b.Artifact(t.Context(), "acme", "web", file)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	shown(t, b)
	told() // what is settled is computed once more, for all that the report rests on
	var wg sync.WaitGroup
	got := make([]*server.Artifact, 8)
	for i := range got {
		wg.Go(func() { got[i] = told() })
	}
	wg.Wait()
	for _, a := range got {
		if a != told() {
			t.Error("nothing was touched, and it was found out anew")
		}
	}
	if a := told(); a.Class != policy.Secure || a.Digest != file || len(a.Rebuilds) != 1 {
		t.Errorf("%+v", a)
	}
	if _, err := b.Artifact(t.Context(), "acme", "web", digest.FromBytes([]byte("none"))); !fault.Is(err, fault.NotFound) {
		t.Errorf("a file that is none: %v", err)
	}
	w := open(t, p.data, true)
	defer w.Close()
	differs(t, w, bundles[0].Step)
	if a := told(); a == got[0] || a.Class == policy.Secure || len(a.Rebuilds) != 2 {
		t.Errorf("after a rebuild that differs it is %s, of %d rebuilds", a.Class, len(a.Rebuilds))
	}
}
