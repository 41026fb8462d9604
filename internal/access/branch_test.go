package access_test

import (
	"os/exec"
	"strings"
	"testing"

	"hallmark/internal/access"
	"hallmark/internal/fault"
)

func TestCheckBranch(t *testing.T) {
	for _, ok := range []string{"main", "a", "0", "try-flask-3", "feature/New_api", "v1.2", "x/y/z", "release/2026.11", "JIRA-1", "a_", "a-", strings.Repeat("a", 64)} {
		if err := access.CheckBranch(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", " ", "a b", "-a", ".a", "a.", "a..b", "a/", "/a", "a//b", "a/.b", "a/-b", "a/b.", "a.lock", "a.lock/b", "a/B.LOCK", "HEAD", "@", "a@{1}", "a~1", "a^", "a:b", "a?", "a*",
		"a[b]", `a\b`, "a\x00b", "a\nb", "a\n", "é", "a%2fb", "..", "a/../b", "refs/heads/..", "<b>", "a&b", strings.Repeat("a", 65)} {
		if err := access.CheckBranch(bad); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzBranch: what CheckBranch takes git takes, too, and it is safe in a path, an
// address and a shell.
func FuzzBranch(f *testing.F) {
	for _, s := range []string{"main", "feature/x", "a.lock", "a..b", "-", "HEAD"} {
		f.Add(s)
	}
	git, err := exec.LookPath("git")
	f.Fuzz(func(t *testing.T, s string) {
		if access.CheckBranch(s) != nil {
			return
		}
		if strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") != "" || strings.Contains(s, "//") || strings.Contains(s, "..") || strings.HasPrefix(s, "-") {
			t.Fatalf("%q", s)
		}
		if err == nil && !testing.Short() {
			if out, err := exec.CommandContext(t.Context(), git, "check-ref-format", "--branch", s).CombinedOutput(); err != nil {
				t.Fatalf("git refuses %q: %s", s, out)
			}
		}
	})
}
