package app

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
)

// A retry that comes to another plan makes a commit of it; the old one stays what
// it was, and two that retry at once do not both win.
func TestRetryMakesACommit(t *testing.T) {
	a := mustOpen(t, Config{Data: filepath.Join(t.TempDir(), "data"), Retry: true}, true)
	dir := t.TempDir()
	if _, err := a.Init(t.Context(), dir, "acme/web", time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	id, c, err := a.Sync(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	// Without a backend that failed there is nothing to solve again.
	same, _, s, err := a.solveAgain(t.Context(), id, c, &Solved{Plan: &plan.Plan{Unplanned: []plan.Unplanned{{Code: "no-source"}}}, stored: true})
	if err != nil || same != id || s == nil {
		t.Errorf("%s, %v", same, err)
	}
	next := c
	next.Parent, next.Message = "commit:"+id.String(), "retry"
	newID, err := a.addCommit(t.Context(), id, next)
	if err != nil || newID == id {
		t.Fatalf("%s, %v", newID, err)
	}
	if head, got, err := a.Head(t.Context(), "acme/web"); err != nil || head != newID || !project.SameConfiguration(got, c) {
		t.Errorf("head %s, %v", head, err)
	}
	if again, _, err := a.Sync(t.Context(), dir); err != nil || again != newID {
		t.Errorf("the same configuration made a commit more: %s, %v", again, err)
	}
	next.Message = "retry too"
	if _, err := a.addCommit(t.Context(), id, next); !fault.Is(err, fault.Conflict) {
		t.Errorf("a commit after one that is not the newest: %v", err)
	}
}

// A retry takes what the index said as it was pinned, but for what was refused.
func TestRetryPinsWhatTheIndexSaid(t *testing.T) {
	a := mustOpen(t, Config{Data: t.TempDir()}, true)
	answers := map[string]string{}
	for name, files := range map[string]string{"kept": `{"name":"kept-1.tar.gz","version":"1"}`, "refused": `{"name":"refused-1.tar.gz","version":"1"}`, "nowhere": ""} {
		versions := `"1"`
		if files == "" {
			versions = ""
		}
		d, err := a.Blobs.PutBytes(t.Context(), fmt.Appendf(nil, `{"files":[%s],"name":%q,"versions":[%s]}`, files, name, versions))
		if err != nil {
			t.Fatal(err)
		}
		answers[name] = d.String()
	}
	s := &Solved{Answers: answers, Plan: &plan.Plan{Artifacts: []plan.Artifact{
		{PURL: "pkg:pypi/kept@1", Metadata: "sdist"}, {PURL: "pkg:pypi/refused@1", Metadata: plan.MetadataRefused}}}}
	pages, err := a.pinned(s)
	if err != nil || len(pages) != 1 || pages[0].Name != "kept" || len(pages[0].Files) != 1 {
		t.Errorf("%+v, %v", pages, err)
	}
	d, err := a.Blobs.PutBytes(t.Context(), []byte("no page"))
	if err != nil {
		t.Fatal(err)
	}
	answers["kept"] = d.String()
	if _, err := a.pinned(s); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a blob that is no page: %v", err)
	}
}
