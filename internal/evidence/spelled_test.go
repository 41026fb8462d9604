package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"hallmark/internal/digest"
	"hallmark/internal/keys"
)

// signedHere gives bundles in logs of some sizes, with an authority that made them.
func signedHere(t testing.TB, sizes ...int) (*Authority, *Verifier, []Statement, [][]byte) {
	t.Helper()
	dir := t.TempDir()
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(context.Background(), Config{Dir: filepath.Join(dir, "log"), Keys: ks})
	if err != nil {
		t.Fatal(err)
	}
	var all []Statement
	var bundles [][]byte
	for _, n := range sizes {
		var ss []Statement
		for i := range n {
			ss = append(ss, Statement{
				Subject:       Subject{Name: fmt.Sprintf("file-%d-ü.whl", i), Digest: digest.FromBytes(fmt.Appendf(nil, "%d %d", n, i))},
				PredicateType: TypeRebuild,
				Predicate:     map[string]any{"predicateType": "no", "text": `,"predicateType":"` + TypeRebuild + `","subject":[{`, "n": 1.5},
			})
		}
		signed, err := a.AttestAll(context.Background(), ss)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range signed {
			bundles = append(bundles, s.Bundle)
		}
		all = append(all, ss...)
	}
	// The log's own goroutines would look to a fuzzer like news about its input.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(Trust{TrustedRoot: root, PublicKey: a.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return a, v, all, bundles
}

// TestSpelledIsAsJudged: what is written here is accepted the short way, and comes
// out as the whole verification gives it.
func TestSpelledIsAsJudged(t *testing.T) {
	_, v, ss, bundles := signedHere(t, 1, 2, 3, 9)
	for i, b := range bundles {
		got, ok := v.spelled(b, ss[i].Subject.Digest, ss[i].PredicateType)
		if !ok {
			t.Fatalf("bundle %d is not accepted the short way: %s", i, b)
		}
		want, err := v.VerifyWhole(b, ss[i].Subject.Digest, ss[i].PredicateType)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("bundle %d: %+v, the whole verification gives %+v", i, got, want)
		}
		for _, other := range []digest.Digest{digest.FromBytes([]byte("other")), ss[(i+1)%len(ss)].Subject.Digest} {
			if _, ok := v.spelled(b, other, ss[i].PredicateType); ok {
				t.Errorf("bundle %d is accepted about another file", i)
			}
		}
		if _, ok := v.spelled(b, ss[i].Subject.Digest, TypeVSA); ok {
			t.Errorf("bundle %d is accepted as another type", i)
		}
	}
}

