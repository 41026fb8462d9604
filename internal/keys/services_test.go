package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/keys/keystest"
)

// signs signs something with a key, and gives the error if it was not signed.
func signs(t testing.TB, k crypto.Signer) error {
	t.Helper()
	h := sha256.Sum256([]byte("statement"))
	sig, err := k.Sign(rand.Reader, h[:], crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), h[:], sig) {
		t.Error("a signature that does not verify came through")
	}
	return err
}

// Keys in services whose clients are compiled in, asked of real servers: a set begins
// with them, they sign, are rotated, and whatever goes wrong with them gives an error
// that says so, and no signature.
func TestServices(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a KMS")
	}
	usual := remoteTimeout
	defer func() { remoteTimeout = usual }()
	for name, begin := range map[string]func(testing.TB) *keystest.KMS{"AWS": keystest.AWS, "Vault": keystest.Vault} {
		t.Run(name, func(t *testing.T) {
			kms := begin(t)
			uris := map[Role]string{}
			for _, role := range Roles {
				kms.Make(string(role))
				uris[role] = kms.URI(string(role))
			}
			kms.Make("next")
			kms.MakeRSA("rsa")
			dir := filepath.Join(t.TempDir(), "keys")

			// Nothing is made while it is away.
			kms.Set(keystest.Away)
			if _, err := OpenAt(dir, uris); !fault.Is(err, fault.Unavailable) {
				t.Errorf("a first start while the KMS is away: %v", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a first start that failed left the folder of keys: %v", err)
			}
			kms.Set(keystest.Well)

			s, err := OpenAt(dir, uris)
			if err != nil {
				t.Fatal(err)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(files) > 0 {
				t.Errorf("private keys were made: %v", files)
			}
			for _, k := range []crypto.Signer{s.Signer, s.Log, s.Timestamp} {
				if err := signs(t, k); err != nil {
					t.Fatal(err)
				}
			}
			if again, err := OpenAt(dir, uris); err != nil || ID(again.Signer.Public()) != ID(s.Signer.Public()) || string(again.Journal()) != string(s.Journal()) {
				t.Errorf("opened again: %v", err)
			}

			for mode, want := range map[keystest.Mode]struct {
				kind fault.Kind
				says string
			}{
				keystest.Away: {fault.Unavailable, ""}, keystest.Slow: {fault.Unavailable, "did not answer within"}, keystest.Refuses: {fault.Unavailable, "denied"},
				keystest.Broken: {fault.Unavailable, ""}, keystest.Junk: {fault.Unverified, ID(s.Signer.Public())},
			} {
				kms.Set(mode)
				remoteTimeout = usual
				if mode == keystest.Slow {
					remoteTimeout = 2 * time.Second
				}
				for what, k := range map[string]crypto.Signer{"a key that was asked before": s.Signer, "one that was not": openSet(t, dir).Signer} {
					err := signs(t, k)
					if mode == keystest.Refuses && err != nil && strings.Contains(err.Error(), "AccessDenied") {
						want.says = "AccessDenied"
					}
					if !fault.Is(err, want.kind) || !strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), uris[RoleSigner]) {
						t.Errorf("%s, while it %q: kind %q, %v", what, mode, fault.KindOf(err), err)
					}
					if err != nil && (strings.Count(err.Error(), "\n") > 1 || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1500) {
						t.Errorf("while it %q: what it said is shown as it is: %q", mode, err)
					}
				}
				if _, err := openSet(t, dir).Apply(Change{Role: RoleSigner, Now: time.Now(), URI: kms.URI("next")}); err == nil {
					t.Errorf("while it %q the key was rotated to it", mode)
				}
			}
			remoteTimeout = usual
			kms.Set(keystest.Well)
			if err := signs(t, s.Signer); err != nil {
				t.Errorf("back again: %v", err)
			}

			for uri, kind := range map[string]fault.Kind{kms.URI("rsa"): fault.Unsupported, kms.URI("nobody"): fault.Unavailable, uris[RoleLog]: fault.Conflict, uris[RoleSigner]: fault.Conflict} {
				if _, err := openSet(t, dir).Apply(Change{Role: RoleSigner, Now: time.Now(), URI: uri}); !fault.Is(err, kind) {
					t.Errorf("rotate to %s: kind %q, %v", uri, fault.KindOf(err), err)
				}
			}

			// The name stands for another key now: that is said, and can be said to be right.
			kms.Change("signer")
			err = signs(t, openSet(t, dir).Signer)
			if !fault.Is(err, fault.Unverified) || !strings.Contains(err.Error(), "keys rotate") {
				t.Errorf("another key under the name: %v", err)
			}
			if _, err := openSet(t, dir).Apply(Change{Role: RoleSigner, Now: time.Now().Add(time.Second), URI: uris[RoleSigner]}); err != nil {
				t.Fatal(err)
			}
			after := openSet(t, dir)
			if err := signs(t, after.Signer); err != nil || ID(after.Signer.Public()) == ID(s.Signer.Public()) {
				t.Errorf("rotated to what the name stands for now: %v", err)
			}
			if err := after.At(uris); err != nil {
				t.Error(err)
			}
		})
	}
}

