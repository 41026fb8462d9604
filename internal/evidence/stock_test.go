package evidence_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/evidence/evidencetest"
)

// TestCosignRefusesTampering changes each part of an export in turn that a claim
// rests on: the stock verifier, with no network, takes none of them, and takes the
// export before and after. It makes the log's entry anew from signature, key and
// digest, and the root from the path, so it does not read what a bundle says of
// these; our own verifier refuses a change of any byte (TestFlipEveryByteOfTheText).
func TestCosignRefusesTampering(t *testing.T) {
	if testing.Short() {
		t.Skip("builds cosign on first use")
	}
	cosign, in, dir := evidencetest.Cosign(t), install(t), t.TempDir()
	prov := provenance(t, []byte("six"))
	signed := in.attest(t, provenance(t, []byte("other")), prov, provenance(t, []byte("third")))
	honest := map[string][]byte{"six.whl": []byte("six"), "key.pub": in.PublicKey(), "bundle.json": signed[1].Bundle, "trusted_root.json": in.trust.TrustedRoot}
	verify := func(changed string, b []byte) (string, error) {
		for name, h := range honest {
			if name == changed {
				h = b
			}
			if err := os.WriteFile(filepath.Join(dir, name), h, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		at := func(name string) string { return filepath.Join(dir, name) }
		return evidencetest.Offline(t, cosign, "verify-blob-attestation", "--key", at("key.pub"), "--bundle", at("bundle.json"),
			"--trusted-root", at("trusted_root.json"), "--use-signed-timestamps", "--type", "slsaprovenance1", at("six.whl"))
	}
	if out, err := verify("", nil); err != nil {
		t.Fatalf("as exported: %v\n%s", err, out)
	}
	flip := func(b []byte, i int) []byte {
		b = append([]byte{}, b...)
		b[i] ^= 1
		return b
	}
	// bits changes a byte in the middle of a value in base64.
	bits := func(v any) any {
		b, err := base64.StdEncoding.DecodeString(v.(string))
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(flip(b, len(b)/2))
	}
	payload := func(old, with string) func(any) any {
		return func(v any) any {
			b, err := base64.StdEncoding.DecodeString(v.(string))
			if err != nil || !strings.Contains(string(b), old) {
				t.Fatalf("%q is not in %s, %v", old, b, err)
			}
			return base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(b), old, with, 1)))
		}
	}
	cases := []struct {
		name, file, path string
		change           func(any) any // of the value at path; nil: a byte of the file
	}{
		{"file", "six.whl", "", nil},
		{"key", "key.pub", "", nil},
		{"the builder's name", "bundle.json", "dsseEnvelope/payload", payload("/hermetic", "/hermetiC")},
		{"the subject's digest", "bundle.json", "dsseEnvelope/payload", payload(prov.Subject.Digest.Hex()[:8], "00000000")},
		{"payload type", "bundle.json", "dsseEnvelope/payloadType", func(any) any { return "application/json" }},
		{"signature", "bundle.json", "dsseEnvelope/signatures/0/sig", bits},
		{"no signature", "bundle.json", "dsseEnvelope/signatures", func(any) any { return []any{} }},
		{"no log entry", "bundle.json", "verificationMaterial/tlogEntries", func(any) any { return []any{} }},
		{"index in the log", "bundle.json", "verificationMaterial/tlogEntries/0/logIndex", func(any) any { return "2" }},
		{"path in the log", "bundle.json", "verificationMaterial/tlogEntries/0/inclusionProof/hashes/0", bits},
		{"checkpoint", "bundle.json", "verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope", func(v any) any { return strings.Replace(v.(string), "\n3\n", "\n4\n", 1) }},
		{"time stamp", "bundle.json", "verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp", bits},
		{"no time stamp", "bundle.json", "verificationMaterial/timestampVerificationData/rfc3161Timestamps", func(any) any { return []any{} }},
		{"the log's key", "trusted_root.json", "tlogs/0/publicKey/rawBytes", bits},
		{"the time stamp's certificate", "trusted_root.json", "timestampAuthorities/0/certChain/certificates/0/rawBytes", bits},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := flip(honest[c.file], len(honest[c.file])/2)
			if c.change != nil {
				b = edit(t, honest[c.file], c.path, c.change)
			}
			if out, err := verify(c.file, b); err == nil {
				t.Errorf("cosign takes it:\n%s", out)
			}
		})
	}
	if out, err := verify("", nil); err != nil {
		t.Errorf("as exported, at the end: %v\n%s", err, out)
	}
}

// edit changes one value of a JSON document.
func edit(t *testing.T, doc []byte, path string, change func(any) any) []byte {
	t.Helper()
	var root any
	if err := json.Unmarshal(doc, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(v any, steps []string) any
	walk = func(v any, steps []string) any {
		if len(steps) == 0 {
			return change(v)
		}
		switch x := v.(type) {
		case map[string]any:
			if _, ok := x[steps[0]]; !ok {
				t.Fatalf("%s: there is no %s", path, steps[0])
			}
			x[steps[0]] = walk(x[steps[0]], steps[1:])
		case []any:
			i := int(steps[0][0] - '0')
			if i >= len(x) {
				t.Fatalf("%s: there is no %s", path, steps[0])
			}
			x[i] = walk(x[i], steps[1:])
		default:
			t.Fatalf("%s: nothing below %v", path, v)
		}
		return v
	}
	b, err := json.Marshal(walk(root, strings.Split(path, "/")))
	if err != nil {
		t.Fatal(err)
	}
	if string(b) == string(doc) {
		t.Fatalf("%s: nothing was changed", path)
	}
	return b
}
