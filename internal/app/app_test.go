package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

func open(t *testing.T, cfg Config, writer bool) (*App, error) {
	t.Helper()
	a, err := Open(t.Context(), cfg, writer)
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

func mustOpen(t *testing.T, cfg Config, writer bool) *App {
	t.Helper()
	a, err := open(t, cfg, writer)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOneWriterAtATime(t *testing.T) {
	cfg := Config{Data: filepath.Join(t.TempDir(), "a", "data")}
	a := mustOpen(t, cfg, true)
	_, err := open(t, cfg, true)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "in use by process") || !strings.Contains(err.Error(), "--data") {
		t.Errorf("second writer: %v", err)
	}
	// A writer that was refused harms nothing that the first one has.
	if _, err := os.Stat(a.path("tmp", "sandbox")); err != nil {
		t.Error(err)
	}
	r := mustOpen(t, cfg, false)
	if r.KeyID() != a.KeyID() || r.BuilderID() != a.BuilderID() {
		t.Error("a reader has another identity")
	}
	if _, err := r.Authority(t.Context()); !fault.Is(err, fault.Conflict) {
		t.Errorf("a reader signs: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, cfg, true)
}

func TestReaderWithoutData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := open(t, Config{Data: dir}, false); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "hallmark init") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a reader made the data directory")
	}
	if _, err := open(t, Config{}, false); !fault.Is(err, fault.Usage) {
		t.Errorf("no directory: %v", err)
	}
}

func TestSettingsKeepBuilders(t *testing.T) {
	dir := t.TempDir()
	ids := map[string]bool{}
	for _, url := range []string{"", "https://a.invalid", "https://b.invalid/", "https://a.invalid", ""} {
		a := mustOpen(t, Config{Data: dir, ExternalURL: url}, true)
		ids[a.BuilderID()] = true
		for id := range ids {
			if !a.trusts(id) {
				t.Errorf("with %q: %s is not trusted any more", url, id)
			}
		}
		if a.trusts("https://a.invalid/builder/"+a.KeyID()+"/other") || a.trusts("") || a.trusts("https://a.invalid/builder/0000000000000000/hermetic") {
			t.Error("a builder that never was is trusted")
		}
		if strings.Contains(strings.TrimPrefix(a.BuilderID(), "https://"), "//") && url != "" {
			t.Error(a.BuilderID())
		}
		a.Close()
	}
	if len(ids) != 3 {
		t.Errorf("%v", ids)
	}
	// The last address is kept; a reader with another one changes nothing.
	b, err := os.ReadFile(filepath.Join(dir, "settings.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, Config{Data: dir, ExternalURL: "https://c.invalid"}, false)
	if !strings.HasPrefix(r.BuilderID(), "https://c.invalid/builder/") {
		t.Error(r.BuilderID())
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "settings.json")); string(after) != string(b) {
		t.Error("a reader wrote settings")
	}
	r = mustOpen(t, Config{Data: dir}, false)
	if !strings.HasPrefix(r.BuilderID(), "https://a.invalid/builder/") {
		t.Error(r.BuilderID())
	}
	if err := os.WriteFile(filepath.Join(dir, "settings.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, Config{Data: dir}, false); !fault.Is(err, fault.Corrupt) {
		t.Errorf("damaged: %v", err)
	}
}

func TestPolicyLookup(t *testing.T) {
	p, d, err := Policy(project.DefaultPolicy)
	if err != nil || p.URI != project.DefaultPolicy || !d.Valid() {
		t.Errorf("%+v, %s, %v", p, d, err)
	}
	for _, uri := range []string{"", "default", "urn:hallmark:policy:first-light:v2", strings.Repeat("x", 1000)} {
		if _, _, err := Policy(uri); !fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), project.DefaultPolicy) || len(err.Error()) > 500 {
			t.Errorf("%.40q: %v", uri, err)
		}
	}
}

func TestRunsHere(t *testing.T) {
	for f, want := range map[string]bool{"elf a": true, "ar a": true, "pyc a": true, "wasm a": true, "class a": true, "pe a": false, "macho a": false, "coff a": false, "dex a": false, "new-kind a": true, "": true} {
		if runsHere(f) != want {
			t.Errorf("runsHere(%q)", f)
		}
	}
}

