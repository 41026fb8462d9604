package evidence

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"hallmark/internal/fault"
)

// Files of the log's folder that are not tiles. The state of the tree is the
// library's own: how many entries it has taken, and their root.
const (
	checkpointFile = "checkpoint"
	stateFile      = ".state/treeState"
	versionFile    = ".state/version"
	sweptFile      = ".state/gcState"
)

// plain are files of the log's folder that may be there and hold nothing but what
// is said here.
var plain = map[string]string{".lock": "", ".state/treeState.lock": "", ".state/publish.lock": "", ".state/gcState.lock": "", versionFile: "1"}

var errShort = errors.New("it has not the entries that it must have")

// treeState is the library's state of the tree.
type treeState struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// readState reads the state of the tree; its one spelling is accepted. One that is
// not there is fs.ErrNotExist.
func readState(dir string) (treeState, error) {
	var s treeState
	b, err := readFile(filepath.Join(dir, stateFile), maxCheckpoint)
	if err != nil {
		return s, fmt.Errorf("%s cannot be read: %w", stateFile, err)
	}
	if err := json.Unmarshal(b, &s); err != nil || len(s.Root) != 32 {
		return s, fault.New(fault.Corrupt, "%s is malformed (%v)", stateFile, err)
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, b) {
		return s, fault.New(fault.Corrupt, "%s is not spelled as it is written", stateFile)
	}
	return s, nil
}

// begun tells whether the folder holds a log with entries, or had one.
func begun(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "tile")); err == nil {
		return true
	}
	s, err := readState(dir)
	return err == nil && s.Size > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// checkState refuses to continue a log whose checkpoint, state and tiles do not
// agree: the library would sign whatever its state says, and begin anew without
// one. It reads the right edge alone; CheckLog reads everything.
func checkState(ctx context.Context, dir string, v note.Verifier) error {
	cp, _, err := readCheckpoint(dir, v)
	none := errors.Is(err, fs.ErrNotExist)
	if err != nil && !none {
		return err // a log of another key must not be continued under this one
	}
	s, err := readState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !none || begun(dir) {
			return logDamage("the log in %s has lost its state (%s)", dir, stateFile)
		}
		return nil
	case err != nil:
		return logDamage("the log in %s: %v", dir, err)
	case none && s.Size > 0:
		return logDamage("the log in %s has %d entries but no checkpoint", dir, s.Size)
	case none:
		return nil
	case s.Size < cp.Size:
		return logDamage("the log in %s: %s says that the tree has %d entries, the signed checkpoint %d", dir, stateFile, s.Size, cp.Size)
	case s.Size == cp.Size && !bytes.Equal(s.Root, cp.Hash):
		return logDamage("the log in %s: %s and the signed checkpoint have different roots", dir, stateFile)
	case s.Size == 0:
		return nil
	}
	nodes, err := client.FetchRangeNodes(ctx, s.Size, client.FileFetcher{Root: dir}.ReadTile)
	if err != nil {
		return logDamage("the log in %s: its tiles cannot be read: %v", dir, err)
	}
	r, err := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewRange(0, s.Size, nodes)
	if err != nil {
		return logDamage("the log in %s: %v", dir, err)
	}
	if root, err := r.GetRootHash(nil); err != nil || !bytes.Equal(root, s.Root) {
		return logDamage("the log in %s: its tiles and %s have different roots", dir, stateFile)
	}
	if s.Size > cp.Size {
		if err := consistent(ctx, dir, cp.Size, cp.Hash, s.Size, s.Root); err != nil {
			return logDamage("the log in %s: what is on its way does not continue the signed checkpoint: %v", dir, err)
		}
	}
	return nil
}

// tileFile is a tile or a bundle of entries by its name.
type tileFile struct {
	level   int // -1: entries
	index   uint64
	partial uint8 // 0: whole
}

