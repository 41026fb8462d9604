package evidence_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"hallmark/internal/evidence"
	"hallmark/internal/fault"
)

// tampered is one bundle with what is needed to check changed copies of it.
type tampered struct {
	v    *evidence.Verifier
	s    evidence.Statement
	orig *bundlepb.Bundle
	want *evidence.Verified
	json []byte
}

func newTampered(t testing.TB) *tampered {
	t.Helper()
	in := install(t)
	// Neighbours, so that the proof has hashes.
	ss := []evidence.Statement{note("a", []byte("a")), note("b", []byte("b")), note("c", []byte("c")), note("d", []byte("d")), note("e", []byte("e"))}
	signed := in.attest(t, ss...)
	// The log's own goroutines would look to a fuzzer like news about its input.
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := evidence.NewVerifier(in.trust)
	if err != nil {
		t.Fatal(err)
	}
	c := &tampered{v: v, s: ss[1], orig: new(bundlepb.Bundle), json: signed[1].Bundle}
	if err := protojson.Unmarshal(c.json, c.orig); err != nil {
		t.Fatal(err)
	}
	if c.want, err = v.Verify(c.json, c.s.Subject.Digest, c.s.PredicateType); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *tampered) verify(b []byte) (*evidence.Verified, error) {
	return c.v.Verify(b, c.s.Subject.Digest, c.s.PredicateType)
}

// TestFlipEveryByteOfEveryField changes each byte of everything binary in a
// bundle, one at a time: none may be accepted.
func TestFlipEveryByteOfEveryField(t *testing.T) {
	c := newTampered(t)
	str := func(s *string) (func() []byte, func([]byte)) {
		return func() []byte { return []byte(*s) }, func(b []byte) { *s = string(b) }
	}
	raw := func(p *[]byte) (func() []byte, func([]byte)) {
		return func() []byte { return *p }, func(b []byte) { *p = b }
	}
	type field struct {
		name string
		of   func(b *bundlepb.Bundle) (func() []byte, func([]byte))
	}
	fields := []field{
		{"payload", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) { return raw(&b.GetDsseEnvelope().Payload) }},
		{"payload type", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) { return str(&b.GetDsseEnvelope().PayloadType) }},
		{"signature", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.GetDsseEnvelope().Signatures[0].Sig)
		}},
		{"hint", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return str(&b.VerificationMaterial.GetPublicKey().Hint)
		}},
		{"log id", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.VerificationMaterial.TlogEntries[0].LogId.KeyId)
		}},
		{"log entry", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.VerificationMaterial.TlogEntries[0].CanonicalizedBody)
		}},
		{"entry kind", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return str(&b.VerificationMaterial.TlogEntries[0].KindVersion.Kind)
		}},
		{"entry version", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return str(&b.VerificationMaterial.TlogEntries[0].KindVersion.Version)
		}},
		{"root", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.VerificationMaterial.TlogEntries[0].InclusionProof.RootHash)
		}},
		{"checkpoint", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return str(&b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint.Envelope)
		}},
		{"time stamp", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp)
		}},
	}
	hashes := c.orig.VerificationMaterial.TlogEntries[0].InclusionProof.Hashes
	if len(hashes) == 0 {
		t.Fatal("the proof has no hashes to change")
	}
	for i := range hashes {
		fields = append(fields, field{"proof", func(b *bundlepb.Bundle) (func() []byte, func([]byte)) {
			return raw(&b.VerificationMaterial.TlogEntries[0].InclusionProof.Hashes[i])
		}})
	}
	for _, f := range fields {
		get, _ := f.of(c.orig)
		accepted := 0
		for i := range get() {
			for _, bit := range []byte{0x01, 0x80} {
				b := proto.CloneOf(c.orig)
				get, set := f.of(b)
				changed := bytes.Clone(get())
				changed[i] ^= bit
				set(changed)
				j, err := spell(b)
				if err != nil {
					continue // not UTF-8: cannot even be written
				}
				if _, err := c.verify(j); err == nil {
					accepted++
					t.Errorf("%s: accepted with byte %d of %d changed by %#x", f.name, i, len(changed), bit)
				} else if !fault.Is(err, fault.Unverified) {
					t.Errorf("%s, byte %d: not said to be unverified: %v", f.name, i, err)
				}
			}
		}
		t.Logf("%-14s %4d bytes, %d accepted", f.name, len(get()), accepted)
	}
}

