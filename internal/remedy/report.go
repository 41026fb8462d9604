package remedy

import (
	"fmt"
	"slices"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// ReportSchema names the form of Report; schemas/report.v1.json describes it.
const ReportSchema = "urn:hallmark:report:v1"

// Report is what an auditor is handed: what was proven of a commit, by whom, under
// which policy, what stands in for the rest, and how to check it without us.
type Report struct {
	Schema       string         `json:"schema"`
	Made         time.Time      `json:"made"`
	Project      string         `json:"project"`
	Commit       string         `json:"commit"`
	Plan         digest.Digest  `json:"plan"`
	AtTime       string         `json:"at_time"`
	Requirements []string       `json:"requirements"`
	Policy       ReportPolicy   `json:"policy"`
	Summary      status.Summary `json:"summary"`
	Sentence     string         `json:"sentence"`
	// RequireSecure tells that the project refuses below 100 % secure, and Gate what
	// it answers now.
	RequireSecure bool         `json:"require_secure"`
	Gate          Answer       `json:"gate"`
	Builders      []Builder    `json:"builders"`
	Waivers       []Waiver     `json:"waivers"` // in force
	Artifacts     []status.Row `json:"artifacts"`
	Check         []Step       `json:"how_to_check"`
	Limits        []string     `json:"what_it_does_not_prove"`
}

// ReportPolicy names the policy.
type ReportPolicy struct {
	URI         string        `json:"uri"`
	Digest      digest.Digest `json:"digest"`
	Description string        `json:"description"`
	Caveats     []string      `json:"caveats"`
}

// Builder is who built, and how many of the artifacts.
type Builder struct {
	ID        string `json:"id"`
	Artifacts int    `json:"artifacts"`
	Secure    int    `json:"secure"`
}

// Step is one thing to do to check.
type Step struct {
	What    string `json:"what"`
	Command string `json:"command"`
}

// ReportInput is what a report is made of.
type ReportInput struct {
	Standing      Standing
	AtTime        string
	Requirements  []string
	RequireSecure bool
	Waivers       []Waiver // that hold
	Now           time.Time
}

// NewReport makes a report. It says nothing that the status does not say.
func NewReport(in ReportInput) Report {
	d, p := in.Standing.Document, in.Standing.Policy
	r := Report{Schema: ReportSchema, Made: in.Now.UTC().Truncate(time.Second), Project: d.Project, Commit: d.Commit, Plan: d.Plan, AtTime: in.AtTime,
		Requirements: slices.Clone(in.Requirements), Policy: ReportPolicy{URI: p.URI, Digest: in.Standing.PolicyID, Description: p.Description, Caveats: slices.Clone(p.Caveats)},
		Summary: d.Summary, Sentence: d.Summary.Sentence(), RequireSecure: in.RequireSecure, Gate: Gate(d, in.Waivers, Demand{}),
		Waivers: slices.Clone(in.Waivers), Artifacts: d.Artifacts, Builders: []Builder{}}
	if in.RequireSecure {
		hundred := 100
		r.Gate = Gate(d, in.Waivers, Demand{MinSecure: &hundred})
	}
	if r.Requirements == nil {
		r.Requirements = []string{}
	}
	if r.Waivers == nil {
		r.Waivers = []Waiver{}
	}
	if r.Policy.Caveats == nil {
		r.Policy.Caveats = []string{}
	}
	var example *status.Row
	for i, row := range d.Artifacts {
		if row.Class == policy.Secure && example == nil {
			example = &d.Artifacts[i]
		}
		if row.Builder == nil {
			continue
		}
		k := slices.IndexFunc(r.Builders, func(b Builder) bool { return b.ID == *row.Builder })
		if k < 0 {
			r.Builders, k = append(r.Builders, Builder{ID: *row.Builder}), len(r.Builders)
		}
		r.Builders[k].Artifacts++
		if row.Class == policy.Secure {
			r.Builders[k].Secure++
		}
	}
	slices.SortFunc(r.Builders, func(a, b Builder) int { return b.Artifacts - a.Artifacts })
	r.Check = []Step{{"Check digests, signatures, log inclusion and consistency, policy and closure of everything, from the evidence alone", "hallmark verify " + d.Commit}}
	if example != nil && example.File != nil && example.Digest != nil {
		r.Check = append(r.Check,
			Step{"Take an artifact out with all evidence about it", fmt.Sprintf("hallmark export evidence %s -o evidence && cd evidence", example.PURL)},
			Step{"Its bytes are those that this report names", fmt.Sprintf("echo \"%s  %s\" | sha256sum -c", example.Digest.Hex(), *example.File)},
			Step{"Its provenance, with a verifier that we did not write", "cosign verify-blob-attestation --key key.pub --bundle provenance.sigstore.json --trusted-root trusted_root.json --use-signed-timestamps --type slsaprovenance1 " + *example.File})
	}
	r.Check = append(r.Check, Step{"Build it again elsewhere and compare", "hallmark export plan -o plan.json && hallmark rebuild --plan plan.json ARTIFACT"})
	r.Limits = []string{
		"Secure says how a package was built. It does not say that its source is harmless or free of faults.",
		"A signature proves who said it. The log and the clock are the operator's own: they prove neither independent time nor that everybody is shown the same log.",
		"Builds that agree were made by the operators counted beside each package. Agreement of independent operators is another and a stronger claim.",
		"A waiver answers a gate. It changes neither a class nor a percentage.",
	}
	return r
}
