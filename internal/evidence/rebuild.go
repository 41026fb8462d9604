package evidence

import (
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// Rebuild makes the statement about the newest of a step's rebuild results. It
// carries the whole series as a chain of digests and every completed build, so
// that a result cannot be left out without the chain breaking. series is in
// order, the newest last; builds are all of the step's builds that count. A
// broken chain is fault.Corrupt.
func Rebuild(subject Subject, series []record.RebuildResult, builds []record.Build) (Statement, error) {
	if len(series) == 0 {
		return Statement{}, fault.New(fault.Usage, "rebuild statement about %s: no rebuild results", subject.Name)
	}
	var links []rebuildLink
	var previous digest.Digest
	for i, r := range series {
		if r.Sequence != i+1 || r.Previous != previous || r.Step != series[0].Step {
			return Statement{}, fault.Advise(fault.Corrupt, "Run hallmark fsck: a result of the series is missing or was changed.",
				"rebuild results of step %s: number %d of the series does not follow the one before it", series[0].Step.Short(), i+1)
		}
		d, err := ResultDigest(r)
		if err != nil {
			return Statement{}, err
		}
		links = append(links, rebuildLink{Sequence: r.Sequence, Digest: d, Outcome: r.Outcome, Builder: r.Builder})
		previous = d
	}
	rows := []rebuildBuild{}
	for _, b := range builds {
		if b.Step != series[0].Step || b.Purpose != record.First && b.Purpose != record.Rebuild {
			return Statement{}, fault.New(fault.Usage, "rebuild statement about %s: build %s (%s) is not one of its step's builds", subject.Name, b.ID, b.Purpose)
		}
		row := rebuildBuild{ID: b.ID, Purpose: b.Purpose, Builder: b.Builder, Outcome: b.Outcome,
			Runtime: b.Facts.Runtime, RuntimeDigest: b.Facts.Program, Kernel: b.Facts.Kernel,
			Started: stampTime(b.Started), Finished: stampTime(b.Finished)}
		if b.Output != nil {
			row.Digest = b.Output.Digest
		}
		rows = append(rows, row)
	}
	last := series[len(series)-1]

	return Statement{
		Subject:       subject,
		PredicateType: TypeRebuild,
		Predicate:     rebuildPredicate{Result: last, Head: previous, Series: links, Builds: rows},
	}, nil
}

// ResultDigest names a rebuild result: the digest of its canonical JSON, which
// the next one in the series carries as Previous.
func ResultDigest(r record.RebuildResult) (digest.Digest, error) {
	d, _, err := canonical.Digest(r)
	return d, err
}

// rebuildPredicate is urn:hallmark:rebuild:v1; schemas/rebuild.v1.json describes
// it.
type rebuildPredicate struct {
	Result record.RebuildResult `json:"result"` // the newest
	Head   digest.Digest        `json:"head"`   // of Result, canonical JSON
	Series []rebuildLink        `json:"series"` // all results, oldest first
	Builds []rebuildBuild       `json:"builds"` // all builds that count
}

type rebuildLink struct {
	Sequence int               `json:"sequence"`
	Digest   digest.Digest     `json:"digest"`
	Outcome  record.Comparison `json:"outcome"`
	Builder  string            `json:"builder"`
}

type rebuildBuild struct {
	ID            string         `json:"id"`
	Purpose       record.Purpose `json:"purpose"`
	Builder       string         `json:"builder"`
	Outcome       record.Outcome `json:"outcome"`
	Digest        digest.Digest  `json:"digest,omitempty"`
	Runtime       string         `json:"runtime,omitempty"` // what it ran under: name and version of the OCI runtime
	RuntimeDigest digest.Digest  `json:"runtimeDigest,omitempty"`
	Kernel        string         `json:"kernel,omitempty"` // "linux", "gvisor"
	Started       string         `json:"started"`
	Finished      string         `json:"finished"`
}
