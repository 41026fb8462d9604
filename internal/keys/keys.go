// Package keys keeps the three private keys of an installation: the signer's,
// the transparency log's and the time stamp's. They are separate, so that none
// of the three statements (who said it, that it was logged, when) can stand in
// for another.
//
// The set is made whole on first use and never in part: a folder in which one
// file is missing is an error, because a key made anew in silence would orphan
// everything that the lost one signed. The package refuses files and folders
// that others can read, links, and keys that are not ECDSA P-256.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"hallmark/internal/fault"
)

// File names within the folder of keys.
const (
	signerFile    = "signer.pem"
	logFile       = "log.pem"
	timestampFile = "timestamp.pem"
	chainFile     = "timestamp-chain.pem" // leaf, then root
)

// tsaLifetime is how long the time stamp's certificates are valid.
const tsaLifetime = 10 * 365 * 24 * time.Hour

// maxFile is the most bytes that a file of the set may have.
const maxFile = 64 << 10

// Set is the keys of one installation. It is read-only after Open and safe for
// concurrent use.
type Set struct {
	Signer    crypto.Signer // signs statements
	Log       crypto.Signer // signs the log's checkpoints
	Timestamp crypto.Signer // signs time stamps, under Leaf

	// Leaf certifies the time stamp's key, Root certifies Leaf. Root's private
	// key was thrown away when Leaf was made: nothing else can be certified.
	Leaf, Root *x509.Certificate

	dir     string
	ring    *Ring
	journal []byte
}

// Journal is the key under which the database's journal vouches for its rows. It
// is derived from the log's first key (HKDF, RFC 5869), so that database, log and
// keys belong together, and kept beside the keys, so that it outlives that one. If
// that one was in a KMS, it is random.
func (s *Set) Journal() []byte { return s.journal }

// Open reads the set in dir, or makes it if dir is not there or empty. Keys are
// PKCS#8 PEM files of mode 0600 in a folder of mode 0700. The whole folder is
// written under a temporary name, synced and renamed, so that it is complete or
// not there. A wider mode is fault.Denied, a missing or malformed file
// fault.Corrupt.
func Open(dir string) (*Set, error) { return OpenAt(dir, nil) }

// OpenAt is Open for a set that begins with keys in a KMS: of each role in uris no
// private key is made, and the key that its URI names is the first one. It has to sign
// once before anything is written. Where a set is already, its keys in use have to be
// there as well: fault.Conflict.
func OpenAt(dir string, uris map[Role]string) (*Set, error) {
	if none(dir) {
		if err := create(dir, uris); err != nil {
			return nil, fmt.Errorf("make keys in %s: %w", dir, err)
		}
	}
	s, err := Read(dir)
	if err != nil {
		return nil, err
	}
	return s, s.At(uris)
}

// At is fault.Conflict if a key in use is not where uris says that the key of its role
// is. Roles that uris does not name may be anywhere.
func (s *Set) At(uris map[Role]string) error {
	for _, role := range Roles {
		uri, active := uris[role], s.ring.Active(role)
		if uri == "" || uri == active.Key {
			continue
		}
		where := "in a file"
		if isURI(active.Key) {
			where = active.Key
		}
		return fault.Advise(fault.Conflict, "Say where it is, or nothing; or move it: hallmark keys rotate "+string(role)+" --key "+uri,
			"the %s's key %s is %s, not %.200s", role, active.ID, where, uri)
	}
	return nil
}

// none tells whether dir is not there or empty.
func none(dir string) bool {
	names, err := os.ReadDir(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0
}

// Read reads the set in dir and changes nothing; one that is not there is
// fault.NotFound.
func Read(dir string) (*Set, error) { return read(dir, "") }

// ReadWithout is Read for a folder from which the private key of a role is lost: it
// is there to be rotated, and cannot sign.
func ReadWithout(dir string, lost Role) (*Set, error) { return read(dir, lost) }

func journalKey(k crypto.Signer) ([]byte, error) {
	p, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it cannot be derived from a %T", k)
	}
	secret, err := p.ECDH() // for its one spelling as bytes
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, secret.Bytes(), nil, "hallmark journal v1", sha256.Size)
}

// ID names a public key: the first 16 hex digits of the SHA-256 of its SPKI in
// DER. Empty if pub is no public key.
func ID(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])[:16]
}

// PublicPEM is the public key as a PEM block (SPKI), as cosign and
// slsa-verifier read it. Empty if pub is no public key.
func PublicPEM(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// ParsePublicPEM reads what PublicPEM wrote. Keys other than ECDSA P-256 are
// fault.Unsupported, anything else fault.Hostile.
func ParsePublicPEM(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) > maxFile {
		return nil, fault.New(fault.Hostile, "public key of %d bytes: at most %d", len(b), maxFile)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fault.New(fault.Hostile, "public key: no PEM block PUBLIC KEY in it")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Hostile, "public key: %w", err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fault.New(fault.Unsupported, "public key of type %T: only ECDSA P-256 is used here", k)
	}
	return pub, nil
}

// create makes a whole set and moves it to dir.
func create(dir string, uris map[Role]string) error {
	files, err := firstFiles(uris, time.Now())
	if err != nil {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".keys-new-") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, b := range files {
		if err := writeSynced(filepath.Join(tmp, name), b); err != nil {
			return err
		}
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	// os.Rename refuses a folder that is there, even an empty one. Remove takes
	// only an empty one away.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if names, e := os.ReadDir(dir); e == nil && len(names) > 0 {
			return nil
		}
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		// Another process was first: its set stands, ours was never used.
		if names, e := os.ReadDir(dir); e == nil && len(names) > 0 {
			return nil
		}
		return err
	}
	return syncDir(parent)
}

