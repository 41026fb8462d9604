package status_test

import (
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

func failureOf(t *testing.T, in status.Input, name string) *status.Failure {
	t.Helper()
	doc, _ := status.Build(in)
	for _, r := range doc.Artifacts {
		if r.PURL.Name() == name {
			if f := status.FailureOf(in, r.PURL); r.Class != policy.Secure && (f == nil) != (r.Failure == nil) {
				t.Errorf("%s: the row has %+v, FailureOf gives %+v", name, r.Failure, f)
			}
			return r.Failure
		}
	}
	t.Fatalf("no row of %s", name)
	return nil
}

func TestFailureOfARow(t *testing.T) {
	in := statustest.Sample()
	f := failureOf(t, in, "pydantic-core")
	if f == nil || f.Purpose != record.First || f.Build != "failed" || f.Missing != "cargo" || len(f.Log) != 1 || f.WholeLog == "" || f.Step == "" {
		t.Fatalf("%+v", f)
	}
	for _, name := range []string{"flask", "lonely", "pydantic"} {
		if f := failureOf(t, in, name); f != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := status.FailureOf(in, "pkg:pypi/none@1"); f != nil {
		t.Errorf("what the plan does not name failed: %+v", f)
	}
}

// What only inherits a failure has none; what was revoked or mended neither.
func TestFailureThatDoesNotCount(t *testing.T) {
	for name, change := range map[string]func(*status.Step){
		"of something that it is built with": func(s *status.Step) { s.Builds[0].Failure.Class = record.FailDependency },
		"revoked":                            func(s *status.Step) { s.Builds[0].Revoked = true },
		"without a cause":                    func(s *status.Step) { s.Builds[0].Failure = nil },
		"of a throw-away build":              func(s *status.Step) { s.Builds[0].Purpose = record.Prebuilt },
		"mended": func(s *status.Step) {
			good := statustest.GoodStep(s.Builds[0].Step, "x.whl", digest.FromBytes([]byte("x")))
			s.Builds = append(s.Builds, good.Builds...)
		},
	} {
		in := statustest.Sample()
		statustest.Edit(&in, "pydantic-core", change)
		if f := failureOf(t, in, "pydantic-core"); f != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestFailureOfARebuild(t *testing.T) {
	in := statustest.Sample()
	statustest.Edit(&in, "flask", func(s *status.Step) {
		bad := statustest.FailedBuild("The tests need a second processor.")
		bad.ID, bad.Purpose = "second", record.Rebuild
		s.Builds = append(s.Builds, bad)
		r := s.Rebuilds[0]
		r.Second, r.Outcome, r.Failure = "second", record.CouldNotBuild, bad.Failure
		s.Rebuilds = append(s.Rebuilds, r)
	})
	if f := failureOf(t, in, "flask"); f == nil || f.Build != "second" || f.Purpose != record.Rebuild {
		t.Errorf("%+v", f)
	}
}

func TestFailureOfAQuery(t *testing.T) {
	in := statustest.Sample()
	query := digest.FromBytes([]byte("query"))
	asked := statustest.FailedBuild("Its backend needs pg_config.")
	asked.Purpose = record.Query
	in.Steps[query] = status.Step{Builds: []status.StepBuild{asked}}
	u := purl.New("pypi", "unasked", "1")
	in.Plan.Artifacts = append(in.Plan.Artifacts, plan.Artifact{PURL: u, Metadata: "sdist"})
	in.Plan.Unplanned = append(in.Plan.Unplanned, plan.Unplanned{PURL: u, Code: policy.BuildFailed, Message: "It was asked and failed.", Query: query})
	if f := failureOf(t, in, "unasked"); f == nil || f.Purpose != record.Query || f.Step != query {
		t.Errorf("%+v", f)
	}
}
