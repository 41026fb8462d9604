package evidence

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	rekorverify "github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	tlogformat "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"golang.org/x/mod/sumdb/note"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// Limits for evidence that comes from outside.
const (
	MaxBundle      = 16 << 20 // bytes of a bundle
	MaxTrustedRoot = 1 << 20  // bytes of a trusted root
)

// TrustedRoot is the document that names our log and our time stamp for stock
// verifiers (Sigstore trusted root v0.1, JSON). It is the same bytes for the
// same keys. It does not hold the signer's key: who signs is a decision that
// the reader makes apart, with key.pub.
func (a *Authority) TrustedRoot() ([]byte, error) { return TrustedRoot(a.keys) }

// TrustedRoot is Authority.TrustedRoot for a key set whose log is not open.
func TrustedRoot(set *keys.Set) ([]byte, error) {
	origin := LogOrigin(set.Log.Public())
	_, id, err := rekornote.KeyHash(origin, set.Log.Public())
	if err != nil {
		return nil, fmt.Errorf("trusted root: id of the log: %w", err)
	}
	logs := map[string]*root.TransparencyLog{hex.EncodeToString(id): {
		BaseURL: "https://" + origin, ID: id, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
		PublicKey: set.Log.Public(), ValidityPeriodStart: set.Leaf.NotBefore,
	}}
	tsas := []root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{
		Root: set.Root, Leaf: set.Leaf,
		ValidityPeriodStart: set.Leaf.NotBefore, ValidityPeriodEnd: set.Leaf.NotAfter,
		URI: "https://tsa-" + keys.ID(set.Timestamp.Public()) + ".hallmark.invalid",
	}}
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, map[string]*root.TransparencyLog{}, tsas, logs)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	b, err := tr.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	// protojson's spacing differs between runs on purpose; settle it.
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Trust is whom a verification believes: the log and time stamp that the
// trusted root names, and one signer's key.
type Trust struct {
	TrustedRoot []byte // trusted_root.json
	PublicKey   []byte // key.pub: PEM, SPKI, ECDSA P-256
}

// Verified is what a bundle says, once every check has passed.
type Verified struct {
	Payload       []byte          // the in-toto statement as signed
	Subject       Subject         // the one that was asked about
	PredicateType string          //
	Predicate     json.RawMessage //
	KeyID         string          // of the signer (keys.ID)
	LogOrigin     string          // first line of the log's checkpoints
	LogIndex      int64           // of the entry
	TreeSize      uint64          // of the log, under the checkpoint in the bundle
	RootHash      []byte          // of the log at that size
	Time          time.Time       // of the time stamp; says what the stamp's clock said, no more
	Checkpoint    string          // of the log, as it is in the bundle
	Entry         []byte          // the log's entry
	DSSE          []byte          // the bare envelope of the same statement and signature
}

