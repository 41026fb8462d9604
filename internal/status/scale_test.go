package status_test

import (
	"fmt"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

// TestScale: a project of 1,000 packages, each of which runs with the next, is
// no reason to wait.
func TestScale(t *testing.T) {
	const n = 1000
	in := statustest.Sample()
	in.Plan = &plan.Plan{Schema: plan.Schema, Seed: in.Plan.Seed}
	in.Steps, in.Served = map[digest.Digest]status.Step{}, map[purl.PURL]status.File{}
	for i := range n {
		u := purl.PURL(fmt.Sprintf("pkg:pypi/p%04d@1", i))
		s := plan.Step{PURL: u, Inputs: []plan.Input{{Tag: plan.TagSource, PURL: u, Digest: digest.FromBytes([]byte(u))}}}
		s, err := s.Seal()
		if err != nil {
			t.Fatal(err)
		}
		a := plan.Artifact{PURL: u, Step: s.ID, Source: s.Source()}
		if i+1 < n {
			a.Requires = []purl.PURL{purl.PURL(fmt.Sprintf("pkg:pypi/p%04d@1", i+1))}
		}
		in.Plan.Steps, in.Plan.Artifacts = append(in.Plan.Steps, s), append(in.Plan.Artifacts, a)
		d := digest.FromBytes([]byte("file of " + u))
		in.Steps[s.ID] = statustest.GoodStep(s.ID, "f.whl", d)
		in.Served[u] = status.File{Name: "f.whl", Digest: d}
	}
	start := time.Now()
	doc, verdicts := status.Build(in)
	if _, err := status.Why(in.Plan, verdicts, doc.Artifacts[0].PURL); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second || doc.Summary.Secure != n {
		t.Errorf("%d secure in %v", doc.Summary.Secure, took)
	}
	in.Steps = nil
	start = time.Now()
	doc, _ = status.Build(in)
	if took := time.Since(start); took > 10*time.Second || doc.Summary.Secure != 0 {
		t.Errorf("nothing built: %d secure in %v", doc.Summary.Secure, took)
	}
	t.Logf("nothing built: %v", time.Since(start))
}