// reportOf is a report of which only the names matter.
func reportOf() *Report {
	d := func(s string) digest.Digest { return digest.FromBytes([]byte(s)) }
	p := &plan.Plan{
		Artifacts: []plan.Artifact{{PURL: "pkg:pypi/app@1", Step: "s1"}, {PURL: "pkg:pypi/zope-interface@6", Step: "s2"}, {PURL: "pkg:pypi/none@1"}},
		Steps:     []plan.Step{{ID: "s1", PURL: "pkg:pypi/app@1"}, {ID: "s2", PURL: "pkg:pypi/zope-interface@6"}, {ID: "s3", PURL: "pkg:pypi/tool@1"}, {ID: "s4", PURL: "pkg:pypi/tool@2"}},
	}
	built := func(s string) status.Step {
		return status.Step{Builds: []status.StepBuild{{Build: record.Build{Purpose: record.First, Outcome: record.Succeeded, Output: &record.Output{File: s + ".whl", Digest: d(s)}}}}}
	}
	return &Report{Solved: &Solved{Plan: p}, Verdicts: status.Verdicts{}, Input: status.Input{
		Steps:  map[digest.Digest]status.Step{"s1": built("app"), "s3": built("tool1")},
		Served: map[purl.PURL]status.File{"pkg:pypi/app@1": {Name: "app.whl", Digest: d("app")}, "pkg:pypi/zope-interface@6": {Name: "z.whl", Digest: d("z")}}}}
}

