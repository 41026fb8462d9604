package status_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

func row(t *testing.T, d status.Document, name string) status.Row {
	t.Helper()
	for _, r := range d.Artifacts {
		if r.PURL.Name() == name {
			return r
		}
	}
	t.Fatalf("no row for %s", name)
	return status.Row{}
}

func codes(rs []policy.Reason) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Code+"@"+r.Artifact.Name())
	}
	return strings.Join(out, " ")
}

func TestSample(t *testing.T) {
	in := statustest.Sample()
	doc, verdicts := status.Build(in)
	for _, c := range []struct {
		name, class, grade, status, reasons string
		builds                              int
	}{
		{"flask", "secure", "", "succeeded", "", 2},
		{"markupsafe", "secure", "", "succeeded", "", 2},
		{"pydantic", "community", "built", "succeeded", "dependency-community@pydantic-core", 2},
		{"pydantic-core", "community", "unknown", "failed", "build-failed@pydantic-core", 0},
		{"lonely", "community", "unknown", "skipped", "no-source@lonely", 0},
	} {
		r := row(t, doc, c.name)
		grade := ""
		if r.Grade != nil {
			grade = string(*r.Grade)
		}
		if string(r.Class) != c.class || grade != c.grade || string(r.Status) != c.status || codes(r.Reasons) != c.reasons {
			t.Errorf("%s: %s %s %s [%s], want %s %s %s [%s]", c.name, r.Class, grade, r.Status, codes(r.Reasons), c.class, c.grade, c.status, c.reasons)
		}
		switch {
		case (c.builds == 0) != (r.Reproduced == nil) || (r.Builder == nil) != (r.Reproduced == nil):
			t.Errorf("%s: builder %v, reproduced %+v", c.name, r.Builder, r.Reproduced)
		case c.builds > 0 && *r.Reproduced != status.Reproduced{Builds: c.builds, Identical: c.builds, Operators: 1}:
			t.Errorf("%s: reproduced %+v", c.name, r.Reproduced)
		}
	}
	s := doc.Summary
	if s.Artifacts != 5 || s.Secure != 2 || s.Community != 3 || *s.PercentSecure != 40 || s.SeedBytesBuild != 402653184 {
		t.Errorf("summary is %+v", s)
	}
	if v := verdicts["pkg:pypi/setuptools@70.0.0"]; v.Class != policy.Secure {
		t.Errorf("the step that only builds is %+v", v)
	}
	hops, err := status.Why(in.Plan, verdicts, "pkg:pypi/pydantic@2.7.0")
	if err != nil || len(hops) != 2 || hops[1].Artifact.Name() != "pydantic-core" || hops[1].Via != "runs with" ||
		codes(hops[0].Reasons) != "" || codes(hops[1].Reasons) != "build-failed@pydantic-core" {
		t.Errorf("why: %+v, %v", hops, err)
	}
	if hops, err := status.Why(in.Plan, verdicts, "pkg:pypi/flask@3.0.3"); err != nil || len(hops) != 1 || hops[0].Class != policy.Secure {
		t.Errorf("why of a secure one: %+v, %v", hops, err)
	}
	if _, err := status.Why(in.Plan, verdicts, "pkg:pypi/none@1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("why of nothing: %v", err)
	}
}

