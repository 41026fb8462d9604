package evidence

import (
	"bytes"
	"context"
	"crypto"
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

// CheckLog reads the whole log in dir: every bundle of entries and every tile
// up to the checkpoint that the key pub signed. It recomputes the root from the
// entries alone and compares it with the checkpoint's, and each tile with what
// the entries make it. It gives the log's size; damage is fault.Corrupt and
// names the files. A log without a checkpoint has size 0. Nothing is changed;
// files beyond the checkpoint, which a crash may leave, are not looked at.
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
		if _, e := os.Stat(filepath.Join(dir, "tile")); e == nil {
			return 0, fault.New(fault.Corrupt, "the log in %s has entries but no checkpoint", dir)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	c := &logChecker{dir: dir, size: cp.Size, tree: (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
	for i := uint64(0); i*tileWidth < cp.Size; i++ {
		if err := ctx.Err(); err != nil {
			return cp.Size, err
		}
		if !c.entries(i) {
			break
		}
	}
	// Once a bundle cannot be read, no hash behind it can be recomputed.
	if c.tree.End() == cp.Size {
		c.flush()
		root := rfc6962.DefaultHasher.EmptyRoot()
		if cp.Size > 0 {
			if root, err = c.tree.GetRootHash(nil); err != nil {
				return cp.Size, fmt.Errorf("root of the log in %s: %w", dir, err)
			}
		}
		if !bytes.Equal(root, cp.Hash) {
			c.damaged("the entries have root %x, but the signed checkpoint says %x: at least one entry was changed", root, cp.Hash)
		}
	}
	if c.count == 0 {
		return cp.Size, nil
	}
	list := c.list
	if c.count > len(list) {
		list = append(list, fmt.Sprintf("and %d more", c.count-len(list)))
	}
	return cp.Size, fault.Advise(fault.Corrupt, "Restore the log's folder from a backup; it is append-only, so any later copy serves.",
		"the log in %s (size %d) is damaged: %s", dir, cp.Size, strings.Join(list, "; "))
}

// logChecker recomputes a log from its entries.
type logChecker struct {
	dir     string
	size    uint64
	tree    *compact.Range
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
func (c *logChecker) entries(i uint64) bool {
	p := layout.PartialTileSize(0, i, c.size)
	n := int(p)
	if p == 0 {
		n = tileWidth
	}
	raw, name, err := c.read(layout.EntriesPath(i, p), layout.EntriesPath(i, 0), maxEntries)
	if err != nil {
		c.damaged("%s cannot be read (%v)", name, err)
		return false
	}
	var b api.EntryBundle
	if err := b.UnmarshalText(raw); err != nil {
		c.damaged("%s is malformed (%v)", name, err)
		return false
	}
	if len(b.Entries) < n || len(b.Entries) > n && name != layout.EntriesPath(i, 0) {
		c.damaged("%s has %d entries, want %d", name, len(b.Entries), n)
		return false
	}
	for _, e := range b.Entries[:n] {
		h := rfc6962.DefaultHasher.HashLeaf(e)
		if err := c.tree.Append(h, nil); err != nil {
			c.damaged("%s: %v", name, err)
			return false
		}
		c.push(0, h)
	}
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
	c.compare(level, t.index, 0, t.nodes)
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

// flush compares the partial tiles at the right edge.
func (c *logChecker) flush() {
	for level := range c.pending {
		if t := c.pending[level]; len(t.nodes) > 0 {
			c.compare(level, t.index, uint8(len(t.nodes)/32), t.nodes)
		}
	}
}

func (c *logChecker) compare(level int, index uint64, p uint8, want []byte) {
	raw, name, err := c.read(layout.TilePath(uint64(level), index, p), layout.TilePath(uint64(level), index, 0), maxTile)
	switch {
	case err != nil:
		c.damaged("%s cannot be read (%v)", name, err)
	case len(raw) < len(want) || len(raw) > len(want) && name != layout.TilePath(uint64(level), index, 0):
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
	b, err := client.NewProofBuilder(ctx, cp.Size, client.FileFetcher{Root: dir}.ReadTile)
	if err != nil {
		return fmt.Errorf("consistency of the log in %s: %w", dir, err)
	}
	hashes, err := b.ConsistencyProof(ctx, v.TreeSize, cp.Size)
	if err != nil {
		return fault.New(fault.Corrupt, "consistency of the log in %s from %d to %d: %w", dir, v.TreeSize, cp.Size, err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, v.TreeSize, cp.Size, hashes, v.RootHash, cp.Hash); err != nil {
		return fault.New(fault.Unverified, "log: its %d entries are not a continuation of the %d that it once signed: %w", cp.Size, v.TreeSize, err)
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
