package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"hallmark/internal/fault"
)

// A ring says which keys there were and are, each with the time in which what it
// made is believed. It is one file, replaced at once, so that a process killed in
// the middle of a rotation leaves the keys before or the keys after. A folder
// without the file holds a set that was never changed, and has a ring all the same.

// Role is what a key is for.
type Role string

// The three roles.
const (
	RoleSigner    Role = "signer"    // signs statements
	RoleLog       Role = "log"       // signs the log's checkpoints
	RoleTimestamp Role = "timestamp" // signs time stamps
)

// Roles lists the roles.
var Roles = []Role{RoleSigner, RoleLog, RoleTimestamp}

// RingSchema names the ring's format; schemas/keys.v1.json describes it.
const RingSchema = "urn:hallmark:keys:v1"

// Files of the folder beside the first set's own.
const (
	ringFile    = "ring.json"
	journalFile = "journal.key"
)

// Ring is all keys of an installation, of each role the oldest first; the last one
// is in use.
type Ring struct {
	Schema     string  `json:"schema"`
	Signers    []Entry `json:"signers"`
	Logs       []Entry `json:"logs"`
	Timestamps []Entry `json:"timestamps"`
	Journal    string  `json:"journal"` // hex SHA-256 of the journal's key
	Events     []Event `json:"events"`  // what was done to the ring, oldest first
}

// Entry is one key with the time in which what it made is believed.
type Entry struct {
	ID     string     `json:"id"`              // ID of Public
	Key    string     `json:"key,omitempty"`   // file in the folder, or the URI of a KMS; empty: it was destroyed when its time was over
	Public string     `json:"public"`          // PEM
	From   time.Time  `json:"from"`            // from when on
	Until  *time.Time `json:"until,omitempty"` // the last moment; nil: in use

	Revoked *Revocation `json:"revoked,omitempty"`
	Log     *Shard      `json:"log,omitempty"`   // of the log's keys
	Chain   string      `json:"chain,omitempty"` // of a time stamp's key: leaf and root, PEM
}

// Shard is the part of the log that one key signed. Entries are counted through:
// an entry's number is its index in the shard and what went before.
type Shard struct {
	Folder     string `json:"folder"`               // in the data directory
	First      int64  `json:"first"`                // number of its first entry
	Size       *int64 `json:"size,omitempty"`       // how many entries it has for good; nil: it grows
	Checkpoint string `json:"checkpoint,omitempty"` // the last one that was signed
}

// Revocation says since when a key is not believed any more.
type Revocation struct {
	Since time.Time `json:"since"`
	Index int64     `json:"index"` // number of the first log entry from then on: what a signer signed is not believed from there on, whatever its time stamp says
	Why   string    `json:"why"`
	At    time.Time `json:"at"` // when that was said
}

// Event is one change of the ring.
type Event struct {
	At     time.Time `json:"at"`
	Action string    `json:"action"` // rotate, revoke
	Role   Role      `json:"role"`
	Key    string    `json:"key"`           // ID of the key that went out of use or was revoked
	New    string    `json:"new,omitempty"` // ID of the key that came in its place
	Detail string    `json:"detail,omitempty"`
}

// Of gives the keys of a role.
func (r *Ring) Of(role Role) []Entry {
	switch role {
	case RoleSigner:
		return r.Signers
	case RoleLog:
		return r.Logs
	case RoleTimestamp:
		return r.Timestamps
	}
	return nil
}

func (r *Ring) set(role Role, es []Entry) {
	switch role {
	case RoleSigner:
		r.Signers = es
	case RoleLog:
		r.Logs = es
	case RoleTimestamp:
		r.Timestamps = es
	}
}

// Active gives the key of a role that is in use.
func (r *Ring) Active(role Role) Entry {
	es := r.Of(role)
	if len(es) == 0 {
		return Entry{}
	}
	return es[len(es)-1]
}

// Find gives the key of a role by its ID; ok is false if there is none.
func (r *Ring) Find(role Role, id string) (e Entry, ok bool) {
	for _, e := range slices.Backward(r.Of(role)) {
		if e.ID == id {
			return e, true
		}
	}
	return Entry{}, false
}

// Void tells whether nothing that the key made is believed.
func (e *Entry) Void() bool { return e.Until != nil && e.Until.Before(e.From) }

// PublicKey is the entry's public key.
func (e *Entry) PublicKey() (*ecdsa.PublicKey, error) { return ParsePublicPEM([]byte(e.Public)) }

// Certificates gives leaf and root of a time stamp's key.
func (e *Entry) Certificates() (leaf, root *x509.Certificate, err error) {
	return parseChain([]byte(e.Chain), "of key "+e.ID)
}

// marshal is the ring's file.
func (r *Ring) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// ringName is what a key's file and a shard's folder may be called.
var (
	ringKeyRE    = regexp.MustCompile(`^[a-z0-9-]{1,60}\.pem$`)
	ringFolderRE = regexp.MustCompile(`^log(-[0-9a-f]{16})?$`)
)

