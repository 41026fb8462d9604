// Package evidence makes and checks signed statements about artifacts:
// provenance, rebuild results and verification summaries, as Sigstore bundles
// that stock verifiers accept without a network.
//
// A statement (in-toto Statement v1) is signed in a DSSE envelope with ECDSA
// P-256, its signature is entered into an embedded tile log (Rekor v2
// hashedrekord 0.0.2 over the DSSE pre-authentication encoding) and
// time-stamped (RFC 3161, over the signature). Three keys do the three things.
//
// What it refuses to do: to hand out a statement that is not in the log; to
// accept a bundle of which any one of signature, log entry, inclusion proof,
// checkpoint and time stamp does not verify; to say that its own log and clock
// prove more than they do. They show order and intent to publish; they prove
// neither independent time nor a single view of the log.
package evidence

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	logpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	entrypb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

const (
	payloadType = "application/vnd.in-toto+json"
	bundleType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	entryKind   = "hashedrekord"
	entryVer    = "0.0.2"
)

// DefaultExternalURL is where an installation says it can be reached if nobody
// told it otherwise.
const DefaultExternalURL = "http://localhost:8420"

// Config is what an Authority needs.
type Config struct {
	Dir         string           // folder of the log; made if it is not there; one writer at a time
	Keys        *keys.Set        // the three keys
	ExternalURL string           // base of builder and verifier ids; empty: DefaultExternalURL
	Now         func() time.Time // clock of the time stamps; nil: time.Now
	Last        time.Time        // of the newest time stamp that was made here; zero: there is none
	AcceptClock bool             // stamp although the clock is behind Last
}

// Authority signs, logs and time-stamps statements. It is safe for concurrent
// use; statements given together are logged together.
type Authority struct {
	keys     *keys.Set
	external string
	now      func() time.Time
	accept   bool // a clock that is behind
	log      *tileLog
	spki     []byte // of the signer, DER
	close    sync.Once
	closeErr error

	mu   sync.Mutex
	last time.Time // of the newest time stamp; guarded by mu
}

// Open opens the log in cfg.Dir, making it if it is not there, and goes on where
// an earlier process stopped, even one that was killed. A folder that another
// process has open is fault.Conflict; a log that another key signed or whose
// checkpoint does not verify is fault.Corrupt.
func Open(ctx context.Context, cfg Config) (*Authority, error) {
	if cfg.Keys == nil {
		return nil, fault.New(fault.Usage, "open evidence log %s: no keys given", cfg.Dir)
	}
	external, err := ExternalURL(cfg.ExternalURL)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(cfg.Keys.Signer.Public())
	if err != nil {
		return nil, fmt.Errorf("signer's public key: %w", err)
	}
	l, err := openTileLog(ctx, cfg.Dir, cfg.Keys.Log)
	if err != nil {
		return nil, err
	}
	a := &Authority{keys: cfg.Keys, external: external, now: cfg.Now, log: l, spki: spki, last: cfg.Last, accept: cfg.AcceptClock}
	if a.now == nil {
		a.now = time.Now
	}
	return a, nil
}

// Close waits for what is being logged and lets go of the folder. Further calls
// give the same answer.
func (a *Authority) Close() error {
	a.close.Do(func() { a.closeErr = a.log.Close() })
	return a.closeErr
}

// KeyID names the signer's key (see keys.ID).
func (a *Authority) KeyID() string { return keys.ID(a.keys.Signer.Public()) }

// PublicKey is the signer's public key in PEM.
func (a *Authority) PublicKey() []byte { return keys.PublicPEM(a.keys.Signer.Public()) }

// LogKey is the log's public key, as CheckLog wants it.
func (a *Authority) LogKey() crypto.PublicKey { return a.keys.Log.Public() }

// BuilderID is builder.id for a mode, which is one security setting such as
// "hermetic": {external_url}/builder/{key id}/{mode}.
func (a *Authority) BuilderID(mode string) string {
	return a.external + "/builder/" + a.KeyID() + "/" + url.PathEscape(mode)
}

// VerifierID is verifier.id of the summaries: {external_url}/verifier/{key id}.
func (a *Authority) VerifierID() string { return a.external + "/verifier/" + a.KeyID() }

// EvidenceURL is where a file about the artifact with digest d can be had.
func (a *Authority) EvidenceURL(d digest.Digest, name string) string {
	return a.external + "/evidence/" + d.Hex() + "/" + url.PathEscape(name)
}

