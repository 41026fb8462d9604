package remedy

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// CSV gives a document as comma-separated values (RFC 4180), one line for each
// artifact, with a head line. A text that a spreadsheet would take for a formula
// begins with an apostrophe.
func CSV(d status.Document) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	if err := w.Write([]string{"purl", "class", "grade", "status", "file", "digest", "builder", "builds", "identical", "operators", "reasons", "messages"}); err != nil {
		return nil, err
	}
	for _, r := range d.Artifacts {
		var codes, messages []string
		for _, x := range r.Reasons {
			if !slices.Contains(codes, x.Code) {
				codes = append(codes, x.Code)
			}
			messages = append(messages, x.Message)
		}
		line := []string{string(r.PURL), string(r.Class), "", string(r.Status), "", "", "", "", "", "", strings.Join(codes, " "), strings.Join(messages, " ")}
		if r.Grade != nil {
			line[2] = string(*r.Grade)
		}
		if r.File != nil {
			line[4] = *r.File
		}
		if r.Digest != nil {
			line[5] = r.Digest.String()
		}
		if r.Builder != nil {
			line[6] = *r.Builder
		}
		if r.Reproduced != nil {
			line[7], line[8], line[9] = strconv.Itoa(r.Reproduced.Builds), strconv.Itoa(r.Reproduced.Identical), strconv.Itoa(r.Reproduced.Operators)
		}
		for i := range line {
			line[i] = plainCell(line[i])
		}
		if err := w.Write(line); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// plainCell keeps a spreadsheet from reading a text as a formula.
func plainCell(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// Titles says what each reason code means, in a sentence (docs/reasons.md).
var Titles = map[string]string{
	policy.NotReproduced:       "A rebuild did not give the same bytes.",
	policy.NotRebuilt:          "It was not built often enough.",
	policy.AxisNotVaried:       "The second build did not vary everything that the policy names.",
	policy.DependencyCommunity: "Something that it runs with or is built with is not secure.",
	policy.SeedUntrusted:       "It was built on a seed that the policy does not name.",
	policy.SeedInRuntime:       "Bytes of the seed ended up inside it, or that was not measured.",
	policy.ScoreBelowFloor:     "Its safety score is below the policy's floor, or there is not enough data for one.",
	policy.IsolationIncomplete: "Its build was not isolated as promised.",
	policy.NotEphemeral:        "Its build environment was not ephemeral.",
	policy.NotHermetic:         "Its build was not hermetic.",
	policy.LimitsNotEnforced:   "Limits were not enforced by control groups.",
	policy.NoSource:            "Its index offers no source archive.",
	policy.PrebuiltInSource:    "Its source carries native code that the result needs or would ship.",
	policy.BuildFailed:         "It could not be built from source.",
	policy.BuilderUntrusted:    "It was built only by builders that the policy does not trust.",
	policy.NetworkAccess:       "Its build reached for the network.",
	policy.NotBuilt:            "It has not been built, or what is served is not our build.",
	policy.PublishedServed:     "The published file is served in place of ours.",
	policy.EvidenceMissing:     "The signed provenance of a build is missing or does not verify.",
	policy.SignerRevoked:       "Its builds were signed by a key that is believed no more.",
	policy.SourceUnverified:    "The evidence of its source's origin is invalid.",
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifRule struct {
	ID   string    `json:"id"`
	Name string    `json:"name"`
	Text sarifText `json:"shortDescription"`
	Help sarifText `json:"help"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifLogical struct {
	Name string `json:"name"`
	Full string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   sarifRegion   `json:"region"`
}

type sarifLocation struct {
	Physical sarifPhysical  `json:"physicalLocation"`
	Logical  []sarifLogical `json:"logicalLocations"`
}

type sarifSuppression struct {
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification"`
}

type sarifResult struct {
	RuleID       string             `json:"ruleId"`
	RuleIndex    int                `json:"ruleIndex"`
	Level        string             `json:"level"`
	Message      sarifText          `json:"message"`
	Locations    []sarifLocation    `json:"locations"`
	Fingerprints map[string]string  `json:"partialFingerprints"`
	Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	Properties   map[string]any     `json:"properties"`
}

type sarifDriver struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	Rules   []sarifRule `json:"rules"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Details struct {
		ID string `json:"id"`
	} `json:"automationDetails"`
	Column     string         `json:"columnKind"`
	Results    []sarifResult  `json:"results"`
	Properties map[string]any `json:"properties"`
}

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

// SARIF gives a document as a SARIF 2.1.0 log: a rule for each reason code that
// appears, one result for each artifact that is not secure, by its first reason. An
// artifact that waivers answer for has a suppression with their reasons. version is
// the program's.
func SARIF(d status.Document, waivers []Waiver, version string) ([]byte, error) {
	var run sarifRun
	run.Tool.Driver = sarifDriver{Name: "Hallmark", Version: version, Rules: []sarifRule{}}
	run.Details.ID, run.Column, run.Results = "hallmark/"+d.Project+"/", "utf16CodeUnits", []sarifResult{}
	run.Properties = map[string]any{"commit": d.Commit, "plan": d.Plan, "policy": d.Policy, "percent_secure": d.Summary.PercentSecure}
	var codes []string
	for _, r := range d.Artifacts {
		if r.Class != policy.Secure {
			if code := first(r).Code; !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
	}
	slices.Sort(codes)
	for _, c := range codes {
		title := Titles[c]
		if title == "" {
			title = "It is not secure."
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: c, Name: camel(c), Text: sarifText{title},
			Help: sarifText{title + " hallmark why ARTIFACT shows the way to what is missing; docs/reasons.md says what to do."}})
	}
	answered := map[string]Waived{}
	for _, w := range Answered(d, waivers) {
		answered[string(w.PURL)] = w
	}
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure {
			continue
		}
		x := first(r)
		level := "warning"
		if r.Grade != nil && *r.Grade == policy.Unknown {
			level = "error"
		}
		var all []string
		for _, y := range r.Reasons {
			if !slices.Contains(all, y.Code) {
				all = append(all, y.Code)
			}
		}
		res := sarifResult{RuleID: x.Code, RuleIndex: slices.Index(codes, x.Code), Level: level,
			Message: sarifText{fmt.Sprintf("%s is not secure. %s", r.PURL, x.Message)},
			Locations: []sarifLocation{{Physical: sarifPhysical{sarifArtifact{"hallmark.yaml"}, sarifRegion{1}},
				Logical: []sarifLogical{{Name: r.PURL.Name(), Full: string(r.PURL), Kind: "package"}}}},
			Fingerprints: map[string]string{"artifact/v1": string(r.PURL)},
			Properties:   map[string]any{"purl": r.PURL, "class": r.Class, "grade": r.Grade, "digest": r.Digest, "reasons": all}}
		if w, ok := answered[string(r.PURL)]; ok {
			for _, v := range w.Waivers {
				res.Suppressions = append(res.Suppressions, sarifSuppression{Kind: "external", Status: "accepted",
					Justification: fmt.Sprintf("Waiver by %s until %s: %s", v.Owner, v.Until.UTC().Format("2006-01-02"), v.Reason)})
			}
		}
		run.Results = append(run.Results, res)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(sarifLog{Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
	return b.Bytes(), err
}

// first is the reason that a row is told by.
func first(r status.Row) policy.Reason {
	if len(r.Reasons) == 0 {
		return policy.Reason{Code: "community", Message: "Nobody says why."}
	}
	return r.Reasons[0]
}

// camel is a code as a SARIF rule's name (3.49.7: an identifier).
func camel(code string) string {
	out := ""
	for _, p := range strings.Split(code, "-") {
		if p != "" {
			out += strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return out
}

// Badge is an SVG of a percentage for a README; nil: nothing to count, or not known.
// It has no script, no style and no address in it.
func Badge(percent *int) []byte {
	value, colour := "unknown", "#5c6570"
	if percent != nil {
		value, colour = strconv.Itoa(*percent)+" %", "#9a5b00"
		if *percent == 100 {
			value, colour = "100 %", "#1a6b3c"
		}
	}
	const left, glyph = 52, 7
	right := 16 + glyph*len(value)
	all := left + right
	title := html.EscapeString("secure: " + value)
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s"><title>%s</title>`+
		`<rect width="%d" height="20" rx="3" fill="#2b3138"/><rect x="%d" width="%d" height="20" rx="3" fill="%s"/><rect x="%d" width="4" height="20" fill="%s"/>`+
		`<g fill="#ffffff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"><text x="%d" y="14">secure</text><text x="%d" y="14">%s</text></g></svg>`+"\n",
		all, title, title, all, left, right, colour, left, colour, left/2, left+right/2, html.EscapeString(value))
}
