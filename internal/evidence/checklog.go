package evidence

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"hallmark/internal/fault"
)

const (
	tileWidth  = layout.TileWidth
	maxTile    = tileWidth * 32         // bytes of a tile of hashes
	maxEntries = tileWidth * (64 << 10) // bytes of a bundle of entries: each has a 16-bit length
	maxDamage  = 20                     // damaged files named before the rest are only counted
)

// CheckLog reads the whole log in dir: every bundle of entries and every tile, the
// partial ones that a larger one has superseded too, the state of the tree, and the
// checkpoint that the key pub signed. It recomputes the root from the entries alone
// and compares it with the checkpoint's, and each file with what the entries make
// it. It gives the log's size; damage is fault.Corrupt and names the files. A log
// that was never begun has size 0. Nothing is changed; what a crash may leave
// beyond the state of the tree is not looked at: the next writer takes it away.
//
// The log's own checker (tessera/fsck) is not used: it ends the process on a
// short bundle and does not name which file is at fault.
func CheckLog(ctx context.Context, dir string, pub crypto.PublicKey) (uint64, error) {
	v, err := noteVerifier(LogOrigin(pub), pub)
	if err != nil {
		return 0, err
	}
	cp, _, err := readCheckpoint(dir, v)
	if errors.Is(err, fs.ErrNotExist) {
		if begun(dir) {
			return 0, logDamage("the log in %s has entries but no checkpoint", dir)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	c := &logChecker{dir: dir, size: cp.Size}
	state, err := readState(dir)
	switch {
	case err != nil:
		c.damaged("%v", err)
	case state.Size < cp.Size:
		c.damaged("%s says that the tree has %d entries, the checkpoint %d", stateFile, state.Size, cp.Size)
	default:
		c.size = state.Size // entries on their way to a checkpoint are entries too
	}
	if err := c.walk(ctx, map[uint64][]byte{cp.Size: cp.Hash, c.size: state.Root}); err != nil {
		return cp.Size, err
	}
	if err := c.others(); err != nil {
		return cp.Size, err
	}
	return cp.Size, c.error()
}

// LogSize is how many entries the signed checkpoint of the log in dir covers; 0 if
// there is none yet.
func LogSize(dir string, pub crypto.PublicKey) (uint64, error) {
	v, err := noteVerifier(LogOrigin(pub), pub)
	if err != nil {
		return 0, err
	}
	cp, _, err := readCheckpoint(dir, v)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return cp.Size, nil
}

// Checkpoint is the signed checkpoint of the log in dir, as it is written.
func Checkpoint(dir string, pub crypto.PublicKey) (string, error) {
	v, err := noteVerifier(LogOrigin(pub), pub)
	if err != nil {
		return "", err
	}
	_, raw, err := readCheckpoint(dir, v)
	return string(raw), err
}

// logDamage is an error about a damaged log.
func logDamage(format string, args ...any) error {
	return fault.Advise(fault.Corrupt, "Run hallmark fsck --repair: it writes anew what the signed bundles and the checkpoint prove. What it cannot mend comes from a backup of the log's folder; the log is append-only, so any later copy serves.", format, args...)
}

// logChecker recomputes a log from its entries.
type logChecker struct {
	dir     string
	size    uint64
	known   func(index uint64) []byte // entries from elsewhere, which stand above the file's; may be nil
	fix     bool                      // write anew what is not as the entries make it
	fixed   []string                  // what was written anew
	tree    *compact.Range
	bundle  []byte        // the newest bundle, as the entries make it
	pending []pendingTile // one for each level, lowest first
	list    []string
	count   int
}

type pendingTile struct {
	index uint64
	nodes []byte // concatenated hashes
}

func (c *logChecker) damaged(format string, args ...any) {
	if c.count++; len(c.list) < maxDamage {
		c.list = append(c.list, fmt.Sprintf(format, args...))
	}
}

func (c *logChecker) error() error {
	if c.count == 0 {
		return nil
	}
	list := c.list
	if c.count > len(list) {
		list = append(list, fmt.Sprintf("and %d more", c.count-len(list)))
	}
	return logDamage("the log in %s (size %d) is damaged: %s", c.dir, c.size, strings.Join(list, "; "))
}

// walk goes through all entries and compares the roots at some sizes.
func (c *logChecker) walk(ctx context.Context, roots map[uint64][]byte) error {
	c.tree, c.pending = (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0), nil
	if want := roots[0]; want != nil && !bytes.Equal(want, rfc6962.DefaultHasher.EmptyRoot()) {
		c.damaged("the root of no entries is not %x", want)
	}
	for i := uint64(0); i*tileWidth < c.size; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Once a bundle cannot be read, no hash behind it can be recomputed.
		if !c.entries(i, roots) {
			return nil
		}
	}
	// The partial tiles at the right edge.
	for level := range c.pending {
		if t := c.pending[level]; len(t.nodes) > 0 {
			c.compare(level, t.index, t.nodes)
		}
	}
	return nil
}

// read gives a tile or bundle; a partial one may have been replaced by the
// whole one in the meantime.
func (c *logChecker) read(partial, whole string, limit int64) ([]byte, string, error) {
	b, err := readFile(filepath.Join(c.dir, partial), limit)
	if errors.Is(err, fs.ErrNotExist) && partial != whole {
		if b, e := readFile(filepath.Join(c.dir, whole), limit); !errors.Is(e, fs.ErrNotExist) {
			return b, whole, e
		}
	}
	return b, partial, err
}

// entries reads bundle i and hashes its entries; false if it cannot go on.
func (c *logChecker) entries(i uint64, roots map[uint64][]byte) bool {
	p := layout.PartialTileSize(0, i, c.size)
	n := int(p)
	if p == 0 {
		n = tileWidth
	}
	raw, name, err := c.read(layout.EntriesPath(i, p), layout.EntriesPath(i, 0), maxEntries)
	var b api.EntryBundle
	switch {
	case err != nil:
		c.damaged("%s cannot be read (%v)", name, err)
	default:
		if err = b.UnmarshalText(raw); err != nil {
			c.damaged("%s is malformed (%v)", name, err)
		} else if len(b.Entries) < n || len(b.Entries) > n && name != layout.EntriesPath(i, 0) {
			err = errShort
			c.damaged("%s has %d entries, want %d", name, len(b.Entries), n)
		}
	}
	if err != nil && c.known == nil {
		return false
	}
	c.bundle = nil
	for k := range n {
		var e []byte
		if c.known != nil {
			e = c.known(i*tileWidth + uint64(k))
		}
		if e == nil && err == nil {
			e = b.Entries[k]
		}
		if e == nil {
			c.damaged("entry %d of %s is in no other place", i*tileWidth+uint64(k), name)
			return false
		}
		c.bundle = append(binary.BigEndian.AppendUint16(c.bundle, uint16(len(e))), e...)
		h := rfc6962.DefaultHasher.HashLeaf(e)
		if err := c.tree.Append(h, nil); err != nil {
			c.damaged("%s: %v", name, err)
			return false
		}
		c.push(0, h)
		if want, ok := roots[c.tree.End()]; ok {
			root, err := c.tree.GetRootHash(nil)
			if err != nil || !bytes.Equal(root, want) {
				c.damaged("the first %d entries have root %x, but the signed checkpoint or the state of the tree says %x: at least one entry was changed", c.tree.End(), root, want)
			}
		}
	}
	if c.fix {
		c.write(layout.EntriesPath(i, p), c.bundle)
	}
	c.superseded(layout.EntriesPath(i, 0)+".p", func(size int) []byte {
		at := 0
		for range size {
			if at+2 > len(c.bundle) {
				return nil
			}
			at += 2 + int(binary.BigEndian.Uint16(c.bundle[at:]))
		}
		return c.bundle[:min(at, len(c.bundle))]
	}, n)
	return true
}

// push adds a hash to the tile in progress at level; a full one is compared and
// its root goes one level up.
func (c *logChecker) push(level int, h []byte) {
	if level == len(c.pending) {
		c.pending = append(c.pending, pendingTile{})
	}
	t := &c.pending[level]
	t.nodes = append(t.nodes, h...)
	if len(t.nodes) < maxTile {
		return
	}
	c.compare(level, t.index, t.nodes)
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for k := 0; k < len(t.nodes); k += 32 {
		if err := r.Append(bytes.Clone(t.nodes[k:k+32]), nil); err != nil {
			c.damaged("level %d: %v", level, err)
			return
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		c.damaged("level %d: %v", level, err)
		return
	}
	t.index, t.nodes = t.index+1, nil
	c.push(level+1, root)
}

// compare holds a tile, whole or at the right edge, against what it must be.
func (c *logChecker) compare(level int, index uint64, want []byte) {
	p := uint8(len(want) / 32 % tileWidth)
	whole := layout.TilePath(uint64(level), index, 0)
	defer c.superseded(whole+".p", func(size int) []byte { return want[:min(32*size, len(want))] }, len(want)/32)
	if c.fix {
		c.write(layout.TilePath(uint64(level), index, p), want)
		return
	}
	raw, name, err := c.read(layout.TilePath(uint64(level), index, p), whole, maxTile)
	switch {
	case err != nil:
		c.damaged("%s cannot be read (%v)", name, err)
	case len(raw) < len(want) || len(raw) > len(want) && name != whole:
		c.damaged("%s has %d bytes, want %d", name, len(raw), len(want))
	default:
		for k := 0; k < len(want); k += 32 {
			if bytes.Equal(raw[k:k+32], want[k:k+32]) {
				continue
			}
			what := layout.TilePath(uint64(level)-1, index*tileWidth+uint64(k/32), 0)
			if level == 0 {
				what = fmt.Sprintf("entry %d in %s", index*tileWidth+uint64(k/32), layout.EntriesPath(index, p))
			}
			c.damaged("%s and %s do not agree", name, what)
			return
		}
	}
}

// CheckConsistency checks that the log in dir has grown from the one that a
// verified bundle's checkpoint shows, and so still holds its entry unchanged. A
// log that was cut or rewritten since is fault.Unverified.
func CheckConsistency(ctx context.Context, dir string, pub crypto.PublicKey, v *Verified) error {
	nv, err := noteVerifier(LogOrigin(pub), pub)
	if err != nil {
		return err
	}
	if v.LogOrigin != nv.Name() {
		return fault.New(fault.Unverified, "log: the bundle's entry is in log %.80q, not in %s", v.LogOrigin, nv.Name())
	}
	cp, _, err := readCheckpoint(dir, nv)
	if err != nil {
		return err
	}
	if v.TreeSize > cp.Size {
		return fault.New(fault.Unverified, "log: it has %d entries, but once signed that it had %d: it was cut", cp.Size, v.TreeSize)
	}
	return consistent(ctx, dir, v.TreeSize, v.RootHash, cp.Size, cp.Hash)
}

// consistent checks by the tiles of the log in dir that the larger tree continues
// the smaller one.
func consistent(ctx context.Context, dir string, small uint64, smallRoot []byte, large uint64, largeRoot []byte) error {
	b, err := client.NewProofBuilder(ctx, large, client.FileFetcher{Root: dir}.ReadTile)
	if err != nil {
		return fmt.Errorf("consistency of the log in %s: %w", dir, err)
	}
	hashes, err := b.ConsistencyProof(ctx, small, large)
	if err != nil {
		return fault.New(fault.Corrupt, "consistency of the log in %s from %d to %d: %w", dir, small, large, err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, small, large, hashes, smallRoot, largeRoot); err != nil {
		return fault.New(fault.Unverified, "log: its %d entries are not a continuation of the %d that it once signed: %w", large, small, err)
	}
	return nil
}

// logPath is what a log has to offer (c2sp.org/tlog-tiles): the checkpoint,
// tiles of levels 0 to 63, bundles of entries, whole or partial.
var logPath = regexp.MustCompile(`^(checkpoint|tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5]))?)$`)

// LogHandler serves the log in dir, read-only, to any tlog-tiles client: the
// checkpoint, tiles and bundles of entries, nothing else of the folder. Mount it
// with http.StripPrefix.
func LogHandler(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the log can only be read", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if !logPath.MatchString(name) {
			http.NotFound(w, r)
			return
		}
		f, err := os.OpenInRoot(dir, filepath.FromSlash(name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil || !fi.Mode().IsRegular() {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Type", "application/octet-stream")
		if name == "checkpoint" {
			h.Set("Content-Type", "text/plain; charset=utf-8")
		}
		// A tile never changes once a checkpoint covers it; one beyond may,
		// after a crash. So caches ask again.
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", fi.ModTime(), f)
	})
}