// Signed is a statement with its evidence.
type Signed struct {
	Statement []byte        // the in-toto statement, canonical JSON: the envelope's payload
	Bundle    []byte        // Sigstore bundle v0.3, JSON
	DSSE      []byte        // the bare envelope with an empty keyid, as slsa-verifier wants it
	LogIndex  int64         // index of its entry in the log
	Digest    digest.Digest // of Bundle
}

// AttestAll signs, logs and time-stamps statements and returns them in their
// order: Sign and Enter in one, for callers that keep nothing between the two.
func (a *Authority) AttestAll(ctx context.Context, statements []Statement) ([]Signed, error) {
	ps, err := a.Sign(statements)
	if err != nil {
		return nil, err
	}
	return a.Enter(ctx, ps, -1)
}

// Prepared is a statement with its signature, not yet in the log. It is kept
// before the log is written, so that what is in the log after a crash can be
// finished: another signature would be another entry.
type Prepared struct {
	Payload   []byte `json:"payload"`   // the statement, canonical JSON
	Signature []byte `json:"signature"` // over its DSSE pre-authentication encoding
}

// Sign signs statements. Nothing is written anywhere.
func (a *Authority) Sign(statements []Statement) ([]Prepared, error) {
	if len(statements) == 0 {
		return nil, nil
	}
	if _, err := a.clock(); err != nil {
		return nil, err
	}
	ps := make([]Prepared, len(statements))
	for i, s := range statements {
		payload, err := s.Marshal()
		if err != nil {
			return nil, err
		}
		h := sha256.Sum256(dsse.PAE(payloadType, payload))
		sig, err := a.keys.Signer.Sign(rand.Reader, h[:], crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("sign statement %s about %s: %w", s.PredicateType, s.Subject.Name, err)
		}
		ps[i] = Prepared{payload, sig}
	}
	return ps, nil
}

// Size is how many entries the log has taken, whether a checkpoint covers them
// yet or not.
func (a *Authority) Size(ctx context.Context) (int64, error) {
	n, err := a.log.reader.IntegratedSize(ctx)
	return int64(n), err
}

// Enter logs and time-stamps what was signed and returns it in its order. All are
// logged as one batch and awaited together: hundreds take about as long as one.
// Nothing is returned unless everything is in the log under a signed checkpoint.
// With from at least 0, entries that the log has from that index on are taken as
// they are: a writer that was interrupted made them.
func (a *Authority) Enter(ctx context.Context, ps []Prepared, from int64) ([]Signed, error) {
	if len(ps) == 0 {
		return nil, nil
	}
	if _, err := a.clock(); err != nil {
		return nil, err
	}
	entries := make([][]byte, len(ps))
	for i, p := range ps {
		h := sha256.Sum256(dsse.PAE(payloadType, p.Payload))
		var err error
		if entries[i], err = hashedRekord(h[:], p.Signature, a.spki); err != nil {
			return nil, fmt.Errorf("log entry: %w", err)
		}
	}
	have := map[string]uint64{}
	if from >= 0 {
		var err error
		if have, err = a.log.find(ctx, entries, uint64(from)); err != nil {
			return nil, err
		}
	}
	included, err := a.log.Append(ctx, entries, have)
	if err != nil {
		return nil, fmt.Errorf("enter %d statements into the log: %w", len(entries), err)
	}
	out := make([]Signed, len(ps))
	for i, p := range ps {
		token, err := a.stamp(p.Signature)
		if err != nil {
			return nil, fmt.Errorf("time stamp for log entry %d: %w", included[i].LogIndex, err)
		}
		b, err := a.bundle(p.Payload, p.Signature, token, included[i])
		if err != nil {
			return nil, fmt.Errorf("bundle for log entry %d: %w", included[i].LogIndex, err)
		}
		env, err := bare(p.Payload, p.Signature)
		if err != nil {
			return nil, err
		}
		out[i] = Signed{Statement: p.Payload, Bundle: b, DSSE: env, LogIndex: included[i].LogIndex, Digest: digest.FromBytes(b)}
	}
	return out, nil
}