// parseTile reads the name of a file under the log's folder, with slashes.
func parseTile(name string) (tileFile, bool) {
	rest, ok := strings.CutPrefix(name, "tile/")
	if !ok || !logPath.MatchString(name) {
		return tileFile{}, false
	}
	level, index, ok := strings.Cut(rest, "/")
	if !ok {
		return tileFile{}, false
	}
	i, p, err := layout.ParseTileIndexPartial(index)
	if err != nil {
		return tileFile{}, false
	}
	// Numbers that begin with groups of zeros would be other names for a file.
	if level == "entries" {
		return tileFile{-1, i, p}, name == layout.EntriesPath(i, p)
	}
	l, err := strconv.Atoi(level)
	return tileFile{l, i, p}, err == nil && name == layout.TilePath(uint64(l), i, p)
}

// beyond tells whether a file of the log belongs to a tree of more than size
// entries.
func (t tileFile) beyond(size uint64) bool {
	have := size
	for range max(t.level, 0) {
		have /= tileWidth
	}
	if t.index != have/tileWidth {
		return t.index > have/tileWidth
	}
	return t.partial == 0 || uint64(t.partial) > have%tileWidth
}

// files lists the files of the log's folder by name, with slashes.
func files(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of the log in %s: %w", dir, err)
	}
	return names, nil
}

// unfinished tells whether a file is a temporary one, which a crash may leave: the
// library puts up to ten digits behind the name that it is to have.
func unfinished(name string) bool {
	ours := func(n string) bool {
		_, tile := parseTile(n)
		_, known := plain[n]
		return tile || known || n == checkpointFile || n == stateFile
	}
	if ours(name) {
		return false
	}
	if strings.HasPrefix(path.Base(name), tmpPrefix) {
		return true
	}
	for n := range min(10, len(name)) {
		end := len(name) - n - 1
		if name[end] < '0' || name[end] > '9' {
			return false
		}
		if ours(name[:end]) {
			return true
		}
	}
	return false
}

// tmpPrefix begins the names of our own temporary files.
const tmpPrefix = ".tmp-"

// sweep takes away what a crash left behind the state of the tree. The caller
// holds the log's lock.
func sweep(dir string) error {
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := files(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if t, ok := parseTile(n); ok && t.beyond(s.Size) || unfinished(n) {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(n))); err != nil {
				return fmt.Errorf("log: take away what an interrupted writer left: %w", err)
			}
		}
	}
	return nil
}

// superseded compares the partial files in folder, which have fewer than n
// elements, with what they must have been.
func (c *logChecker) superseded(folder string, want func(size int) []byte, n int) {
	es, err := os.ReadDir(filepath.Join(c.dir, filepath.FromSlash(folder)))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.damaged("%s cannot be read (%v)", folder, err)
		}
		return
	}
	for _, e := range es {
		name := folder + "/" + e.Name()
		size, err := strconv.Atoi(e.Name())
		if err != nil || size >= n {
			continue // the one at the right edge, or one of which others speaks
		}
		have, err := readFile(filepath.Join(c.dir, filepath.FromSlash(name)), maxEntries)
		if err == nil && bytes.Equal(have, want(size)) {
			continue
		}
		if c.fix {
			c.write(name, want(size))
			continue
		}
		c.damaged("%s, which a larger one has superseded, is not its beginning", name)
	}
}

// others looks at the files that are no part of the tree.
func (c *logChecker) others() error {
	names, err := files(c.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		t, tile := parseTile(n)
		content, known := plain[n]
		switch {
		case n == checkpointFile || n == stateFile || unfinished(n):
		case n == sweptFile:
			// Hallmark 0.1.0 let the library take out superseded partial tiles, and
			// this is how far it came. Nothing reads it any more.
			if err := c.swept(); err != nil {
				c.damaged("%s %v", n, err)
			}
		case tile && (t.beyond(c.size) || t.inTree(c.size)):
		case known:
			if b, err := readFile(filepath.Join(c.dir, n), maxCheckpoint); err != nil || string(b) != content {
				c.damaged("%s holds %.40q, want %q", n, b, content)
			}
		default:
			c.damaged("%s does not belong into a log", n)
		}
	}
	return nil
}

