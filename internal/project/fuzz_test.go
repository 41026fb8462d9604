package project_test

import (
	"strings"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/project"
)

// FuzzCommit: a commit that can be read has one id, whichever way it was written.
func FuzzCommit(f *testing.F) {
	f.Add([]byte(`{"schema":"` + project.CommitSchema + `","project":"a/b","requirements":["x>=1"]}`))
	f.Add([]byte(`{"schema":"x"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := project.ParseCommit(b)
		if err != nil {
			return
		}
		id, doc, err := c.ID()
		if err != nil {
			t.Fatal(err)
		}
		d, err := project.ParseCommit(doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if again, _, err := d.ID(); err != nil || again != id {
			t.Fatalf("%s is %s and then %s, %v", doc, id, again, err)
		}
	})
}

// FuzzNames: names of projects and commits are refused as wrong usage, or are of
// the shape that paths and addresses rely on (ParseName, ParseCommitID).
func FuzzNames(f *testing.F) {
	for _, s := range []string{"acme/web", "a/b/c", "../x", "api/x", "A/b", "commit:sha256:" + strings.Repeat("a", 64), "commit:", "sha256:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		org, name, err := project.ParseName(s)
		switch {
		case err != nil && !fault.Is(err, fault.Usage):
			t.Fatalf("%q: %v", s, err)
		case err == nil && (org+"/"+name != s || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-/") != "" || strings.HasPrefix(name, ".") || strings.HasPrefix(org, ".")):
			t.Fatalf("%q: %q and %q", s, org, name)
		}
		if d, err := project.ParseCommitID(s); err == nil && "commit:"+string(d) != s {
			t.Fatalf("%q: %q", s, d)
		}
	})
}