// A set may begin with keys in a KMS and files side by side, and each key is one
// role's.
func TestFirstKeysInAKMS(t *testing.T) {
	kms := plugin(t)
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := OpenAt(dir, map[Role]string{RoleLog: kms.uri + "log", RoleSigner: ""})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []crypto.Signer{s.Signer, s.Log, s.Timestamp} {
		if err := signs(t, k); err != nil {
			t.Error(err)
		}
	}
	if len(s.Journal()) != sha256.Size || string(openSet(t, dir).Journal()) != string(s.Journal()) {
		t.Error("it has no journal's key that stays")
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(files) != 2 {
		t.Errorf("files of keys: %v, want the signer's and the time stamp's", files)
	}
	for name, uris := range map[string]map[Role]string{
		"a file, said to be in a KMS": {RoleSigner: kms.uri + "signer"},
		"another key of the same KMS": {RoleLog: kms.uri + "log2"},
		"one right, one wrong":        {RoleLog: kms.uri + "log", RoleTimestamp: kms.uri + "t"},
	} {
		if _, err := OpenAt(dir, uris); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "keys rotate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenAt(dir, map[Role]string{RoleLog: kms.uri + "log"}); err != nil {
		t.Error(err)
	}
	for _, role := range Roles {
		if _, err := openSet(t, dir).Apply(Change{Role: role, Now: time.Now().Add(time.Minute)}); err != nil {
			t.Errorf("rotate the %s's first key: %v", role, err)
		}
	}
	other := filepath.Join(t.TempDir(), "keys")
	if _, err := OpenAt(other, map[Role]string{RoleLog: kms.uri + "one", RoleSigner: kms.uri + "one"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("one key for two roles: %v", err)
	}
	if _, err := os.Stat(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("keys were made all the same: %v", err)
	}
	kms.mode(t, "refuse")
	if _, err := OpenAt(other, map[Role]string{RoleLog: kms.uri + "one"}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a KMS that refuses: %v", err)
	}
}

// What cannot be the URI of a key is said before anybody is asked.
func TestURIs(t *testing.T) {
	for _, uri := range []string{
		"awskms:///1234abcd-12ab-34cd-56ef-1234567890ab", "awskms:///alias/hallmark", "awskms://localhost:4566/alias/hallmark",
		"awskms:///arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"azurekms://team.vault.azure.net/hallmark", "azurekms://team.vault.azure.net/hallmark/0123456789abcdef",
		"gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k", "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
		"hashivault://hallmark", "openbao://hallmark", "other://anything/at/all",
	} {
		if err := CheckURI(uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, uri := range []string{
		"", "x", "awskms://", "awskms:///", "awskms:///nothing", "azurekms://vault", "azurekms:///key", "gcpkms://projects/p", "hashivault://", "hashivault://a/b",
		"openbao://" + strings.Repeat("/", 3), "hashivault://user:secret@host/key", "a://" + strings.Repeat("x", 600), "a://x\ny", "A://x",
	} {
		err := CheckURI(uri)
		if !fault.Is(err, fault.Usage) {
			t.Errorf("%.40q: %v", uri, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}