// BuilderID is builder.id of a provenance statement; empty for any other.
func (v *Verified) BuilderID() string {
	var p struct {
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if v.PredicateType != TypeProvenance || json.Unmarshal(v.Predicate, &p) != nil {
		return ""
	}
	return p.RunDetails.Builder.ID
}

// Verifier checks bundles offline against one Trust. It is safe for concurrent
// use.
type Verifier struct {
	trusted root.TrustedMaterial
	full    *verify.Verifier
	key     signature.Verifier
	hint    string
	keyID   string

	mu          sync.Mutex                        // guards what follows
	checkpoints map[string]*tlogformat.Checkpoint // that verified, by log and text
}

// trustedSet joins the trusted root with the signer's key.
type trustedSet struct {
	root.TrustedMaterial
	keys root.TrustedMaterial
}

// PublicKeyVerifier finds the signer's key by the bundle's hint.
func (t trustedSet) PublicKeyVerifier(hint string) (root.TimeConstrainedVerifier, error) {
	return t.keys.PublicKeyVerifier(hint)
}

// NewVerifier reads what t names; what cannot be read is fault.Unverified.
func NewVerifier(t Trust) (*Verifier, error) {
	if len(t.TrustedRoot) > MaxTrustedRoot {
		return nil, fault.New(fault.Unverified, "trusted root of %d bytes: at most %d", len(t.TrustedRoot), MaxTrustedRoot)
	}
	tr, err := root.NewTrustedRootFromJSON(t.TrustedRoot)
	if err != nil {
		return nil, fault.New(fault.Unverified, "trusted root cannot be read: %w", err)
	}
	pub, err := keys.ParsePublicPEM(t.PublicKey)
	if err != nil {
		return nil, fault.New(fault.Unverified, "signer's key cannot be read: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fault.New(fault.Unverified, "signer's key cannot be read: %w", err)
	}
	kv, err := signature.LoadVerifier(pub, crypto.SHA256)
	if err != nil {
		return nil, fault.New(fault.Unverified, "signer's key cannot be used: %w", err)
	}
	hint := keyHint(spki)
	set := trustedSet{tr, root.NewTrustedPublicKeyMaterialFromMapping(map[string]*root.ExpiringKey{
		hint: root.NewExpiringKey(kv, time.Time{}, time.Time{}),
	})}
	full, err := verify.NewVerifier(set, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithoutStatementPredicate())
	if err != nil {
		return nil, fmt.Errorf("set up verification: %w", err)
	}
	return &Verifier{trusted: set, full: full, key: kv, hint: hint, keyID: keys.ID(pub)}, nil
}

// Verify is NewVerifier and Verifier.Verify in one, for a single bundle.
func Verify(bundleJSON []byte, t Trust, artifact digest.Digest, predicateType string) (*Verified, error) {
	v, err := NewVerifier(t)
	if err != nil {
		return nil, err
	}
	return v.Verify(bundleJSON, artifact, predicateType)
}

// Verify checks a bundle without a network: that the trusted key signed it,
// that it is about artifact and of the type asked for, that a trusted log holds
// it, and that a trusted time stamp covers it. Every failure is
// fault.Unverified with a sentence that says which check failed. Fields that
// the proofs do not cover but repeat must agree with what they prove, so that
// nothing in an accepted bundle is a lie.
func (v *Verifier) Verify(bundleJSON []byte, artifact digest.Digest, predicateType string) (*Verified, error) {
	if !artifact.Valid() {
		return nil, fault.New(fault.Usage, "verify: %.80q is no digest of a file", artifact)
	}
	if out, ok := v.spelled(bundleJSON, artifact, predicateType); ok {
		return out, nil
	}
	return v.VerifyWhole(bundleJSON, artifact, predicateType)
}

// VerifyWhole is Verify, but goes the long way with every bundle: first what names
// the check that fails, then the stock verifier from the beginning, then the
// spelling. It says the same and takes several times as long; fsck uses it, so
// that the two ways watch each other.
func (v *Verifier) VerifyWhole(bundleJSON []byte, artifact digest.Digest, predicateType string) (*Verified, error) {
	if !artifact.Valid() {
		return nil, fault.New(fault.Usage, "verify: %.80q is no digest of a file", artifact)
	}
	b, err := readBundle(bundleJSON)
	if err != nil {
		return nil, err
	}
	env := b.GetDsseEnvelope()
	sig := env.Signatures[0].Sig

	// Key.
	if hint := b.VerificationMaterial.GetPublicKey().GetHint(); hint != v.hint {
		return nil, fault.New(fault.Unverified, "key: the bundle was signed by another key than the trusted one (%s); it names %.64q", v.keyID, hint)
	}
	pae := dsse.PAE(env.PayloadType, env.Payload)
	if err := v.key.VerifySignature(bytes.NewReader(sig), bytes.NewReader(pae)); err != nil {
		return nil, fault.New(fault.Unverified, "key: the signature is not by the trusted key %s over this statement: %w", v.keyID, err)
	}

	// File and type.
	out, err := readStatement(env.Payload, artifact)
	if err != nil {
		return nil, err
	}
	if out.PredicateType != predicateType {
		return nil, fault.New(fault.Unverified, "type: the statement is of type %.120q, not %q", out.PredicateType, predicateType)
	}
	out.KeyID = v.keyID

	// Log.
	if err := v.checkLog(b, out); err != nil {
		return nil, err
	}

	// Time.
	stamps, err := verify.VerifySignedTimestampWithThreshold(b, v.trusted, 1)
	if err != nil {
		return nil, fault.New(fault.Unverified, "time: the time stamp does not verify against the trusted root: %w", err)
	}
	out.Time = stamps[0].Time.UTC()

	// The stock verifier has the last word.
	raw, err := hex.DecodeString(artifact.Hex())
	if err != nil {
		return nil, fault.New(fault.Usage, "verify: %w", err)
	}
	if _, err := v.full.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", raw), verify.WithKey())); err != nil {
		return nil, fault.New(fault.Unverified, "bundle: %w", err)
	}
	// One thing said in two ways would be two files with one meaning: only the
	// spelling that we write is accepted (RFC 8785).
	again, err := canonicalBundle(b.Bundle)
	if err != nil {
		return nil, fault.New(fault.Unverified, "bundle: %w", err)
	}
	if !bytes.Equal(again, bundleJSON) {
		return nil, fault.New(fault.Unverified, "bundle: it is not spelled as it was written (canonical JSON without unknown fields)")
	}
	out.Checkpoint = b.VerificationMaterial.TlogEntries[0].GetInclusionProof().GetCheckpoint().GetEnvelope()
	out.Entry = b.VerificationMaterial.TlogEntries[0].GetCanonicalizedBody()
	out.DSSE, err = bare(env.Payload, sig)
	return out, err
}

// checkLog checks the log entry, its proof and its checkpoint, and that what
// the bundle repeats of them is what they say.
func (v *Verifier) checkLog(b *bundle.Bundle, out *Verified) error {
	entry := b.VerificationMaterial.TlogEntries[0]
	log, ok := v.trusted.RekorLogs()[hex.EncodeToString(entry.GetLogId().GetKeyId())]
	if !ok {
		return fault.New(fault.Unverified, "log: the entry is in a log that the trusted root does not name (key hash %.80q)",
			hex.EncodeToString(entry.GetLogId().GetKeyId()))
	}
	_, err := verify.VerifyTlogEntry(b, v.trusted, 1, false)
	var mismatch proof.RootMismatchError
	if errors.As(err, &mismatch) {
		return fault.New(fault.Unverified, "log: the inclusion proof does not lead from this statement to the checkpoint's root")
	}
	if err != nil {
		return fault.New(fault.Unverified, "log: the entry, its proof or its checkpoint does not verify: %w", err)
	}
	nv, err := logNote(log)
	if err != nil {
		return fault.New(fault.Unverified, "log: %w", err)
	}
	p := entry.GetInclusionProof()
	cp, err := rekorverify.VerifyCheckpoint(p.GetCheckpoint().GetEnvelope(), nv)
	if err != nil {
		return fault.New(fault.Unverified, "log: the checkpoint is not signed by the log: %w", err)
	}
	if _, err := parseCheckpoint([]byte(p.GetCheckpoint().GetEnvelope()), nv); err != nil {
		return fault.New(fault.Unverified, "log: the checkpoint is malformed: %w", err)
	}
	// The proof was checked for the entry as it must be; the body that the
	// bundle shows has to be that entry.
	if err := rekorverify.VerifyInclusionProof(entry, cp); err != nil {
		return fault.New(fault.Unverified, "log: the entry's body is not the one in the log: %w", err)
	}
	switch {
	case entry.GetLogIndex() != p.GetLogIndex() || p.GetTreeSize() < 0 || uint64(p.GetTreeSize()) != cp.Size || !bytes.Equal(p.GetRootHash(), cp.Hash):
		return fault.New(fault.Unverified, "log: index, size or root of the proof are not those of entry and checkpoint")
	case entry.GetIntegratedTime() != 0 || entry.GetInclusionPromise() != nil:
		return fault.New(fault.Unverified, "log: the entry claims a time or a promise, which this kind of log does not give")
	case entry.GetKindVersion().GetKind() != entryKind || entry.GetKindVersion().GetVersion() != entryVer:
		return fault.New(fault.Unverified, "log: the entry is of kind %.40q, not %s %s", entry.GetKindVersion().GetKind(), entryKind, entryVer)
	}
	out.LogOrigin, out.LogIndex, out.TreeSize, out.RootHash = cp.Origin, entry.GetLogIndex(), cp.Size, cp.Hash
	return nil
}

// logNote checks the notes of a log that the trusted root names.
func logNote(log *root.TransparencyLog) (note.Verifier, error) {
	u, err := url.Parse(log.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("the trusted root's address for it: %w", err)
	}
	return noteVerifier(u.Hostname(), log.PublicKey)
}

// strictNote demands that the signatures of a signed note are spelled as base64
// demands: readers pass over unused bits at its end, so that one signature
// would have several spellings.
func strictNote(envelope string) error {
	_, sigs, ok := strings.Cut(envelope, "\n\n")
	if !ok {
		return errors.New("no signatures")
	}
	for line := range strings.Lines(sigs) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("signature line of %d words", len(f))
		}
		if _, err := base64.StdEncoding.Strict().DecodeString(f[2]); err != nil {
			return fmt.Errorf("signature: %w", err)
		}
	}
	return nil
}

