// Package storetest holds the contract that the store passes on every database.
package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// Blobs is a set of digests that are there. It may be used from several
// goroutines.
type Blobs struct {
	mu  sync.Mutex
	has map[digest.Digest]bool
}

// Add makes a blob be there and gives its digest.
func (b *Blobs) Add(content string) digest.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.has == nil {
		b.has = map[digest.Digest]bool{}
	}
	d := digest.FromBytes([]byte(content))
	b.has[d] = true
	return d
}

// Remove loses a blob.
func (b *Blobs) Remove(d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.has, d)
}

// Has is store.Blobs'.
func (b *Blobs) Has(d digest.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.has[d]
}

// Backend makes databases for the contract.
type Backend struct {
	// Open gives an empty database that uses blobs.
	Open func(t *testing.T, blobs store.Blobs) *store.Store
	// Exec runs SQL behind the store's back on the database that Open made last.
	Exec func(t *testing.T, sql string) error
}

var at = time.Date(2026, 5, 17, 12, 30, 45, 123456789, time.FixedZone("", 7200))

// Contract runs the contract.
func Contract(t *testing.T, b Backend) {
	ctx := context.Background()
	type env struct {
		s     *store.Store
		blobs *Blobs
	}
	start := func(t *testing.T) env {
		blobs := &Blobs{}
		return env{b.Open(t, blobs), blobs}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, err error, k fault.Kind) {
		t.Helper()
		if !fault.Is(err, k) {
			t.Fatalf("error is %v (kind %q), want kind %q", err, fault.KindOf(err), k)
		}
	}
	step := func(t *testing.T, e env, name string) digest.Digest {
		t.Helper()
		doc := e.blobs.Add("step " + name)
		must(t, e.s.PutStep(ctx, store.Step{ID: doc, PURL: "pkg:pypi/six@1.17.0", Document: doc}))
		return doc
	}

	t.Run("projects and their commits", func(t *testing.T) {
		e := start(t)
		p, err := e.s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		_, err = e.s.CreateProject(ctx, "acme", "web", at)
		want(t, err, fault.Conflict)
		_, err = e.s.Head(ctx, "acme", "web")
		want(t, err, fault.NotFound)
		_, err = e.s.Project(ctx, "acme", "none")
		want(t, err, fault.NotFound)
		c1 := store.Commit{ID: e.blobs.Add("one"), Org: "acme", Name: "web", Document: e.blobs.Add("one"), Created: at}
		c2 := store.Commit{ID: e.blobs.Add("two"), Org: "acme", Name: "web", Parent: c1.ID, Document: e.blobs.Add("two"), Created: at}
		want(t, e.s.AddCommit(ctx, c2), fault.Conflict) // the parent is not there yet
		must(t, e.s.AddCommit(ctx, c1))
		must(t, e.s.AddCommit(ctx, c1))
		must(t, e.s.AddCommit(ctx, c2))
		other := c2
		other.Parent = ""
		want(t, e.s.AddCommit(ctx, other), fault.Conflict)
		must(t, e.s.SetHead(ctx, "acme", "web", "", c1.ID))
		must(t, e.s.SetHead(ctx, "acme", "web", c1.ID, c2.ID))
		want(t, e.s.SetHead(ctx, "acme", "web", c1.ID, c1.ID), fault.Conflict)
		want(t, e.s.SetHead(ctx, "acme", "web", c2.ID, digest.FromBytes([]byte("none"))), fault.Conflict)
		h, err := e.s.Head(ctx, "acme", "web")
		must(t, err)
		if h.ID != c2.ID || h.Created.Format(time.RFC3339Nano) != "2026-05-17T10:30:45.123456Z" {
			t.Errorf("head is %+v", h)
		}
		hist, err := e.s.History(ctx, h.ID, 10)
		must(t, err)
		if len(hist) != 2 || hist[1].ID != c1.ID {
			t.Errorf("history is %v", hist)
		}
		if by, err := e.s.CommitsByPrefix(ctx, c1.ID.Hex()[:8]); err != nil || len(by) != 1 || by[0].ID != c1.ID {
			t.Errorf("by prefix: %v, %v", by, err)
		}
		ps, err := e.s.Projects(ctx)
		must(t, err)
		if len(ps) != 1 || ps[0].Head != c2.ID || !ps[0].Created.Equal(p.Created) {
			t.Errorf("projects are %+v", ps)
		}
		for _, bad := range []string{"", "..", "A", "a/b", "-a", "a ", "api"} {
			_, err := e.s.CreateProject(ctx, bad, "web", at)
			want(t, err, fault.Usage)
		}
	})
	t.Run("two projects have their own commits", func(t *testing.T) {
		e := start(t)
		for _, n := range []string{"one", "two"} {
			_, err := e.s.CreateProject(ctx, "acme", n, at)
			must(t, err)
		}
		c := store.Commit{ID: e.blobs.Add("c"), Org: "acme", Name: "one", Document: e.blobs.Add("c"), Created: at}
		must(t, e.s.AddCommit(ctx, c))
		want(t, e.s.SetHead(ctx, "acme", "two", "", c.ID), fault.Conflict)
		child := store.Commit{ID: e.blobs.Add("d"), Org: "acme", Name: "two", Parent: c.ID, Document: e.blobs.Add("d"), Created: at}
		want(t, e.s.AddCommit(ctx, child), fault.Conflict)
	})
	t.Run("one of two racing heads wins", func(t *testing.T) {
		e := start(t)
		_, err := e.s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			d := e.blobs.Add(fmt.Sprint(i))
			must(t, e.s.AddCommit(ctx, store.Commit{ID: d, Org: "acme", Name: "web", Document: d, Created: at}))
			wg.Go(func() { errs[i] = e.s.SetHead(ctx, "acme", "web", "", d) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				want(t, err, fault.Conflict)
			}
		}
		if won != 1 {
			t.Errorf("%d won: %v", won, errs)
		}
	})
	t.Run("a solution is written once", func(t *testing.T) {
		e := start(t)
		_, err := e.s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		c := e.blobs.Add("c")
		sol := store.Solution{Commit: c, Plan: e.blobs.Add("plan"), Answers: e.blobs.Add("answers"), Created: at}
		want(t, e.s.PutSolution(ctx, sol), fault.Conflict) // no such commit
		must(t, e.s.AddCommit(ctx, store.Commit{ID: c, Org: "acme", Name: "web", Document: c, Created: at}))
		_, err = e.s.Solution(ctx, c)
		want(t, err, fault.NotFound)
		must(t, e.s.PutSolution(ctx, sol))
		must(t, e.s.PutSolution(ctx, sol))
		other := sol
		other.Plan = e.blobs.Add("another plan")
		want(t, e.s.PutSolution(ctx, other), fault.Conflict)
		got, err := e.s.Solution(ctx, c)
		must(t, err)
		if got.Plan != sol.Plan || got.Answers != sol.Answers {
			t.Errorf("solution is %+v", got)
		}
	})
	t.Run("builds are a series", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		rec, out := e.blobs.Add("record"), e.blobs.Add("output")
		b1 := store.Build{Step: st, ID: "b1", Purpose: record.First, Outcome: record.Succeeded, Builder: "x", Record: rec, Output: out, Started: at, Finished: at}
		got, err := e.s.AppendBuild(ctx, b1)
		must(t, err)
		again, err := e.s.AppendBuild(ctx, b1)
		must(t, err)
		if got.Seq != 1 || again.Seq != 1 {
			t.Errorf("seq %d, again %d", got.Seq, again.Seq)
		}
		other := b1
		other.Record = e.blobs.Add("another record")
		_, err = e.s.AppendBuild(ctx, other)
		want(t, err, fault.Conflict)
		b2 := store.Build{Step: st, ID: "b2", Purpose: record.Rebuild, Outcome: record.Failed, Builder: "x", Record: e.blobs.Add("record 2"), Started: at, Finished: at}
		got, err = e.s.AppendBuild(ctx, b2)
		must(t, err)
		if got.Seq != 2 {
			t.Errorf("seq %d", got.Seq)
		}
		b2.ID, b2.Step = "b3", digest.FromBytes([]byte("no step"))
		_, err = e.s.AppendBuild(ctx, b2)
		want(t, err, fault.Conflict)
		bs, err := e.s.Builds(ctx, st)
		must(t, err)
		if len(bs) != 2 || bs[0].ID != "b1" || bs[1].Output != "" {
			t.Errorf("builds are %+v", bs)
		}
		if s, err := e.s.StepsByOutput(ctx, out); err != nil || len(s) != 1 || s[0].ID != st {
			t.Errorf("steps by output: %v, %v", s, err)
		}
		if s, err := e.s.StepsByPURL(ctx, "pkg:pypi/six@1.17.0"); err != nil || len(s) != 1 {
			t.Errorf("steps by purl: %v, %v", s, err)
		}
		if b, err := e.s.Build(ctx, "b2"); err != nil || b.Seq != 2 {
			t.Errorf("build: %v, %v", b, err)
		}
	})
	t.Run("builds of one step from many goroutines have no gaps", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		rec := e.blobs.Add("record")
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, err := e.s.AppendBuild(ctx, store.Build{Step: st, ID: fmt.Sprint(i), Purpose: record.First, Outcome: record.Failed, Record: rec, Started: at, Finished: at})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		bs, err := e.s.Builds(ctx, st)
		must(t, err)
		if len(bs) != 10 || bs[9].Seq != 10 {
			t.Errorf("%d builds: %v", len(bs), bs)
		}
	})
	t.Run("rebuilds continue their series", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		r := func(seq int, doc, prev string) store.Rebuild {
			v := store.Rebuild{Step: st, Seq: seq, Outcome: record.Identical, Document: e.blobs.Add(doc), Created: at}
			if prev != "" {
				v.Previous = e.blobs.Add(prev)
			}
			return v
		}
		want(t, e.s.AppendRebuild(ctx, r(2, "two", "one")), fault.Conflict)
		want(t, e.s.AppendRebuild(ctx, r(1, "one", "zero")), fault.Conflict)
		must(t, e.s.AppendRebuild(ctx, r(1, "one", "")))
		must(t, e.s.AppendRebuild(ctx, r(1, "one", "")))
		want(t, e.s.AppendRebuild(ctx, r(1, "hides one", "")), fault.Conflict)
		want(t, e.s.AppendRebuild(ctx, r(3, "three", "one")), fault.Conflict)
		want(t, e.s.AppendRebuild(ctx, r(2, "two", "")), fault.Conflict)
		want(t, e.s.AppendRebuild(ctx, r(2, "two", "not one")), fault.Conflict)
		must(t, e.s.AppendRebuild(ctx, r(2, "two", "one")))
		must(t, e.s.AppendRebuild(ctx, r(1, "one", "")))
		rs, err := e.s.Rebuilds(ctx, st)
		must(t, err)
		if len(rs) != 2 || rs[1].Previous != rs[0].Document {
			t.Errorf("rebuilds are %+v", rs)
		}
	})
	t.Run("files", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		d := e.blobs.Add("wheel")
		built := store.File{Digest: d, PURL: "pkg:pypi/six@1.17.0", Name: "six-1.17.0-py3-none-any.whl", Size: 5, Kind: store.FileBuilt, Step: st}
		must(t, e.s.AddFile(ctx, built))
		must(t, e.s.AddFile(ctx, built))
		pub := built
		pub.Kind, pub.Step = store.FilePublished, ""
		must(t, e.s.AddFile(ctx, pub))
		must(t, e.s.AddFile(ctx, pub))
		pub.Size = 6
		want(t, e.s.AddFile(ctx, pub), fault.Conflict)
		pub.Name = "../six"
		want(t, e.s.AddFile(ctx, pub), fault.Usage)
		pub = built
		pub.Kind = "stolen"
		want(t, e.s.AddFile(ctx, pub), fault.Conflict)
		fs, err := e.s.Files(ctx, d)
		must(t, err)
		if len(fs) != 2 || fs[0].Step != st || fs[1].Step != "" {
			t.Errorf("files are %+v", fs)
		}
		if fs, err := e.s.FilesByPURL(ctx, "pkg:pypi/six@1.17.0"); err != nil || len(fs) != 2 {
			t.Errorf("by purl: %v, %v", fs, err)
		}
		for _, p := range []string{d.Hex()[:8], "sha256:" + d.Hex()[:12], d.Hex()} {
			if fs, err := e.s.FilesByPrefix(ctx, p); err != nil || len(fs) != 2 {
				t.Errorf("by prefix %s: %v, %v", p, fs, err)
			}
		}
		for _, p := range []string{"", "abc", "ABCDEF01", "'; drop table files; --"} {
			_, err := e.s.FilesByPrefix(ctx, p)
			want(t, err, fault.Usage)
		}
	})
	t.Run("the newest evidence is served, all is kept", func(t *testing.T) {
		e := start(t)
		sub := digest.FromBytes([]byte("artifact"))
		index := int64(0)
		add := func(name, content string, ix *int64) error {
			return e.s.AddEvidence(ctx, store.Evidence{Subject: sub, Name: name, PredicateType: "p", Blob: e.blobs.Add(content), LogIndex: ix, Created: at})
		}
		must(t, add("provenance.sigstore.json", "old", &index))
		must(t, add("vsa.dsse.json", "vsa", nil))
		must(t, add("provenance.sigstore.json", "new", &index))
		must(t, add("provenance.sigstore.json", "old", &index)) // again: not newer
		want(t, add("../../etc/passwd", "x", nil), fault.Usage)
		es, err := e.s.Evidence(ctx, sub)
		must(t, err)
		if len(es) != 2 || es[0].Blob != e.blobs.Add("new") || es[0].LogIndex == nil || *es[0].LogIndex != 0 || es[1].LogIndex != nil {
			t.Errorf("evidence is %+v", es)
		}
		all, err := e.s.EvidenceHistory(ctx, sub)
		must(t, err)
		if len(all) != 3 {
			t.Errorf("history is %+v", all)
		}
		f, err := e.s.EvidenceFile(ctx, sub, "provenance.sigstore.json")
		must(t, err)
		if f.Blob != e.blobs.Add("new") {
			t.Errorf("newest is %+v", f)
		}
		_, err = e.s.EvidenceFile(ctx, sub, "none")
		want(t, err, fault.NotFound)
	})
	t.Run("a row never points at a blob that is not there", func(t *testing.T) {
		e := start(t)
		gone := digest.FromBytes([]byte("gone"))
		want(t, e.s.PutStep(ctx, store.Step{ID: gone, PURL: "pkg:pypi/x@1", Document: gone}), fault.Conflict)
		want(t, e.s.AddFile(ctx, store.File{Digest: gone, PURL: "pkg:pypi/x@1", Name: "x", Kind: store.FileSource}), fault.Conflict)
		want(t, e.s.AddEvidence(ctx, store.Evidence{Subject: gone, Name: "x", Blob: gone}), fault.Conflict)
	})
	t.Run("the database refuses to change what was recorded", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		rec := e.blobs.Add("record")
		_, err := e.s.AppendBuild(ctx, store.Build{Step: st, ID: "b", Purpose: record.First, Outcome: record.Failed, Record: rec, Started: at, Finished: at})
		must(t, err)
		must(t, e.s.AppendRebuild(ctx, store.Rebuild{Step: st, Seq: 1, Outcome: record.Different, Document: rec, Created: at}))
		must(t, e.s.AddFile(ctx, store.File{Digest: rec, PURL: "pkg:pypi/x@1", Name: "x", Kind: store.FileBuilt, Step: st}))
		must(t, e.s.AddEvidence(ctx, store.Evidence{Subject: rec, Name: "x", Blob: rec, Created: at}))
		for _, sql := range []string{
			"UPDATE builds SET outcome = 'succeeded'", "DELETE FROM builds",
			"UPDATE rebuilds SET outcome = 'identical'", "DELETE FROM rebuilds",
			"UPDATE files SET kind = 'built'", "DELETE FROM files",
			"UPDATE evidence SET name = 'y'", "DELETE FROM evidence",
			"UPDATE steps SET purl = 'y'", "DELETE FROM steps",
		} {
			if err := b.Exec(t, sql); err == nil {
				t.Errorf("%s was let through", sql)
			}
		}
	})
	t.Run("check finds what is missing", func(t *testing.T) {
		e := start(t)
		st := step(t, e, "a")
		rec := e.blobs.Add("record")
		_, err := e.s.AppendBuild(ctx, store.Build{Step: st, ID: "b", Purpose: record.First, Outcome: record.Failed, Record: rec, Started: at, Finished: at})
		must(t, err)
		if fs, err := e.s.Check(ctx); err != nil || len(fs) != 0 {
			t.Fatalf("findings: %v, %v", fs, err)
		}
		e.blobs.Remove(rec)
		fs, err := e.s.Check(ctx)
		must(t, err)
		if len(fs) != 1 || fs[0].Table != "builds" || fs[0].Row != "b" || fs[0].Blob != rec {
			t.Errorf("findings are %+v", fs)
		}
	})
}
