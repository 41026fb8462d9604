package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/record"
)

// TestRebuildByAnother: another user of the machine, who is not root, with nothing
// but the plan, a data directory of their own at another path and another key,
// gets MarkupSafe's wheel to the same digest. Then a project of their own goes the
// whole way: its artifacts are secure, with the weaker limits in the evidence and
// on the builder's page.
func TestRebuildByAnother(t *testing.T) {
	p, d := sample(t)
	user := ordinaryUser(t)
	home, err := os.MkdirTemp("", "hallmark-e2e-another-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	q := project{dir: home, data: filepath.Join(home, "some", "where else"), user: user}
	// The seed's packages only, to spare the network: they are checked by digest.
	// All else is fetched and built.
	for _, hex := range seedPackages(t, p.data) {
		to := blobPath(q.data, hex)
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
	var res struct {
		File, Digest string
		Outcome      record.Comparison
		Result       record.RebuildResult
	}
	q.json(t, &res, done, "rebuild", "--plan", plan, string(ms.PURL))
	if res.Outcome != record.Identical || res.Digest != ms.Digest.String() || res.Result.SecondDigest != *ms.Digest || res.File != *ms.File {
		t.Errorf("rebuilt %s as %s %s (second %s): %s; ours is %s", ms.PURL, res.File, res.Digest, res.Result.SecondDigest, res.Outcome, *ms.Digest)
	}
	// By another key, since the builder's id has it.
	if key := keyOf(*ms.Builder); key == "" || strings.Contains(res.Result.Builder, key) {
		t.Errorf("the rebuild was made by %s, the first build by %s", res.Result.Builder, *ms.Builder)
	}
	out, err := exec.Command("stat", "-c", "%U", filepath.Join(q.data, "hallmark.db")).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != user {
		t.Errorf("the data directory's owner is %s: %v", out, err)
	}

	q.run(t, done, "init", "acme/mine", "--at-time", catalog)
	q.run(t, done, "install", "six", "markupsafe")
	mine := q.status(t, done, "builds")
	q.run(t, done, "status", "--min-secure", "100")
	q.run(t, done, "verify")
	if r := row(t, mine, "markupsafe"); *r.Digest != *ms.Digest {
		t.Errorf("without root %s is %s, with root %s", r.PURL, *r.Digest, *ms.Digest)
	}
	six := row(t, mine, "six")
	e := q.export(t, string(six.PURL))
	in := e.provenance.BuildDefinition.InternalParameters
	for _, name := range []string{"memory", "processes"} {
		if f := in.Limits[name]; f.Holds || f.Got != "no control group" || !strings.Contains(f.Cause, "limits of the processes' resources stand in") {
			t.Errorf("without root the limit of %s is %+v", name, f)
		}
	}
	for _, name := range []string{"disk", "time"} {
		if f := in.Limits[name]; !f.Holds {
			t.Errorf("without root the limit of %s is %+v", name, f)
		}
	}
	for _, a := range e.rebuild.Result.Axes {
		if !a.Varied && a.Cause == "" {
			t.Errorf("axis %s is not varied and does not say why", a.Name)
		}
	}
	// With no ids to give to a sandbox it is said what to do, and nothing is lost.
	if err := run("usermod", "--del-subuids", "3000000-3065535", "--del-subgids", "3000000-3065535", user); err != nil {
		t.Fatal(err)
	}
	o := q.run(t, failed, "rebuild", string(six.PURL))
	if !strings.Contains(o.stderr, "--add-subuids") || !strings.Contains(o.stderr, "/etc/subuid") {
		t.Errorf("without subordinate ids it says %s", o)
	}
	q.run(t, done, "status", "--min-secure", "100")

	page := string(get(t, q.serve(t)+"/builder/"+keyOf(*six.Builder)+"/hermetic"))
	if !strings.Contains(page, "The weaker limits") || !strings.Contains(page, "limit.memory: no control group") {
		t.Errorf("the builder's page does not tell that its limits are the weaker ones: %s", page)
	}
	page = string(get(t, p.serve(t)+"/builder/"+keyOf(*ms.Builder)+"/hermetic"))
	if strings.Contains(page, "The weaker limits") || !strings.Contains(page, "Control groups enforce") {
		t.Errorf("root's builder does not tell that control groups enforce its limits: %s", page)
	}
}

// ordinaryUser makes a user for the time of a test, with subordinate ids.
func ordinaryUser(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("making another user needs root")
	}
	user := fmt.Sprintf("hallmark-e%d", os.Getpid())
	if err := run("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", "-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0", user); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run("userdel", user); err != nil {
			t.Error(err)
		}
	})
	if err := run("usermod", "--add-subuids", "3000000-3065535", "--add-subgids", "3000000-3065535", user); err != nil {
		t.Fatal(err)
	}
	return user
}

// keyOf gives the key's name in a builder's id.
func keyOf(builder string) string {
	_, rest, _ := strings.Cut(builder, "/builder/")
	key, _, _ := strings.Cut(rest, "/")
	return key
}
