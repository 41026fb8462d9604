package evidence

import (
	"bytes"
	"crypto/sha256"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// BuildType is the buildType of our provenance; schemas/build.v1.json describes
// its parameters.
const BuildType = "urn:hallmark:build:v1"

// Roles of byproducts, under the annotation hallmark_role. A log is what the
// build printed; a removed file was taken out of the source before the build;
// the raw output is the file as the build left it, before it was named anew.
const (
	RoleLog     = "log"
	RoleRemoved = "removed-from-source"
	RoleRaw     = "raw-output"
)

// ProvenanceInput is everything that a provenance statement says. All of it is
// the control plane's own knowledge: nothing in it was claimed by the build.
type ProvenanceInput struct {
	Plan   digest.Digest  // of the plan that the step was run for
	Step   plan.Step      // what was asked
	Source plan.Source    // what was built
	Build  record.Build   // what happened; must have succeeded
	Seed   []record.Input // each package of the seed's set, if they shall be listed; may be empty
}

// Provenance makes the SLSA provenance v1 of a successful build. The result
// lists as dependencies exactly the inputs that the build record says were
// mounted, and behind them the seed's packages. What does not fit together is
// fault.Usage.
func Provenance(in ProvenanceInput) (Statement, error) {
	b := in.Build
	fail := func(format string, args ...any) (Statement, error) {
		return Statement{}, fault.New(fault.Usage, "provenance of build "+b.ID+": "+format, args...)
	}
	switch {
	case b.Outcome != record.Succeeded || b.Output == nil:
		return fail("it made nothing (%s)", b.Outcome)
	case b.Purpose != record.First && b.Purpose != record.Rebuild:
		return fail("it was made for %q, not to be served", b.Purpose)
	case b.Step != in.Step.ID:
		return fail("it ran step %s, not %s", b.Step.Short(), in.Step.ID.Short())
	case !in.Plan.Valid():
		return fail("plan %.80q is no digest", in.Plan)
	case in.Source.Digest != in.Step.Source():
		return fail("source %s is not the step's %s", in.Source.Digest.Short(), in.Step.Source().Short())
	case b.Builder == "":
		return fail("it names no builder")
	case len(b.Inputs) == 0:
		return fail("its record lists no inputs")
	}
	var deps []descriptor
	for _, list := range [][]record.Input{b.Inputs, in.Seed} {
		for _, i := range list {
			if !i.Digest.Valid() {
				return fail("input %s has no digest", i.PURL)
			}
			deps = append(deps, inputDescriptor(i))
		}
	}
	var by []descriptor
	if b.Log != "" {
		by = append(by, descriptor{Name: "build.log", MediaType: "text/plain", Digest: sha256Set(b.Log),
			Annotations: map[string]any{"hallmark_role": RoleLog}})
	}
	if o := b.Output; o.Raw != "" && o.Raw != o.Digest {
		by = append(by, descriptor{Name: o.RawFile, Digest: sha256Set(o.Raw),
			Annotations: map[string]any{"hallmark_role": RoleRaw}})
	}
	for _, r := range b.Removed {
		if !r.Digest.Valid() {
			return fail("removed file %q has no digest", r.Path)
		}
		an := map[string]any{"hallmark_role": RoleRemoved, "hallmark_kind": r.Kind, "hallmark_size": r.Size}
		if r.Member != "" {
			an["hallmark_member"] = r.Member
		}
		by = append(by, descriptor{Name: r.Path, Digest: sha256Set(r.Digest), Annotations: an})
	}
	attempts := 0
	for _, a := range b.Network {
		attempts += a.Count
	}
	src := in.Source
	return Statement{
		Subject:       Subject{Name: b.Output.File, Digest: b.Output.Digest},
		PredicateType: TypeProvenance,
		Predicate: provenance{
			BuildDefinition: buildDefinition{
				BuildType: BuildType,
				External: externalParameters{
					Requirement: string(in.Step.PURL),
					Plan:        in.Plan,
					Step:        in.Step,
					Source: provenanceSource{PURL: string(src.PURL), File: src.File, Digest: src.Digest, Size: src.Size,
						Kind: src.Kind, Tag: src.Tag, Index: src.Index, Origin: src.Origin},
				},
				Internal: internalParameters{
					Purpose: b.Purpose, Profile: b.Facts.Profile, Runtime: b.Facts.Runtime, RuntimeDigest: b.Facts.Program, Kernel: b.Facts.Kernel,
					FactsRead: stampTime(b.Facts.Read), Facts: nonNil(b.Facts.Facts), Limits: limits(b.Facts.Facts),
					Measured: b.Measured, NotVaried: b.NotVaried, NetworkAttempts: attempts,
					Output: outputFindings{Size: b.Output.Size, Native: nonNil(b.Ships), SeedMeasured: b.SeedKnown, SeedInside: nonNil(b.SeedFiles)},
				},
				Dependencies: deps,
			},
			RunDetails: runDetails{
				Builder:    builder{ID: b.Builder, Version: map[string]string{"hallmark": in.Step.Env.Builder}},
				Metadata:   metadata{InvocationID: b.ID, StartedOn: stampTime(b.Started), FinishedOn: stampTime(b.Finished)},
				Byproducts: by,
			},
		},
	}, nil
}

// Listed is a list of inputs as provenances write it behind a build's own: the
// seed's, which are the same hundreds in each.
type Listed struct {
	json []byte // canonical, with commas between; empty: none
}

// List writes inputs once for many provenances. One without a digest is
// fault.Usage.
func List(inputs []record.Input) (Listed, error) {
	deps := []descriptor{}
	for _, i := range inputs {
		if !i.Digest.Valid() {
			return Listed{}, fault.New(fault.Usage, "list the inputs of a provenance: input %s has no digest", i.PURL)
		}
		deps = append(deps, inputDescriptor(i))
	}
	b, err := canonical.JSON(deps)
	if err != nil {
		return Listed{}, err
	}
	return Listed{b[1 : len(b)-1]}, nil
}

// ProvenanceDigest is the digest of the statement that Provenance makes of in and
// the listed seed, without writing the seed out again; in.Seed is left empty.
func ProvenanceDigest(in ProvenanceInput, seed Listed) (digest.Digest, error) {
	if len(in.Seed) > 0 {
		return "", fault.New(fault.Usage, "provenance of build %s: the seed is given twice", in.Build.ID)
	}
	s, err := Provenance(in)
	if err != nil {
		return "", err
	}
	b, err := s.Marshal()
	if err != nil {
		return "", err
	}
	// The dependencies come last in their object, and the build has at least one.
	// In a string the quotation mark would have a backslash before it.
	at := bytes.LastIndex(b, []byte(`]},"runDetails":{`))
	if at < 0 {
		return "", fault.New(fault.Usage, "provenance of build %s: it is not written as expected", in.Build.ID)
	}
	h := sha256.New()
	h.Write(b[:at])
	if len(seed.json) > 0 {
		h.Write([]byte(","))
		h.Write(seed.json)
	}
	h.Write(b[at:])
	return digest.FromHash(h), nil
}

// provenance is SLSA provenance v1 with our parameters.
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType    string             `json:"buildType"`
	External     externalParameters `json:"externalParameters"`
	Internal     internalParameters `json:"internalParameters"`
	Dependencies []descriptor       `json:"resolvedDependencies"`
}