// swept checks the one form that sweptFile can have.
func (c *logChecker) swept() error {
	b, err := readFile(filepath.Join(c.dir, sweptFile), maxCheckpoint)
	if err != nil {
		return err
	}
	var s struct {
		From uint64 `json:"fromSize"`
	}
	if json.Unmarshal(b, &s) != nil || string(b) != fmt.Sprintf(`{"fromSize":%d}`, s.From) || s.From > c.size {
		return fmt.Errorf("holds %.40q, want a size of this log of %d entries", b, c.size)
	}
	return nil
}

// inTree tells whether a tree of some size has, or had on its way, such a file.
func (t tileFile) inTree(size uint64) bool { return t.level < 8 && !t.beyond(size) }

// write puts a file of the log in its place, unless it is as it should be.
func (c *logChecker) write(name string, b []byte) {
	p := filepath.Join(c.dir, filepath.FromSlash(name))
	if have, err := os.ReadFile(p); err == nil && bytes.Equal(have, b) {
		return
	}
	if err := replaceFile(p, b); err != nil {
		c.damaged("%s cannot be written (%v)", name, err)
		return
	}
	c.fixed = append(c.fixed, name)
}

// replaceFile writes a file beside path, syncs it and gives it path's name.
func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), tmpPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// RepairLog writes anew what is damaged or missing of the log in dir, as far as
// signed things prove what it was: entries gives those that verified bundles hold
// (nil for others), checkpoints are the signed ones in these bundles. Nothing is
// signed and nothing is guessed: unless all entries together have the root of a
// checkpoint that the key pub signed, the folder is left as it is. It gives the
// names of the files that were written; what stays damaged is fault.Corrupt.
func RepairLog(ctx context.Context, dir string, pub crypto.PublicKey, entries func(index uint64) []byte, checkpoints []string) ([]string, error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	v, err := noteVerifier(LogOrigin(pub), pub)
	if err != nil {
		return nil, err
	}
	cp, raw, err := readCheckpoint(dir, v)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !fault.Is(err, fault.Corrupt) {
		return nil, err
	}
	bad := err != nil
	for _, text := range checkpoints {
		c, err := parseCheckpoint([]byte(text), v)
		if err == nil && (cp == nil || c.Size > cp.Size) {
			cp, raw, bad = c, []byte(text), true
		}
	}
	if cp == nil {
		if !begun(dir) {
			return nil, nil
		}
		return nil, logDamage("no checkpoint that this data directory's log key signed is left, neither in %s nor in a bundle", dir)
	}
	// What is taken but in no checkpoint yet is kept, if it fits.
	size, root := cp.Size, cp.Hash
	if s, err := readState(dir); err == nil && s.Size > cp.Size {
		c := &logChecker{dir: dir, size: s.Size, known: entries}
		if err := c.walk(ctx, map[uint64][]byte{cp.Size: cp.Hash, s.Size: s.Root}); err != nil {
			return nil, err
		}
		if c.tree.End() == s.Size && !c.rootless() {
			size, root = s.Size, s.Root
		}
	}
	roots := map[uint64][]byte{cp.Size: cp.Hash, size: root}
	c := &logChecker{dir: dir, size: size, known: entries}
	if err := c.walk(ctx, roots); err != nil {
		return nil, err
	}
	if c.tree.End() != size || c.rootless() {
		return nil, c.error()
	}
	c = &logChecker{dir: dir, size: size, known: entries, fix: true}
	if err := c.walk(ctx, roots); err != nil {
		return c.fixed, err
	}
	state, err := json.Marshal(treeState{size, root})
	if err != nil {
		return c.fixed, err
	}
	c.write(stateFile, state)
	c.write(versionFile, []byte(plain[versionFile]))
	if bad {
		c.write(checkpointFile, raw)
	}
	for name, content := range plain {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(b) != content && content == "" {
			c.write(name, nil)
		}
	}
	if err := sweep(dir); err != nil {
		return c.fixed, err
	}
	_, err = CheckLog(ctx, dir, pub)
	return c.fixed, err
}

// rootless tells whether a root was not the one that it must be.
func (c *logChecker) rootless() bool {
	for _, d := range c.list {
		if strings.Contains(d, " have root ") {
			return true
		}
	}
	return false
}
