package evidence_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	provpb "github.com/in-toto/attestation/go/predicates/provenance/v1"
	vsapb "github.com/in-toto/attestation/go/predicates/vsa/v1"
	ita "github.com/in-toto/attestation/go/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
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
			{Tag: plan.TagSource, PURL: "pkg:pypi/six@1.17.0", File: "six-1.17.0.tar.gz", Digest: sdist},
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
			Ships:     []string{"elf six/_speedups.so"},
			SeedFiles: []string{"/usr/lib/x86_64-linux-gnu/crti.o"}, SeedKnown: true,
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

// schema compiles one of the repository's schemas.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("../../schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// statementJSON gives a statement as it would be signed, read back.
func statementJSON(t *testing.T, s evidence.Statement) map[string]any {
	t.Helper()
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// reread writes v as JSON for a protobuf reader.
func reread(t *testing.T, v any, into proto.Message) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(b, into); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

func TestProvenanceSaysWhatTheRecordSays(t *testing.T) {
	in := provenanceInput(t, []byte("six"))
	st := statementJSON(t, provenance(t, []byte("six")))
	var s ita.Statement
	reread(t, st, &s)
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	pred := st["predicate"].(map[string]any)
	var p provpb.Provenance
	reread(t, pred, &p)
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	def := pred["buildDefinition"].(map[string]any)
	if err := schema(t, "build.v1.json").Validate(def); err != nil {
		t.Errorf("%#v", err)
	}
	want := append(append([]record.Input{}, in.Build.Inputs...), in.Seed...)
	deps := p.BuildDefinition.ResolvedDependencies
	if len(deps) != len(want) {
		t.Fatalf("%d dependencies, want %d", len(deps), len(want))
	}
	for i, d := range deps {
		if d.Uri != want[i].PURL || d.Digest["sha256"] != want[i].Digest.Hex() || d.Name != want[i].File {
			t.Errorf("dependency %d is %v, want %v", i, d, want[i])
		}
	}
	roles := map[string]string{}
	for _, b := range p.RunDetails.Byproducts {
		roles[b.Annotations.Fields["hallmark_role"].GetStringValue()] = b.Name + " " + b.Digest["sha256"]
	}
	for role, w := range map[string]string{
		evidence.RoleLog:     "build.log " + logged.Hex(),
		evidence.RoleRaw:     "six-raw.whl " + in.Build.Output.Raw.Hex(),
		evidence.RoleRemoved: "launcher/gui.exe " + in.Build.Removed[0].Digest.Hex(),
	} {
		if roles[role] != w {
			t.Errorf("byproduct %s is %q, want %q", role, roles[role], w)
		}
	}
	if p.RunDetails.Builder.Id != builder || p.RunDetails.Metadata.InvocationId != "b-1" {
		t.Errorf("run details %v", p.RunDetails)
	}
	// The step can be taken out and its id computed again.
	b, err := json.Marshal(def["externalParameters"].(map[string]any)["step"])
	if err != nil {
		t.Fatal(err)
	}
	var step plan.Step
	if err := json.Unmarshal(b, &step); err != nil {
		t.Fatal(err)
	}
	if again, err := step.Seal(); err != nil || again.ID != in.Step.ID {
		t.Errorf("step from the provenance has id %s, want %s (%v)", again.ID, in.Step.ID, err)
	}
}

// TestProvenanceDigest: the digest made with a list that was written before is that
// of the whole statement, whatever its texts hold.
func TestProvenanceDigest(t *testing.T) {
	hostile := "]},\"runDetails\":{"
	for name, change := range map[string]func(in *evidence.ProvenanceInput){
		"as it is": func(*evidence.ProvenanceInput) {},
		"no seed":  func(in *evidence.ProvenanceInput) { in.Seed = nil },
		"long seed": func(in *evidence.ProvenanceInput) {
			for i := range 50 {
				in.Seed = append(in.Seed, record.Input{Tag: "builder", PURL: fmt.Sprint("pkg:deb/debian/<&>", i), File: "\u00fc\n", Digest: in.Seed[0].Digest})
			}
		},
		"hostile texts": func(in *evidence.ProvenanceInput) {
			in.Build.ID, in.Build.Inputs[0].File, in.Build.Removed[0].Path, in.Build.Output.File = hostile, hostile, hostile, hostile
			in.Build.NotVaried = map[string]string{hostile: hostile, "runDetails": hostile}
			in.Seed[0].File = hostile
		},
	} {
		in := provenanceInput(t, []byte("content"))
		change(&in)
		s, err := evidence.Provenance(in)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		listed, err := evidence.List(in.Seed)
		if err != nil {
			t.Fatal(err)
		}
		seed := in.Seed
		in.Seed = nil
		if got, err := evidence.ProvenanceDigest(in, listed); err != nil || got != digest.FromBytes(whole) {
			t.Errorf("%s: %s, %v; the whole statement has %s", name, got, err, digest.FromBytes(whole))
		}
		if in.Seed = seed; len(seed) > 0 {
			if _, err := evidence.ProvenanceDigest(in, listed); !fault.Is(err, fault.Usage) {
				t.Errorf("%s: the seed twice: %v", name, err)
			}
		}
	}
	if _, err := evidence.List([]record.Input{{File: "x"}}); !fault.Is(err, fault.Usage) {
		t.Errorf("an input without a digest: %v", err)
	}
	if _, err := evidence.ProvenanceDigest(evidence.ProvenanceInput{}, evidence.Listed{}); err == nil {
		t.Error("a provenance of nothing")
	}
}

func TestProvenanceRefuses(t *testing.T) {
	for name, spoil := range map[string]func(in *evidence.ProvenanceInput){
		"failed build":     func(in *evidence.ProvenanceInput) { in.Build.Outcome = record.Failed },
		"no output":        func(in *evidence.ProvenanceInput) { in.Build.Output = nil },
		"query":            func(in *evidence.ProvenanceInput) { in.Build.Purpose = record.Query },
		"throw-away build": func(in *evidence.ProvenanceInput) { in.Build.Purpose = record.Prebuilt },
		"another step":     func(in *evidence.ProvenanceInput) { in.Build.Step = seed },
		"another source":   func(in *evidence.ProvenanceInput) { in.Source.Digest = seed },
		"no plan":          func(in *evidence.ProvenanceInput) { in.Plan = "" },
		"no builder":       func(in *evidence.ProvenanceInput) { in.Build.Builder = "" },
		"no inputs":        func(in *evidence.ProvenanceInput) { in.Build.Inputs = nil },
		"nameless bytes":   func(in *evidence.ProvenanceInput) { in.Build.Inputs[0].Digest = "" },
		"removed, unnamed": func(in *evidence.ProvenanceInput) { in.Build.Removed[0].Digest = "x" },
	} {
		in := provenanceInput(t, []byte("six"))
		spoil(&in)
		if _, err := evidence.Provenance(in); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRebuildStatement(t *testing.T) {
	in := provenanceInput(t, []byte("six"))
	subject := evidence.Subject{Name: "six.whl", Digest: digest.FromBytes([]byte("six"))}
	st := statementJSON(t, rebuild(t, subject))
	if err := schema(t, "rebuild.v1.json").Validate(st["predicate"]); err != nil {
		t.Errorf("%#v", err)
	}
	whole := series(t, in.Step.ID, 3)
	for name, s := range map[string][]record.RebuildResult{
		"none":          nil,
		"the first out": whole[1:],
		"a middle out":  {whole[0], whole[2]},
		"exchanged":     {whole[1], whole[0]},
		"changed": func() []record.RebuildResult {
			c := append([]record.RebuildResult{}, whole...)
			c[1].Outcome = record.Identical // the different one made good
			return c
		}(),
	} {
		if _, err := evidence.Rebuild(subject, s, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	other := in.Build
	other.Step = seed
	if _, err := evidence.Rebuild(subject, whole, []record.Build{other}); !fault.Is(err, fault.Usage) {
		t.Errorf("another step's build: %v", err)
	}
}

func TestVSAStatement(t *testing.T) {
	subject := evidence.Subject{Name: "six.whl", Digest: digest.FromBytes([]byte("six"))}
	for _, secure := range []bool{true, false} {
		s, err := evidence.VSA(vsaInput("http://localhost:8420/verifier/x", subject, secure))
		if err != nil {
			t.Fatal(err)
		}
		pred := statementJSON(t, s)["predicate"].(map[string]any)
		for k := range pred {
			if strings.HasPrefix(k, "hallmark_") {
				delete(pred, k) // extensions; the rest must be VSA and nothing else
			}
		}
		var v vsapb.VerificationSummary
		reread(t, pred, &v)
		want, level := "PASSED", evidence.LevelSecure
		if !secure {
			want, level = "FAILED", "FAILED"
		}
		if v.VerificationResult != want || v.VerifiedLevels[0] != level || v.DependencyLevels[evidence.LevelSecure] != 12 || v.SlsaVersion != "1.1" {
			t.Errorf("secure %v: %v", secure, &v)
		}
	}
	for name, spoil := range map[string]func(in *evidence.VSAInput){
		"secure with a reason":    func(in *evidence.VSAInput) { in.Verdict.Reasons = []policy.Reason{{Code: policy.NotReproduced}} },
		"secure without evidence": func(in *evidence.VSAInput) { in.Evidence = nil },
		"secure without a level":  func(in *evidence.VSAInput) { in.SLSALevel = "" },
		"a level too high":        func(in *evidence.VSAInput) { in.SLSALevel = "SLSA_BUILD_LEVEL_4" },
		"no policy digest":        func(in *evidence.VSAInput) { in.PolicyDigest = "" },
		"no verifier":             func(in *evidence.VSAInput) { in.Verifier = "" },
		"no class":                func(in *evidence.VSAInput) { in.Verdict.Class = "" },
		"no time":                 func(in *evidence.VSAInput) { in.Time = time.Time{} },
		"evidence, unnamed":       func(in *evidence.VSAInput) { in.Evidence[0].Digest = "" },
	} {
		in := vsaInput("v", subject, true)
		spoil(&in)
		if _, err := evidence.VSA(in); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatementRefuses(t *testing.T) {
	good := note("a", []byte("a"))
	for name, spoil := range map[string]func(s *evidence.Statement){
		"no name":      func(s *evidence.Statement) { s.Subject.Name = "" },
		"no digest":    func(s *evidence.Statement) { s.Subject.Digest = "" },
		"no type":      func(s *evidence.Statement) { s.PredicateType = "" },
		"no predicate": func(s *evidence.Statement) { s.Predicate = nil },
		"too large":    func(s *evidence.Statement) { s.Predicate = strings.Repeat("x", 9<<20) },
	} {
		s := good
		spoil(&s)
		if _, err := s.Marshal(); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestREADME(t *testing.T) {
	in := evidence.ReadmeInput{File: "six-1.17.0-py3-none-any.whl", Digest: sdist, PURL: "pkg:pypi/six@1.17.0", Secure: true,
		Policy: "urn:hallmark:policy:first-light:v1", Builder: builder, Verifier: "http://localhost:8420/verifier/x",
		Level: evidence.LevelBuild1, KeyID: "0123456789abcdef", Newest: began, Rebuild: true}
	b, err := evidence.README(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sha256sum --check", "provenance.sigstore.json", "rebuild.sigstore.json", "verify-vsa", "--verified-level SLSA_BUILD_LEVEL_1", "neither independent time"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("README lacks %q", want)
		}
	}
	in.Secure, in.Builder, in.Rebuild = false, "", false
	if b, err = evidence.README(in); err != nil || strings.Contains(string(b), "provenance.sigstore.json") || strings.Contains(string(b), "--verified-level") {
		t.Errorf("README of a published file: %v\n%s", err, b)
	}
	for _, bad := range []string{"", "a'b", "a\nb", "-rf", "a/b", "\u202ea"} {
		in.File = bad
		if _, err := evidence.README(in); !fault.Is(err, fault.Usage) {
			t.Errorf("file %q: %v", bad, err)
		}
	}
}
