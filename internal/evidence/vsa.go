package evidence

import (
	"sort"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
)

// Levels that a verification summary may claim.
const (
	LevelSecure = "HALLMARK_SECURE"
	LevelBuild1 = "SLSA_BUILD_LEVEL_1"
	LevelBuild3 = "SLSA_BUILD_LEVEL_3" // only from a hosted server whose signer is apart from its executor
	levelFailed = "FAILED"             // SLSA VSA v1.1: what verifiedLevels says when the policy said no
)

// VSAInput is everything that a verification summary says.
type VSAInput struct {
	Subject      Subject
	Resource     purl.PURL     // resourceUri
	Verifier     string        // Authority.VerifierID
	Policy       string        // its URI
	PolicyDigest digest.Digest // of its canonical JSON
	Verdict      policy.Verdict
	SLSALevel    string         // the level that is true of the build, for a secure artifact
	Evidence     []EvidenceRef  // what was looked at: provenance, the head of the rebuild series
	Closure      map[string]int // dependencyLevels: how many of its closure are at a level, such as {"HALLMARK_SECURE": 12}
	Time         time.Time      // when it was decided
}

// EvidenceRef names an attestation by what it is and its digest.
type EvidenceRef struct {
	URI    string
	Digest digest.Digest
}

// VSA makes the SLSA verification summary v1 of a verdict. A secure artifact
// has PASSED with HALLMARK_SECURE and its SLSA level, any other FAILED with its
// reasons. A verdict that contradicts itself is fault.Usage.
func VSA(in VSAInput) (Statement, error) {
	fail := func(format string, args ...any) (Statement, error) {
		return Statement{}, fault.New(fault.Usage, "verification summary of "+string(in.Resource)+": "+format, args...)
	}
	result, levels := "FAILED", []string{levelFailed}
	switch {
	case in.Resource == "" || in.Verifier == "" || in.Policy == "":
		return fail("resource, verifier and policy must be named")
	case !in.PolicyDigest.Valid():
		return fail("policy %s has no digest", in.Policy)
	case in.Time.IsZero():
		return fail("no time of verification")
	case in.Verdict.Class == policy.Secure:
		if len(in.Verdict.Reasons) > 0 {
			return fail("secure, and yet there are %d reasons against it", len(in.Verdict.Reasons))
		}
		if in.SLSALevel != LevelBuild1 && in.SLSALevel != LevelBuild3 {
			return fail("secure artifacts have level %s or %s, not %.40q", LevelBuild1, LevelBuild3, in.SLSALevel)
		}
		if len(in.Evidence) == 0 {
			return fail("secure without evidence")
		}
		result, levels = "PASSED", []string{LevelSecure, in.SLSALevel}
	case in.Verdict.Class != policy.Community:
		return fail("unknown class %.40q", in.Verdict.Class)
	}
	refs := []descriptor{}
	for _, e := range in.Evidence {
		if !e.Digest.Valid() {
			return fail("evidence %s has no digest", e.URI)
		}
		refs = append(refs, descriptor{URI: e.URI, Digest: sha256Set(e.Digest)})
	}
	sort.SliceStable(refs, func(i, j int) bool { return refs[i].URI < refs[j].URI })
	closure := in.Closure
	if closure == nil {
		closure = map[string]int{}
	}
	return Statement{
		Subject:       in.Subject,
		PredicateType: TypeVSA,
		Predicate: vsa{
			Verifier:         vsaVerifier{ID: in.Verifier},
			TimeVerified:     stampTime(in.Time),
			ResourceURI:      string(in.Resource),
			Policy:           descriptor{URI: in.Policy, Digest: sha256Set(in.PolicyDigest)},
			Inputs:           refs,
			Result:           result,
			VerifiedLevels:   levels,
			DependencyLevels: closure,
			SLSAVersion:      "1.1",
			Class:            in.Verdict.Class,
			Grade:            in.Verdict.Grade,
			Reasons:          in.Verdict.Reasons,
		},
	}, nil
}

// vsa is SLSA VSA v1. The fields with our prefix are extensions as its parsing
// rules allow them; a reader that does not know them loses nothing that decides.
// It is written by encoding/json because protojson turns the counts into
// strings.
type vsa struct {
	Verifier         vsaVerifier     `json:"verifier"`
	TimeVerified     string          `json:"timeVerified"`
	ResourceURI      string          `json:"resourceUri"`
	Policy           descriptor      `json:"policy"`
	Inputs           []descriptor    `json:"inputAttestations"`
	Result           string          `json:"verificationResult"`
	VerifiedLevels   []string        `json:"verifiedLevels"`
	DependencyLevels map[string]int  `json:"dependencyLevels"`
	SLSAVersion      string          `json:"slsaVersion"`
	Class            policy.Class    `json:"hallmark_class"`
	Grade            policy.Grade    `json:"hallmark_grade,omitempty"`
	Reasons          []policy.Reason `json:"hallmark_reasons,omitempty"`
}

type vsaVerifier struct {
	ID string `json:"id"`
}
