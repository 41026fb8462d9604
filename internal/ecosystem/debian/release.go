package debian

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Limits of a signed index.
const (
	maxInRelease  = 8 << 20
	maxKeyring    = 16 << 20
	maxSignatures = 16
	clockSkew     = 24 * time.Hour // how far an index may lie ahead of this machine's clock
)

// Keyring is a set of OpenPGP keys whose signature on an index is trusted.
type Keyring struct {
	keys openpgp.EntityList
	from []string
}

// ParseKeyring reads a keyring, armoured or binary, one or several blocks.
func ParseKeyring(b []byte) (*Keyring, error) {
	if len(b) > maxKeyring {
		return nil, fmt.Errorf("keyring of %d bytes, at most %d are read", len(b), maxKeyring)
	}
	var all openpgp.EntityList
	if begin := []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----"); bytes.Contains(b, begin) {
		for i, part := range bytes.Split(b, begin) {
			if i == 0 {
				continue // what stands in front of the first block
			}
			l, err := openpgp.ReadArmoredKeyRing(io.MultiReader(bytes.NewReader(begin), bytes.NewReader(part)))
			if err != nil {
				return nil, fmt.Errorf("armoured keyring, block %d: %w", i, err)
			}
			all = append(all, l...)
		}
	} else {
		l, err := openpgp.ReadKeyRing(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		all = l
	}
	if len(all) == 0 {
		return nil, errors.New("keyring: no key in it")
	}
	return &Keyring{keys: all}, nil
}

// ReadKeyrings reads keyring files into one; a file that does not exist or
// holds no key is an error.
func ReadKeyrings(files ...string) (*Keyring, error) {
	k := &Keyring{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Clean(f))
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		one, err := ParseKeyring(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		k.keys = append(k.keys, one.keys...)
		k.from = append(k.from, f)
	}
	return k, nil
}

// Only narrows a keyring to the given fingerprints (upper-case hex), as apt's
// Signed-By allows; an empty list narrows nothing.
func (k *Keyring) only(fingerprints []string) *Keyring {
	if len(fingerprints) == 0 {
		return k
	}
	out := &Keyring{from: k.from}
	for _, e := range k.keys {
		fp := fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)
		for _, want := range fingerprints {
			if strings.TrimSuffix(want, "!") == fp {
				out.keys = append(out.keys, e)
			}
		}
	}
	return out
}

// Release is what a verified InRelease says.
type Release struct {
	Origin, Suite, Codename, Version string
	Date, ValidUntil                 time.Time // ValidUntil is zero if the archive gives none
	ByHash                           bool
	Components, Architectures        []string
	Files                            map[string]IndexFile // by path below the suite's folder
	SignedBy                         []string             // fingerprints of keys whose signatures verified, sorted
}

// IndexFile is one line of InRelease's SHA256 field.
type IndexFile struct {
	SHA256 string
	Size   int64
}

