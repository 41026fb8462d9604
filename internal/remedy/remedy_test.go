package remedy

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

func sample(t *testing.T, edit func(in *status.Input)) (Standing, status.Verdicts) {
	t.Helper()
	in := statustest.Sample()
	if edit != nil {
		edit(&in)
	}
	d, v := status.Build(in)
	return Standing{Document: d, Policy: in.Policy, Prospects: Prospects(d, v, nil, false)}, v
}

func row(t *testing.T, d status.Document, name string) status.Row {
	t.Helper()
	for _, r := range d.Artifacts {
		if r.PURL.Name() == name {
			return r
		}
	}
	t.Fatalf("no row of %s", name)
	return status.Row{}
}

func never(in *status.Input, name string) {
	statustest.Edit(in, name, func(s *status.Step) { *s = status.Step{} })
}

func TestProspects(t *testing.T) {
	s, v := sample(t, nil)
	for _, r := range s.Document.Artifacts {
		want := Never
		if r.Class == policy.Secure {
			want = Is
		}
		if got := s.Prospects[r.PURL]; got != want {
			t.Errorf("%s: %s, want %s", r.PURL, got, want)
		}
	}
	// A failed build may be another when it is tried again, and what waits for it too.
	again := Prospects(s.Document, v, nil, true)
	if bad := row(t, s.Document, "pydantic-core").PURL; again[bad] != Can {
		t.Errorf("%s, tried again: %s", bad, again[bad])
	}
	if lonely := row(t, s.Document, "lonely").PURL; again[lonely] != Never {
		t.Errorf("without source, tried again: %s", again[lonely])
	}
	if known := Prospects(s.Document, v, map[purl.PURL]bool{row(t, s.Document, "pydantic-core").PURL: true}, false); known[row(t, s.Document, "pydantic").PURL] == Never {
		t.Error("what rests on something that is not known yet may hope")
	}
}

func TestProspectOfWhatIsToBeBuilt(t *testing.T) {
	s, _ := sample(t, func(in *status.Input) {
		delete(in.Served, row2(*in, "flask"))
		never(in, "flask")
	})
	if p := s.Prospects[row(t, s.Document, "flask").PURL]; p != Can {
		t.Errorf("flask: %s %+v", p, row(t, s.Document, "flask").Reasons)
	}
}

func row2(in status.Input, name string) purl.PURL {
	for _, a := range in.Plan.Artifacts {
		if a.PURL.Name() == name {
			return a.PURL
		}
	}
	return ""
}

