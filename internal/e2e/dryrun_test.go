package e2e

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/timeline"
)

// files gives every file of a folder with what is in it.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		out[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDryRun: what is not built yet is forecast without fetching or asking, then
// exactly what is built is, with a trace of it, and then nothing.
func TestDryRun(t *testing.T) {
	need(t)
	data, err := os.MkdirTemp(world.temp, "data-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	q := newProjectIn(t, data, "acme/dry", index(t, sdist{Name: "e2e-dry", Version: "1.0"}), "e2e-dry")
	forecast := func() app.Forecast {
		t.Helper()
		before, project := files(t, data), files(t, q.dir)
		var f app.Forecast
		if err := json.Unmarshal([]byte(q.run(t, done, "builds", "--dry-run", "--json").stdout), &f); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ before, after map[string]string }{{before, files(t, data)}, {project, files(t, q.dir)}} {
			for n, b := range c.after {
				if c.before[n] != b {
					t.Errorf("a dry run changed or made %s", n)
				}
			}
			if len(c.after) != len(c.before) {
				t.Errorf("a dry run removed files: %d of %d are left", len(c.after), len(c.before))
			}
		}
		return f
	}
	f := forecast()
	if len(f.Fetch) != 1 || f.Solved || f.Complete || len(f.Undetermined) != 1 || f.Summary.First != 0 {
		t.Errorf("before: %+v", f)
	}
	trace := filepath.Join(q.dir, "trace.json")
	q.run(t, done, "builds", "--timeline", trace)
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	events, err := timeline.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range events {
		if e.Kind == timeline.Slice && (strings.HasPrefix(e.Name, "pkg:pypi/e2e-dry@1.0 ") || e.Lane == timeline.Control) {
			seen[e.Category] = true
		}
	}
	for _, c := range []string{"solve", "query", "prepare", "first build", "second build", "compare", "record", "sign"} {
		if !seen[c] {
			t.Errorf("no %s in the timeline: %v", c, seen)
		}
	}
	if u := timeline.Busy(events); u.Share() < 0.95 {
		t.Errorf("workers were busy only %.2f of the time in which something waited: %+v", u.Share(), u)
	}
	if f := forecast(); !f.Solved || !f.Complete || len(f.Build)+len(f.Fetch)+len(f.Ask) != 0 || f.Summary.Done == 0 {
		t.Errorf("after: %+v", f)
	}
	if o := q.run(t, done, "builds", "--dry-run"); !strings.Contains(o.stdout, "Nothing to do") {
		t.Errorf("after: %s", o.stdout)
	}
}
