package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/evidence/evidencetest"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/keys/keystest"
	"hallmark/internal/policy"
)

// TestKMSForCosign: a data directory begins with its three keys in a KMS; what they sign
// is good for cosign and verify. The signer's key is rotated and revoked by the command,
// and recovered when the KMS has lost it; while the KMS does not answer nothing is half
// signed, and afterwards it goes on.
func TestKMSForCosign(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a KMS and cosign")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]func(testing.TB) *keystest.KMS{"AWS": keystest.AWS, "Vault": keystest.Vault} {
		t.Run(name, func(t *testing.T) { kmsForCosign(t, begin(t)) })
	}
}

func kmsForCosign(t *testing.T, kms *keystest.KMS) {
	cosign := evidencetest.Cosign(t)
	const vsa = "https://slsa.dev/verification_summary/v1"
	p := project{dir: t.TempDir(), data: filepath.Join(t.TempDir(), "data")}
	for _, role := range []string{"signer", "log", "timestamp", "second", "third", "fourth"} {
		kms.Make(role)
		if role == "signer" || role == "log" || role == "timestamp" {
			p.env = append(p.env, "HALLMARK_"+strings.ToUpper(role)+"_KEY="+kms.URI(role))
		}
	}
	// The first start makes no file.
	p.run(t, done, "init", "acme/first")
	if files, _ := filepath.Glob(filepath.Join(p.data, "keys", "*.pem")); len(files) > 0 {
		t.Fatalf("the first start made %v", files)
	}
	list := func() (active map[keys.Role]app.KeyView) {
		t.Helper()
		var ks []app.KeyView
		p.json(t, &ks, done, "keys")
		active = map[keys.Role]app.KeyView{}
		for _, k := range ks {
			if k.State == "in-use" {
				active[k.Role] = k
			}
		}
		return active
	}
	for _, role := range keys.Roles {
		if k := list()[role]; k.Where != kms.URI(string(role)) {
			t.Fatalf("the %s's key is %+v", role, k)
		}
	}
	dirs := map[string]string{} // of the projects
	// sign signs what is to be signed and exports the evidence of one artifact.
	sign := func(name string) (dir, file string, err error) {
		t.Helper()
		ctx := context.Background()
		a, err := app.Open(ctx, app.Config{Data: p.data}, true)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		id, _, err := a.Head(ctx, name)
		if err != nil {
			dirs[name] = t.TempDir()
			if id, err = apptest.Fill(ctx, a, dirs[name], apptest.Spec{Name: name, Packages: 2, Prefix: filepath.Base(name)}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := a.Builds(ctx, id)
		if err != nil {
			return "", "", err
		}
		f, err := r.Find(string(r.Document.Artifacts[0].PURL))
		if err != nil {
			t.Fatal(err)
		}
		dir = t.TempDir()
		if _, err := a.ExportEvidence(ctx, r, f, dir, false); err != nil {
			t.Fatal(err)
		}
		return dir, f.File, nil
	}
	export := func(name string) (dir, file string) {
		t.Helper()
		dir, file, err := sign(name)
		if err != nil {
			t.Fatal(err)
		}
		return dir, file
	}
	check := func(what, dir, file, root string, ok bool) {
		t.Helper()
		for bundle, kind := range map[string]string{"provenance.sigstore.json": "slsaprovenance1", "vsa.sigstore.json": vsa} {
			out, err := evidencetest.Offline(t, cosign, "verify-blob-attestation", "--key", filepath.Join(dir, "key.pub"), "--bundle", filepath.Join(dir, bundle),
				"--trusted-root", root, "--use-signed-timestamps", "--type", kind, filepath.Join(dir, file))
			if (err == nil) != ok {
				t.Errorf("%s, %s: want %v: %v\n%s", what, bundle, ok, err, out)
			}
		}
	}
	trusted := func(dir string) string { return filepath.Join(dir, "trusted_root.json") }
	// verify asks the program about a project.
	verify := func(name string) {
		t.Helper()
		p.run(t, done, "-C", dirs[name], "verify", "--offline")
	}

	before := kms.Signed()
	first, firstFile := export("acme/one")
	t.Logf("two packages and what they are built with: %d signatures", kms.Signed()-before)
	check("signed by the KMS", first, firstFile, trusted(first), true)
	verify("acme/one")
	// cosign asks the same KMS for the key by the same URI.
	uri := kms.URI("signer")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cosign, "verify-blob-attestation", "--key", uri, "--bundle", filepath.Join(first, "provenance.sigstore.json"),
		"--trusted-root", trusted(first), "--use-signed-timestamps", "--type", "slsaprovenance1", filepath.Join(first, firstFile))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("cosign with --key %s: %v\n%s", uri, err, out)
	}

	// A KMS that fails: nothing is signed, the whole stays sound, and then it goes on.
	for mode, kind := range map[keystest.Mode]fault.Kind{keystest.Away: fault.Unavailable, keystest.Refuses: fault.Unavailable, keystest.Junk: fault.Unverified} {
		kms.Set(mode)
		if _, _, err := sign("acme/two"); !fault.Is(err, kind) {
			t.Errorf("while the KMS %q: %v", mode, err)
		}
		code := failed
		if kind == fault.Unverified {
			code = unverified
		}
		o := p.run(t, code, "keys", "rotate", "signer", "--key", kms.URI("second"))
		if !strings.Contains(o.stderr, "KMS") || strings.Contains(o.stderr, "panic") {
			t.Errorf("rotated while the KMS %q: %s", mode, o)
		}
		kms.Set(keystest.Well)
		p.run(t, done, "fsck")
	}
	second, secondFile := export("acme/two")
	check("signed after it failed", second, secondFile, trusted(second), true)

	// Rotated by the command, which is not held up by where the first keys are said to be.
	signer := list()[keys.RoleSigner].ID
	time.Sleep(1100 * time.Millisecond) // time stamps are told in seconds
	for _, role := range keys.Roles {
		args := []string{"keys", "rotate", string(role)}
		if role == keys.RoleSigner {
			args = append(args, "--key", kms.URI("second"))
		}
		p.run(t, done, args...)
	}
	// Now they are elsewhere than the environment says, so writers refuse.
	if o := p.run(t, failed, "init", "acme/more", "-C", t.TempDir()); !strings.Contains(o.stderr, "hallmark keys rotate") {
		t.Errorf("keys that are elsewhere: %s", o)
	}
	p.env = nil
	third, thirdFile := export("acme/three")
	check("signed before the rotation", first, firstFile, trusted(third), true)
	check("signed after the rotation", third, thirdFile, trusted(third), true)
	verify("acme/three")
	verify("acme/one")

	// The name stands for another key: refused as what it is, until it is said to be meant.
	kms.Change("second")
	if _, _, err := sign("acme/lost"); !fault.Is(err, fault.Unverified) {
		t.Errorf("another key under the name: %v", err)
	}
	time.Sleep(1100 * time.Millisecond)
	p.run(t, done, "keys", "rotate", "signer", "--lost", "--key", kms.URI("second"))
	// What the lost key has built and not signed would have to be built again, so:
	fourth, fourthFile := export("acme/four")
	check("recovered", fourth, fourthFile, trusted(fourth), true)
	check("signed by the key that is lost", third, thirdFile, trusted(fourth), true)

	// Revoked: what was signed since counts for nothing, what was before stays.
	stolen := time.Now().UTC().Add(-time.Second).Format(time.RFC3339)
	time.Sleep(1100 * time.Millisecond)
	fifth, fifthFile := export("acme/five")
	check("signed by the thief, before it is known", fifth, fifthFile, trusted(fifth), true)
	p.run(t, done, "keys", "revoke", "signer", "current", "--since", stolen, "--why", "its account was open", "--key", kms.URI("third"))
	sixth, sixthFile := export("acme/six")
	check("signed since", fifth, fifthFile, trusted(sixth), false)
	d := p.status(t, done, "-C", dirs["acme/five"], "status")
	if _, ok := reason(d.Artifacts[0], string(policy.SignerRevoked)); d.Summary.Secure != 0 || !ok {
		t.Errorf("what was signed since is shown as %+v, %s", d.Summary, show(d.Artifacts[0]))
	}
	verify("acme/six")
	check("signed before", third, thirdFile, trusted(sixth), true)
	check("signed with the key in its place", sixth, sixthFile, trusted(sixth), true)
	now := list()
	if k := now[keys.RoleSigner]; k.Where != kms.URI("third") || k.ID == signer {
		t.Errorf("the signer's key is %+v", k)
	}
	p.run(t, done, "fsck")
	if _, err := os.Stat(filepath.Join(p.data, "keys", "ring.json")); err != nil {
		t.Error(err)
	}
}