// TestTakeApart leaves out, doubles and exchanges whole parts.
func TestTakeApart(t *testing.T) {
	c, other := newTampered(t), newTampered(t)
	for name, spoil := range map[string]func(b *bundlepb.Bundle){
		"no log entry":       func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"log entry twice":    func(b *bundlepb.Bundle) { e := &b.VerificationMaterial.TlogEntries; *e = append(*e, (*e)[0]) },
		"no proof":           func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof = nil },
		"no checkpoint":      func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint = nil },
		"no time stamp":      func(b *bundlepb.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		"no signature":       func(b *bundlepb.Bundle) { b.GetDsseEnvelope().Signatures = nil },
		"signature twice":    func(b *bundlepb.Bundle) { s := &b.GetDsseEnvelope().Signatures; *s = append(*s, (*s)[0]) },
		"a keyid":            func(b *bundlepb.Bundle) { b.GetDsseEnvelope().Signatures[0].Keyid = "x" },
		"an integrated time": func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime = 1 },
		"another index":      func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex++ },
		"another proof index": func(b *bundlepb.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionProof.LogIndex++
		},
		"another size": func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof.TreeSize++ },
		"negative":     func(b *bundlepb.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex = -1 },
		"another's time stamp": func(b *bundlepb.Bundle) {
			b.VerificationMaterial.TimestampVerificationData = other.orig.VerificationMaterial.TimestampVerificationData
		},
		"another's log entry": func(b *bundlepb.Bundle) {
			b.VerificationMaterial.TlogEntries = other.orig.VerificationMaterial.TlogEntries
		},
		"a promise": func(b *bundlepb.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionPromise = nil
			b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1"
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := proto.CloneOf(c.orig)
			spoil(b)
			j, err := spell(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.verify(j); !fault.Is(err, fault.Unverified) {
				t.Errorf("got %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

// spell writes a bundle as ours are written, so that nothing but what was changed
// speaks against it.
func spell(b *bundlepb.Bundle) ([]byte, error) {
	j, err := protojson.Marshal(b)
	if err != nil {
		return nil, err
	}
	return jsoncanonicalizer.Transform(j)
}

// TestFlipEveryByteOfTheText changes each byte of the JSON in several ways, takes
// it out and doubles it: none is accepted, not even where it would say the same.
func TestFlipEveryByteOfTheText(t *testing.T) {
	c := newTampered(t)
	bits := []byte{1, 0x20, 0x80}
	if testing.Short() {
		bits = bits[:1]
	}
	try := func(what string, i int, b []byte) {
		if _, err := c.verify(b); err == nil {
			t.Errorf("accepted with byte %d %s: …%s…", i, what, b[max(0, i-20):min(len(b), i+20)])
		}
	}
	for i := range c.json {
		for _, bit := range bits {
			b := bytes.Clone(c.json)
			b[i] ^= bit
			try("changed", i, b)
		}
		if !testing.Short() {
			try("taken out", i, slices.Delete(bytes.Clone(c.json), i, i+1))
			try("doubled", i, slices.Insert(bytes.Clone(c.json), i, c.json[i]))
		}
	}
	for _, b := range [][]byte{append([]byte(" "), c.json...), append(bytes.Clone(c.json), '\n'),
		bytes.Replace(c.json, []byte("{"), []byte(`{"unknown":1,`), 1), bytes.Replace(c.json, []byte("a"), []byte(`\u0061`), 1)} {
		try("spelled otherwise", 0, b)
	}
}

// FuzzVerify feeds foreign bundles: it neither panics nor accepts what was not
// signed.
func FuzzVerify(f *testing.F) {
	c := newTampered(f)
	f.Add(c.json)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.verify(b); err == nil && !bytes.Equal(b, c.json) {
			t.Errorf("accepted: %s", b)
		}
		if _, err := evidence.StatementOf(b); err != nil && !fault.Is(err, fault.Hostile) {
			t.Errorf("StatementOf: %v", err)
		}
	})
}

// FuzzNewVerifier feeds foreign trusted roots and keys.
func FuzzNewVerifier(f *testing.F) {
	in := install(f)
	f.Add(in.trust.TrustedRoot, in.trust.PublicKey)
	f.Add([]byte(`{"tlogs":[{}]}`), in.trust.PublicKey)
	f.Fuzz(func(t *testing.T, tr, pub []byte) {
		if _, err := evidence.NewVerifier(evidence.Trust{TrustedRoot: tr, PublicKey: pub}); err != nil && !fault.Is(err, fault.Unverified) {
			t.Error(err)
		}
	})
}
