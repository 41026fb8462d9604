package app_test

import (
	"strings"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/record"
)

// TestLog names one build in every way that there is, with and without a project.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	a, err := app.Open(t.Context(), app.Config{Data: dir + "/data"}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	commit, err := apptest.Fill(t.Context(), a, dir+"/project", apptest.Spec{Name: "acme/web", Packages: 6, FailEvery: 3})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Status(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := r.Find("package-00002")
	if err != nil {
		t.Fatal(err)
	}
	good, err := r.Find("package-00001")
	if err != nil {
		t.Fatal(err)
	}
	l, text, err := a.Log(t.Context(), r, string(bad.PURL))
	if err != nil {
		t.Fatal(err)
	}
	if l.PURL != bad.PURL || l.Step != bad.Step || l.Outcome != record.Failed || l.Purpose != record.First || l.Failure == nil || l.Log != digest.FromBytes(text) {
		t.Errorf("%+v", l)
	}
	for _, name := range []string{"package-00002", "pkg:pypi/package-00002", "pkg:pypi/Package.00002@1.0", "sha256:" + bad.Step.Short(), bad.Step.String(), l.Build} {
		if m, _, err := a.Log(t.Context(), r, name); err != nil || m.Build != l.Build {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for _, name := range []string{string(bad.PURL), "pkg:pypi/Package.00002@1.0", bad.Step.String(), l.Build} {
		if m, _, err := a.Log(t.Context(), nil, name); err != nil || m.Build != l.Build {
			t.Errorf("without a project: %s: %+v, %v", name, m, err)
		}
	}
	if m, _, err := a.Log(t.Context(), nil, good.Digest.String()); err != nil || m.PURL != good.PURL || m.Outcome != record.Succeeded {
		t.Errorf("by its file: %+v, %v", m, err)
	}
	for _, name := range []string{"pkg:pypi/none@1", "sha256:" + strings.Repeat("0", 64), "sha256:00", "none", "", "../x", "pkg:"} {
		for _, r := range []*app.Report{r, nil} {
			if _, _, err := a.Log(t.Context(), r, name); !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Usage) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	// Why tells the failure where it lies, and nowhere else.
	hops, err := r.Why(string(bad.PURL))
	if err != nil || len(hops) == 0 || hops[0].Failure == nil || hops[0].Failure.Missing != "cargo" || hops[0].Failure.WholeLog != l.Log {
		t.Errorf("why: %+v, %v", hops, err)
	}
	for _, h := range hops[1:] {
		if h.Failure != nil || h.Class == policy.Secure {
			t.Errorf("why: %+v", h)
		}
	}
}