// OpenRelease checks an InRelease file (Debian's repository format): one
// clearsigned message with nothing around it, at least one good signature by a
// key of the keyring, not from the future, not expired at now. Only then is its
// body read.
func OpenRelease(b []byte, keys *Keyring, now time.Time) (*Release, error) {
	bad := func(format string, args ...any) (*Release, error) {
		return nil, fault.New(fault.Unverified, "checking InRelease: "+format, args...)
	}
	if len(b) > maxInRelease {
		return bad("%d bytes, at most %d are read", len(b), maxInRelease)
	}
	if !bytes.HasPrefix(b, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return bad("it does not begin as a clearsigned message")
	}
	block, rest := clearsign.Decode(b)
	if block == nil {
		return bad("it is not a clearsigned message")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return bad("%d bytes stand behind the signature", len(rest))
	}
	sig, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, 1<<20))
	if err != nil {
		return bad("its signature: %w", err)
	}
	by, err := goodSignatures(block.Bytes, sig, keys, now)
	if err != nil {
		return bad("%w", err)
	}
	r, err := parseRelease(block.Plaintext)
	if err != nil {
		return bad("%w", err)
	}
	r.SignedBy = by
	if r.Date.After(now.Add(clockSkew)) {
		return bad("its date %s lies in the future of this machine's clock (%s)", r.Date.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return nil, fault.Advise(fault.Unverified, "Use a mirror that is up to date.",
			"checking InRelease: it was valid until %s; it is %s now", r.ValidUntil.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return r, nil
}

// goodSignatures checks each signature packet by itself and gives the
// fingerprints of the primary keys whose signatures are good. An archive signs
// with several keys, not all of which every machine has.
func goodSignatures(signed, sigs []byte, keys *Keyring, now time.Time) ([]string, error) {
	if keys == nil || len(keys.keys) == 0 {
		return nil, errors.New("no trusted key to check it with")
	}
	good := map[string]bool{}
	var why []string
	pr := packet.NewReader(bytes.NewReader(sigs))
	for n := 0; ; n++ {
		p, err := pr.Next()
		if err == io.EOF {
			break
		}
		if n >= maxSignatures {
			return nil, fmt.Errorf("more than %d signatures", maxSignatures)
		}
		if err != nil {
			var un pgperrors.UnsupportedError
			if errors.As(err, &un) {
				why = append(why, err.Error())
				continue
			}
			return nil, fmt.Errorf("signature %d: %w", n+1, err)
		}
		s, ok := p.(*packet.Signature)
		if !ok {
			return nil, fmt.Errorf("a %T where a signature is expected", p)
		}
		var one bytes.Buffer
		if err := s.Serialize(&one); err != nil {
			return nil, fmt.Errorf("signature %d: %w", n+1, err)
		}
		signer, err := openpgp.CheckDetachedSignature(keys.keys, bytes.NewReader(signed), &one,
			&packet.Config{Time: func() time.Time { return now }})
		if err != nil {
			id := "of an unnamed key"
			if s.IssuerKeyId != nil {
				id = fmt.Sprintf("of key %016X", *s.IssuerKeyId)
			}
			why = append(why, fmt.Sprintf("%s: %v", id, err))
			continue
		}
		good[fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint)] = true
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("no good signature by a trusted key (keyrings: %s); signatures: %s",
			strings.Join(keys.from, ", "), strings.Join(why, "; "))
	}
	out := make([]string, 0, len(good))
	for fp := range good {
		out = append(out, fp)
	}
	sort.Strings(out)
	return out, nil
}

// parseRelease reads the signed body of an InRelease file.
func parseRelease(b []byte) (*Release, error) {
	st, err := ParseStanzas(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if len(st) != 1 {
		return nil, fmt.Errorf("%d paragraphs, want one", len(st))
	}
	s := st[0]
	r := &Release{
		Origin: s.Get("Origin"), Suite: s.Get("Suite"), Codename: s.Get("Codename"), Version: s.Get("Version"),
		ByHash:     s.Get("Acquire-By-Hash") == "yes",
		Components: strings.Fields(s.Get("Components")), Architectures: strings.Fields(s.Get("Architectures")),
		Files: map[string]IndexFile{},
	}
	if r.Date, err = releaseTime(s.Get("Date")); err != nil {
		return nil, fmt.Errorf("date: %w", err)
	}
	if v := s.Get("Valid-Until"); v != "" {
		if r.ValidUntil, err = releaseTime(v); err != nil {
			return nil, fmt.Errorf("valid until: %w", err)
		}
	}
	for _, l := range s.Lines("SHA256") {
		f := strings.Fields(l)
		if len(f) != 3 {
			return nil, fmt.Errorf("SHA256: %.200q is not hash, size and path", l)
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("SHA256: size in %.200q", l)
		}
		if _, err := digest.FromHex(f[0]); err != nil {
			return nil, fmt.Errorf("SHA256: %w", err)
		}
		if !goodPoolPath(f[2]) {
			return nil, fmt.Errorf("SHA256: path %.200q", f[2])
		}
		if old, dup := r.Files[f[2]]; dup && old.SHA256 != f[0] {
			return nil, fmt.Errorf("SHA256: %s is there twice, with two hashes", f[2])
		}
		r.Files[f[2]] = IndexFile{SHA256: f[0], Size: n}
	}
	if len(r.Files) == 0 {
		return nil, errors.New("it lists no file by SHA-256")
	}
	return r, nil
}

// releaseTime reads a time of InRelease: RFC 2822 in UTC.
func releaseTime(s string) (time.Time, error) {
	for _, l := range []string{time.RFC1123, time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(l, s); err == nil {
			if z, off := t.Zone(); off == 0 && z != "UTC" && z != "GMT" && z != "" && !strings.HasPrefix(z, "+") {
				return time.Time{}, fmt.Errorf("%.80q is not in UTC", s)
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.80q is not a time (RFC 2822, UTC)", s)
}

// parseRFC3339 reads a time as a pin writes it.
func parseRFC3339(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("time %.80q: %w", s, err)
	}
	return t, nil
}