// TestSpelledRefusesWhatIsJudgedFalse changes what a bundle says, and spells it
// well: the short way accepts none, whatever the whole verification says.
func TestSpelledRefusesWhatIsJudgedFalse(t *testing.T) {
	a, v, ss, bundles := signedHere(t, 5)
	_, _, _, foreign := signedHere(t, 5)
	read := func(b []byte) *parts {
		p, ok := readParts(b)
		if !ok {
			t.Fatalf("cannot be read: %s", b)
		}
		return &p
	}
	long := sha512.Sum512(read(bundles[1]).sig)
	other, err := (&timestamp.Timestamp{HashAlgorithm: crypto.SHA512, HashedMessage: long[:], Time: time.Now().UTC(), Policy: []int{2, 5, 29, 32, 0},
		AddTSACertificate: true}).CreateResponseWithOpts(a.keys.Leaf, a.keys.Timestamp, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(p *parts){
		"payload":          func(p *parts) { p.payload[len(p.payload)/2] ^= 1 },
		"signature":        func(p *parts) { p.sig[len(p.sig)-1] ^= 1 },
		"another's":        func(p *parts) { p.sig = read(bundles[2]).sig },
		"hint":             func(p *parts) { p.hint = read(foreign[1]).hint },
		"entry":            func(p *parts) { p.body[len(p.body)/2] ^= 1 },
		"another's entry":  func(p *parts) { p.body = read(bundles[2]).body },
		"another's index":  func(p *parts) { p.index, p.proofIndex = 2, 2 },
		"index":            func(p *parts) { p.index = 2 },
		"proof's index":    func(p *parts) { p.proofIndex = 2 },
		"size":             func(p *parts) { p.size++ },
		"root":             func(p *parts) { p.root[0] ^= 1 },
		"a hash":           func(p *parts) { p.hashes[0][0] ^= 1 },
		"a hash less":      func(p *parts) { p.hashes = p.hashes[1:] },
		"log":              func(p *parts) { p.logID = read(foreign[1]).logID },
		"checkpoint":       func(p *parts) { p.checkpoint = read(foreign[1]).checkpoint },
		"signed twice":     func(p *parts) { p.checkpoint += "\u2014 other AAAAAAAA\n" },
		"cut checkpoint":   func(p *parts) { p.checkpoint = p.checkpoint[:len(p.checkpoint)-1] },
		"stamp":            func(p *parts) { p.token[len(p.token)-1] ^= 1 },
		"another's stamp":  func(p *parts) { p.token = read(bundles[2]).token },
		"foreign stamp":    func(p *parts) { p.token = read(foreign[1]).token },
		"stamp of SHA-512": func(p *parts) { p.token = other },
		"longer stamp":     func(p *parts) { p.token = append(p.token, 0) },
	} {
		p := read(bundles[1])
		spoil(p)
		b, err := canonicalBundle(p.message())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := v.spelled(b, ss[1].Subject.Digest, ss[1].PredicateType); ok {
			t.Errorf("%s: accepted", name)
		}
		if _, err := v.VerifyWhole(b, ss[1].Subject.Digest, ss[1].PredicateType); err == nil {
			t.Errorf("%s: the whole verification accepts it", name)
		}
	}
}

// TestSpelledFlips changes bytes of the text: the short way accepts none.
func TestSpelledFlips(t *testing.T) {
	_, v, ss, bundles := signedHere(t, 4)
	orig := bundles[1]
	for i := range orig {
		for _, b := range [][]byte{flipped(orig, i, 1), flipped(orig, i, 0x20), slices.Delete(bytes.Clone(orig), i, i+1), slices.Insert(bytes.Clone(orig), i, orig[i])} {
			if bytes.Equal(b, orig) {
				continue
			}
			if _, ok := v.spelled(b, ss[1].Subject.Digest, ss[1].PredicateType); ok {
				t.Errorf("accepted with byte %d changed: …%s…", i, b[max(0, i-20):min(len(b), i+20)])
			}
		}
	}
}

func flipped(b []byte, i int, bit byte) []byte {
	b = bytes.Clone(b)
	b[i] ^= bit
	return b
}

// TestPartsAreReadAsWritten: what can be said with the fields of our bundles is
// read from its canonical form.
func TestPartsAreReadAsWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	raw := func() []byte {
		b := make([]byte, 1+r.IntN(70))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for range 2000 {
		want := parts{payload: raw(), sig: raw(), hint: "a+/<&>b=", token: raw(), body: raw(), checkpoint: "o\n1\n\u2014 x <y>\n", root: raw(),
			size: 1 + r.Int64()>>r.IntN(63), logID: raw(), index: r.Int64() >> r.IntN(64), proofIndex: r.Int64() >> r.IntN(64)}
		for range r.IntN(4) {
			want.hashes = append(want.hashes, raw())
		}
		b, err := canonicalBundle(want.message())
		if err != nil {
			t.Fatal(err)
		}
		got, ok := readParts(b)
		want.payload64, want.sig64 = got.payload64, got.sig64
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s is read as %+v, %t", b, got, ok)
		}
	}
}

