package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/keys"
)

// TestRotatedKeysForCosign: with what is exported after each key was rotated, cosign
// takes old and new evidence, offline; after the old signer was revoked, it takes the
// new alone.
func TestRotatedKeysForCosign(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs cosign")
	}
	cosign := evidencetest.Cosign(t)
	ctx, data := context.Background(), filepath.Join(t.TempDir(), "data")
	cfg := app.Config{Data: data}
	// export signs what is to be signed and writes the evidence of one artifact.
	export := func(t *testing.T, name string) (dir, file string) {
		t.Helper()
		a, err := app.Open(ctx, cfg, true)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		id, _, err := a.Head(ctx, name)
		if err != nil {
			commit, err := apptest.Fill(ctx, a, t.TempDir(), apptest.Spec{Name: name, Packages: 1, Prefix: filepath.Base(name)})
			if err != nil {
				t.Fatal(err)
			}
			id = commit
		}
		r, err := a.Builds(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Find(string(r.Document.Artifacts[0].PURL))
		if err != nil {
			t.Fatal(err)
		}
		dir = t.TempDir()
		if _, err := a.ExportEvidence(ctx, r, f, dir, false); err != nil {
			t.Fatal(err)
		}
		return dir, f.File
	}
	change := func(t *testing.T, c app.KeyChange) keys.Result {
		t.Helper()
		res, err := app.ChangeKey(ctx, cfg, c)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	check := func(t *testing.T, dir, file, key, bundle, root, kind string, ok bool) {
		t.Helper()
		out, err := evidencetest.Offline(t, cosign, "verify-blob-attestation", "--key", filepath.Join(dir, key), "--bundle", filepath.Join(dir, bundle),
			"--trusted-root", root, "--use-signed-timestamps", "--type", kind, filepath.Join(dir, file))
		if (err == nil) != ok {
			t.Errorf("%s under %s: want %v: %v\n%s", bundle, key, ok, err, out)
		}
	}
	const vsa = "https://slsa.dev/verification_summary/v1"
	old, file := export(t, "acme/old")
	time.Sleep(1100 * time.Millisecond) // time stamps are told in seconds
	stolen := time.Now()
	mid, midFile := export(t, "acme/mid") // what a thief could have made, too
	var signer string
	for _, role := range []keys.Role{keys.RoleSigner, keys.RoleLog, keys.RoleTimestamp} {
		if res := change(t, app.KeyChange{Role: role}); role == keys.RoleSigner {
			signer = res.Key
		}
	}
	later, laterFile := export(t, "acme/new")
	root := filepath.Join(later, "trusted_root.json")
	check(t, old, file, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", true)
	check(t, old, file, "key.pub", "vsa.sigstore.json", root, vsa, true)
	check(t, mid, midFile, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", true)
	check(t, later, laterFile, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", true)
	check(t, later, laterFile, "key.pub", "vsa.sigstore.json", root, vsa, true)
	// Whoever has an old trusted root is not told that the new evidence is good.
	check(t, later, laterFile, "key.pub", "provenance.sigstore.json", filepath.Join(old, "trusted_root.json"), "slsaprovenance1", false)

	// What is exported now of the old artifact: the summary by the new key, and how it
	// was built by the old one, each with its key beside it.
	again, file := export(t, "acme/old")
	if _, err := os.Stat(filepath.Join(again, "key-"+signer+".pub")); err != nil {
		t.Fatal(err)
	}
	check(t, again, file, "key-"+signer+".pub", "provenance.sigstore.json", filepath.Join(again, "trusted_root.json"), "slsaprovenance1", true)
	check(t, again, file, "key.pub", "vsa.sigstore.json", filepath.Join(again, "trusted_root.json"), vsa, true)

	change(t, app.KeyChange{Role: keys.RoleSigner, Revoke: signer, Since: stolen, Why: "the key was stolen"})
	after, afterFile := export(t, "acme/new")
	root = filepath.Join(after, "trusted_root.json")
	check(t, old, file, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", true)
	check(t, mid, midFile, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", false)
	check(t, mid, midFile, "key.pub", "vsa.sigstore.json", root, vsa, false)
	check(t, after, afterFile, "key.pub", "provenance.sigstore.json", root, "slsaprovenance1", true)
	check(t, after, afterFile, "key.pub", "vsa.sigstore.json", root, vsa, true)
}