// bare is the envelope alone, with the empty keyid that slsa-verifier wants.
func bare(payload, sig []byte) ([]byte, error) {
	return json.Marshal(dsse.Envelope{
		PayloadType: payloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
}

// slack is how far the clock may step back, as a time server makes it now and
// then, and is taken to stand still.
const slack = 10 * time.Second

// clock gives the time for stamps. It never goes back: a clock that is behind the
// newest stamp is refused, unless the caller has said to accept it.
func (a *Authority) clock() (time.Time, error) {
	now := a.now()
	if leaf := a.keys.Leaf; now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return now, fault.Advise(fault.Unsupported, "Set the clock right; if it is right, the keys have come to their end.",
			"time-stamp statements: the clock says %s, but the time stamp's certificate is valid from %s to %s",
			stampTime(now), stampTime(leaf.NotBefore), stampTime(leaf.NotAfter))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch behind := a.last.Sub(now); {
	case behind <= 0 || a.accept:
		a.last = now
	case behind <= slack:
		now = a.last
	default:
		return now, fault.Advise(fault.Unsupported, "Set the clock right and run the same command again. If it is right now and was wrong then, say so with --accept-clock.",
			"time-stamp statements: the clock says %s, but the newest time stamp here is from %s", stampTime(now), stampTime(a.last))
	}
	return now, nil
}

// bundle puts the parts together (Sigstore bundle v0.3) as canonical JSON, since
// protojson's own spacing differs between runs on purpose.
func (a *Authority) bundle(payload, sig, token []byte, entry *logpb.TransparencyLogEntry) ([]byte, error) {
	return canonicalBundle(&bundlepb.Bundle{
		MediaType: bundleType,
		VerificationMaterial: &bundlepb.VerificationMaterial{
			Content:     &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: keyHint(a.spki)}},
			TlogEntries: []*logpb.TransparencyLogEntry{entry},
			TimestampVerificationData: &bundlepb.TimestampVerificationData{
				Rfc3161Timestamps: []*commonpb.RFC3161SignedTimestamp{{SignedTimestamp: token}},
			},
		},
		Content: &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: payload, PayloadType: payloadType, Signatures: []*dssepb.Signature{{Sig: sig}},
		}},
	})
}

// canonicalBundle writes a bundle in its one spelling.
func canonicalBundle(p *bundlepb.Bundle) ([]byte, error) {
	b, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	return canonical.Transform(b)
}

// stamp makes an RFC 3161 response over the signature's bytes. Rekor v2 entries
// carry no time of their own, so this is the only one. The policy is anyPolicy
// (RFC 5280 section 4.2.1.4): the stamp promises nothing about its clock.
func (a *Authority) stamp(sig []byte) ([]byte, error) {
	now, err := a.clock()
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(sig)
	ts := timestamp.Timestamp{
		HashAlgorithm:     crypto.SHA256,
		HashedMessage:     h[:],
		Time:              now.UTC(),
		Policy:            []int{2, 5, 29, 32, 0},
		AddTSACertificate: true,
	}
	return ts.CreateResponseWithOpts(a.keys.Leaf, a.keys.Timestamp, crypto.SHA256)
}

// hashedRekord is the log entry for a signature over paeHash, canonical JSON.
// Kind dsse 0.0.2 exists, but stock verifiers cannot read it.
func hashedRekord(paeHash, sig, spki []byte) ([]byte, error) {
	b, err := protojson.Marshal(&entrypb.Entry{
		Kind: entryKind, ApiVersion: entryVer,
		Spec: &entrypb.Spec{Spec: &entrypb.Spec_HashedRekordV002{HashedRekordV002: &entrypb.HashedRekordLogEntryV002{
			Data: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: paeHash},
			Signature: &entrypb.Signature{Content: sig, Verifier: &entrypb.Verifier{
				KeyDetails: commonpb.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
				Verifier:   &entrypb.Verifier_PublicKey{PublicKey: &entrypb.PublicKey{RawBytes: spki}},
			}},
		}}},
	})
	if err != nil {
		return nil, err
	}
	return canonical.Transform(b)
}

// keyHint names the signer's key within a bundle, as cosign writes it.
func keyHint(spki []byte) string {
	h := sha256.Sum256(spki)
	return base64.StdEncoding.EncodeToString(h[:])
}

// ExternalURL reads the base of builder and verifier ids, empty for the default,
// and gives it in its one spelling; what is no such address is fault.Usage.
func ExternalURL(s string) (string, error) {
	if s == "" {
		s = DefaultExternalURL
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fault.New(fault.Usage, "external URL %.200q: want http(s)://host[:port][/path]", s)
	}
	return strings.TrimRight(s, "/"), nil
}