// ParseRing reads a ring's file. What is not spelled as it is written, or
// contradicts itself, is fault.Corrupt.
func ParseRing(b []byte) (*Ring, error) {
	bad := func(format string, args ...any) error {
		return fault.Advise(fault.Corrupt, "Put the folder of keys back from a backup.", "ring of keys: "+format, args...)
	}
	if len(b) > maxRing {
		return nil, bad("%d bytes, at most %d", len(b), maxRing)
	}
	var r Ring
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, bad("%w", err)
	}
	if r.Schema != RingSchema {
		return nil, fault.New(fault.Unsupported, "ring of keys: schema %.80q, want %s", r.Schema, RingSchema)
	}
	again, err := r.marshal()
	if err != nil || !bytes.Equal(again, b) {
		return nil, bad("it is not spelled as it is written")
	}
	for _, role := range Roles {
		es := r.Of(role)
		if len(es) == 0 {
			return nil, bad("there is no key of role %s", role)
		}
		for i, e := range es {
			pub, err := e.PublicKey()
			if err != nil {
				return nil, bad("key %.20q: %w", e.ID, err)
			}
			last := i == len(es)-1
			switch {
			case ID(pub) != e.ID:
				return nil, bad("key %.20q is called %s", e.ID, ID(pub))
			case last != (e.Until == nil):
				return nil, bad("key %s: the last one of its role, and it alone, is in use", e.ID)
			case last && (e.Revoked != nil || e.Key == ""):
				return nil, bad("key %s is in use, and revoked or destroyed", e.ID)
			case e.Key != "" && !isURI(e.Key) && !ringKeyRE.MatchString(e.Key):
				return nil, bad("key %s: its file is called %.80q", e.ID, e.Key)
			case (role == RoleLog) != (e.Log != nil) || (role == RoleTimestamp) != (e.Chain != ""):
				return nil, bad("key %s has not what a key of role %s has", e.ID, role)
			}
			if role == RoleLog {
				s, next := e.Log, int64(0)
				if i > 0 {
					before := es[i-1].Log
					next = before.First + *before.Size
				}
				if !ringFolderRE.MatchString(s.Folder) || s.First != next || last != (s.Size == nil) || s.Size != nil && *s.Size < 0 {
					return nil, bad("key %s: its part of the log does not follow the one before", e.ID)
				}
			}
			if role == RoleTimestamp {
				leaf, _, err := e.Certificates()
				if err != nil {
					return nil, err
				}
				if k, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !k.Equal(pub) {
					return nil, bad("key %s: its certificate is another key's", e.ID)
				}
			}
		}
	}
	return &r, nil
}

// maxRing is the most bytes of a ring's file.
const maxRing = 4 << 20

