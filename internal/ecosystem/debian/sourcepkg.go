package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// SourceFile is one file of a Debian source package: of upstream's own archive, in
// the packages of format 3.0 (quilt) and 1.0.
type SourceFile struct {
	Package string // source package
	File    string // NAME_VERSION.orig.tar.…
	Digest  digest.Digest
	Size    int64 // bytes
}

// sourceIndex is what an archive's Sources index lists.
type sourceIndex map[string][]listedSource // by source package

// listedSource is a file as the index lists it.
type listedSource struct {
	file, folder string
	sha256       string
	size         int64
}

// sourceIndexes are the indexes that a client has read, by address and suite.
type sourceIndexes struct {
	mu   sync.Mutex
	read map[string]sourceIndex // guarded by mu
}

// FetchSource puts a source package's file into sink if the suite's signed index
// lists it with this digest and size; fault.Unverified if the index says otherwise,
// fault.NotFound if it does not list it. A file that sink has is not asked for.
func (c *Client) FetchSource(ctx context.Context, suite, component string, f SourceFile, sink Sink) error {
	if sink.Has(f.Digest) {
		return nil
	}
	sources, err := c.sourcesOf(suite, component, "amd64")
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range sources {
		err := c.fetchSource(ctx, s, suite, component, f, sink)
		if err == nil || fault.Is(err, fault.Unverified) || fault.Is(err, fault.Hostile) {
			return err
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (c *Client) fetchSource(ctx context.Context, s Source, suite, component string, f SourceFile, sink Sink) error {
	ix, err := c.sourceIndex(ctx, s, suite, component)
	if err != nil {
		return err
	}
	all, ok := ix[f.Package]
	if !ok {
		return fault.New(fault.NotFound, "fetching %s: the index of suite %s has no source package %s", f.File, suite, f.Package)
	}
	var names []string
	for _, l := range all {
		if l.file != f.File {
			names = append(names, l.file)
			continue
		}
		if l.sha256 != f.Digest.Hex() || l.size != f.Size {
			return fault.New(fault.Unverified, "fetching %s: the signed index says sha256:%s, %d bytes; wanted is %s, %d bytes", f.File, l.sha256, l.size, f.Digest, f.Size)
		}
		return c.put(ctx, s, path.Join(l.folder, l.file), f.File, f.Digest, f.Size, sink)
	}
	return fault.Advise(fault.NotFound, "An archive drops a version when a newer one is released: write a recipe for what it has, or configure a source that keeps old versions.",
		"fetching %s: the index of suite %s lists for %s: %s", f.File, suite, f.Package, strings.Join(names, ", "))
}

// sourceIndex reads the signed list of an archive's sources, once.
func (c *Client) sourceIndex(ctx context.Context, s Source, suite, component string) (sourceIndex, error) {
	key := s.URI.Redacted() + " " + s.Suite + " " + component
	c.indexes.mu.Lock()
	defer c.indexes.mu.Unlock()
	if ix := c.indexes.read[key]; ix != nil {
		return ix, nil
	}
	keys, err := c.keyring(s)
	if err != nil {
		return nil, err
	}
	in, err := c.get(ctx, s, "dists/"+s.Suite+"/InRelease", maxInRelease)
	if err != nil {
		return nil, err
	}
	rel, err := OpenRelease(in, keys, c.cfg.Now())
	if err != nil {
		return nil, err
	}
	if err := rel.serves(Roots{Name: "sources", Suite: suite}); err != nil {
		return nil, err
	}
	base := component + "/source/Sources"
	name, b, err := c.listed(ctx, s, rel, []string{base + ".xz", base + ".gz", base})
	if err != nil {
		return nil, err
	}
	r, err := decompress(path.Ext(name), bytes.NewReader(b))
	if err != nil {
		return nil, fault.New(fault.Hostile, "reading %s: %w", name, err)
	}
	ix, err := parseSourceIndex(&limitedReader{r: r, left: maxIndex, what: name})
	if err != nil {
		return nil, fault.New(fault.Hostile, "reading %s: %w", name, err)
	}
	if c.indexes.read == nil {
		c.indexes.read = map[string]sourceIndex{}
	}
	c.indexes.read[key] = ix
	return ix, nil
}

// parseSourceIndex reads a Sources index (Debian repository format): of each
// package its files, with folder, SHA-256 and size. Of a package that is there in
// several versions the files of all are listed.
func parseSourceIndex(r io.Reader) (sourceIndex, error) {
	ix := sourceIndex{}
	err := parseStanzas(r, func(st Stanza) error {
		name, folder := st.Get("Package"), st.Get("Directory")
		if !reName().MatchString(name) || !goodPoolPath(folder) {
			return fmt.Errorf("source package %.80q in the folder %.200q: that is no name or no folder of an archive", name, folder)
		}
		for _, l := range st.Lines("Checksums-Sha256") {
			f := strings.Fields(l)
			if len(f) != 3 {
				return fmt.Errorf("source package %s: the line %.120q is not digest, size and name", name, l)
			}
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil || n < 0 || !digest.Digest(digest.Prefix+f[0]).Valid() || !goodPoolPath(f[2]) || strings.Contains(f[2], "/") {
				return fmt.Errorf("source package %s: the line %.120q is not digest, size and name", name, l)
			}
			ix[name] = append(ix[name], listedSource{file: f[2], folder: folder, sha256: f[0], size: n})
		}
		return nil
	})
	return ix, err
}

// put brings a file below a source's address into sink, its digest and size checked
// while reading.
func (c *Client) put(ctx context.Context, s Source, name, what string, want digest.Digest, size int64, sink Sink) error {
	return c.try(ctx, func() error {
		r, err := c.open(ctx, s, name)
		if err != nil {
			return err
		}
		defer r.Close()
		n, err := sink.Put(ctx, r, want, size)
		if err != nil {
			if errors.Is(err, digest.ErrMismatch) || errors.Is(err, digest.ErrTooLarge) {
				return fault.New(fault.Unverified, "fetching %s: %w", what, err)
			}
			return fault.New(fault.Unavailable, "fetching %s: %w", what, err)
		}
		if n != size {
			return fault.New(fault.Unverified, "fetching %s: %d bytes, the index says %d", what, n, size)
		}
		return nil
	})
}
