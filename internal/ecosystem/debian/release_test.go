package debian

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"hallmark/internal/fault"
)

func TestOpenRelease(t *testing.T) {
	known, other := newKey(t, "archive"), newKey(t, "other")
	index := []byte("index")
	good := sign(t, releaseBody(index, ""), known)
	for _, c := range []struct {
		name string
		b    []byte
		keys *Keyring
		want string // part of the error; empty: none
	}{
		{"good", good, keyringOf(known), ""},
		{"several signatures, one of a known key", sign(t, releaseBody(index, ""), other, known), keyringOf(known), ""},
		{"several known keys", sign(t, releaseBody(index, ""), other, known), keyringOf(known, other), ""},
		{"still valid", sign(t, releaseBody(index, "Valid-Until: Mon, 02 Mar 2026 08:00:00 UTC\n"), known), keyringOf(known), ""},
		{"unknown key", good, keyringOf(other), "no good signature"},
		{"no key", good, keyringOf(), "no trusted key"},
		{"changed", bytes.Replace(good, []byte("12.99"), []byte("12.98"), 1), keyringOf(known), "no good signature"},
		{"not signed", []byte(releaseBody(index, "")), keyringOf(known), "clearsigned"},
		{"text in front", append([]byte("Origin: Debian\n"), good...), keyringOf(known), "does not begin"},
		{"text behind", append(good[:len(good):len(good)], "\nOrigin: Debian\n"...), keyringOf(known), "stand behind"},
		{"expired", sign(t, releaseBody(index, "Valid-Until: Sun, 01 Mar 2026 09:00:00 UTC\n"), known), keyringOf(known), "valid until"},
		{"future", sign(t, strings.Replace(releaseBody(index, ""), "01 Mar 2026", "05 Mar 2026", 1), known), keyringOf(known), "future"},
		{"no date", sign(t, strings.Replace(releaseBody(index, ""), "Date:", "When:", 1), known), keyringOf(known), "date"},
		{"no hashes", sign(t, strings.Replace(releaseBody(index, ""), "SHA256:", "MD5Sum:", 1), known), keyringOf(known), "SHA-256"},
		{"a path that climbs", sign(t, strings.Replace(releaseBody(index, ""), "main/binary", "../binary", 1), known), keyringOf(known), "path"},
		{"empty", nil, keyringOf(known), "clearsigned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := OpenRelease(c.b, c.keys, testTime)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if r.Codename != "bookworm" || len(r.SignedBy) != len(c.keys.keys) || !r.ByHash || len(r.Files) != 1 {
					t.Errorf("%+v", r)
				}
				return
			}
			if !fault.Is(err, fault.Unverified) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one of kind unverified with %q", err, c.want)
			}
		})
	}
}

func TestSignatureByAnExpiredKeyIsNoSignature(t *testing.T) {
	k := newKey(t, "archive")
	short := uint32(3600)
	for _, id := range k.Identities {
		id.SelfSignature.KeyLifetimeSecs = &short
		if err := id.SelfSignature.SignUserId(id.UserId.Id, k.PrimaryKey, k.PrivateKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := sign(t, releaseBody(nil, ""), k)
	if _, err := OpenRelease(b, keyringOf(k), testTime); !fault.Is(err, fault.Unverified) {
		t.Errorf("signature of a key that expired 999 hours before: %v", err)
	}
}

func TestParseKeyring(t *testing.T) {
	a, b := newKey(t, "a"), newKey(t, "b")
	var binary, armoured bytes.Buffer
	for _, e := range []*openpgp.Entity{a, b} {
		if err := e.Serialize(&binary); err != nil {
			t.Fatal(err)
		}
		w, err := armor.Encode(&armoured, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Serialize(w)
		w.Close()
		armoured.WriteString("\n")
	}
	for name, raw := range map[string][]byte{"binary": binary.Bytes(), "armoured": armoured.Bytes()} {
		k, err := ParseKeyring(raw)
		if err != nil || len(k.keys) != 2 {
			t.Errorf("%s: %v, %v", name, k, err)
			continue
		}
		fp := strings.ToUpper(string(hexOf(b.PrimaryKey.Fingerprint)))
		if n := len(k.only([]string{fp + "!"}).keys); n != 1 {
			t.Errorf("%s: narrowed to one fingerprint: %d keys", name, n)
		}
	}
	for _, raw := range []string{"", "nothing", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx\n-----END PGP PUBLIC KEY BLOCK-----"} {
		if _, err := ParseKeyring([]byte(raw)); err == nil {
			t.Errorf("%q is a keyring", raw)
		}
	}
}

func hexOf(b []byte) []byte {
	const d = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, d[c>>4], d[c&15])
	}
	return out
}

func TestReleaseTime(t *testing.T) {
	want := time.Date(2026, 7, 1, 8, 16, 37, 0, time.UTC)
	for _, s := range []string{"Wed, 01 Jul 2026 08:16:37 UTC", "Wed, 1 Jul 2026 08:16:37 UTC", "Wed, 01 Jul 2026 08:16:37 +0000", "Wed, 01 Jul 2026 10:16:37 +0200"} {
		if got, err := releaseTime(s); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", "Wed, 01 Jul 2026 08:16:37 PDT", "2026-07-01"} {
		if got, err := releaseTime(s); err == nil {
			t.Errorf("%s: %v", s, got)
		}
	}
}

func FuzzOpenRelease(f *testing.F) {
	k := newKey(f, "archive")
	good := sign(f, releaseBody([]byte("x"), ""), k)
	f.Add(good)
	f.Add([]byte(releaseBody(nil, "")))
	want, err := OpenRelease(good, keyringOf(k), testTime)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := OpenRelease(b, keyringOf(k), testTime)
		if err == nil && !reflect.DeepEqual(r, want) {
			t.Errorf("accepted what was not signed: %q", b)
		}
		parseRelease(b)
	})
}
