package evidence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// installation is an authority over folders of its own.
type installation struct {
	*evidence.Authority
	dir   string
	trust evidence.Trust
}

func install(t testing.TB) *installation {
	t.Helper()
	in := &installation{dir: t.TempDir()}
	in.open(t)
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	return in
}

func (in *installation) open(t testing.TB) {
	t.Helper()
	ks, err := keys.Open(filepath.Join(in.dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := evidence.Open(context.Background(), evidence.Config{Dir: in.logDir(), Keys: ks})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	in.Authority, in.trust = a, evidence.Trust{TrustedRoot: tr, PublicKey: a.PublicKey()}
}

func (in *installation) logDir() string { return filepath.Join(in.dir, "log") }

func (in *installation) attest(t testing.TB, ss ...evidence.Statement) []evidence.Signed {
	t.Helper()
	out, err := in.AttestAll(context.Background(), ss)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func note(file string, content []byte) evidence.Statement {
	return evidence.Statement{
		Subject:       evidence.Subject{Name: file, Digest: digest.FromBytes(content)},
		PredicateType: "urn:hallmark:test:v1",
		Predicate:     map[string]any{"file": file},
	}
}

func TestAttestAndVerify(t *testing.T) {
	in := install(t)
	var ss []evidence.Statement
	for i := range 300 { // more than one tile
		ss = append(ss, note(fmt.Sprintf("f%d", i), fmt.Appendf(nil, "content %d", i)))
	}
	begin := time.Now()
	signed := in.attest(t, ss...)
	t.Logf("%d statements in %v", len(ss), time.Since(begin))
	v, err := evidence.NewVerifier(in.trust)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for i, s := range signed {
		if i%37 != 0 && i < 250 {
			continue
		}
		got, err := v.Verify(s.Bundle, ss[i].Subject.Digest, ss[i].PredicateType)
		if err != nil {
			t.Fatalf("statement %d: %v", i, err)
		}
		if got.Subject.Name != ss[i].Subject.Name || got.LogIndex != s.LogIndex || seen[got.LogIndex] {
			t.Fatalf("statement %d came back as %+v", i, got)
		}
		if got.KeyID != in.KeyID() || got.Time.Before(begin.Add(-2*time.Second)) || got.Time.After(time.Now().Add(time.Second)) {
			t.Fatalf("statement %d: key %s, time %v", i, got.KeyID, got.Time)
		}
		if !bytes.Equal(got.Payload, s.Statement) || s.Digest != digest.FromBytes(s.Bundle) {
			t.Fatalf("statement %d: payload or digest do not belong to it", i)
		}
		seen[got.LogIndex] = true
		if err := evidence.CheckConsistency(context.Background(), in.logDir(), in.LogKey(), got); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := evidence.CheckLog(context.Background(), in.logDir(), in.LogKey()); err != nil || n != 300 {
		t.Fatalf("size %d, %v", n, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	in := install(t)
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 3 {
				ss := []evidence.Statement{note("a", fmt.Append(nil, g, i)), note("b", fmt.Append(nil, i, g))}
				out, err := in.AttestAll(context.Background(), ss)
				if err != nil {
					t.Error(err)
					return
				}
				for k, s := range out {
					if v, err := evidence.Verify(s.Bundle, in.trust, ss[k].Subject.Digest, ss[k].PredicateType); err != nil || v.Subject.Name != ss[k].Subject.Name {
						t.Errorf("order or evidence lost: %v", err)
					}
					mu.Lock()
					seen[s.LogIndex] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != 48 {
		t.Errorf("%d entries have an index of their own, want 48", len(seen))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := in.AttestAll(ctx, []evidence.Statement{note("a", nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestMoreThanTheStoreTakes logs more at once than the log's store holds before
// it pushes back.
func TestMoreThanTheStoreTakes(t *testing.T) {
	if testing.Short() {
		t.Skip("signs 5,000 statements")
	}
	in := install(t)
	var ss []evidence.Statement
	for i := range 5000 {
		ss = append(ss, note("f", fmt.Append(nil, i)))
	}
	signed := in.attest(t, ss...)
	v, err := evidence.NewVerifier(in.trust)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1024, 4999} {
		if _, err := v.Verify(signed[i].Bundle, ss[i].Subject.Digest, ss[i].PredicateType); err != nil {
			t.Errorf("statement %d: %v", i, err)
		}
	}
	if n, err := evidence.CheckLog(context.Background(), in.logDir(), in.LogKey()); n != 5000 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
}

func TestVerifySaysWhichCheckFailed(t *testing.T) {
	in, other := install(t), install(t)
	s := note("a.whl", []byte("a"))
	signed := in.attest(t, s)[0]
	otherSigned := other.attest(t, s)[0]
	art := s.Subject.Digest
	for _, c := range []struct {
		name   string
		bundle []byte
		trust  evidence.Trust
		art    digest.Digest
		typ    string
		says   string
	}{
		{"another file", signed.Bundle, in.trust, digest.FromBytes([]byte("b")), s.PredicateType, "file:"},
		{"another type", signed.Bundle, in.trust, art, evidence.TypeProvenance, "type:"},
		{"another key", signed.Bundle, evidence.Trust{TrustedRoot: in.trust.TrustedRoot, PublicKey: other.trust.PublicKey}, art, s.PredicateType, "key:"},
		{"another log", signed.Bundle, evidence.Trust{TrustedRoot: other.trust.TrustedRoot, PublicKey: in.trust.PublicKey}, art, s.PredicateType, "log:"},
		{"another's bundle", otherSigned.Bundle, in.trust, art, s.PredicateType, "key:"},
		{"no bundle", []byte("{}"), in.trust, art, s.PredicateType, "bundle:"},
		{"bare envelope", signed.DSSE, in.trust, art, s.PredicateType, "bundle:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := evidence.Verify(c.bundle, c.trust, c.art, c.typ)
			if !fault.Is(err, fault.Unverified) || !strings.HasPrefix(err.Error(), c.says) {
				t.Errorf("got %v, want unverified, %q", err, c.says)
			}
		})
	}
}

func TestReopenGoesOn(t *testing.T) {
	in := install(t)
	first := in.attest(t, note("a", []byte("a")))[0]
	root := in.trust.TrustedRoot
	for i := range 3 {
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		in.open(t)
		if got := in.attest(t, note("b", fmt.Append(nil, i)))[0].LogIndex; got != int64(i+1) {
			t.Fatalf("index %d after reopening, want %d", got, i+1)
		}
	}
	if !bytes.Equal(root, in.trust.TrustedRoot) {
		t.Error("the trusted root changed")
	}
	v, err := evidence.Verify(first.Bundle, in.trust, digest.FromBytes([]byte("a")), "urn:hallmark:test:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := evidence.CheckConsistency(context.Background(), in.logDir(), in.LogKey(), v); err != nil {
		t.Error(err)
	}
}

func TestOneWriter(t *testing.T) {
	in := install(t)
	ks, err := keys.Open(filepath.Join(in.dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Open(context.Background(), evidence.Config{Dir: in.logDir(), Keys: ks}); !fault.Is(err, fault.Conflict) {
		t.Errorf("second writer: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.AttestAll(context.Background(), []evidence.Statement{note("a", nil)}); !fault.Is(err, fault.Conflict) {
		t.Errorf("closed authority: %v", err)
	}
	other, err := keys.Open(filepath.Join(in.dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Open(context.Background(), evidence.Config{Dir: in.logDir(), Keys: other}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("log of another key: %v", err)
	}
}

func TestExternalURL(t *testing.T) {
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"ftp://x", "localhost", "http://", "http://u:p@x", "http://x/?q", "http://x/#f"} {
		if _, err := evidence.Open(context.Background(), evidence.Config{Dir: t.TempDir(), Keys: ks, ExternalURL: bad}); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	a, err := evidence.Open(context.Background(), evidence.Config{Dir: t.TempDir(), Keys: ks, ExternalURL: "https://h.example/x/"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, want := a.BuilderID("hermetic"), "https://h.example/x/builder/"+a.KeyID()+"/hermetic"; got != want {
		t.Errorf("builder id %s, want %s", got, want)
	}
	if got, want := a.VerifierID(), "https://h.example/x/verifier/"+a.KeyID(); got != want {
		t.Errorf("verifier id %s, want %s", got, want)
	}
}

// A clock behind the newest time stamp signs nothing, unless somebody says that it
// was wrong then; one that steps back by seconds stands still.
func TestClockSetBack(t *testing.T) {
	for name, c := range map[string]struct {
		behind time.Duration
		accept bool
		signs  bool
		stamp  time.Duration // relative to the clock
	}{
		"right":              {-time.Hour, false, true, 0},
		"a step back":        {5 * time.Second, false, true, 5 * time.Second},
		"set back":           {time.Minute, false, false, 0},
		"set back, accepted": {24 * time.Hour, true, true, 0},
		"a step, accepted":   {5 * time.Second, true, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ks, err := keys.Open(filepath.Join(dir, "keys"))
			if err != nil {
				t.Fatal(err)
			}
			now := ks.Leaf.NotBefore.Add(48 * time.Hour).Truncate(time.Second)
			a, err := evidence.Open(t.Context(), evidence.Config{Dir: filepath.Join(dir, "log"), Keys: ks,
				Now: func() time.Time { return now }, Last: now.Add(c.behind), AcceptClock: c.accept})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			for i := range 2 { // what was accepted once stays so
				signed, err := a.AttestAll(t.Context(), []evidence.Statement{note(fmt.Sprint("a", i), nil)})
				if !c.signs {
					if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "--accept-clock") {
						t.Errorf("signed: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				tr, err := a.TrustedRoot()
				if err != nil {
					t.Fatal(err)
				}
				v, err := evidence.NewVerifier(evidence.Trust{TrustedRoot: tr, PublicKey: a.PublicKey()})
				if err != nil {
					t.Fatal(err)
				}
				got, err := v.Verify(signed[0].Bundle, digest.FromBytes(nil), "urn:hallmark:test:v1")
				if err != nil {
					t.Fatal(err)
				}
				if want := now.Add(c.stamp); !got.Time.Equal(want) {
					t.Errorf("stamped %s, want %s", got.Time, want)
				}
			}
		})
	}
}

func TestClockOutsideOfTheCertificate(t *testing.T) {
	dir := t.TempDir()
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	now := ks.Leaf.NotBefore.Add(-time.Second)
	a, err := evidence.Open(context.Background(), evidence.Config{Dir: filepath.Join(dir, "log"), Keys: ks, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.AttestAll(context.Background(), []evidence.Statement{note("a", nil)}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("clock before the certificate: %v", err)
	}
	now = ks.Leaf.NotAfter.Add(-time.Minute)
	signed, err := a.AttestAll(context.Background(), []evidence.Statement{note("a", nil)})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	v, err := evidence.Verify(signed[0].Bundle, evidence.Trust{TrustedRoot: tr, PublicKey: a.PublicKey()}, digest.FromBytes(nil), "urn:hallmark:test:v1")
	if err != nil || !v.Time.Equal(now.Truncate(time.Second)) {
		t.Errorf("stamped %v, want %v: %v", v, now, err)
	}
}

// TestStockTools is the point of it all: programs that others wrote accept the
// evidence, and refuse it for another file, key or log, with no network at all.
func TestStockTools(t *testing.T) {
	if testing.Short() {
		t.Skip("builds cosign and slsa-verifier on first use")
	}
	cosign, slsa := evidencetest.Cosign(t), evidencetest.SLSAVerifier(t)
	in, other := install(t), install(t)
	dir := t.TempDir()
	put := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	file, wrong := put("six.whl", []byte("six")), put("evil.whl", []byte("evil"))
	key, otherKey := put("key.pub", in.PublicKey()), put("other.pub", other.PublicKey())
	tr, otherTR := put("trusted_root.json", in.trust.TrustedRoot), put("other_root.json", other.trust.TrustedRoot)

	prov := provenance(t, []byte("six"))
	reb := rebuild(t, prov.Subject)
	passed, failed := summary(t, in, prov.Subject, true), summary(t, in, prov.Subject, false)
	signed := in.attest(t, prov, reb, passed, failed)
	for i, typ := range []string{"slsaprovenance1", evidence.TypeRebuild, evidence.TypeVSA, evidence.TypeVSA} {
		b := put(fmt.Sprintf("b%d.json", i), signed[i].Bundle)
		run := func(key, root, file string) (string, error) {
			return evidencetest.Offline(t, cosign, "verify-blob-attestation", "--key", key, "--bundle", b,
				"--trusted-root", root, "--use-signed-timestamps", "--type", typ, file)
		}
		if out, err := run(key, tr, file); err != nil {
			t.Errorf("cosign refuses statement %d (%s): %v\n%s", i, typ, err, out)
		}
		for what, f := range map[string]func() (string, error){
			"file": func() (string, error) { return run(key, tr, wrong) },
			"key":  func() (string, error) { return run(otherKey, tr, file) },
			"log":  func() (string, error) { return run(key, otherTR, file) },
		} {
			if out, err := f(); err == nil {
				t.Errorf("cosign takes statement %d for another %s:\n%s", i, what, out)
			} else if i == 0 {
				t.Logf("another %s: %s", what, out)
			}
		}
	}
	vsa := func(i int, key string, d digest.Digest, levels ...string) (string, error) {
		args := []string{"verify-vsa", "--subject-digest", string(d), "--attestation-path", put(fmt.Sprintf("b%d.dsse.json", i), signed[i].DSSE),
			"--verifier-id", in.VerifierID(), "--resource-uri", "pkg:pypi/six@1.17.0", "--public-key-path", key}
		for _, l := range levels {
			args = append(args, "--verified-level", l)
		}
		return evidencetest.Offline(t, slsa, args...)
	}
	d := prov.Subject.Digest
	if out, err := vsa(2, key, d, "SLSA_BUILD_LEVEL_1", "HALLMARK_SECURE"); err != nil {
		t.Errorf("slsa-verifier refuses the summary of a secure artifact: %v\n%s", err, out)
	}
	if out, err := vsa(2, key, d, "SLSA_BUILD_LEVEL_3"); err == nil {
		t.Errorf("slsa-verifier sees a level that was not claimed:\n%s", out)
	}
	if out, err := vsa(2, otherKey, d, "SLSA_BUILD_LEVEL_1"); err == nil {
		t.Errorf("slsa-verifier takes another key:\n%s", out)
	}
	if out, err := vsa(2, key, digest.FromBytes([]byte("evil")), "SLSA_BUILD_LEVEL_1"); err == nil {
		t.Errorf("slsa-verifier takes another file:\n%s", out)
	}
	if out, err := vsa(3, key, d); err == nil || !strings.Contains(out, "FAILED") {
		t.Errorf("slsa-verifier on the summary of a community artifact: %v\n%s", err, out)
	}
}

// TestREADMECommands runs every command of an exported README as it stands.
func TestREADMECommands(t *testing.T) {
	if testing.Short() {
		t.Skip("builds cosign and slsa-verifier on first use")
	}
	path := filepath.Dir(evidencetest.Cosign(t)) + ":" + filepath.Dir(evidencetest.SLSAVerifier(t)) + ":" + os.Getenv("PATH")
	in := install(t)
	prov := provenance(t, []byte("six"))
	for _, secure := range []bool{true, false} {
		dir := t.TempDir()
		signed := in.attest(t, prov, rebuild(t, prov.Subject), summary(t, in, prov.Subject, secure))
		text, err := evidence.README(evidence.ReadmeInput{
			File: prov.Subject.Name, Digest: prov.Subject.Digest, PURL: "pkg:pypi/six@1.17.0", Secure: secure,
			Policy: "urn:hallmark:policy:first-light:v1", Builder: in.BuilderID("hermetic"), Verifier: in.VerifierID(),
			Level: evidence.LevelBuild1, KeyID: in.KeyID(), Newest: began, Rebuild: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{
			prov.Subject.Name: []byte("six"), "README": text, "key.pub": in.PublicKey(), "trusted_root.json": in.trust.TrustedRoot,
			"provenance.sigstore.json": signed[0].Bundle, "rebuild.sigstore.json": signed[1].Bundle,
			"vsa.sigstore.json": signed[2].Bundle, "vsa.dsse.json": signed[2].DSSE,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		commands := 0
		for line := range strings.Lines(string(text)) {
			command, ok := strings.CutPrefix(line, "    ")
			if !ok {
				continue
			}
			commands++
			out, err := evidencetest.Offline(t, "/bin/sh", "-c", "cd '"+dir+"' && PATH='"+path+"' && "+command)
			if refuse := !secure && strings.HasPrefix(command, "slsa-verifier"); refuse != (err != nil) {
				t.Errorf("secure %v: %s%v\n%s", secure, command, err, out)
			}
		}
		if commands != 6 {
			t.Errorf("the README has %d commands, want 6", commands)
		}
	}
}
