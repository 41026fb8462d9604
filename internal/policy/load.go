package policy

import (
	"bytes"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/record"
)

// MaxBytes bounds a policy's document.
const MaxBytes = 1 << 20

// Parse reads a policy from YAML or JSON. Unknown keys are errors, and so is a
// policy that demands less than the definition of secure does.
func Parse(b []byte) (Policy, error) {
	var p Policy
	if len(b) > MaxBytes {
		return p, fmt.Errorf("policy of %d bytes: at most %d", len(b), MaxBytes)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	if !strings.HasPrefix(p.URI, "urn:hallmark:policy:") {
		return p, fmt.Errorf("policy %.80q: want a uri that begins with urn:hallmark:policy: and a name", p.URI)
	}
	if p.MinBuilds < 2 {
		return p, fmt.Errorf("policy %s: min_builds %d: reproducing takes two", p.URI, p.MinBuilds)
	}
	if len(p.Seeds) == 0 {
		return p, fmt.Errorf("policy %s names no seed", p.URI)
	}
	for _, s := range p.Seeds {
		if _, err := digest.Parse(s); err != nil {
			return p, fmt.Errorf("policy %s: seed: %w", p.URI, err)
		}
	}
	for _, a := range p.Axes {
		if !contains(record.Axes, a) {
			return p, fmt.Errorf("policy %s: axis %q is not one of %s", p.URI, a, strings.Join(record.Axes, ", "))
		}
	}
	if p.ScoreFloor == nil && len(p.Caveats) == 0 {
		return p, fmt.Errorf("policy %s has no score condition and no caveat that says so", p.URI)
	}
	return p, nil
}

// Digest names the policy's content: the digest of its canonical JSON.
func (p Policy) Digest() (digest.Digest, error) {
	d, _, err := canonical.Digest(p)
	return d, err
}
