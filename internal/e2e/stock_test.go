package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/keys"
	"hallmark/internal/policy"
)

// TestStockVerifiers: cosign and slsa-verifier, with no network, take what was
// exported and refuse what was not meant.
func TestStockVerifiers(t *testing.T) {
	p, d := sample(t)
	cosign, slsa := evidencetest.Cosign(t), evidencetest.SLSAVerifier(t)
	ms, flask := row(t, d, "markupsafe"), row(t, d, "flask")
	e, other := p.export(t, string(ms.PURL)), p.export(t, string(flask.PURL))
	file := filepath.Join(e.dir, *ms.File)

	// Somebody else's key and log.
	stranger := project{dir: t.TempDir(), data: filepath.Join(t.TempDir(), "data")}
	stranger.run(t, done, "init", "acme/stranger")
	theirRoot := filepath.Join(stranger.dir, "trusted_root.json")
	stranger.run(t, done, "export", "trusted-root", "-o", theirRoot)
	theirKey := strangersKey(t, stranger)

	key, root := filepath.Join(e.dir, "key.pub"), filepath.Join(e.dir, "trusted_root.json")
	bundle := filepath.Join(e.dir, "provenance.sigstore.json")
	cases := []struct {
		name, key, bundle, root, file string
		ok                            bool
	}{
		{"as exported", key, bundle, root, file, true},
		{"another file", key, bundle, root, filepath.Join(other.dir, *flask.File), false},
		{"another key", theirKey, bundle, root, file, false},
		{"another log", key, bundle, theirRoot, file, false},
		{"another artifact's provenance", key, filepath.Join(other.dir, "provenance.sigstore.json"), root, file, false},
	}
	for _, c := range cases {
		t.Run("cosign/"+c.name, func(t *testing.T) {
			out, err := evidencetest.Offline(t, cosign, "verify-blob-attestation", "--key", c.key, "--bundle", c.bundle,
				"--trusted-root", c.root, "--use-signed-timestamps", "--type", "slsaprovenance1", c.file)
			if (err == nil) != c.ok {
				t.Errorf("want ok %v: %v\n%s", c.ok, err, out)
			}
		})
	}

	pyd := row(t, d, "pydantic")
	bad := p.export(t, string(pyd.PURL))
	verify := func(e exported, digest, purl string) (string, error) {
		return evidencetest.Offline(t, slsa, "verify-vsa", "--subject-digest", digest, "--attestation-path", filepath.Join(e.dir, "vsa.dsse.json"),
			"--verifier-id", e.vsa.Verifier.ID, "--resource-uri", purl, "--verified-level", "HALLMARK_SECURE", "--public-key-path", filepath.Join(e.dir, "key.pub"))
	}
	if out, err := verify(e, ms.Digest.String(), string(ms.PURL)); err != nil {
		t.Errorf("slsa-verifier does not take a secure artifact's summary: %v\n%s", err, out)
	}
	if out, err := verify(bad, pyd.Digest.String(), string(pyd.PURL)); err == nil {
		t.Errorf("slsa-verifier takes a community artifact's summary:\n%s", out)
	}
	if out, err := verify(e, flask.Digest.String(), string(flask.PURL)); err == nil {
		t.Errorf("slsa-verifier takes a summary for another artifact:\n%s", out)
	}
	if e.vsa.Result != "PASSED" || bad.vsa.Result != "FAILED" || pyd.Class != policy.Community {
		t.Errorf("the summaries say %+v and %+v", e.vsa, bad.vsa)
	}
}

// strangersKey writes the public key of a data directory's signer to a file.
func strangersKey(t *testing.T, p project) string {
	t.Helper()
	set, err := keys.Open(filepath.Join(p.data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(p.dir, "key.pub")
	if err := os.WriteFile(name, keys.PublicPEM(set.Signer.Public()), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
