package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	logpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekorverify "github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	tlogformat "github.com/transparency-dev/formats/log"

	"hallmark/internal/digest"
)

// A data directory holds thousands of bundles, all written here. One that is
// spelled as ours are can be read without a reader of JSON: the text is one of few
// forms, and what is read from it can be written in no other way, so that nothing
// has to be written again and compared. Then each thing in it is checked once, by
// the functions that the stock verifier consists of. Whatever is not accepted
// here, for whatever reason, is for the whole verification to judge and to give
// the reason: nothing is refused here.

// parts is what a bundle of ours says.
type parts struct {
	payload    []byte
	payload64  string // as in the bundle
	sig        []byte
	sig64      string
	hint       string
	token      []byte
	body       []byte // of the log entry
	checkpoint string
	hashes     [][]byte
	proofIndex int64
	root       []byte
	size       int64
	logID      []byte
	index      int64
}

// readParts reads a bundle in its one spelling: canonical JSON of exactly the
// fields that we write. ok is false for everything else.
func readParts(b []byte) (p parts, ok bool) {
	c := cursor{rest: b}
	c.skip(`{"dsseEnvelope":{"payload":"`)
	p.payload, p.payload64 = c.binary()
	c.skip(`","payloadType":"` + payloadType + `","signatures":[{"sig":"`)
	p.sig, p.sig64 = c.binary()
	c.skip(`"}]},"mediaType":"` + bundleType + `","verificationMaterial":{"publicKey":{"hint":"`)
	p.hint = c.text()
	c.skip(`"},"timestampVerificationData":{"rfc3161Timestamps":[{"signedTimestamp":"`)
	p.token, _ = c.binary()
	c.skip(`"}]},"tlogEntries":[{"canonicalizedBody":"`)
	p.body, _ = c.binary()
	c.skip(`","inclusionProof":{"checkpoint":{"envelope":"`)
	p.checkpoint = c.text()
	c.skip(`"},`)
	// The format leaves out what is empty or zero.
	if c.take(`"hashes":["`) {
		for more := true; more && !c.bad; more = c.take(`","`) {
			h, _ := c.binary()
			p.hashes = append(p.hashes, h)
		}
		c.skip(`"],`)
	}
	if c.take(`"logIndex":"`) {
		p.proofIndex = c.number()
		c.skip(`",`)
	}
	c.skip(`"rootHash":"`)
	p.root, _ = c.binary()
	c.skip(`","treeSize":"`)
	p.size = c.number()
	c.skip(`"},"kindVersion":{"kind":"` + entryKind + `","version":"` + entryVer + `"},"logId":{"keyId":"`)
	p.logID, _ = c.binary()
	c.skip(`"}`)
	if c.take(`,"logIndex":"`) {
		p.index = c.number()
		c.skip(`"`)
	}
	c.skip(`}]}}`)
	return p, !c.bad && len(c.rest) == 0
}

// cursor reads a text of known form; bad is set, and stays, once it is another.
type cursor struct {
	rest []byte
	bad  bool
}

// take takes s if it comes next.
func (c *cursor) take(s string) bool {
	if c.bad || len(c.rest) < len(s) || string(c.rest[:len(s)]) != s {
		return false
	}
	c.rest = c.rest[len(s):]
	return true
}

func (c *cursor) skip(s string) {
	if !c.take(s) {
		c.bad = true
	}
}

// quoted takes what stands before the next quotation mark.
func (c *cursor) quoted() []byte {
	n := bytes.IndexByte(c.rest, '"')
	if c.bad || n <= 0 {
		c.bad = true
		return nil
	}
	s := c.rest[:n]
	c.rest = c.rest[n:]
	return s
}

// binary takes base64 that can be spelled in no other way.
func (c *cursor) binary() ([]byte, string) {
	s := c.quoted()
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(b, s)
	// The decoder passes over line ends.
	if err != nil || n == 0 || base64.StdEncoding.EncodedLen(n) != len(s) {
		c.bad = true
	}
	return b[:n], string(s)
}

