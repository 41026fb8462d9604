package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/record"
)

// TestRebuildByAnother: another user of the machine, with nothing but the plan, a
// data directory of their own at another path and another key, gets MarkupSafe's
// wheel to the same digest.
func TestRebuildByAnother(t *testing.T) {
	p, d := sample(t)
	if os.Geteuid() != 0 {
		t.Fatal("making another user needs root")
	}
	user := fmt.Sprintf("hallmark-e%d", os.Getpid())
	for _, c := range [][]string{
		{"useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user},
		{"usermod", "--add-subuids", "3000000-3065535", "--add-subgids", "3000000-3065535", user},
	} {
		if err := run(c[0], c[1:]...); err != nil {
			t.Fatal(err)
		}
		if c[0] == "useradd" {
			t.Cleanup(func() {
				if err := run("userdel", user); err != nil {
					t.Error(err)
				}
			})
		}
	}
	home, err := os.MkdirTemp("", "hallmark-e2e-another-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	data := filepath.Join(home, "some", "where else")
	// The seed's packages only, to spare the network: they are checked by digest.
	// All else is fetched and built.
	for _, hex := range seedPackages(t, p.data) {
		to := blobPath(data, hex)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := run("cp", blobPath(p.data, hex), to); err != nil {
			t.Fatal(err)
		}
	}
	plan := filepath.Join(home, "plan.json")
	p.run(t, done, "export", "plan", "-o", plan)
	if err := run("chown", "-R", user+":"+user, home); err != nil {
		t.Fatal(err)
	}
	ms := row(t, d, "markupsafe")
	cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid", user, "--regid", user, "--init-groups",
		world.bin, "rebuild", "--plan", plan, string(ms.PURL), "--json")
	cmd.Dir = home
	cmd.Env = append(clean(os.Environ(), "PIP_FIND_LINKS", "HALLMARK_SERVER", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"), "HOME="+home, "USER="+user, "LOGNAME="+user, "HALLMARK_DATA="+data)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("rebuild by another user: %v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	var res struct {
		File, Digest string
		Outcome      record.Comparison
		Result       record.RebuildResult
	}
	if err := json.Unmarshal(stdout.Bytes(), &res); err != nil {
		t.Fatalf("%v in %s", err, stdout.String())
	}
	if res.Outcome != record.Identical || res.Digest != ms.Digest.String() || res.Result.SecondDigest != *ms.Digest || res.File != *ms.File {
		t.Errorf("rebuilt %s as %s %s (second %s): %s; ours is %s", ms.PURL, res.File, res.Digest, res.Result.SecondDigest, res.Outcome, *ms.Digest)
	}
	// By another key, since the builder's id has it.
	if key := keyOf(*ms.Builder); key == "" || strings.Contains(res.Result.Builder, key) {
		t.Errorf("the rebuild was made by %s, the first build by %s", res.Result.Builder, *ms.Builder)
	}
	out, err := exec.Command("stat", "-c", "%U", filepath.Join(data, "hallmark.db")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != user {
		t.Errorf("the data directory's owner is %s: %v", out, err)
	}
}

// keyOf gives the key's name in a builder's id.
func keyOf(builder string) string {
	_, rest, _ := strings.Cut(builder, "/builder/")
	key, _, _ := strings.Cut(rest, "/")
	return key
}