// readBundle reads a bundle of exactly the shape that we make: one envelope
// with one signature by a key, one log entry, one time stamp.
func readBundle(bundleJSON []byte) (*bundle.Bundle, error) {
	if len(bundleJSON) > MaxBundle {
		return nil, fault.New(fault.Unverified, "bundle: %d bytes, at most %d", len(bundleJSON), MaxBundle)
	}
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(bundleJSON); err != nil {
		return nil, fault.New(fault.Unverified, "bundle: it is no Sigstore bundle: %w", err)
	}
	vm, env := b.GetVerificationMaterial(), b.GetDsseEnvelope()
	bad := func(what string) error { return fault.New(fault.Unverified, "bundle: %s", what) }
	switch {
	case b.MediaType != bundleType:
		return nil, bad(fmt.Sprintf("media type %.80q, want %s", b.MediaType, bundleType))
	case vm.GetPublicKey() == nil:
		return nil, bad("it is not signed by a plain key")
	case env == nil:
		return nil, bad("it holds no DSSE envelope")
	case env.PayloadType != payloadType:
		return nil, bad(fmt.Sprintf("payload type %.80q, want %s", env.PayloadType, payloadType))
	case len(env.Signatures) != 1 || len(env.Signatures[0].GetSig()) == 0:
		return nil, bad("want exactly one signature")
	case env.Signatures[0].GetKeyid() != "":
		return nil, bad("the signature has a keyid, which nothing vouches for")
	case len(vm.GetTlogEntries()) != 1:
		return nil, fault.New(fault.Unverified, "log: the bundle has %d log entries, want exactly one", len(vm.GetTlogEntries()))
	}
	stamps := vm.GetTimestampVerificationData().GetRfc3161Timestamps()
	if len(stamps) != 1 {
		return nil, fault.New(fault.Unverified, "time: the bundle has %d time stamps, want exactly one", len(stamps))
	}
	ts, err := timestamp.ParseResponse(stamps[0].GetSignedTimestamp())
	if err != nil {
		return nil, fault.New(fault.Unverified, "time: the time stamp cannot be read: %w", err)
	}
	if err := strictStamp(stamps[0].GetSignedTimestamp()); err != nil {
		return nil, fault.New(fault.Unverified, "time: the time stamp is malformed: %w", err)
	}
	if ts.HashAlgorithm != crypto.SHA256 {
		return nil, fault.New(fault.Unverified, "time: the time stamp uses %v, want SHA-256", ts.HashAlgorithm)
	}
	return b, nil
}