// number takes a number above zero, in digits.
func (c *cursor) number() int64 {
	s := c.quoted()
	n, err := strconv.ParseUint(string(s), 10, 64)
	if err != nil || n > math.MaxInt64 || s[0] < '1' || s[0] > '9' {
		c.bad = true
		return 0
	}
	return int64(n)
}

// text takes the few characters that a checkpoint or a hint consists of: ASCII,
// the dash before a signature, and the end of a line.
func (c *cursor) text() string {
	s := c.quoted()
	out := make([]byte, 0, len(s))
	const dash = "\u2014"
	for len(s) > 0 {
		switch {
		case len(s) > 1 && s[0] == '\\' && s[1] == 'n':
			out, s = append(out, '\n'), s[2:]
		case len(s) >= len(dash) && string(s[:len(dash)]) == dash:
			out, s = append(out, dash...), s[len(dash):]
		case s[0] >= ' ' && s[0] < 0x7f && s[0] != '\\':
			out, s = append(out, s[0]), s[1:]
		default:
			c.bad = true
			return ""
		}
	}
	return string(out)
}

// envelope is the bare envelope, as bare writes it.
func (p *parts) envelope() []byte {
	return []byte(`{"payloadType":"` + payloadType + `","payload":"` + p.payload64 + `","signatures":[{"keyid":"","sig":"` + p.sig64 + `"}]}`)
}

// message is the bundle as the stock verifier's reader gives it.
func (p *parts) message() *bundlepb.Bundle {
	return &bundlepb.Bundle{
		MediaType: bundleType,
		VerificationMaterial: &bundlepb.VerificationMaterial{
			Content: &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: p.hint}},
			TlogEntries: []*logpb.TransparencyLogEntry{{
				LogIndex:          p.index,
				LogId:             &commonpb.LogId{KeyId: p.logID},
				KindVersion:       &logpb.KindVersion{Kind: entryKind, Version: entryVer},
				CanonicalizedBody: p.body,
				InclusionProof: &logpb.InclusionProof{
					LogIndex: p.proofIndex, TreeSize: p.size, RootHash: p.root, Hashes: p.hashes,
					Checkpoint: &logpb.Checkpoint{Envelope: p.checkpoint},
				},
			}},
			TimestampVerificationData: &bundlepb.TimestampVerificationData{
				Rfc3161Timestamps: []*commonpb.RFC3161SignedTimestamp{{SignedTimestamp: p.token}},
			},
		},
		Content: &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: p.payload, PayloadType: payloadType, Signatures: []*dssepb.Signature{{Sig: p.sig}},
		}},
	}
}

// entity is a bundle for the stock verifier's functions. They ask for envelope and
// entry again and again, and the bundle itself makes them anew each time.
type entity struct {
	*bundle.Bundle
	env     *bundle.Envelope
	entries []*tlog.Entry
}

func (p *parts) entity() (*entity, error) {
	e := &entity{Bundle: &bundle.Bundle{Bundle: p.message()}}
	e.env = &bundle.Envelope{Envelope: &dsse.Envelope{PayloadType: payloadType, Payload: p.payload64, Signatures: []dsse.Signature{{Sig: p.sig64}}}}
	var err error
	e.entries, err = e.Bundle.TlogEntries()
	return e, err
}

// SignatureContent is verify.SignedEntity's.
func (e *entity) SignatureContent() (verify.SignatureContent, error) { return e.env, nil }

// TlogEntries is verify.SignedEntity's.
func (e *entity) TlogEntries() ([]*tlog.Entry, error) { return e.entries, nil }

