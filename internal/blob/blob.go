// Package blob keeps files by the digest of their content: sources, wheels,
// documents, logs, bundles.
//
// A blob is written under a temporary name in the same file system, synced,
// renamed to its digest, and its folder synced; so a name that is there stands
// for bytes that are there, whatever moment the power failed. Blobs are
// read-only (mode 0444) and never change. The package refuses content that does
// not have the promised digest, knows no names but digests, and deletes nothing
// but its own unfinished files.
//
// Why not gocloud.dev/blob yet: its file driver renames without fsync, keeps
// attributes in sidecar files beside the content unless told otherwise, and has
// no read that verifies. When an object store becomes the second backend it
// comes in behind the contract of blob/blobtest.
package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// MaxSize is the most bytes one blob may have, for callers without a tighter
// limit: 4 GiB.
const MaxSize int64 = 4 << 30

const (
	tmpDir  = "tmp"
	hashDir = "sha256"
)

// Store is a folder of blobs. Its methods may be called from several goroutines
// and from several processes.
type Store struct {
	dir      string
	readOnly bool
}

// Open opens dir for writing, makes it if it is missing, and removes what earlier
// writers left unfinished. What another process is writing now is locked, and stays.
func Open(dir string) (*Store, error) {
	for _, d := range []string{dir, filepath.Join(dir, hashDir), filepath.Join(dir, tmpDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("open blobs in %s: %w", dir, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, tmpDir))
	if err != nil {
		return nil, fmt.Errorf("open blobs in %s: %w", dir, err)
	}
	for _, e := range left {
		if err := removeLeft(filepath.Join(dir, tmpDir, e.Name())); err != nil {
			return nil, fmt.Errorf("open blobs in %s: remove the unfinished %s: %w", dir, e.Name(), err)
		}
	}
	return &Store{dir: dir}, nil
}

// removeLeft removes an unfinished file unless somebody holds its lock.
func removeLeft(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer f.Close()
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return nil
		}
	}
	return os.RemoveAll(name)
}

// unfinished makes a temporary file that is locked for as long as it is open, so
// that no other process takes it for left behind.
func (s *Store) unfinished() (*os.File, error) {
	for range 10 {
		f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "put-*")
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		// Between the two it may have been swept.
		if st, err := os.Stat(f.Name()); err == nil {
			if own, err := f.Stat(); err == nil && os.SameFile(st, own) {
				return f, nil
			}
		}
		f.Close()
	}
	return nil, errors.New("its temporary files are taken away again and again")
}

// OpenReader opens dir for reading only; it changes nothing in it and every Put
// is refused. A dir that is not there is fault.NotFound.
func OpenReader(dir string) (*Store, error) {
	if _, err := os.Stat(filepath.Join(dir, hashDir)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "open blobs in %s: there are none", dir)
		}
		return nil, fmt.Errorf("open blobs in %s: %w", dir, err)
	}
	return &Store{dir: dir, readOnly: true}, nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// Put stores what r gives, at most limit bytes, and returns its digest and size.