// externalParameters is all that can be chosen from outside: with it and the
// inputs' bytes, anybody can run the step again.
type externalParameters struct {
	Requirement string           `json:"requirement"` // purl of what was asked for
	Plan        digest.Digest    `json:"plan"`
	Step        plan.Step        `json:"step"` // its id is the digest of the rest of it
	Source      provenanceSource `json:"source"`
}

type provenanceSource struct {
	PURL   string        `json:"purl"`
	File   string        `json:"file"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Kind   string        `json:"kind"` // "archive" or "vcs"
	Tag    string        `json:"tag"`  // "verified", "differs", "unavailable"
	Index  string        `json:"index,omitempty"`
	Origin string        `json:"origin,omitempty"`
}

// internalParameters is what the builder set and measured itself.
type internalParameters struct {
	Purpose         record.Purpose         `json:"purpose"`
	Profile         string                 `json:"profile"` // digest of the sandbox profile
	Runtime         string                 `json:"runtime"`
	RuntimeDigest   digest.Digest          `json:"runtimeDigest,omitempty"` // of the runtime's own file
	Kernel          string                 `json:"kernel"`
	FactsRead       string                 `json:"factsRead"` // when the facts were read, from outside
	Facts           []record.Fact          `json:"facts"`
	Limits          map[string]record.Fact `json:"limits"` // the facts about limits, by name without "limit."
	Measured        map[string]string      `json:"measured,omitempty"`
	NotVaried       map[string]string      `json:"notVaried,omitempty"`
	NetworkAttempts int                    `json:"networkAttempts"` // how often it reached out; whereto would be the build's own words
	Output          outputFindings         `json:"output"`
}

// outputFindings is what was found when the output was looked at from outside.
// A policy judges by it, so it is signed.
type outputFindings struct {
	Size         int64    `json:"size"`         // bytes
	Native       []string `json:"native"`       // native and bytecode files that it ships
	SeedMeasured bool     `json:"seedMeasured"` // whether SeedInside was measured; if not it is unknown
	SeedInside   []string `json:"seedInside"`   // files of the seed whose bytes are or may be inside
}

type runDetails struct {
	Builder    builder      `json:"builder"`
	Metadata   metadata     `json:"metadata"`
	Byproducts []descriptor `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type metadata struct {
	InvocationID string `json:"invocationId"`
	StartedOn    string `json:"startedOn"`
	FinishedOn   string `json:"finishedOn"`
}

func inputDescriptor(i record.Input) descriptor {
	an := map[string]any{"hallmark_tag": i.Tag}
	if i.Step != "" {
		an["hallmark_step"] = string(i.Step)
	}
	return descriptor{Name: i.File, URI: i.PURL, Digest: sha256Set(i.Digest), Annotations: an}
}

func limits(facts []record.Fact) map[string]record.Fact {
	m := map[string]record.Fact{}
	for _, f := range facts {
		const p = "limit."
		if len(f.Name) > len(p) && f.Name[:len(p)] == p {
			m[f.Name[len(p):]] = f
		}
	}
	return m
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
