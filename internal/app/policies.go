package app

import (
	"fmt"
	"sort"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/policies"
)

// Policy finds a shipped policy by URI.
func Policy(uri string) (policy.Policy, digest.Digest, error) {
	entries, err := policies.Files.ReadDir(".")
	if err != nil {
		return policy.Policy{}, "", err
	}
	var have []string
	for _, e := range entries {
		b, err := policies.Files.ReadFile(e.Name())
		if err != nil {
			return policy.Policy{}, "", err
		}
		p, err := policy.Parse(b)
		if err != nil {
			return p, "", fmt.Errorf("shipped policy %s: %w", e.Name(), err)
		}
		if p.URI == uri {
			d, err := p.Digest()
			return p, d, err
		}
		have = append(have, p.URI)
	}
	sort.Strings(have)
	return policy.Policy{}, "", fault.New(fault.Usage, "there is no policy %.120q; there is %s", uri, strings.Join(have, ", "))
}