func TestFind(t *testing.T) {
	r := reportOf()
	hex := digest.FromBytes([]byte("app")).Hex()
	for name, want := range map[string]string{
		"pkg:pypi/app@1": "pkg:pypi/app@1", "pkg:pypi/app": "pkg:pypi/app@1", "pkg:pypi/App": "pkg:pypi/app@1", "app": "pkg:pypi/app@1", "APP": "pkg:pypi/app@1",
		"sha256:" + hex: "pkg:pypi/app@1", "sha256:" + hex[:8]: "pkg:pypi/app@1", "sha256:" + digest.FromBytes([]byte("tool1")).Hex()[:10]: "pkg:pypi/tool@1",
		"pkg:pypi/tool@2": "pkg:pypi/tool@2", "pkg:pypi/none": "pkg:pypi/none@1",
		"pkg:pypi/zope.interface@6": "pkg:pypi/zope-interface@6", "pkg:pypi/Zope_Interface": "pkg:pypi/zope-interface@6", "zope.interface": "pkg:pypi/zope-interface@6", "Zope_Interface": "pkg:pypi/zope-interface@6",
	} {
		if f, err := r.Find(name); err != nil || string(f.PURL) != want {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	for name, kind := range map[string]fault.Kind{
		"pkg:pypi/tool": fault.Usage, "tool": fault.Usage, "sha256:" + hex[:7]: fault.Usage, "sha256:" + hex + "0": fault.Usage, "sha256:" + strings.ToUpper(hex): fault.Usage, "sha256:": fault.Usage,
		"sha256:00000000": fault.NotFound, "pkg:pypi/app@2": fault.NotFound, "pkg:npm/app": fault.NotFound, "pkg:": fault.Usage, "nothing": fault.NotFound, "": fault.NotFound,
	} {
		if f, err := r.Find(name); fault.KindOf(err) != kind {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	// What was built is found by its digest though the published file is served.
	r = reportOf()
	r.Input.Served["pkg:pypi/app@1"] = status.File{Name: "published.whl", Digest: digest.FromBytes([]byte("published")), Published: true}
	for name, file := range map[string]string{"sha256:" + hex: "app.whl", "pkg:pypi/app": "published.whl", "sha256:" + digest.FromBytes([]byte("published")).Hex(): "published.whl"} {
		if f, err := r.Find(name); err != nil || f.File != file {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	if _, err := r.Find("pkg:pypi/tool"); !strings.Contains(err.Error(), "2 artifacts fit") {
		t.Errorf("ambiguous: %v", err)
	}
	if _, err := r.Why("nothing"); !fault.Is(err, fault.NotFound) {
		t.Errorf("why: %v", err)
	}
	if err := secureError(r, "pkg:pypi/app@1"); err == nil {
		t.Error("nothing is known of it, and it is secure")
	}
	r.Verdicts["pkg:pypi/app@1"] = policy.Verdict{Class: policy.Secure}
	if err := secureError(r, "pkg:pypi/app@1"); err != nil {
		t.Error(err)
	}
}

func TestProjectWithoutNetwork(t *testing.T) {
	a := mustOpen(t, Config{Data: filepath.Join(t.TempDir(), "data")}, true)
	dir := filepath.Join(t.TempDir(), "My App!")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 10, 1, 0, 0, 0, 5, time.UTC)
	c, err := a.Init(t.Context(), dir, "", at)
	if err != nil || c.Project != "local/my-app-" && c.Project != "local/my-app" || c.AtTime != "2026-10-01T00:00:00Z" {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := a.Init(t.Context(), dir, "acme/web", at); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := a.Init(t.Context(), t.TempDir(), "api/x", at); !fault.Is(err, fault.Usage) {
		t.Errorf("reserved: %v", err)
	}
	id, first, err := a.Sync(t.Context(), dir)
	if err != nil || first.Parent != "" {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, _, err := a.Sync(t.Context(), dir); err != nil || again != id {
		t.Errorf("nothing new makes a commit: %v", err)
	}
	c.Requirements = []string{"flask>=3", "six"}
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	next, commit, err := a.Sync(t.Context(), dir)
	if err != nil || commit.Parent != "commit:"+id.String() || next == id {
		t.Errorf("%+v, %v", commit, err)
	}
	if _, _, err := a.Uninstall(t.Context(), dir, []string{"six", "nothing"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("uninstall what is not there: %v", err)
	}
	if c, _ := project.Load(dir); len(c.Requirements) != 2 {
		t.Error("a refused change changed the configuration")
	}
	if _, commit, err = a.Uninstall(t.Context(), dir, []string{"FLASK"}); err != nil || !slices.Equal(commit.Requirements, []string{"six"}) {
		t.Errorf("%+v, %v", commit, err)
	}
	head, _, err := a.Head(t.Context(), c.Project)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Status(t.Context(), head); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "hallmark builds") {
		t.Errorf("status before a solve: %v", err)
	}
	if _, _, err := a.Head(t.Context(), "acme/none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no such project: %v", err)
	}
	for _, bad := range []string{"project: " + c.Project + "\nat_time: 2026-10-01T00:00:00Z\nrequirements: ['pkg:npm/x']\n", "project: " + c.Project + "\nat_time: 2026-10-01T00:00:00Z\npolicy: urn:x\n"} {
		if err := os.WriteFile(filepath.Join(dir, project.ConfigFile), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Sync(t.Context(), dir); err == nil {
			t.Errorf("committed: %s", bad)
		}
	}
	if after, _, _ := a.Head(t.Context(), c.Project); after != head {
		t.Error("a refused configuration moved the head")
	}
	if found, err := a.Fsck(context.WithoutCancel(t.Context())); err != nil || len(found) != 0 {
		t.Errorf("fsck: %+v, %v", found, err)
	}
}

// TestSubjectsOf: plan and build are found in the spelling that we write and in
// any other.
func TestSubjectsOf(t *testing.T) {
	d := digest.FromBytes([]byte("plan"))
	for name, doc := range map[string]string{
		"as written": `{"buildDefinition":{"externalParameters":{"plan":"` + string(d) + `","requirement":"\"plan\":\"x\""}},"runDetails":{"byproducts":[{"name":"\"invocationId\":\"x\""}],"metadata":{"invocationId":"b1"}}}`,
		"spaced":     `{"runDetails": {"metadata": {"invocationId": "b1"}}, "buildDefinition": {"externalParameters": {"plan": "` + string(d) + `"}}}`,
	} {
		if p, b, err := subjectsOf([]byte(doc)); err != nil || p != d || b != "b1" {
			t.Errorf("%s: %s, %s, %v", name, p, b, err)
		}
	}
	for _, doc := range []string{``, `{}`, `{"buildDefinition":{"externalParameters":{"plan":"x"}}}`, `"plan":"`} {
		if p, _, err := subjectsOf([]byte(doc)); err == nil {
			t.Errorf("%s names the plan %q", doc, p)
		}
	}
}
