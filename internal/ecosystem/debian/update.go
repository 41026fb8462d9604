package debian

import (
	"context"
	"errors"
	"time"

	"hallmark/internal/fault"
)

// Candidate is a newly resolved pin beside the committed one. It takes effect
// only when its JSON is committed in the place of the other, and what is built
// on it can be secure only where a policy accepts its digest.
type Candidate struct {
	Pin      Pin
	JSON     []byte // the pin as it would be committed
	Diff     PinDiff
	Evidence Evidence // to be kept: what the candidate was resolved from
}

// Update resolves roots anew and compares the result with the committed pin. It
// changes nothing.
func (c *Client) Update(ctx context.Context, roots Roots, committed Pin) (Candidate, error) {
	pin, ev, err := c.Resolve(ctx, roots)
	if err != nil {
		return Candidate{}, err
	}
	d, err := Diff(committed, pin)
	if err != nil {
		return Candidate{}, err
	}
	b, err := pin.JSON()
	return Candidate{Pin: pin, JSON: b, Diff: d, Evidence: ev}, err
}

// CheckEvidence checks without network that kept evidence gives just this pin:
// the digests that the pin names, a good signature by a key that the machine
// trusts for the suite, and the same packages when resolved again. The index
// may have expired since; what counts is that it was good at its date.
func (c *Client) CheckEvidence(pin Pin, ev Evidence, roots Roots) error {
	sources, err := c.sourcesOf(pin.Suite, pin.Component, pin.Arch)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range sources {
		keys, err := c.keyring(s)
		if err == nil {
			err = checkEvidence(pin, ev, roots, keys)
		}
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return fault.New(fault.Unverified, "checking the evidence of seed %s: %w", pin.Name, errors.Join(failed...))
}

func checkEvidence(pin Pin, ev Evidence, roots Roots, keys *Keyring) error {
	at, err := parseRFC3339(pin.Release.Date)
	if err != nil {
		return err
	}
	// An archive dates its index first and signs it afterwards, by hand where it
	// is a release: some hours later. Two days are allowed, never past its end.
	at = at.Add(48 * time.Hour)
	if until, err := parseRFC3339(pin.Release.ValidUntil); err == nil && until.Before(at) {
		at = until
	}
	again, err := ResolveFrom(ev, roots, keys, at)
	if err != nil {
		return err
	}
	if again.Release.InRelease != pin.Release.InRelease || again.Release.Packages != pin.Release.Packages {
		return fault.New(fault.Unverified, "the evidence is InRelease %s and index %s, the pin names %s and %s",
			again.Release.InRelease, again.Release.Packages, pin.Release.InRelease, pin.Release.Packages)
	}
	d, err := Diff(pin, again)
	if err != nil {
		return err
	}
	if d.Old != d.New {
		return fault.New(fault.Unverified, "the evidence gives another seed:\n%s", d.Text())
	}
	return nil
}
