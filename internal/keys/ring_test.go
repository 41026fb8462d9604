package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
)

func openSet(t testing.TB, dir string) *Set {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A change that is stopped at any of its steps leaves the keys before or the keys
// after, each of them whole and able to sign, and the same journal.
func TestStoppedChanges(t *testing.T) {
	defer func() { failing = func(string) error { return nil } }()
	for _, c := range []Change{
		{Role: RoleSigner}, {Role: RoleLog}, {Role: RoleTimestamp},
		{Role: RoleSigner, Revoke: "current", Since: time.Now().Add(-time.Minute), Why: "stolen"},
	} {
		for stop := 0; ; stop++ {
			dir := filepath.Join(t.TempDir(), "keys")
			failing = func(string) error { return nil }
			s := openSet(t, dir)
			before := s.Ring().Active(c.Role).ID
			if c.Revoke != "" {
				c.Revoke = before
			}
			c.Now = time.Now()
			n, at := 0, ""
			failing = func(step string) error {
				if n++; n > stop {
					at = step
					return errors.New("stopped")
				}
				return nil
			}
			_, err := s.Apply(c)
			failing = func(string) error { return nil }
			after := openSet(t, dir)
			now := after.Ring().Active(c.Role).ID
			if string(after.Journal()) != string(s.Journal()) {
				t.Fatalf("%s stopped at %q: another journal", c.Role, at)
			}
			for _, k := range []crypto.Signer{after.Signer, after.Log, after.Timestamp} {
				h := sha256.Sum256([]byte("x"))
				sig, err := k.Sign(rand.Reader, h[:], crypto.SHA256)
				if err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), h[:], sig) {
					t.Fatalf("%s stopped at %q: a key does not sign: %v", c.Role, at, err)
				}
			}
			if err := Sweep(dir); err != nil {
				t.Fatal(err)
			}
			if now == before { // the same again goes through
				if _, err := openSet(t, dir).Apply(c); err != nil {
					t.Fatalf("%s stopped at %q, and again: %v", c.Role, at, err)
				}
			}
			files, _ := os.ReadDir(dir)
			if got := len(files); now != before && got != 5 {
				t.Errorf("%s stopped at %q: files left over: %v", c.Role, at, files)
			}
			if err == nil {
				if now == before {
					t.Errorf("%s: nothing was changed", c.Role)
				}
				break
			}
			if stop > 30 {
				t.Fatal("it does not end")
			}
		}
	}
}

// Rings that contradict themselves are refused.
func TestBadRings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := openSet(t, dir)
	if _, err := s.Apply(Change{Role: RoleLog, Now: time.Now(), Size: 7}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, ringFile))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRing(good)
	if err != nil {
		t.Fatal(err)
	}
	if r.Logs[1].Log.First != 7 {
		t.Errorf("the second part of the log begins at %d", r.Logs[1].Log.First)
	}
	for name, edit := range map[string]func(*Ring){
		"no signer":           func(r *Ring) { r.Signers = nil },
		"an ID of another":    func(r *Ring) { r.Signers[0].ID = r.Logs[0].ID },
		"nothing in use":      func(r *Ring) { now := time.Now().UTC(); r.Signers[0].Until = &now },
		"two in use":          func(r *Ring) { r.Logs[0].Until = nil },
		"a file elsewhere":    func(r *Ring) { r.Signers[0].Key = "../x.pem" },
		"a folder elsewhere":  func(r *Ring) { r.Logs[1].Log.Folder = "../log" },
		"a gap in the log":    func(r *Ring) { r.Logs[1].Log.First = 8 },
		"a log that grows on": func(r *Ring) { r.Logs[0].Log.Size = nil; r.Logs[0].Until = nil },
		"revoked and in use":  func(r *Ring) { r.Signers[0].Revoked = &Revocation{} },
		"another certificate": func(r *Ring) { r.Timestamps[0].Chain = "" },
		"another schema":      func(r *Ring) { r.Schema = "urn:hallmark:keys:v9" },
		"another journal":     func(r *Ring) { r.Journal = strings.Repeat("0", 64) },
	} {
		c := r.clone()
		edit(c)
		b, err := c.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ringFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseRing feeds foreign rings: no panic, and what is accepted is spelled as it
// is written.
func FuzzParseRing(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "keys")
	s := openSet(f, dir)
	if _, err := s.Apply(Change{Role: RoleSigner, Now: time.Now()}); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, ringFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Add([]byte(s.ring.Timestamps[0].Chain))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = parseChain(b, "of the test")
		r, err := ParseRing(b)
		if err != nil {
			return
		}
		again, err := r.marshal()
		if err != nil || string(again) != string(b) {
			t.Errorf("accepted in another spelling: %v", err)
		}
	})
}

// A key in a KMS, answered for by a program on the PATH: it signs; and one that is
// slow, refuses, says nonsense, or answers with another key gives an error that says
// so, and no signature.
func TestKMS(t *testing.T) {
	usual := remoteTimeout
	defer func() { remoteTimeout = usual }()
	kms := plugin(t)
	dir := filepath.Join(t.TempDir(), "keys")
	s := openSet(t, dir)
	for _, role := range Roles {
		if _, err := openSet(t, dir).Apply(Change{Role: role, Now: time.Now(), URI: kms.uri + string(role)}); err != nil {
			t.Fatalf("move the %s's key to a KMS: %v", role, err)
		}
	}
	s = openSet(t, dir)
	h := sha256.Sum256([]byte("statement"))
	sign := func() error {
		sig, err := s.Signer.Sign(rand.Reader, h[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(s.Signer.Public().(*ecdsa.PublicKey), h[:], sig) {
			t.Error("a signature that does not verify came through")
		}
		return err
	}
	if err := sign(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(left) != 0 {
		t.Errorf("private keys that are out of use are still there: %v", left)
	}
	for mode, kind := range map[string]fault.Kind{"slow": fault.Unavailable, "refuse": fault.Unavailable, "nonsense": fault.Unavailable,
		"empty": fault.Hostile, "other": fault.Unverified} {
		kms.mode(t, mode)
		remoteTimeout = usual
		if mode == "slow" { // it answers after a minute
			remoteTimeout = 3 * time.Second
		}
		err := sign()
		if !fault.Is(err, kind) {
			t.Errorf("a KMS that is %s: kind %q: %v", mode, fault.KindOf(err), err)
		}
		// Nothing changes if the new key cannot be used.
		was := openSet(t, dir).Ring().Active(RoleSigner).ID
		if mode != "other" {
			if _, err := openSet(t, dir).Apply(Change{Role: RoleSigner, Now: time.Now(), URI: kms.uri + "next"}); err == nil {
				t.Errorf("a KMS that is %s: the key was rotated to it", mode)
			}
			if now := openSet(t, dir).Ring().Active(RoleSigner).ID; now != was {
				t.Errorf("a KMS that is %s: the key changed from %s to %s", mode, was, now)
			}
		}
	}
	remoteTimeout = usual
	for _, uri := range []string{"nobody://key", "x", "hashivault://user:secret@host/key", "a://" + strings.Repeat("x", 600), "a://x\ny"} {
		_, err := openSet(t, dir).Apply(Change{Role: RoleSigner, Now: time.Now(), URI: uri})
		if !fault.Is(err, fault.Usage) && !fault.Is(err, fault.NotFound) {
			t.Errorf("%.40q: %v", uri, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}