// TestOneChange changes the sample in one thing and says which row falls and why.
func TestOneChange(t *testing.T) {
	const ms, st = "markupsafe", "setuptools"
	for _, c := range []struct {
		name   string
		change func(in *status.Input)
		row    string
		status status.Status
		want   string // reasons of row
	}{
		{"never started", func(in *status.Input) { statustest.Edit(in, ms, func(s *status.Step) { *s = status.Step{} }) },
			ms, status.Queued, "not-built@markupsafe"},
		{"running", func(in *status.Input) {
			statustest.Edit(in, ms, func(s *status.Step) { *s = status.Step{Running: true} })
		},
			ms, status.Running, "not-built@markupsafe"},
		{"its backend failed", func(in *status.Input) {
			statustest.Edit(in, ms, func(s *status.Step) { *s = status.Step{} })
			statustest.Edit(in, st, func(s *status.Step) {
				*s = status.Step{Builds: []status.StepBuild{statustest.FailedBuild("it wants Rust")}}
			})
		}, ms, status.Blocked, "not-built@setuptools"},
		{"its backend differs", func(in *status.Input) {
			statustest.Edit(in, st, func(s *status.Step) {
				s.Builds[1].Output.Digest = digest.FromBytes([]byte("other"))
				s.Rebuilds[0].Outcome = record.Different
			})
		}, ms, status.Succeeded, "dependency-community@setuptools"},
		{"provenance does not verify", func(in *status.Input) {
			statustest.Edit(in, ms, func(s *status.Step) { s.Builds[0].Verified = false })
		}, ms, status.Succeeded, "evidence-missing@markupsafe not-rebuilt@markupsafe"},
		{"native files taken out, and nobody looked", func(in *status.Input) {
			statustest.Edit(in, ms, func(s *status.Step) {
				s.Builds[0].Removed = []record.Removed{{Path: "a/cli.exe", Kind: "pe"}}
				s.PrebuiltChecked = false
			})
		}, ms, status.Succeeded, "prebuilt-in-source@markupsafe"},
		{"native files taken out, checked", func(in *status.Input) {
			statustest.Edit(in, ms, func(s *status.Step) {
				s.Builds[0].Removed = []record.Removed{{Path: "a/cli.exe", Kind: "pe"}}
			})
		}, ms, status.Succeeded, ""},
		{"seed not measured", func(in *status.Input) { statustest.Edit(in, ms, func(s *status.Step) { s.SeedMeasured = false }) },
			ms, status.Succeeded, "seed-in-runtime@markupsafe"},
		{"a published file is served", func(in *status.Input) {
			in.Served["pkg:pypi/markupsafe@2.1.5"] = status.File{Name: "x.whl", Digest: digest.FromBytes([]byte("theirs")), Published: true}
		}, ms, status.Succeeded, "published-served@markupsafe"},
		{"revoked", func(in *status.Input) { statustest.Edit(in, ms, func(s *status.Step) { s.Builds[1].Revoked = true }) },
			ms, status.Succeeded, "not-rebuilt@markupsafe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := statustest.Sample()
			c.change(&in)
			doc, _ := status.Build(in)
			r := row(t, doc, c.row)
			if r.Status != c.status || codes(r.Reasons) != c.want {
				t.Errorf("%s [%s], want %s [%s]", r.Status, codes(r.Reasons), c.status, c.want)
			}
			if (r.Class == policy.Secure) != (c.want == "") {
				t.Errorf("class %s with reasons [%s]", r.Class, codes(r.Reasons))
			}
		})
	}
}

func TestPublishedFileWithOurBytesIsOurBuild(t *testing.T) {
	in := statustest.Sample()
	f := in.Served["pkg:pypi/markupsafe@2.1.5"]
	f.Published = true
	in.Served["pkg:pypi/markupsafe@2.1.5"] = f
	doc, _ := status.Build(in)
	if r := row(t, doc, "markupsafe"); r.Class != policy.Secure || r.Builder == nil {
		t.Errorf("row is %+v", r)
	}
}

