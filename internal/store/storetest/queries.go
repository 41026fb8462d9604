package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// Queries is the contract for what looks for rows across steps and subjects: lists
// for many at once, what was written since, what is known of a package, and batches
// on their way into the log.
func Queries(t *testing.T, b Backend) {
	ctx := context.Background()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	blobs := &Blobs{}
	s := b.Open(t, blobs)
	const names = 600 // more than one query asks for
	var steps, subjects []digest.Digest
	for i := range names {
		steps = append(steps, digest.FromBytes(fmt.Appendf(nil, "no step %d", i)))
	}
	for i, p := range []string{"a-b@1", "a-b@2", "a_b@1", "axb@1", "other@1", "a-b@3?repository_url=https://secret.example"} {
		st := blobs.Add("step " + p)
		steps, subjects = append(steps, st), append(subjects, blobs.Add("output "+p))
		u := store.Step{ID: st, PURL: purl.PURL("pkg:pypi/" + p), Document: st}
		must(t, s.PutStep(ctx, u))
		for n := 1; n <= 2; n++ {
			_, err := s.AppendBuild(ctx, store.Build{Step: st, ID: fmt.Sprint(p, n), Purpose: record.First, Outcome: record.Succeeded, Builder: fmt.Sprint("builder ", i%2),
				Record: st, Output: subjects[i], Started: at.Add(time.Duration(n) * time.Hour), Finished: at.Add(time.Duration(n)*time.Hour + time.Duration(i)*time.Second)})
			must(t, err)
		}
		must(t, s.AppendRebuild(ctx, store.Rebuild{Step: st, Seq: 1, Outcome: record.Identical, Document: st, Created: at}))
		must(t, s.AddFile(ctx, store.File{Digest: subjects[i], PURL: u.PURL, Name: "x.whl", Size: 1, Kind: store.FileBuilt, Step: st}))
	}
	t.Run("many at once", func(t *testing.T) {
		bs, err := s.BuildsOf(ctx, steps)
		must(t, err)
		rs, err := s.RebuildsOf(ctx, steps)
		must(t, err)
		if len(bs) != 6 || len(rs) != 6 || len(bs[steps[names]]) != 2 || bs[steps[names]][1].Seq != 2 {
			t.Errorf("builds of %d steps, rebuilds of %d", len(bs), len(rs))
		}
		none, err := s.BuildsOf(ctx, nil)
		if err != nil || len(none) != 0 {
			t.Errorf("of none: %v, %v", none, err)
		}
	})
	t.Run("builders and times", func(t *testing.T) {
		ids, err := s.Builders(ctx)
		if err != nil || !slices.Equal(ids, []string{"builder 0", "builder 1"}) {
			t.Errorf("builders are %v, %v", ids, err)
		}
		n, err := s.NewestBuild(ctx, "builder 1")
		if err != nil || n.Step != steps[names+5] || n.Seq != 2 || !n.Finished.Equal(at.Add(2*time.Hour+5*time.Second).Truncate(time.Microsecond)) {
			t.Errorf("the newest build is %+v, %v", n, err)
		}
		ws, err := s.WallTimes(ctx)
		must(t, err)
		for _, w := range ws {
			if w.PURL == "pkg:pypi/other@1" && w.Wall != 4*time.Second {
				t.Errorf("it took %v", w.Wall)
			}
		}
		if len(ws) != 6 {
			t.Errorf("%d times", len(ws))
		}
	})
	t.Run("what is known of a package", func(t *testing.T) {
		for _, c := range []struct {
			part  string
			exact bool
			limit int
			want  []string
		}{
			{"a-b", true, 10, []string{"a-b@1", "a-b@2"}}, // not what another index has
			{"a_b", true, 10, []string{"a_b@1"}},          // no character stands for another
			{"b", false, 10, []string{"a-b@1", "a-b@2", "a_b@1", "axb@1"}},
			{"b", false, 2, []string{"a-b@1", "a-b@2"}},
			{"none", false, 10, nil},
		} {
			ks, err := s.Known(ctx, "pypi", c.part, c.exact, c.limit)
			must(t, err)
			var got []string
			for _, k := range ks {
				got = append(got, string(k.PURL)[len("pkg:pypi/"):])
				if k.Steps != 1 || len(k.Built) != 1 {
					t.Errorf("%s: %+v", c.part, k)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%+v: %v", c, got)
			}
		}
	})
	t.Run("evidence, batches and what was written since", func(t *testing.T) {
		before, err := s.Mark(ctx)
		must(t, err)
		at0, err := s.NewestEvidence(ctx)
		if err != nil || !at0.IsZero() {
			t.Errorf("the newest evidence of none is of %v, %v", at0, err)
		}
		one, two := int64(1), int64(2)
		ev := func(i int, name string, index *int64) store.Evidence {
			return store.Evidence{Subject: subjects[i], Name: name, PredicateType: "p", Blob: blobs.Add(fmt.Sprint(name, i)), LogIndex: index, Step: steps[names+i], Created: at.Add(time.Duration(*index) * time.Minute)}
		}
		must(t, s.AddEvidence(ctx, ev(0, "a", &two)))
		batch := blobs.Add("batch")
		must(t, s.AddPending(ctx, store.Pending{Blob: batch, Created: at}))
		must(t, s.AddPending(ctx, store.Pending{Blob: batch, Created: at}))
		since, ok, err := s.StepsSince(ctx, before)
		if err != nil || !ok || len(since) != 2 || !since[steps[names]] || !since[""] {
			t.Errorf("since: %v, %v, %v", since, ok, err)
		}
		must(t, s.FinishPending(ctx, batch, []store.Evidence{ev(1, "a", &one)}))
		if left, err := s.AllPending(ctx); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		since, ok, err = s.StepsSince(ctx, before)
		if err != nil || !ok || len(since) != 2 || !since[steps[names+1]] {
			t.Errorf("since: %v, %v, %v", since, ok, err)
		}
		if _, ok, err := s.StepsSince(ctx, store.Mark{Seq: before.Seq, MAC: "another"}); err != nil || ok {
			t.Errorf("since a state that never was: %v, %v", ok, err)
		}
		newest, err := s.NewestEvidence(ctx)
		if err != nil || !newest.Equal(at.Add(2*time.Minute).Truncate(time.Microsecond)) {
			t.Errorf("the newest evidence is of %v, %v", newest, err)
		}
		of, err := s.EvidenceOf(ctx, append(slices.Clone(steps), subjects...))
		if err != nil || len(of) != 2 || len(of[subjects[0]]) != 1 {
			t.Errorf("evidence of many: %v, %v", of, err)
		}
		if all, err := s.AllEvidence(ctx); err != nil || len(all) != 2 {
			t.Errorf("all evidence: %v, %v", all, err)
		}
		n := 0
		must(t, s.References(ctx, func(_, row, _ string, d digest.Digest) error {
			if n++; !d.Valid() || row == "" {
				t.Errorf("%q points at %q", row, d)
			}
			return nil
		}))
		if want := 6 + 12*2 + 6 + 6 + 2; n != want {
			t.Errorf("%d pointers, want %d", n, want)
		}
		if lost, err := s.ForgetEvidence(ctx); err != nil || lost != 0 {
			t.Errorf("lost: %d, %v", lost, err)
		}
	})
	t.Run("whose things are", func(t *testing.T) {
		private, shared, signed := blobs.Add("private"), blobs.Add("shared"), subjects[2]
		whose := func(want string, d digest.Digest) {
			t.Helper()
			hs, err := s.Holders(ctx, []digest.Digest{d, d, ""})
			must(t, err)
			got := ""
			for _, h := range hs[d] {
				got += h.Org + "/" + h.Project + " "
			}
			if got != want {
				t.Errorf("%s is held by %q, want %q", d.Short(), got, want)
			}
		}
		if done, err := s.AllHeld(ctx); err != nil || done {
			t.Errorf("held before anything is: %v, %v", done, err)
		}
		whose("", private)
		for range 2 {
			must(t, s.Hold(ctx, "acme", "web", []digest.Digest{private, shared, private}, nil))
		}
		must(t, s.Hold(ctx, "umbra", "a", []digest.Digest{private}, nil))
		whose("acme/web umbra/a ", private)
		whose("acme/web ", shared)
		// What a public commit has as well is everybody's, whichever came first.
		must(t, s.Hold(ctx, "other", "b", nil, []digest.Digest{shared, signed}))
		whose("", shared)
		must(t, s.Hold(ctx, "umbra", "a", []digest.Digest{shared}, nil))
		whose("", shared)
		must(t, s.AddEvidence(ctx, store.Evidence{Subject: signed, Name: "first", PredicateType: "p", Blob: blobs.Add("of a public commit"), Created: at}))
		must(t, s.Hold(ctx, "acme", "web", []digest.Digest{signed}, nil))
		whose("", signed)
		if err := s.Hold(ctx, "", "web", []digest.Digest{private}, nil); !fault.Is(err, fault.Usage) {
			t.Errorf("held by nobody: %v", err)
		}
		// What a batch's evidence is, is there with it or not at all.
		batch, bundle := blobs.Add("batch of a private project"), blobs.Add("its bundle")
		held := store.Held{Thing: bundle, Org: "acme", Project: "web"}
		if err := s.FinishPending(ctx, batch, nil, held); !fault.Is(err, fault.Conflict) {
			t.Errorf("a batch that is not on its way: %v", err)
		}
		whose("", bundle)
		must(t, s.AddPending(ctx, store.Pending{Blob: batch, Created: at}))
		must(t, s.FinishPending(ctx, batch, []store.Evidence{{Subject: private, Name: "x", PredicateType: "p", Blob: bundle, Created: at}}, held))
		whose("acme/web ", bundle)
		// The catalog names nothing of it.
		must(t, s.Hold(ctx, "acme", "web", []digest.Digest{steps[names+3]}, nil))
		ks, err := s.Known(ctx, "pypi", "axb", true, 10)
		must(t, err)
		if len(ks) != 0 {
			t.Errorf("the catalog has %+v", ks)
		}
		must(t, s.Hold(ctx, "other", "b", nil, []digest.Digest{steps[names+3]}))
		if ks, err = s.Known(ctx, "pypi", "axb", true, 10); err != nil || len(ks) != 1 || len(ks[0].Built) != 1 {
			t.Errorf("the catalog has %+v, %v", ks, err)
		}
		must(t, s.HoldAll(ctx, []store.Held{{Thing: subjects[4], Org: store.Operator, Project: store.Operator}}))
		whose("-/- ", subjects[4])
		if done, err := s.AllHeld(ctx); err != nil || !done {
			t.Errorf("not held: %v, %v", done, err)
		}
	})
	if found, err := s.Check(ctx); err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}
