package app

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"hallmark/internal/digest"
)

// What was verified once need not be verified by every command: a data directory
// remembers it, in the folder cache beside the database. A memory is never more
// than what a verification said: it holds names of verifications that succeeded,
// each the digest of all that was verified, what it was compared with, the keys,
// this program and the stamp of the bundle's file. The whole is under a code whose
// key lies with the other keys, so that whoever can write one could sign as well.
// A memory that is missing, damaged or another's is no error: everything is
// verified again. verify and fsck never ask it.

// verification names one verification that succeeded.
type verification [sha256.Size]byte

// Limits of a memory.
const (
	maxVerified = 400_000 // verifications: 12.8 MB
	codeSize    = sha256.Size
)

// memory is what earlier commands have verified.
type memory struct {
	once sync.Once
	old  []byte // sorted verifications, one after the other

	mu     sync.Mutex
	used   map[verification]bool // asked for or learnt by this process
	learnt bool
}

func (a *App) cacheFile(name string) string { return a.path("cache", name) }

// verifiedFile holds the memory.
const verifiedFile = "verified"

// key names a verification of a bundle.
func (c *checker) key(kind string, bundle digest.Digest, parts ...string) verification {
	st := c.a.Blobs.Stamp(bundle)
	h := sha256.New()
	h.Write(c.base)
	for _, v := range []int64{st.Size, st.Inode, st.Content, st.Status} {
		_ = binary.Write(h, binary.BigEndian, v) // a hash takes everything
	}
	for _, p := range append([]string{kind, string(bundle)}, parts...) {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return verification(h.Sum(nil))
}

// remembers tells whether an earlier command verified it.
func (c *checker) remembers(k verification) bool {
	if c.fresh {
		return false
	}
	m := &c.a.memory
	m.once.Do(func() { m.old = c.a.readCoded(verifiedFile, maxVerified*len(k)) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used[k] {
		return true
	}
	n := len(m.old) / len(k)
	i := sort.Search(n, func(i int) bool { return bytes.Compare(m.old[i*len(k):(i+1)*len(k)], k[:]) >= 0 })
	if i == n || !bytes.Equal(m.old[i*len(k):(i+1)*len(k)], k[:]) {
		return false
	}
	m.use(k)
	return true
}

// remember keeps it for the next command.
func (c *checker) remember(k verification) {
	if c.fresh {
		return
	}
	m := &c.a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.used[k] {
		m.use(k)
		m.learnt = true
	}
}

// use marks k; the caller holds mu.
func (m *memory) use(k verification) {
	if m.used == nil {
		m.used = map[verification]bool{}
	}
	m.used[k] = true
}

// saveMemory writes what was learnt; writers only. A memory that grows too long
// keeps what this process has used.
func (a *App) saveMemory() error {
	m := &a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.learnt || !a.writer {
		return nil
	}
	const size = len(verification{})
	all := make([]verification, 0, len(m.used)+len(m.old)/size)
	for k := range m.used {
		all = append(all, k)
	}
	if len(all)+len(m.old)/size <= maxVerified {
		for i := 0; i < len(m.old); i += size {
			if k := verification(m.old[i : i+size]); !m.used[k] {
				all = append(all, k)
			}
		}
	}
	all = all[:min(len(all), maxVerified)]
	slices.SortFunc(all, func(x, y verification) int { return bytes.Compare(x[:], y[:]) })
	b := make([]byte, 0, len(all)*size)
	for _, k := range all {
		b = append(b, k[:]...)
	}
	if err := a.writeCoded(verifiedFile, b); err != nil {
		return err
	}
	m.learnt = false
	return nil
}

// readCoded reads a file of the cache whose code is right, at most limit bytes;
// nil if there is none.
func (a *App) readCoded(name string, limit int) []byte {
	fi, err := os.Lstat(a.cacheFile(name))
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > int64(limit+codeSize) {
		return nil
	}
	b, err := os.ReadFile(a.cacheFile(name))
	if err != nil || len(b) < codeSize {
		return nil
	}
	code := a.Store.Code(name, b[codeSize:])
	if code == nil || !hmac.Equal(code, b[:codeSize]) {
		return nil
	}
	return b[codeSize:]
}

// writeCoded writes a file of the cache with its code in front, under a temporary
// name first. It is not synced: one that a crash cut has no right code.
func (a *App) writeCoded(name string, b []byte) error {
	code := a.Store.Code(name, b)
	if code == nil {
		return nil
	}
	path := a.cacheFile(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, slices.Concat(code, b), 0o644); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return os.Rename(tmp, path)
}
