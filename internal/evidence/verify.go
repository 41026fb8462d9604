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
	"slices"
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

// TrustedRoot is the document that names our logs and our time stamps for stock
// verifiers (Sigstore trusted root v0.1, JSON), each with the time in which it is
// believed. It is the same bytes for the same keys. It does not hold the signer's
// key: who signs is a decision that the reader makes apart, with key.pub.
func (a *Authority) TrustedRoot() ([]byte, error) { return TrustedRoot(a.keys) }

// TrustedRoot is Authority.TrustedRoot for a key set whose log is not open.
func TrustedRoot(set *keys.Set) ([]byte, error) { return trustedRoot(set, true) }

// trustedRoot is TrustedRoot; without windows, keys are believed for all they made.
func trustedRoot(set *keys.Set, windows bool) ([]byte, error) {
	logs := map[string]*root.TransparencyLog{}
	for _, e := range set.Ring().Logs {
		pub, err := e.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("trusted root: %w", err)
		}
		origin := LogOrigin(pub)
		_, id, err := rekornote.KeyHash(origin, pub)
		if err != nil {
			return nil, fmt.Errorf("trusted root: id of the log: %w", err)
		}
		if windows && e.Void() {
			continue
		}
		l := &root.TransparencyLog{
			BaseURL: "https://" + origin, ID: id, HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
			PublicKey: pub, ValidityPeriodStart: e.From,
		}
		if windows && e.Until != nil {
			l.ValidityPeriodEnd = *e.Until
		}
		logs[hex.EncodeToString(id)] = l
	}
	var tsas []root.TimestampingAuthority
	for _, e := range set.Ring().Timestamps {
		leaf, top, err := e.Certificates()
		if err != nil {
			return nil, fmt.Errorf("trusted root: %w", err)
		}
		if windows && e.Void() {
			continue
		}
		t := &root.SigstoreTimestampingAuthority{
			Root: top, Leaf: leaf,
			ValidityPeriodStart: e.From, ValidityPeriodEnd: leaf.NotAfter,
			URI: "https://tsa-" + e.ID + ".hallmark.invalid",
		}
		if windows && e.Until != nil {
			t.ValidityPeriodEnd = *e.Until
		}
		tsas = append(tsas, t)
	}
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

// Trust is whom a verification believes: the logs and time stamps that the
// trusted root names, and who signs.
type Trust struct {
	TrustedRoot []byte      // trusted_root.json
	PublicKey   []byte      // key.pub: PEM, SPKI, ECDSA P-256; unused if there are Signers
	Signers     []SignerKey // several keys, each with its time
}

// SignerKey is a signer's key with the time in which what it signed is believed.
type SignerKey struct {
	PublicKey []byte    // PEM, SPKI, ECDSA P-256
	From      time.Time // zero: from ever
	Until     time.Time // the last moment, by the time stamp; zero: no end
	// Below is, by the origin of a log, the index from which on its entries by this key
	// are not believed, whatever their time stamps say; nil: no bound. A log that is
	// not in it has none that are believed.
	Below map[string]int64
}

// OwnTrust is whom an installation believes of what it made itself: all its keys,
// each in its time.
func OwnTrust(set *keys.Set) (Trust, error) {
	tr, err := TrustedRoot(set)
	if err != nil {
		return Trust{}, err
	}
	t := Trust{TrustedRoot: tr}
	for _, e := range set.Ring().Signers {
		if e.Void() {
			continue
		}
		k := SignerKey{PublicKey: []byte(e.Public), From: e.From}
		if e.Until != nil {
			k.Until = *e.Until
		}
		if e.Revoked != nil {
			k.Below = map[string]int64{}
			for _, l := range set.Ring().Logs {
				pub, err := l.PublicKey()
				if err != nil {
					return Trust{}, err
				}
				k.Below[LogOrigin(pub)] = max(0, e.Revoked.Index-l.Log.First)
			}
		}
		t.Signers = append(t.Signers, k)
	}
	return t, nil
}

// EveryTrust is OwnTrust for whoever asks only whether something is as it was made:
// every key is believed for all that it made, at any time, a revoked one too. Nothing
// may be decided by it.
func EveryTrust(set *keys.Set) (Trust, error) {
	tr, err := trustedRoot(set, false)
	t := Trust{TrustedRoot: tr}
	for _, e := range set.Ring().Signers {
		t.Signers = append(t.Signers, SignerKey{PublicKey: []byte(e.Public)})
	}
	return t, err
}

