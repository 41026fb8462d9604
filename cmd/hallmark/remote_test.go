package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/client"
	"hallmark/internal/fault"
)

// TestFindCommit finds one commit by enough of its id.
func TestFindCommit(t *testing.T) {
	a, b := "commit:sha256:"+strings.Repeat("a", 64), "commit:sha256:"+strings.Repeat("a", 20)+strings.Repeat("b", 44)
	commits := []api.Commit{{ID: a}, {ID: b}}
	for name, want := range map[string]string{a: a, b: b, "sha256:" + strings.Repeat("a", 21): a, strings.Repeat("a", 20) + "b": b} {
		if c, err := findCommit(commits, name); err != nil || c.ID != want {
			t.Errorf("%s: %s, %v", name, c.ID, err)
		}
	}
	for name, kind := range map[string]fault.Kind{"aaaa": fault.Usage, "commit:sha256:aaaaaaaa": fault.Usage, "HEAD~1aaa": fault.Usage, a + "a": fault.Usage, "cccccccc": fault.NotFound} {
		if _, err := findCommit(commits, name); !fault.Is(err, kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !newer(commits, a, b) || newer(commits, b, a) || newer(commits, "", b) || newer(commits, a, a) {
		t.Error("the order of commits")
	}
}

// TestFollowerSaysNotesOnce: of the notes a server keeps the newest; each is said
// once, cleaned.
func TestFollowerSaysNotesOnce(t *testing.T) {
	var out bytes.Buffer
	bar := newProgress(&out)
	f := follower{bar: bar}
	for _, notes := range [][]string{{"one"}, {"one", "two"}, {"one", "two"}, {"two", "th\x1b[2Jree"}, nil} {
		f.tell(client.Event{Stage: "build", Notes: notes, Doing: []api.Doing{{PURL: "pkg:pypi/six@1", Purpose: "first build", Since: time.Now()}}, Done: 1, Total: 2})
	}
	bar.end()
	for _, n := range []string{"one", "two", "th·[2Jree"} {
		if strings.Count(out.String(), n) != 1 {
			t.Errorf("%q is said %d times: %s", n, strings.Count(out.String(), n), out.String())
		}
	}
}

// TestWhatAServerCannotDo is said before anything is asked or made.
func TestWhatAServerCannotDo(t *testing.T) {
	for _, args := range [][]string{{"build", "--shell", "six"}, {"build", "-j", "2", "six"}, {"builds", "-j", "2"}, {"builds", "--timeline", "x"}, {"rebuild", "--timeline", "x", "six"},
		{"verify", "--offline"}, {"keys"}, {"backup", "x.tar"}, {"restore", "x.tar"}} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), slices.Concat(args, []string{"--server", "http://localhost:1", "-C", t.TempDir()}), &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), "works on a data directory") {
			t.Errorf("%v: %d %s", args, code, stderr.String())
		}
	}
	for _, server := range []string{"", "http://builds.example", "builds.example"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"login", "--server=" + server}, &stdout, &stderr); code != exitUsage && code != exitDenied {
			t.Errorf("login to %q: %d %s", server, code, stderr.String())
		}
	}
}