// spelled verifies a bundle that is spelled as ours are. ok is false if it is not,
// or if anything speaks against it.
func (v *Verifier) spelled(bundleJSON []byte, artifact digest.Digest, predicateType string) (_ *Verified, ok bool) {
	if len(bundleJSON) > MaxBundle {
		return nil, false
	}
	p, ok := readParts(bundleJSON)
	k := v.signers[p.hint]
	if !ok || k == nil {
		return nil, false
	}
	// File and type.
	out, ok := spelledStatement(p.payload, artifact, predicateType)
	if !ok {
		return nil, false
	}
	e, err := p.entity()
	if err != nil {
		return nil, false
	}
	// Key.
	content, err := e.VerificationContent()
	if err != nil || content.Certificate() != nil {
		return nil, false
	}
	if err := verify.VerifySignature(e.env, content, v.trusted); err != nil {
		return nil, false
	}
	// Log. The stock verifier checks the proof for the entry as it must be; the
	// body that the bundle shows has to be that entry.
	cp, ok := v.checkpoint(p.logID, p.checkpoint)
	if !ok || p.index != p.proofIndex || uint64(p.size) != cp.Size || !bytes.Equal(p.root, cp.Hash) {
		return nil, false
	}
	if _, err := verify.VerifyTlogEntry(e, v.trusted, 1, false); err != nil {
		return nil, false
	}
	if err := rekorverify.VerifyInclusionProof(e.VerificationMaterial.TlogEntries[0], cp); err != nil {
		return nil, false
	}
	// Time.
	if stamp, err := readStamp(p.token); err != nil || !stamp.overSHA256() {
		return nil, false
	}
	stamps, err := verify.VerifySignedTimestampWithThreshold(e, v.trusted, 1)
	if err != nil || !content.ValidAtTime(stamps[0].Time, v.trusted) {
		return nil, false
	}
	out.KeyID, out.Time = k.id, stamps[0].Time.UTC()
	out.LogOrigin, out.LogIndex, out.TreeSize, out.RootHash = cp.Origin, p.index, cp.Size, cp.Hash
	if v.inTime(k, out, p.logID) != nil {
		return nil, false
	}
	out.Checkpoint, out.Entry, out.DSSE = p.checkpoint, p.body, p.envelope()
	return out, true
}

// spelledStatement reads a statement as Statement.Marshal writes it, about one
// artifact and of one type. The predicate may be any object.
func spelledStatement(payload []byte, artifact digest.Digest, predicateType string) (*Verified, bool) {
	const begin = `{"_type":"` + StatementType + `","predicate":`
	kind, err := json.Marshal(predicateType)
	if err != nil || !utf8.Valid(payload) {
		return nil, false
	}
	middle := `,"predicateType":` + string(kind) + `,"subject":[{"digest":{"sha256":"` + artifact.Hex() + `"},"name":"`
	at := bytes.LastIndex(payload, []byte(middle))
	if at < 0 || !bytes.HasPrefix(payload, []byte(begin)) || at <= len(begin) {
		return nil, false
	}
	c := cursor{rest: payload[at+len(middle):]}
	name := c.quoted()
	c.skip(`"}]}`)
	if c.bad || len(c.rest) > 0 {
		return nil, false
	}
	for _, b := range name {
		if b < ' ' || b == '\\' {
			return nil, false
		}
	}
	// As the predicate is one whole value, what stands around it is all there is.
	predicate := payload[len(begin):at]
	if predicate[0] != '{' || predicate[len(predicate)-1] != '}' || !json.Valid(predicate) {
		return nil, false
	}
	return &Verified{Payload: payload, Subject: Subject{Name: string(name), Digest: artifact}, PredicateType: predicateType, Predicate: predicate}, true
}

// maxCheckpoints is how many checkpoints a Verifier keeps.
const maxCheckpoints = 1024

// checkpoint reads a checkpoint that a trusted log signed. All that were entered
// together have the same one, so it is kept.
func (v *Verifier) checkpoint(logID []byte, envelope string) (*tlogformat.Checkpoint, bool) {
	id := hex.EncodeToString(logID)
	k := id + " " + envelope
	v.mu.Lock()
	cp := v.checkpoints[k]
	v.mu.Unlock()
	if cp != nil {
		return cp, true
	}
	log, ok := v.trusted.RekorLogs()[id]
	if !ok {
		return nil, false
	}
	nv, err := logNote(log)
	if err != nil {
		return nil, false
	}
	if cp, err = parseCheckpoint([]byte(envelope), nv); err != nil {
		return nil, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.checkpoints == nil || len(v.checkpoints) >= maxCheckpoints {
		v.checkpoints = map[string]*tlogformat.Checkpoint{}
	}
	v.checkpoints[k] = cp
	return cp, true
}