// If want is not empty and the content has another digest, or there is more
// than limit, nothing is stored and the error is fault.Unverified or
// fault.Hostile. When Put returns without error the blob is on the disk. Content
// that is there already is written anew, which mends a damaged blob.
func (s *Store) Put(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (d digest.Digest, n int64, err error) {
	if s.readOnly {
		return "", 0, fault.New(fault.Conflict, "store a blob in %s: it was opened for reading only", s.dir)
	}
	if want != "" && !want.Valid() {
		return "", 0, fault.New(fault.Usage, "store a blob: %.80q is no digest", want)
	}
	f, err := s.unfinished()
	if err != nil {
		return "", 0, fmt.Errorf("store a blob: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
		f.Close()
	}()
	hr := &hashing{ctx: ctx, r: r, limit: limit, h: sha256.New()}
	n, err = io.Copy(f, hr)
	if err != nil {
		if errors.Is(err, digest.ErrTooLarge) {
			return "", n, fault.New(fault.Hostile, "store a blob %s: %w", want, err)
		}
		return "", n, fmt.Errorf("store a blob %s after %d bytes: %w", want, n, err)
	}
	d = digest.FromHash(hr.h)
	if want != "" && d != want {
		return "", n, fault.New(fault.Unverified, "store a blob: %w: want %s, got %s (%d bytes)", digest.ErrMismatch, want, d, n)
	}
	if err = f.Chmod(0o444); err != nil {
		return "", n, fmt.Errorf("store blob %s: %w", d, err)
	}
	if err = f.Sync(); err != nil {
		return "", n, fmt.Errorf("store blob %s: sync: %w", d, err)
	}
	dst := s.Path(d)
	parent := filepath.Dir(dst)
	if _, serr := os.Stat(parent); serr != nil {
		if err = os.MkdirAll(parent, 0o755); err != nil {
			return "", n, fmt.Errorf("store blob %s: %w", d, err)
		}
		if err = syncDir(filepath.Dir(parent)); err != nil {
			return "", n, fmt.Errorf("store blob %s: %w", d, err)
		}
	}
	if err = os.Rename(f.Name(), dst); err != nil {
		return "", n, fmt.Errorf("store blob %s: %w", d, err)
	}
	// From here on the blob may be there although we fail: harmless, its name
	// is its content.
	if err = syncDir(parent); err != nil {
		return "", n, fmt.Errorf("store blob %s: %w", d, err)
	}
	return d, n, nil
}

// PutBytes stores b and returns its digest.
func (s *Store) PutBytes(ctx context.Context, b []byte) (digest.Digest, error) {
	d, _, err := s.Put(ctx, bytes.NewReader(b), "", int64(len(b)))
	return d, err
}

// Open opens a blob for reading, without verifying it; the caller closes it. One
// that is not there is fault.NotFound.
func (s *Store) Open(d digest.Digest) (*os.File, error) {
	if !d.Valid() {
		return nil, fault.New(fault.Usage, "open a blob: %.80q is no digest", d)
	}
	f, err := os.Open(s.Path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "blob %s is not stored", d)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, nil
}

// ReadAll reads a blob of at most limit bytes and verifies it while reading. One
// that is not there is fault.NotFound, a damaged one fault.Corrupt, one that is
// larger fault.Hostile.
func (s *Store) ReadAll(d digest.Digest, limit int64) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if fi, err := f.Stat(); err == nil {
		if fi.Size() > limit {
			return nil, fault.New(fault.Hostile, "read blob %s: %w: %d bytes, at most %d", d, digest.ErrTooLarge, fi.Size(), limit)
		}
		b.Grow(int(fi.Size()) + bytes.MinRead) // with the room in which its end is found
	}
	if _, err := b.ReadFrom(digest.NewReader(f, d, limit)); err != nil {
		return nil, s.readFault(d, err)
	}
	return b.Bytes(), nil
}

// Has tells whether a blob is there, not whether it is undamaged.
func (s *Store) Has(d digest.Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// Size is a blob's size in bytes; fault.NotFound if it is not there.
func (s *Store) Size(d digest.Digest) (int64, error) {
	if !d.Valid() {
		return 0, fault.New(fault.Usage, "size of a blob: %.80q is no digest", d)
	}
	fi, err := os.Stat(s.Path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fault.New(fault.NotFound, "blob %s is not stored", d)
	}
	if err != nil {
		return 0, fmt.Errorf("size of blob %s: %w", d, err)
	}
	return fi.Size(), nil
}

// Path is where a blob is or would be; empty if d is no digest. What is there
// must not be written to.
func (s *Store) Path(d digest.Digest) string {
	if !d.Valid() {
		return ""
	}
	h := d.Hex()
	return filepath.Join(s.dir, hashDir, h[:2], h)
}

// Walk calls fn with digest and size of every blob, in order of digest, until fn
// fails. A file that is not named as a blob is fault.Corrupt.
func (s *Store) Walk(fn func(d digest.Digest, size int64) error) error {
	root := filepath.Join(s.dir, hashDir)
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if e.IsDir() {
			return nil
		}
		d, err := digest.FromHex(e.Name())
		if err != nil || s.Path(d) != path || !e.Type().IsRegular() {
			return fault.New(fault.Corrupt, "list blobs: %s is not a blob's file", path)
		}
		fi, err := e.Info()
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		return fn(d, fi.Size())
	})
}

// Check reads a blob to its end and compares it with its name: fault.NotFound if
// it is not there, fault.Corrupt if it is damaged.
func (s *Store) Check(d digest.Digest) error {
	f, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, digest.NewReader(f, d, MaxSize)); err != nil {
		return s.readFault(d, err)
	}
	return nil
}

func (s *Store) readFault(d digest.Digest, err error) error {
	if errors.Is(err, digest.ErrMismatch) || errors.Is(err, digest.ErrTooLarge) {
		return fault.Advise(fault.Corrupt, "The disk or somebody changed it; fetch or build it again, then run hallmark fsck.",
			"blob %s is damaged: %w", d, err)
	}
	return fmt.Errorf("read blob %s: %w", d, err)
}

// hashing hashes what is read, counts it, and stops at the limit or when the
// context ends.
type hashing struct {
	ctx   context.Context
	r     io.Reader
	h     hash.Hash
	n     int64
	limit int64
}

func (v *hashing) Read(p []byte) (int, error) {
	if err := v.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := v.r.Read(p)
	v.n += int64(n)
	if v.n > v.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", digest.ErrTooLarge, v.limit)
	}
	v.h.Write(p[:n])
	return n, err
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// StaleAfter is how old an unfinished file must be before a reader's fsck calls
// it a leftover and not a write under way.
const StaleAfter = time.Hour

// Leftovers lists unfinished files older than StaleAfter.
func (s *Store) Leftovers(now time.Time) ([]string, error) {
	es, err := os.ReadDir(filepath.Join(s.dir, tmpDir))
	if err != nil {
		return nil, fmt.Errorf("list unfinished blobs: %w", err)
	}
	var out []string
	for _, e := range es {
		if fi, err := e.Info(); err == nil && now.Sub(fi.ModTime()) > StaleAfter {
			out = append(out, filepath.Join(s.dir, tmpDir, e.Name()))
		}
	}
	return out, nil
}
