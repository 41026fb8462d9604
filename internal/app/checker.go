package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// checker verifies what is stored against our own trusted root.
//
// Within one command it verifies each bundle once. What a command has verified is
// remembered for the next one (see memory), by the digest of the bundle, of what
// it was compared with, of keys and program, and by the stamp of the bundle's
// file; a checker that is fresh remembers nothing and believes no memory, which is
// what verify and fsck use.
type checker struct {
	a     *App
	v     *evidence.Verifier
	fresh bool
	seed  []record.Input
	known evidence.Listed // the seed, as provenances list it
	base  []byte          // what every remembered verification rests on

	mu   sync.Mutex
	once map[onceKey]*outcome
}

// onceKey names one verification of a bundle.
type onceKey struct {
	bundle, subject digest.Digest
	predicate       string
}

// outcome is what one verification gave. The statement itself is let go: a
// provenance is long, and there may be thousands.
type outcome struct {
	done     sync.Once
	err      error
	verified evidence.Verified // without payload and predicate
	payload  digest.Digest     // of the statement
	plan     digest.Digest     // that a provenance names
	build    string            // id of the build that a provenance is about
	head     digest.Digest     // that a rebuild statement names
}

func (a *App) checker(fresh bool) (*checker, error) {
	v, trust, err := a.ownVerifier()
	if err != nil {
		return nil, err
	}
	c := &checker{a: a, v: v, fresh: fresh, seed: a.seedInputs(), once: map[onceKey]*outcome{}}
	if c.known, err = evidence.List(c.seed); err != nil {
		return nil, err
	}
	seed, err := json.Marshal(c.seed)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(program()), trust, seed} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	c.base = h.Sum(nil)
	return c, nil
}

// ownVerifier checks bundles against this directory's own keys, and gives what it
// believes as bytes.
func (a *App) ownVerifier() (*evidence.Verifier, []byte, error) {
	t, err := evidence.OwnTrust(a.keys)
	if err != nil {
		return nil, nil, err
	}
	v, err := evidence.NewVerifier(t)
	if err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(t)
	return v, b, err
}

// program names this program's file as it is now: another build of Hallmark may
// verify otherwise.
var program = sync.OnceValue(func() string {
	name, err := os.Executable()
	if err != nil {
		return ""
	}
	st, err := os.Stat(name)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", name, st.Size(), st.ModTime().UnixNano())
})

// verify verifies a stored bundle (see evidence.Verifier), once in a command.
func (c *checker) verify(bundle, subject digest.Digest, predicate string) *outcome {
	c.mu.Lock()
	k := onceKey{bundle, subject, predicate}
	o := c.once[k]
	if o == nil {
		o = &outcome{}
		c.once[k] = o
	}
	c.mu.Unlock()
	o.done.Do(func() {
		var b []byte
		if b, o.err = c.a.Blobs.ReadAll(bundle, maxDocument); o.err == nil {
			o.err = o.decide(c.v, b, subject, predicate)
		}
	})
	return o
}

func (o *outcome) decide(v *evidence.Verifier, bundle []byte, subject digest.Digest, predicate string) error {
	vf, err := v.Verify(bundle, subject, predicate)
	if err != nil {
		return err
	}
	o.payload = digest.FromBytes(vf.Payload)
	switch predicate {
	case evidence.TypeProvenance:
		if o.plan, o.build, err = subjectsOf(vf.Predicate); err != nil {
			return err
		}
	case evidence.TypeRebuild:
		var p struct {
			Head digest.Digest `json:"head"`
		}
		if err := json.Unmarshal(vf.Predicate, &p); err != nil {
			return err
		}
		o.head = p.Head
	}
	o.verified = *vf
	o.verified.Payload, o.verified.Predicate, o.verified.DSSE, o.verified.Entry = nil, nil, nil, nil
	return nil
}

// signedBuild tells whether a build's provenance is among rows, verifies, and says
// exactly what the stored record says.
func (c *checker) signedBuild(rows []store.Evidence, st plan.Step, src plan.Source, b built) bool {
	source, err := json.Marshal(src)
	if err != nil {
		return false
	}
	about := func(row store.Evidence) bool {
		return row.PredicateType == evidence.TypeProvenance && row.Step == st.ID
	}
	key := func(row store.Evidence) verification {
		return c.key("build", row.Blob, string(b.Output.Digest), string(b.doc), string(st.ID), string(source))
	}
	// What is remembered costs little, so it comes first.
	for _, row := range slices.Backward(rows) {
		if !c.fresh && about(row) && c.remembers(key(row)) {
			return true
		}
	}
	for _, row := range slices.Backward(rows) {
		if !about(row) {
			continue
		}
		o := c.verify(row.Blob, b.Output.Digest, evidence.TypeProvenance)
		// Builder and key belong together: a later key cannot stand in for an earlier one.
		if o.err != nil || o.build != b.ID || o.verified.KeyID != signerOf(b.Builder) {
			continue
		}
		want, err := evidence.ProvenanceDigest(evidence.ProvenanceInput{Plan: o.plan, Step: st, Source: src, Build: b.Build}, c.known)
		if err == nil && want == o.payload {
			c.remember(key(row))
			return true
		}
	}
	return false
}

// signedRebuild tells whether the newest rebuild result is signed as it is stored.
func (c *checker) signedRebuild(rows []store.Evidence, last record.RebuildResult) (bool, error) {
	want, err := evidence.ResultDigest(last)
	if err != nil {
		return false, err
	}
	for _, row := range slices.Backward(rows) {
		if row.PredicateType != evidence.TypeRebuild || row.Step != last.Step {
			continue
		}
		k := c.key("rebuild", row.Blob, string(last.FirstDigest), string(want))
		if c.remembers(k) {
			return true, nil
		}
		if o := c.verify(row.Blob, last.FirstDigest, evidence.TypeRebuild); o.err == nil && o.head == want {
			c.remember(k)
			return true, nil
		}
	}
	return false, nil
}

// subjectsOf gives the plan and the build that a provenance names. Both only say
// what to compare the whole statement with, byte for byte; so in the spelling in
// which we write them they are looked for, and the rest is not read.
func subjectsOf(predicate []byte) (plan digest.Digest, build string, err error) {
	value := func(key string, at func(b, sep []byte) int) string {
		key = `"` + key + `":"`
		i := at(predicate, []byte(key))
		if i < 0 {
			return ""
		}
		v, _, _ := bytes.Cut(predicate[i+len(key):], []byte(`"`))
		return string(v)
	}
	plan, build = digest.Digest(value("plan", bytes.Index)), value("invocationId", bytes.LastIndex)
	if plan.Valid() && build != "" {
		return plan, build, nil
	}
	var p struct {
		BuildDefinition struct {
			External struct {
				Plan string `json:"plan"`
			} `json:"externalParameters"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Metadata struct {
				InvocationID string `json:"invocationId"`
			} `json:"metadata"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return "", "", err
	}
	plan, err = digest.Parse(p.BuildDefinition.External.Plan)
	return plan, p.RunDetails.Metadata.InvocationID, err
}
