package app_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
)

// Which branches may have a file is told by what they were solved to, however many
// there are: none has a file that nobody knows, or another project's.
func TestBranchesWith(t *testing.T) {
	p := settle(t)
	w := open(t, p.data, true)
	file := p.bundles(t)[0].Subject
	if _, err := w.CreateBranch(t.Context(), "acme/web", "trial", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateBranch(t.Context(), "acme/web", "other", ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.dir, "hallmark.lock")); err != nil {
		t.Fatal(err)
	}
	// The default branch goes on to a commit that nobody has solved.
	if err := os.WriteFile(filepath.Join(p.dir, "hallmark.yaml"), []byte("project: acme/web\nrequirements: [package-00000]\nat_time: 2026-09-01T00:00:00Z\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Sync(t.Context(), p.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateBranch(t.Context(), "acme/web", "unsolved", ""); err != nil {
		t.Fatal(err)
	}
	other := settled{data: p.data, dir: t.TempDir()}
	var err error
	if other.commit, err = apptest.Fill(t.Context(), w, other.dir, apptest.Spec{Name: "acme/other", Packages: 1, Prefix: "other"}); err != nil {
		t.Fatal(err)
	}
	b := w.Backend()
	for _, c := range []struct {
		what string
		d    digest.Digest
		want []string
	}{
		{"its own file", file, []string{"other", "trial"}},
		{"a file that nobody knows", digest.FromBytes([]byte("none")), nil},
		{"another project's file", digest.FromBytes([]byte("wheel of other-00000")), nil},
		{"a file that only builds", digest.FromBytes([]byte("wheel of package-backend")), nil},
		{"a source", digest.FromBytes([]byte("source of package-00000")), nil},
	} {
		for range 2 { // kept, the second time
			got, err := b.BranchesWith(t.Context(), "acme", "web", c.d)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, %v; want %v", c.what, got, err, c.want)
			}
		}
	}
	if got, err := b.BranchesWith(t.Context(), "acme", "other", digest.FromBytes([]byte("wheel of other-00000"))); err != nil || got != nil {
		t.Errorf("a project without branches: %v, %v", got, err)
	}
}