// FuzzParts: what is read of a bundle is what the stock reader reads, and is in
// its one spelling (readParts).
func FuzzParts(f *testing.F) {
	_, _, _, bundles := signedHere(f, 1, 3)
	for _, b := range bundles {
		f.Add(b)
	}
	small := parts{payload: []byte("p"), sig: []byte("s"), hint: "h", token: []byte("t"), body: []byte("b"), checkpoint: "c\n\u2014", root: []byte("r"), size: 1, logID: []byte("i"), index: 1}
	b, err := canonicalBundle(small.message())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(bytes.Replace(b, []byte(`"cA=="`), []byte(`"cB=="`), 1))
	f.Add(bytes.Replace(b, []byte(`"cA=="`), []byte(`"cA="`), 1))
	f.Add(bytes.Replace(b, []byte(`"cA=="`), []byte("\"cA==\n\""), 1))
	f.Add(bytes.Replace(b, []byte(`"treeSize":"1"`), []byte(`"treeSize":"01"`), 1))
	f.Add(bytes.Replace(b, []byte(`"treeSize":"1"`), []byte(`"treeSize":"+1"`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := readParts(b)
		if !ok {
			return
		}
		m := new(bundlepb.Bundle)
		if err := protojson.Unmarshal(b, m); err != nil || !proto.Equal(m, p.message()) {
			t.Fatalf("%s is read as %+v, by the stock reader as %v, %v", b, p, m, err)
		}
		if again, err := canonicalBundle(m); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s is canonically %s, %v", b, again, err)
		}
		if env, err := bare(p.payload, p.sig); err != nil || !bytes.Equal(env, p.envelope()) {
			t.Fatalf("bare envelope %s, want %s", p.envelope(), env)
		}
	})
}

// FuzzSpelledStatement: what is read of a statement is what a reader of JSON reads.
func FuzzSpelledStatement(f *testing.F) {
	d := digest.FromBytes(nil)
	s := Statement{Subject: Subject{Name: "n", Digest: d}, PredicateType: TypeVSA, Predicate: map[string]any{"a": []any{1}}}
	b, err := s.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	if _, ok := spelledStatement(b, d, TypeVSA); !ok {
		f.Fatalf("not read: %s", b)
	}
	f.Add(b)
	f.Add(bytes.Replace(b, []byte(`{"a":[1]}`), nil, 1))
	f.Add(bytes.Replace(b, []byte(`{"a":[1]}`), []byte(`{},"subject":[],"x":{}`), 1))
	f.Add(bytes.Replace(b, []byte(`{"a":[1]}`), []byte(` {}`), 1))
	f.Add(bytes.Replace(b, []byte(`"n"`), []byte(`"\u006e"`), 1))
	f.Add(bytes.Replace(b, []byte(`"n"`), []byte(`"n","digest":{}`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := spelledStatement(b, d, TypeVSA)
		if !ok {
			return
		}
		want, err := readStatement(b, d)
		if err != nil || !reflect.DeepEqual(got, want) || got.PredicateType != TypeVSA {
			t.Fatalf("%q is read as %+v, want %+v, %v", b, got, want, err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(b, &fields); err != nil || len(fields) != 4 {
			t.Fatalf("%q has other fields: %v, %v", b, fields, err)
		}
	})
}

// BenchmarkVerify is one verification of a bundle whose statement is as long as a
// provenance is.
func BenchmarkVerify(b *testing.B) {
	a, v, _, _ := signedHere(b, 1)
	var deps []map[string]string
	for i := range 300 {
		h := sha256.Sum256([]byte{byte(i)})
		deps = append(deps, map[string]string{"name": fmt.Sprint("package-", i), "digest": fmt.Sprintf("%x", h)})
	}
	s := Statement{Subject: Subject{Name: "f", Digest: digest.FromBytes(nil)}, PredicateType: TypeProvenance, Predicate: map[string]any{"deps": deps}}
	again, err := Open(context.Background(), Config{Dir: a.log.dir, Keys: a.keys})
	if err != nil {
		b.Fatal(err)
	}
	signed, err := again.AttestAll(context.Background(), []Statement{s})
	if err != nil {
		b.Fatal(err)
	}
	if err := again.Close(); err != nil {
		b.Fatal(err)
	}
	for name, verify := range map[string]func([]byte, digest.Digest, string) (*Verified, error){"short": v.Verify, "whole": v.VerifyWhole} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := verify(signed[0].Bundle, s.Subject.Digest, s.PredicateType); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
