package evidence_test

import (
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/record"
)

var (
	sdist   = digest.FromBytes([]byte("sdist"))
	seed    = digest.FromBytes([]byte("seed"))
	logged  = digest.FromBytes([]byte("log"))
	builder = "http://localhost:8420/builder/0123456789abcdef/hermetic"
	began   = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
)

// provenanceInput is a whole and consistent input; content is the file made.
func provenanceInput(t testing.TB, content []byte) evidence.ProvenanceInput {
	t.Helper()
	step, err := plan.Step{
		PURL:   "pkg:pypi/six@1.17.0",
		Recipe: plan.Recipe{Kind: "pep517", Backend: "setuptools.build_meta", Requires: []string{"setuptools"}, Driver: string(digest.FromBytes([]byte("driver")))},
		Inputs: []plan.Input{
			{Tag: plan.TagSource, PURL: "pkg:pypi/six@1.17.0", Digest: sdist},
			{Tag: plan.TagBuilder, PURL: "pkg:generic/bookworm", Digest: seed},
		},
		Env: plan.Environment{Builder: plan.BuilderVersion, Profile: string(digest.FromBytes([]byte("profile"))), SourceDateEpoch: 1733318400},
	}.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return evidence.ProvenanceInput{
		Plan:   digest.FromBytes([]byte("plan")),
		Step:   step,
		Source: plan.Source{PURL: "pkg:pypi/six@1.17.0", File: "six-1.17.0.tar.gz", Digest: sdist, Size: 34031, Kind: "archive", Tag: "unavailable"},
		Build: record.Build{
			Schema: record.BuildSchema, ID: "b-1", Step: step.ID, Purpose: record.First, Builder: builder,
			Started: began, Finished: began.Add(3 * time.Second), Outcome: record.Succeeded,
			Output: &record.Output{File: "six.whl", Digest: digest.FromBytes(content), Size: int64(len(content)),
				Raw: digest.FromBytes([]byte("raw")), RawFile: "six-raw.whl"},
			Facts: record.Facts{Runtime: "runc 1.1.5", Kernel: "linux", Profile: step.Env.Profile, Read: began,
				Facts: []record.Fact{
					{Name: "limit.memory", Want: "4 GiB", Got: "unlimited", Cause: "no control group"},
					{Name: "namespace.net", Want: "new", Got: "new", Holds: true},
				}},
			Measured:  record.Measured{record.AxisCPUs: "2"},
			NotVaried: map[string]string{record.AxisDirectory: "no disorderfs"},
			Removed:   []record.Removed{{Path: "launcher/gui.exe", Digest: digest.FromBytes([]byte("MZ")), Size: 2, Kind: "pe"}},
			Log:       logged,
			Inputs: []record.Input{
				{Tag: "builder", PURL: "pkg:generic/bookworm", Digest: seed},
				{Tag: "src", PURL: "pkg:pypi/six@1.17.0", File: "six-1.17.0.tar.gz", Digest: sdist},
			},
		},
		Seed: []record.Input{{Tag: "builder", PURL: "pkg:deb/debian/make@4.3-4.1", File: "make_4.3-4.1_amd64.deb", Digest: digest.FromBytes([]byte("make"))}},
	}
}

func provenance(t testing.TB, content []byte) evidence.Statement {
	t.Helper()
	s, err := evidence.Provenance(provenanceInput(t, content))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// series is a chain of n rebuild results of one step.
func series(t testing.TB, step digest.Digest, n int) []record.RebuildResult {
	t.Helper()
	var out []record.RebuildResult
	var previous digest.Digest
	for i := range n {
		r := record.RebuildResult{
			Schema: record.RebuildSchema, Step: step, Sequence: i + 1, Previous: previous, First: "b-1", Second: "b-2",
			Outcome: record.Identical, FirstDigest: sdist, SecondDigest: sdist, Builder: builder, Time: began,
			Axes: []record.Axis{{Name: record.AxisCPUs, First: "2", Second: "1", Varied: true}, {Name: record.AxisDirectory, Cause: "no disorderfs"}},
		}
		if i == 1 {
			r.Outcome, r.SecondDigest = record.Different, logged
			r.Differences = []record.Difference{{Path: "six.whl!/six.py", What: "content", Offset: 7, First: "a", Second: "b", Hint: "a date"}}
		}
		d, err := evidence.ResultDigest(r)
		if err != nil {
			t.Fatal(err)
		}
		previous = d
		out = append(out, r)
	}
	return out
}

func rebuild(t testing.TB, subject evidence.Subject) evidence.Statement {
	t.Helper()
	in := provenanceInput(t, []byte("six"))
	second := in.Build
	second.ID, second.Purpose = "b-2", record.Rebuild
	s, err := evidence.Rebuild(subject, series(t, in.Step.ID, 2), []record.Build{in.Build, second})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func vsaInput(verifier string, subject evidence.Subject, secure bool) evidence.VSAInput {
	in := evidence.VSAInput{
		Subject: subject, Resource: "pkg:pypi/six@1.17.0", Verifier: verifier,
		Policy: "urn:hallmark:policy:first-light:v1", PolicyDigest: digest.FromBytes([]byte("policy")),
		Verdict: policy.Verdict{Class: policy.Secure}, SLSALevel: evidence.LevelBuild1,
		Evidence: []evidence.EvidenceRef{{URI: "http://localhost:8420/evidence/x/provenance.sigstore.json", Digest: digest.FromBytes([]byte("p"))}},
		Closure:  map[string]int{evidence.LevelSecure: 12},
		Time:     began,
	}
	if !secure {
		in.Verdict = policy.Verdict{Class: policy.Community, Grade: policy.Built, Reasons: []policy.Reason{
			{Code: policy.NotReproduced, Message: "A rebuild gave different bytes.", Artifact: "pkg:pypi/six@1.17.0"}}}
	}
	return in
}

func summary(t testing.TB, in *installation, subject evidence.Subject, secure bool) evidence.Statement {
	t.Helper()
	s, err := evidence.VSA(vsaInput(in.VerifierID(), subject, secure))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