func TestTwoStepsOfOneName(t *testing.T) {
	in := statustest.Sample()
	s := in.Plan.Steps[0] // setuptools, built once more in another environment
	s.Env.SourceDateEpoch++
	s, err := s.Seal()
	if err != nil {
		t.Fatal(err)
	}
	in.Plan.Steps = append(in.Plan.Steps, s)
	_, verdicts := status.Build(in)
	n := 0
	for u, v := range verdicts {
		if u.Name() == "setuptools" {
			n++
			if (v.Class == policy.Secure) != (u == "pkg:pypi/setuptools@70.0.0") {
				t.Errorf("%s is %s", u, v.Class)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d verdicts", n)
	}
}

func TestNothingToCount(t *testing.T) {
	in := statustest.Sample()
	in.Plan = &plan.Plan{Schema: plan.Schema}
	doc, _ := status.Build(in)
	b, err := json.Marshal(doc)
	if err != nil || !bytes.Contains(b, []byte(`"percent_secure":null`)) || !bytes.Contains(b, []byte(`"artifacts":[]`)) {
		t.Errorf("document is %s, %v", b, err)
	}
	var out bytes.Buffer
	if err := status.Render(&out, doc, 80, false); err != nil || !strings.Contains(out.String(), "hallmark install") {
		t.Errorf("text is %s, %v", &out, err)
	}
}

// TestRing: packages that nobody could plan and that want one another end.
func TestRing(t *testing.T) {
	in := statustest.Sample()
	a, b := purl.PURL("pkg:pypi/a@1"), purl.PURL("pkg:pypi/b@1")
	in.Plan = &plan.Plan{Schema: plan.Schema,
		Artifacts: []plan.Artifact{{PURL: a, Source: digest.FromBytes(nil)}, {PURL: b, Source: digest.FromBytes(nil)}},
		Unplanned: []plan.Unplanned{
			{PURL: a, Code: policy.BuildFailed, Message: "It is built with b.", Cause: b, Inputs: []plan.Input{{Tag: plan.TagDeps, PURL: b}}},
			{PURL: b, Code: policy.BuildFailed, Message: "It is built with a.", Cause: a, Inputs: []plan.Input{{Tag: plan.TagDeps, PURL: a}}},
		}}
	doc, verdicts := status.Build(in)
	if doc.Summary.Secure != 0 || doc.Artifacts[0].Status != status.Blocked {
		t.Errorf("document is %+v", doc)
	}
	if hops, err := status.Why(in.Plan, verdicts, a); err != nil || len(hops) == 0 {
		t.Errorf("why: %v, %v", hops, err)
	}
}

// TestWeakerNeverLooksStronger: whatever is taken away from the evidence, no row
// becomes secure by it.
func TestWeakerNeverLooksStronger(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	for range 300 {
		in := statustest.Sample()
		var done []string
		for range 1 + rnd.Intn(3) {
			s := in.Plan.Steps[rnd.Intn(len(in.Plan.Steps))]
			st := in.Steps[s.ID]
			if len(st.Builds) == 0 {
				continue
			}
			b := &st.Builds[rnd.Intn(len(st.Builds))]
			weaken := []func(){
				func() { b.Trusted = false }, func() { b.Verified = false }, func() { b.Revoked = true },
				func() { st.Rebuilds = nil }, func() { st.Builds = st.Builds[:1] }, func() { st.SeedMeasured = false },
				func() { b.Facts.Facts = b.Facts.Facts[1:] }, func() { st.SourceBad = "x" }, func() { b.Outcome = record.Failed; b.Output = nil },
			}
			k := rnd.Intn(len(weaken))
			weaken[k]()
			in.Steps[s.ID] = st
			done = append(done, fmt.Sprintf("%s:%d", s.PURL.Name(), k))
			doc, verdicts := status.Build(in)
			if v := verdicts[s.PURL]; v.Class == policy.Secure {
				t.Fatalf("after %v %s is still secure", done, s.PURL)
			}
			secure := 0
			for _, r := range doc.Artifacts {
				if r.Class == policy.Secure {
					secure++
				} else if len(r.Reasons) == 0 {
					t.Fatalf("after %v %s has no reason", done, r.PURL)
				}
			}
			if secure != doc.Summary.Secure || secure > 2 || doc.Summary.Secure+doc.Summary.Community != len(doc.Artifacts) {
				t.Fatalf("after %v: %+v", done, doc.Summary)
			}
		}
	}
}

func TestRender(t *testing.T) {
	in := statustest.Sample()
	doc, _ := status.Build(in)
	doc.Artifacts[0].Reasons = append(doc.Artifacts[0].Reasons, policy.Reason{Code: "x", Message: "evil \x1b]0;title\x07 \u202e text"})
	for _, width := range []int{40, 80, 200} {
		var out bytes.Buffer
		if err := status.Render(&out, doc, width, false); err != nil {
			t.Fatal(err)
		}
		s := out.String()
		if strings.ContainsAny(s, "\x1b\x07\u202e") {
			t.Errorf("width %d: control characters pass", width)
		}
		for _, want := range []string{"40 % secure", "2 of 5 packages were built with a secure build process, 3 come from", "first-light", "not scored yet", "384 MiB", "not counted"} {
			if !strings.Contains(strings.Join(strings.Fields(s), " "), want) {
				t.Errorf("width %d: no %q in\n%s", width, want, s)
			}
		}
		if strings.Index(s, "pydantic-core 2.18.1") > strings.Index(s, "flask 3.0.3") {
			t.Errorf("width %d: secure before unknown:\n%s", width, s)
		}
	}
	var out bytes.Buffer
	if err := status.Render(&out, doc, 80, true); err != nil || !strings.Contains(out.String(), "\x1b[") {
		t.Error("no colour")
	}
}

func TestRolledBackClock(t *testing.T) {
	in := statustest.Sample()
	in.Now = time.Time{}
	a, _ := status.Build(in)
	in.Now = time.Now()
	b, _ := status.Build(in)
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		t.Error("no shipped policy has a condition of time yet")
	}
}