// readStatement finds artifact among the subjects of an in-toto statement.
func readStatement(payload []byte, artifact digest.Digest) (*Verified, error) {
	var s struct {
		Type    string `json:"_type"`
		Subject []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fault.New(fault.Unverified, "bundle: its payload is no statement: %w", err)
	}
	if s.Type != StatementType {
		return nil, fault.New(fault.Unverified, "bundle: its payload is of type %.80q, want %s", s.Type, StatementType)
	}
	about := ""
	for _, sub := range s.Subject {
		if sub.Digest["sha256"] == artifact.Hex() {
			return &Verified{
				Payload: payload, Subject: Subject{Name: sub.Name, Digest: artifact},
				PredicateType: s.PredicateType, Predicate: s.Predicate,
			}, nil
		}
		about = sub.Digest["sha256"]
	}
	return nil, fault.New(fault.Unverified, "file: the statement is about another file (sha256:%.64s), not about %s", about, artifact)
}

// StatementOf gives the statement inside a bundle without checking anything
// that vouches for it: for showing, never for deciding.
func StatementOf(bundleJSON []byte) ([]byte, error) {
	if len(bundleJSON) > MaxBundle {
		return nil, fault.New(fault.Hostile, "bundle of %d bytes: at most %d", len(bundleJSON), MaxBundle)
	}
	var b struct {
		Envelope struct {
			Payload string `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(bundleJSON, &b); err != nil {
		return nil, fault.New(fault.Hostile, "bundle: %w", err)
	}
	p, err := base64.StdEncoding.DecodeString(b.Envelope.Payload)
	if err != nil || len(p) == 0 {
		return nil, fault.New(fault.Hostile, "bundle: no envelope with a payload in it")
	}
	return p, nil
}
