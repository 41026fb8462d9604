package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/policy"
)

// filled is a data directory with a project that is built and signed.
func filled(t *testing.T, packages int) (data string, commit digest.Digest) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	w := open(t, data, true)
	commit, err := apptest.Fill(t.Context(), w, filepath.Join(t.TempDir(), "p"), apptest.Spec{Name: "acme/web", Packages: packages})
	if err == nil {
		_, err = w.Builds(t.Context(), commit)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return data, commit
}

func change(t *testing.T, data string, c app.KeyChange) keys.Result {
	t.Helper()
	res, err := app.ChangeKey(t.Context(), app.Config{Data: data}, c)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return res
}

// count gives how many artifacts are secure, and the codes of the reasons of the
// others.
func count(t *testing.T, a *app.App, commit digest.Digest) (secure int, codes map[string]int) {
	t.Helper()
	r, err := a.Status(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	codes = map[string]int{}
	for _, row := range r.Document.Artifacts {
		for _, why := range row.Reasons {
			codes[why.Code]++
		}
		if row.Class == policy.Secure {
			secure++
		}
	}
	return secure, codes
}

func clean(t *testing.T, a *app.App) {
	t.Helper()
	damage, err := a.Fsck(t.Context())
	if err != nil || len(damage) > 0 {
		t.Errorf("fsck: %+v, %v", damage, err)
	}
}

// Each key is rotated; what was signed before stays secure, what is signed after is
// believed as well, and the log is whole over all its parts.
func TestRotateKeys(t *testing.T) {
	data, commit := filled(t, 4)
	a := open(t, data, false)
	before, _ := count(t, a, commit)
	first := a.KeyID()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if before == 0 {
		t.Fatal("nothing is secure to begin with")
	}
	for _, role := range []keys.Role{keys.RoleTimestamp, keys.RoleLog, keys.RoleSigner, keys.RoleLog} {
		res := change(t, data, app.KeyChange{Role: role})
		if res.New == "" || res.New == res.Key {
			t.Fatalf("rotate %s: %+v", role, res)
		}
		w := open(t, data, true)
		if n, codes := count(t, w, commit); n != before {
			t.Errorf("after rotating the %s's key %d are secure, %d were: %v", role, n, before, codes)
		}
		r, err := w.Builds(t.Context(), commit)
		if err != nil {
			t.Fatal(err)
		}
		if n := r.Document.Summary.Secure; n != before {
			t.Errorf("built again after rotating the %s's key, %d are secure, %d were", role, n, before)
		}
		v, err := w.VerifyCommit(t.Context(), r)
		if err != nil || !v.OK {
			t.Errorf("verify after rotating the %s's key: %+v, %v", role, v, err)
		}
		clean(t, w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a = open(t, data, false)
	defer a.Close()
	if a.KeyID() == first {
		t.Error("the signer's key is the old one")
	}
	ks, err := a.Keys()
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	for _, k := range ks {
		states[string(k.Role)+" "+k.State]++
		if k.State != "in-use" && k.Where != "destroyed" {
			t.Errorf("the old key %+v is still there", k)
		}
	}
	if states["signer rotated"] != 1 || states["log rotated"] != 2 || states["timestamp rotated"] != 2 || states["log in-use"] != 1 {
		t.Errorf("keys: %v", states)
	}
	left, err := filepath.Glob(filepath.Join(data, "keys", "*.pem"))
	if err != nil || len(left) != 3 {
		t.Errorf("files of keys: %v", left)
	}
	log, err := a.Store.AuditLog(t.Context(), "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range log {
		if e.Action == "key.rotate" {
			told++
		}
	}
	if told != 4 {
		t.Errorf("the audit log tells of %d rotations", told)
	}
}

// What a revoked signer signed from some time on makes nothing secure, with a reason;
// what it signed before does. The engine then sees no such builds, so that it makes
// them again.
func TestRevokeSigner(t *testing.T) {
	data, commit := filled(t, 3)
	a := open(t, data, false)
	all, _ := count(t, a, commit)
	_ = a.Close()
	time.Sleep(1100 * time.Millisecond) // time stamps are told in seconds
	since := time.Now()
	time.Sleep(1100 * time.Millisecond)

	// A second project is signed after the compromise.
	w := open(t, data, true)
	later, err := apptest.Fill(t.Context(), w, filepath.Join(t.TempDir(), "q"), apptest.Spec{Name: "acme/later", Packages: 2, Prefix: "later"})
	if err == nil {
		_, err = w.Builds(t.Context(), later)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, codes := count(t, w, later); n != 2 {
		t.Fatalf("before the revocation %d are secure: %v", n, codes)
	}
	old := w.KeyID()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	res := change(t, data, app.KeyChange{Role: keys.RoleSigner, Revoke: "current", Since: since, Why: "the laptop was stolen"})
	if res.Key != old || res.New == "" || res.Stamps == "" {
		t.Fatalf("revoked: %+v", res)
	}
	a = open(t, data, false)
	defer a.Close()
	if n, codes := count(t, a, commit); n != all {
		t.Errorf("of what was signed before, %d of %d are secure: %v", n, all, codes)
	}
	n, codes := count(t, a, later)
	if n != 0 || codes[policy.SignerRevoked] == 0 {
		t.Errorf("of what was signed after, %d are secure: %v", n, codes)
	}
	clean(t, a)
	r, err := a.Status(t.Context(), later)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Document.Artifacts {
		for _, why := range row.Reasons {
			if why.Code == policy.SignerRevoked && !strings.Contains(why.Message, "the laptop was stolen") {
				t.Errorf("the reason does not say why: %s", why.Message)
			}
		}
	}
	// It can only be moved back.
	if _, err := app.ChangeKey(t.Context(), app.Config{Data: data}, app.KeyChange{Role: keys.RoleSigner, Revoke: old, Since: time.Now(), Why: "again"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("moved forward: %v", err)
	}
	ring := filepath.Join(data, "keys", "ring.json")
	older := must(os.ReadFile(ring))(t)
	change(t, data, app.KeyChange{Role: keys.RoleSigner, Revoke: old, Since: since.Add(-time.Hour), Why: "earlier than thought"})
	b := open(t, data, false)
	defer b.Close()
	if n, codes := count(t, b, commit); n != 0 {
		t.Errorf("revoked from before everything, %d are secure: %v", n, codes)
	}
	// A ring that is put back to an older state is found.
	if err := os.WriteFile(ring, older, 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, data, false)
	defer c.Close()
	damage, err := c.Fsck(t.Context())
	if err != nil || len(damage) != 1 || !strings.Contains(damage[0].Message, "older state") {
		t.Errorf("a ring of keys put back to an older state: %+v, %v", damage, err)
	}
}

// Log and time stamp revoked: what they made since is signed again by itself, and
// nothing has to be built.
func TestRevokeLogAndTimestamp(t *testing.T) {
	for _, role := range []keys.Role{keys.RoleLog, keys.RoleTimestamp} {
		data, commit := filled(t, 2)
		change(t, data, app.KeyChange{Role: role, Revoke: "current", Since: time.Now().Add(-time.Hour), Why: "a backup was lost"})
		w := open(t, data, true)
		if n, _ := count(t, w, commit); n != 0 {
			t.Errorf("%s revoked, and yet %d are secure", role, n)
		}
		r, err := w.Builds(t.Context(), commit)
		if err != nil {
			t.Fatal(err)
		}
		if n := r.Document.Summary.Secure; n != 2 {
			t.Errorf("%s revoked and signed again, %d are secure: %+v", role, n, r.Document.Artifacts)
		}
		clean(t, w)
		if v, err := w.VerifyCommit(t.Context(), r); err != nil || !v.OK {
			t.Errorf("%s revoked: verify: %+v, %v", role, v, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A lost key is replaced without being used.
func TestLostKeys(t *testing.T) {
	data, commit := filled(t, 2)
	change(t, data, app.KeyChange{Role: keys.RoleLog}) // from now on there is a ring
	for _, role := range keys.Roles {
		files, err := filepath.Glob(filepath.Join(data, "keys", string(role)+"*.pem"))
		if role == keys.RoleTimestamp {
			files, err = filepath.Glob(filepath.Join(data, "keys", "timestamp*[0-9a-z].pem"))
		}
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "chain.pem") {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := app.Open(t.Context(), app.Config{Data: data}, true); !fault.Is(err, fault.Corrupt) {
			t.Errorf("without the %s's key: %v", role, err)
		}
		change(t, data, app.KeyChange{Role: role, Lost: true})
		w := open(t, data, true)
		if n, codes := count(t, w, commit); n != 2 {
			t.Errorf("after the %s's key was lost %d are secure: %v", role, n, codes)
		}
		if _, err := w.Builds(t.Context(), commit); err != nil {
			t.Error(err)
		}
		clean(t, w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The bundles of a revoked key verify no more with a stock verifier's view either:
// the trusted root alone, and the old public key.
func TestRevokedForOthers(t *testing.T) {
	data, commit := filled(t, 1)
	a := open(t, data, false)
	r, err := a.Status(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	art := r.Document.Artifacts[0]
	row, err := a.Store.EvidenceFile(t.Context(), *art.Digest, "provenance.sigstore.json")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := a.Blobs.ReadAll(row.Blob, 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	root, key := must(a.TrustedRoot())(t), a.PublicKey()
	_ = a.Close()
	check := func(root []byte) error {
		_, err := evidence.Verify(bundle, evidence.Trust{TrustedRoot: root, PublicKey: key}, *art.Digest, evidence.TypeProvenance)
		return err
	}
	if err := check(root); err != nil {
		t.Fatal(err)
	}
	change(t, data, app.KeyChange{Role: keys.RoleSigner})
	if err := check(rootOf(t, data)); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	change(t, data, app.KeyChange{Role: keys.RoleSigner, Revoke: keyOf(t, key), Since: time.Now().Add(-time.Hour), Why: "stolen"})
	if err := check(rootOf(t, data)); err == nil {
		t.Error("after a revocation others believe it still")
	}
}

func rootOf(t *testing.T, data string) []byte {
	t.Helper()
	a := open(t, data, false)
	defer a.Close()
	return must(a.TrustedRoot())(t)
}

func keyOf(t *testing.T, pem []byte) string {
	t.Helper()
	pub, err := keys.ParsePublicPEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	return keys.ID(pub)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