// SignedBy gives the key of a set that a bundle names as its signer's, without
// checking anything: for showing, never for deciding.
func SignedBy(bundleJSON []byte, set *keys.Set) (keys.Entry, bool) {
	var b struct {
		Material struct {
			Key struct {
				Hint string `json:"hint"`
			} `json:"publicKey"`
		} `json:"verificationMaterial"`
	}
	if len(bundleJSON) > MaxBundle || json.Unmarshal(bundleJSON, &b) != nil {
		return keys.Entry{}, false
	}
	for _, e := range set.Ring().Signers {
		pub, err := e.PublicKey()
		if err != nil {
			return keys.Entry{}, false
		}
		spki, err := x509.MarshalPKIXPublicKey(pub)
		if err == nil && keyHint(spki) == b.Material.Key.Hint {
			return e, true
		}
	}
	return keys.Entry{}, false
}

// ErrOutside is in the error about a statement that a known key signed at a time, or
// entered at a place in the log, at which that key is not believed.
var ErrOutside = errors.New("outside of the time in which the key is believed")

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
	signers map[string]*signer // by hint

	mu          sync.Mutex                        // guards what follows
	checkpoints map[string]*tlogformat.Checkpoint // that verified, by log and text
}

// signer is a key that may have signed.
type signer struct {
	SignerKey
	key signature.Verifier
	id  string
}

// believed tells whether something that this key signed, stamped and entered as it
// is said, is believed.
func (k *signer) believed(at time.Time, origin string, index int64) error {
	switch below, ok := k.Below[origin]; {
	case !k.From.IsZero() && at.Before(k.From):
		return fault.New(fault.Unverified, "key: %s signed it at %s, %w, from %s on", k.id, stampTime(at), ErrOutside, stampTime(k.From))
	case !k.Until.IsZero() && at.After(k.Until):
		return fault.New(fault.Unverified, "key: %s signed it at %s, %w, until %s", k.id, stampTime(at), ErrOutside, stampTime(k.Until))
	case k.Below != nil && (!ok || index >= below):
		return fault.New(fault.Unverified, "key: %s signed it as entry %d of %s, %w: it was revoked before that entry", k.id, index, origin, ErrOutside)
	}
	return nil
}

// trustedSet joins the trusted root with the signers' keys.
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
	all := t.Signers
	if len(all) == 0 {
		all = []SignerKey{{PublicKey: t.PublicKey}}
	}
	v := &Verifier{signers: map[string]*signer{}}
	known := map[string]*root.ExpiringKey{}
	for _, k := range all {
		pub, err := keys.ParsePublicPEM(k.PublicKey)
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
		known[hint] = root.NewExpiringKey(kv, time.Time{}, time.Time{})
		v.signers[hint] = &signer{k, kv, keys.ID(pub)}
	}
	v.trusted = trustedSet{tr, root.NewTrustedPublicKeyMaterialFromMapping(known)}
	if v.full, err = verify.NewVerifier(v.trusted, verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1), verify.WithoutStatementPredicate()); err != nil {
		return nil, fmt.Errorf("set up verification: %w", err)
	}
	return v, nil
}

// keyIDs names the trusted keys.
func (v *Verifier) keyIDs() string {
	var ids []string
	for _, k := range v.signers {
		ids = append(ids, k.id)
	}
	slices.Sort(ids)
	return strings.Join(ids, ", ")
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
	hint := b.VerificationMaterial.GetPublicKey().GetHint()
	k := v.signers[hint]
	if k == nil {
		return nil, fault.New(fault.Unverified, "key: the bundle was signed by another key than the trusted one (%s); it names %.64q", v.keyIDs(), hint)
	}
	pae := dsse.PAE(env.PayloadType, env.Payload)
	if err := k.key.VerifySignature(bytes.NewReader(sig), bytes.NewReader(pae)); err != nil {
		return nil, fault.New(fault.Unverified, "key: the signature is not by the trusted key %s over this statement: %w", k.id, err)
	}

	// File and type.
	out, err := readStatement(env.Payload, artifact)
	if err != nil {
		return nil, err
	}
	if out.PredicateType != predicateType {
		return nil, fault.New(fault.Unverified, "type: the statement is of type %.120q, not %q", out.PredicateType, predicateType)
	}
	out.KeyID = k.id

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
	if err := v.inTime(k, out, b.VerificationMaterial.TlogEntries[0].GetLogId().GetKeyId()); err != nil {
		return nil, err
	}

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

// inTime checks that the signer's key and the log were in use when the statement was
// stamped. What stamped it was, or the stamp would not have verified.
func (v *Verifier) inTime(k *signer, out *Verified, logID []byte) error {
	if err := k.believed(out.Time, out.LogOrigin, out.LogIndex); err != nil {
		return err
	}
	log := v.trusted.RekorLogs()[hex.EncodeToString(logID)]
	if log == nil {
		return nil // said by checkLog
	}
	if at := out.Time; at.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && at.After(log.ValidityPeriodEnd) {
		return fault.New(fault.Unverified, "log: the statement was stamped at %s, %w of %s", stampTime(at), ErrOutside, out.LogOrigin)
	}
	return nil
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