func TestCompare(t *testing.T) {
	s, _ := sample(t, nil)
	none := Compare(&s, s)
	if len(none.Changes) != 0 || *none.Before.PercentSecure != *none.After.PercentSecure || !strings.HasPrefix(none.Sentence(), "No package changes") {
		t.Errorf("the same: %+v", none)
	}
	if got := Compare(nil, s).Sentence(); !strings.Contains(got, ". Secure: not known yet, ") {
		t.Errorf("of a commit that was never solved: %s", got)
	}
	other := s
	other.Document.Artifacts = slices.Clone(s.Document.Artifacts)
	other.Prospects = map[purl.PURL]Prospect{}
	for k, v := range s.Prospects {
		other.Prospects[k] = v
	}
	flask := row(t, s.Document, "flask").PURL
	for i, r := range other.Document.Artifacts {
		if r.PURL == flask {
			other.Document.Artifacts[i].PURL = purl.New("pypi", "flask", "99")
		}
	}
	other.Document.Artifacts = append(other.Document.Artifacts, status.Row{PURL: "pkg:pypi/new@1", Class: policy.Community})
	other.Document.Artifacts = slices.DeleteFunc(other.Document.Artifacts, func(r status.Row) bool { return r.PURL.Name() == "lonely" })
	e := Compare(&s, other)
	var got []string
	for _, c := range e.Changes {
		got = append(got, c.What+" "+c.Name())
	}
	if want := []string{"version flask", "removed lonely", "added new"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if first := Compare(nil, s); first.Before != nil || len(first.Changes) != len(s.Document.Artifacts) {
		t.Errorf("of nothing: %+v", first)
	}
}

func waive(names ...purl.PURL) []Waiver {
	var out []Waiver
	for _, u := range names {
		out = append(out, Waiver{PURL: u, Owner: "ann", Reason: "until the port", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	}
	return out
}

func TestGate(t *testing.T) {
	s, _ := sample(t, nil)
	d := s.Document
	before, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	hundred, low := 100, 1
	bad, lonely := row(t, d, "pydantic-core").PURL, row(t, d, "lonely").PURL
	for name, c := range map[string]struct {
		waivers  []Waiver
		demand   Demand
		ok       bool
		answered int
	}{
		"nothing demanded":             {nil, Demand{}, true, 0},
		"low":                          {nil, Demand{MinSecure: &low}, true, 0},
		"100":                          {nil, Demand{MinSecure: &hundred}, false, 0},
		"one waived":                   {waive(lonely), Demand{MinSecure: &hundred}, false, 1},
		"all that is at fault":         {waive(lonely, bad), Demand{MinSecure: &hundred}, true, 3},
		"each":                         {waive(lonely, bad, row(t, d, "pydantic").PURL), Demand{MinSecure: &hundred}, true, 3},
		"another version":              {waive("pkg:pypi/lonely@99"), Demand{MinSecure: &hundred}, false, 0},
		"what is secure needs none":    {waive(row(t, d, "flask").PURL), Demand{MinSecure: &hundred}, false, 0},
		"a new unknown":                {nil, Demand{NewUnknown: []purl.PURL{lonely}}, false, 0},
		"a new unknown that is waived": {waive(lonely), Demand{NewUnknown: []purl.PURL{lonely}}, true, 1},
		"the dependent's waiver alone": {waive(row(t, d, "pydantic").PURL), Demand{MinSecure: &hundred}, false, 1},
	} {
		a := Gate(d, c.waivers, c.demand)
		if a.OK != c.ok || len(a.Answered) != c.answered || a.OK != (len(a.Refusals) == 0) || *a.Percent != *d.Summary.PercentSecure {
			t.Errorf("%s: %+v", name, a)
		}
		if len(a.Answered) > 0 && len(a.Notes()) < len(a.Answered) {
			t.Errorf("%s: it does not say which waivers it rests on: %q", name, a.Notes())
		}
		if got := d.Summary.Secure + len(a.Answered) + len(a.Open); got != len(d.Artifacts) {
			t.Errorf("%s: %d of %d counted", name, got, len(d.Artifacts))
		}
	}
	if after, _ := json.Marshal(d); !bytes.Equal(before, after) {
		t.Error("a gate changed the status")
	}
}

// A ring that only depends on itself and on something waived is answered; on
// something that is not, it isn't.
func TestWaiversAndRings(t *testing.T) {
	dep := func(on ...purl.PURL) (rs []policy.Reason) {
		for _, u := range on {
			rs = append(rs, policy.Reason{Code: policy.DependencyCommunity, Artifact: u})
		}
		return rs
	}
	unknown := policy.Unknown
	d := status.Document{Artifacts: []status.Row{
		{PURL: "pkg:pypi/a@1", Class: policy.Community, Grade: &unknown, Reasons: dep("pkg:pypi/b@1", "pkg:pypi/x@1")},
		{PURL: "pkg:pypi/b@1", Class: policy.Community, Grade: &unknown, Reasons: dep("pkg:pypi/a@1", "pkg:pypi/x@1")},
		{PURL: "pkg:pypi/c@1", Class: policy.Community, Grade: &unknown, Reasons: dep("pkg:pypi/c@2")},
	}}
	if got := Answered(d, nil); len(got) != 0 {
		t.Errorf("without waivers: %+v", got)
	}
	if got := Answered(d, waive("pkg:pypi/x@1")); len(got) != 2 {
		t.Errorf("the ring: %+v", got)
	}
	if got := Answered(d, waive("pkg:pypi/y@1")); len(got) != 0 {
		t.Errorf("another: %+v", got)
	}
}

func TestRefused(t *testing.T) {
	s, _ := sample(t, func(in *status.Input) {
		delete(in.Served, row2(*in, "flask"))
		never(in, "flask")
	})
	d := s.Document
	w := waive(row(t, d, "lonely").PURL, row(t, d, "pydantic-core").PURL)
	if got := Refused(s, w, true); len(got) != 0 {
		t.Errorf("what waits to be built refuses a build: %v", got)
	}
	if got := Refused(s, w, false); !slices.Contains(got, row(t, d, "flask").PURL) {
		t.Errorf("what waits to be built lets a download through: %v", got)
	}
	if got := Refused(s, nil, true); len(got) != 3 {
		t.Errorf("without waivers: %v", got)
	}
}

func TestFaults(t *testing.T) {
	s, v := sample(t, nil)
	known := func(u purl.PURL) Known {
		if u.Name() == "lonely" {
			return Known{Versions: []Version{{Version: "3", Source: true}, {Version: "2", Proven: true, Built: true, Source: true}, {Version: "1", Proven: true, Built: true}}}
		}
		return Known{}
	}
	faults := Faults(s.Document, v, known)
	held := map[purl.PURL]bool{}
	for _, f := range faults {
		if len(f.Ways) == 0 {
			t.Errorf("%s: no way out", f.PURL)
		}
		for _, u := range f.Holds {
			held[u] = true
		}
		if f.PURL.Name() == "pydantic-core" {
			if f.Ways[0].Kind != WayRetry || len(f.Holds) != 2 {
				t.Errorf("pydantic-core: %+v", f)
			}
		}
	}
	for _, r := range s.Document.Artifacts {
		if held[r.PURL] != (r.Class != policy.Secure) {
			t.Errorf("%s: held back: %v", r.PURL, held[r.PURL])
		}
	}
	if got := FixAll(faults); !slices.Equal(got, []string{"lonely==2"}) {
		t.Errorf("fix all: %v", got)
	}
	if faults[0].PURL.Name() != "pydantic-core" {
		t.Errorf("what holds most back comes first: %s", faults[0].PURL)
	}
}

func TestCSV(t *testing.T) {
	s, _ := sample(t, nil)
	s.Document.Artifacts[0].Reasons = []policy.Reason{{Code: "build-failed", Message: `=cmd|' /C calc'!A0, "quoted"` + "\nand a line"}}
	b, err := CSV(s.Document)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(lines) != len(s.Document.Artifacts)+1 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if got := lines[1][11]; !strings.HasPrefix(got, "'=") {
		t.Errorf("a formula: %q", got)
	}
}

func TestSARIF(t *testing.T) {
	s, _ := sample(t, nil)
	rules, err := os.ReadFile("testdata/sarif-rules.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rules))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif")
	if err != nil {
		t.Fatal(err)
	}
	empty := status.Document{Project: "acme/web", Artifacts: []status.Row{}}
	for name, in := range map[string]struct {
		d status.Document
		w []Waiver
	}{"sample": {s.Document, nil}, "waived": {s.Document, waive(row(t, s.Document, "lonely").PURL)}, "empty": {empty, nil}} {
		b, err := SARIF(in.d, in.w, "1.0")
		if err != nil {
			t.Fatal(err)
		}
		got, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var log sarifLog
		if err := json.Unmarshal(b, &log); err != nil {
			t.Fatal(err)
		}
		run := log.Runs[0]
		if len(run.Results) != in.d.Summary.Community {
			t.Errorf("%s: %d results", name, len(run.Results))
		}
		suppressed := 0
		for _, r := range run.Results {
			if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
				t.Errorf("%s: rule %d is not %s", name, r.RuleIndex, r.RuleID)
			}
			suppressed += len(r.Suppressions)
		}
		if suppressed != len(in.w) {
			t.Errorf("%s: %d suppressions", name, suppressed)
		}
	}
}

// Every code that a policy gives has a title.
func TestTitles(t *testing.T) {
	b, err := os.ReadFile("../policy/policy.go")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(b), "const (\n\tNotReproduced")
	part, _, _ = strings.Cut(part, "\n)")
	for _, line := range strings.Split(part, "\n") {
		if f := strings.Split(line, `"`); len(f) == 3 && Titles[f[1]] == "" {
			t.Errorf("%s has no title", f[1])
		}
	}
}

func TestBadge(t *testing.T) {
	for _, p := range []int{-1, 0, 7, 75, 100} {
		var in *int
		want := "unknown"
		if p >= 0 {
			in = &p
			want = " %"
		}
		b := Badge(in)
		d := xml.NewDecoder(bytes.NewReader(b))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%d: %v", p, err)
			}
		}
		if !bytes.Contains(b, []byte(want)) || bytes.Contains(b, []byte("style=")) || bytes.Contains(b, []byte("script")) {
			t.Errorf("%s", b)
		}
	}
}

func TestReport(t *testing.T) {
	s, _ := sample(t, nil)
	r := NewReport(ReportInput{Standing: s, RequireSecure: true, Now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Waivers: waive(row(t, s.Document, "lonely").PURL)})
	if r.Gate.OK || len(r.Gate.Answered) != 1 || len(r.Builders) != 1 || r.Builders[0].Secure != s.Document.Summary.Secure || len(r.Check) < 4 || r.Summary.PercentSecure != s.Document.Summary.PercentSecure {
		t.Errorf("%+v", r)
	}
}