// parseChain reads a leaf and the root that certifies it.
func parseChain(rest []byte, where string) (leaf, root *x509.Certificate, err error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fault.New(fault.Corrupt, "certificates in %s: %w", where, err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 2 {
		return nil, nil, fault.New(fault.Corrupt, "certificates in %s: %d, want leaf and root", where, len(certs))
	}
	if err := certs[0].CheckSignatureFrom(certs[1]); err != nil {
		return nil, nil, fault.New(fault.Corrupt, "certificates in %s: root does not certify leaf: %w", where, err)
	}
	return certs[0], certs[1], nil
}

// read reads the set in dir. Of the role lost, if it is not empty, the private key
// may be missing: it is about to be replaced.
func read(dir string, lost Role) (*Set, error) {
	if none(dir) {
		return nil, fault.Advise(fault.NotFound, "Put the folder back from a backup; new keys would orphan all that the old ones signed.",
			"there are no keys in %s", dir)
	}
	if err := private(dir, true); err != nil {
		return nil, err
	}
	s := &Set{dir: dir}
	b, err := readPrivateUpTo(filepath.Join(dir, ringFile), maxRing)
	switch {
	case err == nil:
		if s.ring, err = ParseRing(b); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist) || missing(filepath.Join(dir, ringFile)):
		if s.ring, err = firstRing(dir, lost); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	var logKey crypto.Signer
	for _, k := range []struct {
		role Role
		to   *crypto.Signer
	}{{RoleSigner, &s.Signer}, {RoleLog, &s.Log}, {RoleTimestamp, &s.Timestamp}} {
		e := s.ring.Active(k.role)
		if *k.to, err = loadKey(dir, e); err != nil {
			if k.role != lost {
				return nil, err
			}
			if *k.to, err = lostKey(e); err != nil {
				return nil, err
			}
		}
		if k.role == RoleLog {
			logKey = *k.to
		}
	}
	ts := s.ring.Active(RoleTimestamp)
	if s.Leaf, s.Root, err = ts.Certificates(); err != nil {
		return nil, err
	}
	if s.journal, err = readJournalKey(dir, logKey); err != nil {
		return nil, err
	}
	switch sum := sumOf(s.journal); s.ring.Journal {
	case "": // a set that was never changed
		s.ring.Journal = sum
	case sum:
	default:
		return nil, fault.Advise(fault.Corrupt, "Put it back from a backup: without it nobody can tell what was changed in the database.",
			"%s is not the key of the journal that the ring of keys names", filepath.Join(dir, journalFile))
	}
	return s, nil
}

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// missing tells whether nothing is at path.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// readJournalKey reads the journal's key, or derives it from the log's first key,
// as long as that one is in use. Where there are both they must agree.
func readJournalKey(dir string, logKey crypto.Signer) ([]byte, error) {
	name := filepath.Join(dir, journalFile)
	_, derivable := logKey.(*ecdsa.PrivateKey)
	changed := !missing(filepath.Join(dir, ringFile))
	var key []byte
	if missing(name) {
		if changed || !derivable {
			return nil, fault.Advise(fault.Corrupt, "Put it back from a backup: without it nobody can tell what was changed in the database.",
				"key file %s is missing", name)
		}
		return journalKey(logKey)
	}
	b, err := readPrivate(name)
	if err != nil {
		return nil, err
	}
	if key, err = hex.DecodeString(string(bytes.TrimSuffix(b, []byte("\n")))); err != nil || len(key) != sha256.Size {
		return nil, fault.New(fault.Corrupt, "key file %s: want %d bytes in hex", name, sha256.Size)
	}
	if !changed && derivable {
		want, err := journalKey(logKey)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(want, key) {
			return nil, fault.Advise(fault.Corrupt, "Take it away: it is derived from the log's key as long as that was never changed.",
				"key file %s and %s do not belong together", name, logFile)
		}
	}
	return key, nil
}

// firstRing is the ring of a set that was never changed.
func firstRing(dir string, lost Role) (*Ring, error) {
	leaf, _, err := readChain(filepath.Join(dir, chainFile))
	if err != nil {
		return nil, err
	}
	chain, err := readPrivate(filepath.Join(dir, chainFile))
	if err != nil {
		return nil, err
	}
	from := leaf.NotBefore.UTC()
	r := &Ring{Schema: RingSchema, Events: []Event{}}
	for _, k := range []struct {
		role Role
		file string
	}{{RoleSigner, signerFile}, {RoleLog, logFile}, {RoleTimestamp, timestampFile}} {
		e := Entry{Key: k.file, From: from}
		var pub crypto.PublicKey
		key, err := readKey(filepath.Join(dir, k.file))
		switch {
		case err == nil:
			pub = key.Public()
		case k.role == lost && k.role == RoleTimestamp:
			pub = leaf.PublicKey
		case k.role == lost:
			// Nothing beside the private key says which it was.
			return nil, fault.Advise(fault.Corrupt, "Put the file back from a backup, or beside it its public key as "+k.file+".pub; then say --lost again.",
				"the key in %s is lost, and nothing here says what its public key was", filepath.Join(dir, k.file))
		default:
			return nil, err
		}
		if k.role == RoleTimestamp {
			if own, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !own.Equal(pub) {
				return nil, fault.New(fault.Corrupt, "keys in %s: %s does not certify the key in %s", dir, chainFile, timestampFile)
			}
			e.Chain = string(chain)
		}
		if k.role == RoleLog {
			e.Log = &Shard{Folder: "log"}
		}
		e.ID, e.Public = ID(pub), string(PublicPEM(pub))
		r.set(k.role, []Entry{e})
	}
	return r, nil
}

// loadKey gives the private key of an entry, which must be the one that it names.
func loadKey(dir string, e Entry) (crypto.Signer, error) {
	pub, err := e.PublicKey()
	if err != nil {
		return nil, err
	}
	if isURI(e.Key) {
		return &remoteKey{uri: e.Key, public: pub}, nil
	}
	k, err := readKey(filepath.Join(dir, e.Key))
	if err != nil {
		return nil, err
	}
	if !k.PublicKey.Equal(pub) {
		return nil, fault.Advise(fault.Corrupt, "Put the folder of keys back from a backup.", "key file %s holds another key than the ring of keys names (%s)", filepath.Join(dir, e.Key), e.ID)
	}
	return k, nil
}

// Ring gives the keys that there were and are. The caller changes nothing in it.
func (s *Set) Ring() *Ring { return s.ring }

// Shards gives the parts of the log, oldest first; the last one grows.
func (s *Set) Shards() []Entry { return s.ring.Logs }

func readPrivateUpTo(path string, limit int64) ([]byte, error) {
	if missing(path) {
		return nil, fs.ErrNotExist
	}
	if err := private(path, false); err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, fault.New(fault.Corrupt, "key file %s has %d bytes: at most %d", path, fi.Size(), limit)
	}
	return os.ReadFile(path)
}

// errLost is what a lost key says when it is asked to sign.
var errLost = errors.New("the private key is lost")

// gone stands for a private key that is lost.
type gone struct{ pub crypto.PublicKey }

func lostKey(e Entry) (crypto.Signer, error) {
	pub, err := e.PublicKey()
	if err != nil {
		return nil, err
	}
	return gone{pub}, nil
}

func (g gone) Public() crypto.PublicKey { return g.pub }
