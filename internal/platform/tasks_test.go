package platform_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/store"
)

// prospect tells forecasts, and that everything was built but what is called unbuilt.
type prospect struct {
	platform.Outlook
	asked []project.Commit
}

func (p *prospect) Forecast(_ context.Context, branch string, next project.Commit, retry bool, _ func(string)) (api.Forecast, error) {
	p.asked = append(p.asked, next)
	return api.Forecast{Project: next.Project}, nil
}

func (p *prospect) Built(_ context.Context, _ digest.Digest, artifact string) (purl.PURL, error) {
	switch artifact {
	case "unbuilt":
		return "", fault.New(fault.Conflict, "nothing here built it")
	case "gone":
		return "", fault.New(fault.NotFound, "no such artifact")
	}
	return "pkg:pypi/six@1", nil
}

// caretaker looks after a data directory that is not there. With wait it waits until
// that is closed.
type caretaker struct {
	wait  chan struct{}
	found []api.Damage
	err   error
}

func (c *caretaker) Fsck(ctx context.Context, repair bool, say func(string, int, int)) ([]api.Damage, error) {
	say("", 0, 0)
	say("check blobs", 1, 2)
	if c.wait != nil {
		select {
		case <-c.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.found, c.err
}

func (*caretaker) Seed() (api.Seed, error) { return api.Seed{Name: "seed"}, nil }

func (*caretaker) SeedCandidate(context.Context) (api.SeedCandidate, error) {
	return api.SeedCandidate{}, nil
}

func own(names ...string) *[]plan.PackageOverrides {
	out := []plan.PackageOverrides{}
	for _, n := range names {
		name, value, _ := strings.Cut(n, "=")
		out = append(out, plan.PackageOverrides{Name: name, Entries: []plan.VersionOverride{{Change: plan.Override{Origin: plan.OriginProject,
			Environment: []plan.Setting{{Name: "X", Values: []string{value}, Why: "a test"}}}}}})
	}
	return &out
}

// Overrides are part of a commit: what is not said stays, what changes is shown, an
// empty list takes them away, and a revert brings them back.
func TestOverridesOfAProject(t *testing.T) {
	w := newTown(t)
	ctx, ann := t.Context(), w.users["member"]
	commit := func(ch platform.Change) digest.Digest {
		t.Helper()
		id, err := w.Commit(ctx, ann, "team", "web", "", ch, "", false)
		w.must(err)
		return id
	}
	first := commit(platform.Change{Add: []string{"six"}, Overrides: own("six=1", "zlib=1")})
	second := commit(platform.Change{Add: []string{"flask"}})
	third := commit(platform.Change{Overrides: own("six=2", "zlib=1")})
	fourth := commit(platform.Change{Overrides: own()})
	for _, c := range []struct {
		id   digest.Digest
		want string
	}{{first, "six=1 zlib=1"}, {second, "six=1 zlib=1"}, {third, "six=2 zlib=1"}, {fourth, ""}} {
		list, err := w.OverridesOf(ctx, ann, "team", "web", c.id)
		w.must(err)
		var got []string
		for _, o := range list {
			got = append(got, o.Name+"="+o.Entries[0].Change.Environment[0].Values[0])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("commit %s has %v, want %s", c.id.Short(), got, c.want)
		}
	}
	d, err := w.Diff(ctx, ann, "team", "web", second, third)
	w.must(err)
	if fmt.Sprint(d.Fields) != "[[override of six variable X=1: a test variable X=2: a test]]" {
		t.Errorf("the difference is %v", d.Fields)
	}
	if d, err = w.Diff(ctx, ann, "team", "web", third, fourth); err != nil || len(d.Fields) != 2 || d.Fields[1][2] != "" {
		t.Errorf("the difference is %v, %v", d.Fields, err)
	}
	h, err := w.History(ctx, ann, "team", "web", "", 10)
	w.must(err)
	if h[0].Message != "no overrides of its own" || h[1].Message != "overrides of six, zlib" {
		t.Errorf("messages: %q, %q", h[0].Message, h[1].Message)
	}
	for _, c := range []struct {
		ch   platform.Change
		kind fault.Kind
	}{{platform.Change{Overrides: own()}, fault.Conflict}, {platform.Change{Overrides: own("bad=1")}, fault.Usage}} {
		if _, err := w.Commit(ctx, ann, "team", "web", "", c.ch, "", false); !fault.Is(err, c.kind) {
			t.Errorf("%+v: %v", c.ch, err)
		}
	}
	back, err := w.Revert(ctx, ann, "team", "web", "", first, false)
	w.must(err)
	if list, err := w.OverridesOf(ctx, ann, "team", "web", back); err != nil || len(list) != 2 {
		t.Errorf("after a revert: %+v, %v", list, err)
	}
	// A commit of another project is none of this one's.
	if _, err := w.OverridesOf(ctx, ann, "free", "web", first); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's overrides: %v", err)
	}
}

func TestForecastOfAChange(t *testing.T) {
	w := newTown(t)
	ctx, ann := t.Context(), w.users["member"]
	p := &prospect{}
	w.SetOutlook(p, []byte("secret"))
	before, err := w.History(ctx, ann, "team", "web", "", 10)
	w.must(err)
	for _, ch := range []platform.Change{{}, {Add: []string{"six"}, Overrides: own("six=1")}} {
		_, err := w.Forecast(ctx, ann, "team", "web", "", ch, true)
		w.must(err)
	}
	if len(p.asked) != 2 || len(p.asked[0].Requirements) != 0 || len(p.asked[1].Requirements) != 1 || len(p.asked[1].OverridesText) == 0 {
		t.Errorf("asked about %+v", p.asked)
	}
	after, err := w.History(ctx, ann, "team", "web", "", 10)
	w.must(err)
	if len(after) != len(before) || len(w.docs.kept) != 0 {
		t.Errorf("a forecast has left something: %d commits, %d documents", len(after), len(w.docs.kept))
	}
}

func TestTasks(t *testing.T) {
	w := newTown(t)
	ctx, ann := t.Context(), w.users["maintainer"]
	w.SetOutlook(&prospect{}, []byte("secret"))
	for what, kind := range map[string]fault.Kind{"unbuilt": fault.Conflict, "gone": fault.NotFound} {
		if _, err := w.Rebuild(ctx, ann, "team", "web", "", what); !fault.Is(err, kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r, err := w.Rebuild(ctx, ann, "team", "web", "", "six")
	w.must(err)
	again, err := w.Rebuild(ctx, ann, "team", "web", "", "six")
	w.must(err)
	if again.ID != r.ID || r.Task == nil || r.Task.Kind != store.TaskRebuild {
		t.Errorf("queued %+v, again %+v", r, again)
	}
	if _, err := w.Result(ctx, ann, "team", "web", r.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a result before its end: %v", err)
	}
	if _, err := w.BuildPackage(ctx, ann, "team", "web", "", platform.PackageBuild{Requirement: "a b"}); !fault.Is(err, fault.Usage) {
		t.Errorf("no requirement: %v", err)
	}
	b, err := w.BuildPackage(ctx, ann, "team", "web", "", platform.PackageBuild{Requirement: "six", Overrides: own("six=1")})
	w.must(err)
	if b.Task == nil || b.Task.Overrides == "" || !b.Task.At.Equal(w.now) {
		t.Errorf("queued %+v", b.Task)
	}
	// The commit's own build is another run.
	c, err := w.Build(ctx, ann, "team", "web", "", false)
	w.must(err)
	if c.ID == r.ID || c.ID == b.ID || c.Task != nil {
		t.Errorf("the commit's build is %+v", c)
	}
	if _, err := w.Result(ctx, ann, "team", "web", c.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a result of a commit's build: %v", err)
	}
	// Build minutes count, whatever was built.
	r.State, r.Started, r.Finished = store.RunSucceeded, w.now, w.now.Add(11*time.Hour)
	r.Org = "team"
	w.must(w.rows.SetRun(ctx, r))
	if d, err := w.rows.BuildTime(ctx, "team", w.now); err != nil || d != 11*time.Hour {
		t.Errorf("build time: %v, %v", d, err)
	}
	for i := range 60 {
		if _, err = w.BuildPackage(ctx, ann, "free", "web", "", platform.PackageBuild{Requirement: fmt.Sprint("p", i)}); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("without end: %v", err)
	}
	log, err := w.rows.AuditLog(ctx, "team", 0, 20)
	w.must(err)
	if !slices.ContainsFunc(log, func(a store.Audit) bool {
		return a.Action == "run.rebuild" && a.Object == "six" && a.Actor == "maintainer"
	}) {
		t.Errorf("the audit log does not tell of the rebuild: %+v", log)
	}
	found, err := w.rows.Check(ctx)
	if err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}

func TestInspections(t *testing.T) {
	w := newTown(t)
	ctx, root := t.Context(), w.users["root"]
	if _, err := w.Inspect(ctx, root, false); !fault.Is(err, fault.Unsupported) {
		t.Errorf("without an operator: %v", err)
	}
	c := &caretaker{wait: make(chan struct{}), found: []api.Damage{{Where: "blob", Message: "it is cut"}}}
	w.SetOperator(c)
	if _, err := w.Inspection(root); !fault.Is(err, fault.NotFound) {
		t.Errorf("before any: %v", err)
	}
	v, err := w.Inspect(ctx, root, false)
	w.must(err)
	if again, err := w.Inspect(ctx, root, false); err != nil || again.ID != v.ID {
		t.Errorf("a second one: %+v, %v", again, err)
	}
	if _, err := w.Inspect(ctx, root, true); !fault.Is(err, fault.Conflict) {
		t.Errorf("a repair beside it: %v", err)
	}
	ended := func() api.Inspection {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if v, err := w.Inspection(root); err == nil && v.Ended != nil {
				return v
			}
		}
		t.Fatal("it does not end")
		return api.Inspection{}
	}
	close(c.wait)
	if v = ended(); v.State != "done" || len(v.Found) != 1 || v.Stage != "check blobs" {
		t.Errorf("at its end: %+v", v)
	}
	if err := w.EndInspection(root); !fault.Is(err, fault.Conflict) {
		t.Errorf("ending what has ended: %v", err)
	}
	c.wait, c.found = make(chan struct{}), nil
	if _, err = w.Inspect(ctx, root, false); err != nil {
		t.Fatal(err)
	}
	w.must(w.EndInspection(root))
	if v = ended(); v.State != "failed" {
		t.Errorf("broken off: %+v", v)
	}
	c.wait, c.err = nil, errors.New("secret of the house")
	if _, err = w.Inspect(ctx, root, true); err != nil {
		t.Fatal(err)
	}
	if v = ended(); v.State != "failed" || strings.Contains(v.Message, "secret") {
		t.Errorf("failed: %+v", v)
	}
	log, err := w.rows.AuditLog(ctx, "", 0, 5)
	w.must(err)
	if log[0].Action != "platform.repair" || log[0].Actor != "root" || log[1].Action != "platform.fsck" {
		t.Errorf("the audit log says %+v", log)
	}
}