// firstFiles are the files of a new set. One without keys in a KMS has no ring, which
// follows from the files; else the ring tells what no file does.
func firstFiles(uris map[Role]string, now time.Time) (map[string][]byte, error) {
	files := map[string][]byte{}
	r := &Ring{Schema: RingSchema, Events: []Event{}}
	from := now.UTC().Truncate(time.Second)
	var journal []byte
	remote := false
	for _, role := range Roles {
		e, k, err := newKey(role, uris[role], from)
		if err != nil {
			return nil, err
		}
		if other, ok := r.holder(e.ID); ok {
			return nil, shared(role, e.ID, other)
		}
		remote = remote || k == nil
		if k != nil {
			e.Key = firstFile[role]
			if files[e.Key], err = privatePEM(k); err != nil {
				return nil, err
			}
		}
		if role == RoleLog {
			e.Log = &Shard{Folder: "log"}
			if journal, err = firstJournalKey(k); err != nil {
				return nil, err
			}
		}
		r.set(role, []Entry{e})
	}
	files[journalFile] = []byte(hex.EncodeToString(journal) + "\n")
	if !remote {
		files[chainFile] = []byte(r.Timestamps[0].Chain)
		return files, nil
	}
	r.Journal = sumOf(journal)
	b, err := r.marshal()
	if err != nil {
		return nil, err
	}
	files[ringFile] = b
	return files, nil
}

// firstFile is where the first key of each role is, if it is in a file.
var firstFile = map[Role]string{RoleSigner: signerFile, RoleLog: logFile, RoleTimestamp: timestampFile}

// firstJournalKey makes the journal's key: from the log's, or from nothing if that one
// is in a KMS.
func firstJournalKey(k *ecdsa.PrivateKey) ([]byte, error) {
	if k != nil {
		return journalKey(k)
	}
	b := make([]byte, sha256.Size)
	_, err := rand.Read(b)
	return b, err
}

// privatePEM is a private key's file.
func privatePEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newKey makes the entry of a key that comes into use at from: the one in a KMS that
// uri names, or a new one, which it gives, too.
func newKey(role Role, uri string, from time.Time) (e Entry, k *ecdsa.PrivateKey, err error) {
	var pub *ecdsa.PublicKey
	e = Entry{From: from}
	if uri != "" {
		if pub, err = remotePublic(uri); err != nil {
			return e, nil, err
		}
		e.Key = uri
		// It has to be able to sign, not only to say who it is.
		var probe [sha256.Size]byte
		if _, err := rand.Read(probe[:]); err != nil {
			return e, nil, err
		}
		if _, err := (&remoteKey{uri: uri, public: pub}).Sign(rand.Reader, probe[:], crypto.SHA256); err != nil {
			return e, nil, err
		}
	} else {
		if k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return e, nil, err
		}
		pub = &k.PublicKey
	}
	e.ID, e.Public = ID(pub), string(PublicPEM(pub))
	if role == RoleTimestamp {
		chain, err := newChain(pub, from)
		if err != nil {
			return e, nil, err
		}
		e.Chain = string(chain)
	}
	return e, k, nil
}

// newChain certifies pub for time stamps (RFC 3161 section 2.3: the purpose
// timeStamping, critical, and no other) under a root whose key is dropped here.
func newChain(pub crypto.PublicKey, now time.Time) ([]byte, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	from, to := now.Add(-24*time.Hour).UTC().Truncate(time.Second), now.Add(tsaLifetime).UTC().Truncate(time.Second)
	id := ID(pub)
	rootSerial, err := serial()
	if err != nil {
		return nil, err
	}
	leafSerial, err := serial()
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: rootSerial, NotBefore: from, NotAfter: to,
		Subject: pkix.Name{CommonName: "Hallmark time stamp root " + id, Organization: []string{"Hallmark"}},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: leafSerial, NotBefore: from, NotAfter: to,
		Subject:  pkix.Name{CommonName: "Hallmark time stamp " + id, Organization: []string{"Hallmark"}},
		KeyUsage: x509.KeyUsageDigitalSignature,
		// x509 would not mark the extended key usage critical, so it is
		// written here: SEQUENCE { id-kp-timeStamping }.
		ExtraExtensions: []pkix.Extension{{
			Id: []int{2, 5, 29, 37}, Critical: true,
			Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08},
		}},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, pub, rootKey)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})...), nil
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// private refuses what others could read or put in place.
func private(path string, dir bool) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Advise(fault.Corrupt, "Restore it from a backup; a new key would orphan all that this one signed.",
			"key file %s is missing", path)
	}
	if err != nil {
		return fmt.Errorf("open key file: %w", err)
	}
	if dir && !fi.IsDir() || !dir && !fi.Mode().IsRegular() {
		return fault.New(fault.Denied, "%s is not a plain file or folder (%s)", path, fi.Mode())
	}
	if m := fi.Mode().Perm(); m&0o077 != 0 {
		want := "0600"
		if dir {
			want = "0700"
		}
		return fault.Advise(fault.Denied, "If nobody has read it, run: chmod "+want+" "+path,
			"%s has mode %04o: others can reach private keys", path, m)
	}
	return nil
}

func readPrivate(path string) ([]byte, error) {
	if err := private(path, false); err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxFile {
		return nil, fault.New(fault.Corrupt, "key file %s has %d bytes: at most %d", path, fi.Size(), maxFile)
	}
	return os.ReadFile(path)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Corrupt, "key file %s: no PEM block PRIVATE KEY in it", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "key file %s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fault.New(fault.Corrupt, "key file %s: a %T, not an ECDSA P-256 key", path, k)
	}
	return key, nil
}

func readChain(path string) (leaf, root *x509.Certificate, err error) {
	rest, err := readPrivate(path)
	if err != nil {
		return nil, nil, err
	}
	return parseChain(rest, path)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
