package platform_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
)

// A branch is made, committed on, compared, made the default one and removed; who may
// not read the project sees none of it, who may not change it changes none of it.
func TestBranches(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	owner, member, auditor, stranger := w.users["owner"], w.users["member"], w.users["auditor"], w.users["stranger"]
	b, err := w.CreateBranch(ctx, member, "team", "web", "feature/x", "")
	w.must(err)
	if _, err := w.CreateBranch(ctx, member, "team", "web", "feature/x", ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same name again: %v", err)
	}
	if _, err := w.CreateBranch(ctx, member, "team", "web", "a..b", ""); !fault.Is(err, fault.Usage) {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := w.CreateBranch(ctx, member, "team", "web", "y", "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("from a branch that is not there: %v", err)
	}
	other, err := w.Head(ctx, owner, "free", "web", "")
	w.must(err)
	if _, err := w.CreateBranch(ctx, member, "team", "web", "y", "commit:"+other.ID.String()); !fault.Is(err, fault.NotFound) {
		t.Errorf("from another project's commit: %v", err)
	}
	id, err := w.Commit(ctx, member, "team", "web", "feature/x", platform.Change{Add: []string{"six"}}, b.Head, false)
	w.must(err)
	main, err := w.Head(ctx, member, "team", "web", "")
	w.must(err)
	if main.ID != b.Head || len(main.Requirements) > 0 {
		t.Errorf("a commit on a branch moved the default one: %+v", main)
	}
	c, err := w.Compare(ctx, auditor, "team", "web", "main", "feature/x")
	if err != nil || c.To != id || !slices.Equal(c.Diff.Added, []string{"six"}) || c.Effect != nil || c.Unsolved == "" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := w.SetDefaultBranch(ctx, member, "team", "web", "feature/x"); !fault.Is(err, fault.Denied) {
		t.Errorf("a member sets the default branch: %v", err)
	}
	w.must(w.SetDefaultBranch(ctx, owner, "team", "web", "feature/x"))
	if all, err := w.Branches(ctx, auditor, "team", "web"); err != nil || len(all) != 2 || all[0].Name != "feature/x" || !all[0].Default || all[0].Head != id || all[1].Name != "main" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := w.RemoveBranch(ctx, member, "team", "web", "feature/x"); !fault.Is(err, fault.Conflict) {
		t.Errorf("the default branch is removed: %v", err)
	}
	w.must(w.RemoveBranch(ctx, member, "team", "web", "main"))
	if err := w.RemoveBranch(ctx, member, "team", "web", "main"); !fault.Is(err, fault.NotFound) {
		t.Errorf("once more: %v", err)
	}
	// Its commits stay.
	_, err = w.Revert(ctx, member, "team", "web", "", b.Head, false)
	w.must(err)

	for name, do := range map[string]func(platform.Who, string) error{
		"list":    func(p platform.Who, n string) error { _, err := w.Branches(ctx, p, "team", n); return err },
		"resolve": func(p platform.Who, n string) error { _, err := w.Resolve(ctx, p, "team", n, "x"); return err },
		"compare": func(p platform.Who, n string) error { _, err := w.Compare(ctx, p, "team", n, "", ""); return err },
		"create": func(p platform.Who, n string) error {
			_, err := w.CreateBranch(ctx, p, "team", n, "z", "")
			return err
		},
		"remove":  func(p platform.Who, n string) error { return w.RemoveBranch(ctx, p, "team", n, "z") },
		"default": func(p platform.Who, n string) error { return w.SetDefaultBranch(ctx, p, "team", n, "z") },
		"import": func(p platform.Who, n string) error {
			_, err := w.Import(ctx, p, "team", n, "", "r.txt", []byte("six"), platform.ImportChoice{})
			return err
		},
		"keep": func(p platform.Who, n string) error {
			_, err := w.KeepImport(ctx, p, "team", n, "r.txt", []byte("six"))
			return err
		},
	} {
		there, not := do(stranger, "web"), do(stranger, "none")
		if !fault.Is(there, fault.NotFound) || strings.ReplaceAll(there.Error(), "web", "none") != not.Error() {
			t.Errorf("%s: a stranger is told %q, and of a project that is not there %q", name, there, not)
		}
		if err := do(auditor, "web"); (name == "create" || name == "remove" || name == "default" || name == "import" || name == "keep") && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: an auditor is told %v", name, err)
		}
	}
}

// A file comes to a change, which is committed like any other.
func TestImport(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	member, owner := w.users["member"], w.users["owner"]
	file := []byte("six==1\nflask==3\n-e .\n")
	i, err := w.Import(ctx, member, "team", "web", "", `C:\x\requirements.txt`, file, platform.ImportChoice{Choice: lockfile.Choice{Without: []string{"Flask"}}})
	w.must(err)
	if i.File.Name != "requirements.txt" || !slices.Equal(i.Change.Add, []string{"six==1"}) || len(i.Left) != 2 || i.Change.AtTime != nil {
		t.Errorf("%+v", i)
	}
	_, err = w.Commit(ctx, member, "team", "web", "", i.Change, i.Base, false)
	w.must(err)
	now := w.now.Add(24 * time.Hour)
	i, err = w.Import(ctx, member, "team", "web", "", "r.txt", []byte("flask==3\n"), platform.ImportChoice{Replace: true, AtTime: &now})
	w.must(err)
	if !slices.Equal(i.Change.Add, []string{"flask==3"}) || !slices.Equal(i.Change.Remove, []string{"six"}) || i.Change.AtTime == nil {
		t.Errorf("%+v", i.Change)
	}
	if _, err := w.Import(ctx, member, "team", "web", "", "r.txt", []byte("-e .\n"), platform.ImportChoice{Replace: true}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a file of which nothing is taken empties the project: %v", err)
	}
	past := w.now.Add(-48 * time.Hour)
	if i, err := w.Import(ctx, member, "team", "web", "", "r.txt", []byte("six==1\n"), platform.ImportChoice{AtTime: &past}); err != nil || !i.Empty() || i.Stands != 1 {
		t.Errorf("what stands already: %+v, %v", i.Change, err)
	}
	key, err := w.KeepImport(ctx, member, "team", "web", "r.txt", file)
	w.must(err)
	if i, err := w.KeptImport(ctx, member, "team", "web", "", key, platform.ImportChoice{}); err != nil || len(i.Taken) != 2 {
		t.Errorf("kept: %+v, %v", i, err)
	}
	if _, err := w.KeptImport(ctx, owner, "team", "web", "", key, platform.ImportChoice{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("another person's file: %v", err)
	}
	if _, err := w.KeptImport(ctx, member, "team", "site", "", key, platform.ImportChoice{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's file: %v", err)
	}
	for range 6 {
		_, err := w.KeepImport(ctx, member, "team", "web", "r.txt", file)
		w.must(err)
	}
	if _, err := w.KeptImport(ctx, member, "team", "web", "", key, platform.ImportChoice{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the oldest of too many is kept: %v", err)
	}
}
