package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/fault"
	"hallmark/internal/record"
	"hallmark/internal/store"
	"hallmark/seed"
)

// seedDir is where the seed's tree lies.
func (a *App) seedDir() string {
	return a.path("layers", "seed-"+a.pinID.Hex(), "tree")
}

// seedBytes gives the seed's size as unpacked, unpacking it if need be.
func (a *App) seedBytes(ctx context.Context) (int64, error) {
	l, err := a.seedLayer(ctx)
	return l.Bytes, err
}

// seedLayer gives the unpacked seed; its packages are fetched and unpacked the
// first time.
func (a *App) seedLayer(ctx context.Context) (debian.Layer, error) {
	if l, err := debian.LoadLayer(a.pin, a.seedDir()); err == nil || !fault.Is(err, fault.NotFound) {
		return l, err
	}
	if !a.writer {
		return debian.Layer{}, fault.New(fault.NotFound, "the seed is not unpacked yet")
	}
	started := time.Now()
	a.progress.Stage("fetch the seed")
	var missing bool
	for _, p := range a.pin.Packages {
		missing = missing || !a.Blobs.Has(p.Digest())
	}
	if missing {
		c, err := debian.NewClient(ctx, debian.Config{})
		if err != nil {
			return debian.Layer{}, err
		}
		err = c.FetchAll(ctx, a.pin, sink{a}, 4, func(done, total int, _, _ int64, last debian.Package) {
			a.progress.Step(done, total, last.Name)
		})
		if err != nil {
			return debian.Layer{}, fmt.Errorf("fetching the seed: %w", err)
		}
	}
	if err := a.keepSeedEvidence(ctx); err != nil {
		return debian.Layer{}, err
	}
	a.progress.Note(fmt.Sprintf("fetched the seed (%d packages) in %.1f s", len(a.pin.Packages), time.Since(started).Seconds()))
	started = time.Now()
	a.progress.Stage("unpack the seed")
	dir := a.seedDir()
	if err := errors.Join(os.RemoveAll(filepath.Dir(dir)), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return debian.Layer{}, err
	}
	l, err := debian.Unpack(a.pin, func(p debian.Package) (io.ReadCloser, error) { return a.Blobs.Open(p.Digest()) }, dir)
	if err != nil {
		return debian.Layer{}, err
	}
	a.progress.Note(fmt.Sprintf("unpacked the seed (%d MB) in %.1f s", l.Bytes/1e6, time.Since(started).Seconds()))
	return l, nil
}

// Names under which the seed's signed index (InRelease and Packages) is kept as
// evidence about the set; the store takes lower case alone.
const (
	inReleaseFile = "seed-inrelease"
	packagesFile  = "seed-packages"
)

// keepSeedEvidence fetches the archive's signed index, checks that the pin is what
// it says, and keeps both as evidence about the seed. An archive that has moved on
// cannot say it any more; then the pin's digests stand alone, and that is told.
func (a *App) keepSeedEvidence(ctx context.Context) error {
	if rows, err := a.Store.Evidence(ctx, a.pinID); err != nil || len(rows) >= 2 {
		return err
	}
	roots, err := debian.ParseRoots(seed.Roots)
	if err != nil {
		return err
	}
	c, err := debian.NewClient(ctx, debian.Config{})
	if err != nil {
		return err
	}
	found, ev, err := c.Resolve(ctx, roots)
	if err == nil {
		var id digest.Digest
		if id, err = found.Digest(); err == nil && id != a.pinID {
			err = fmt.Errorf("it gives the set %s", id.Short())
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		a.progress.Note(fmt.Sprintf("the seed's packages have the digests of the pin, but the archive's signed index does not name them any more: %v", err))
		return nil
	}
	for name, b := range map[string][]byte{inReleaseFile: ev.InRelease, packagesFile: ev.Packages} {
		d, err := a.putBytes(ctx, "", b)
		if err != nil {
			return err
		}
		if err := a.Store.AddEvidence(ctx, store.Evidence{Subject: a.pinID, Name: name, PredicateType: seedEvidenceType, Blob: d, Created: time.Now().UTC()}); err != nil {
			return err
		}
	}
	return nil
}

// seedEvidenceType marks evidence that is not a signed statement of ours.
const seedEvidenceType = "urn:hallmark:seed:v1"

// unpackSeed gives the engine the seed.
func (a *App) unpackSeed(ctx context.Context) (build.Seed, error) {
	l, err := a.seedLayer(ctx)
	if err != nil {
		return build.Seed{}, err
	}
	natives, err := a.seedNatives(l)
	if err != nil {
		return build.Seed{}, err
	}
	s := build.Seed{Name: a.pin.Name, Digest: a.pinID, Dir: l.Dir,
		Files: func(d digest.Digest) string { return natives[d] }, Owners: l.Owners}
	for p := range l.Owners {
		if st, err := os.Stat(filepath.Join(l.Dir, filepath.FromSlash(p))); linkable(p) && err == nil && st.Size() > emptyArchive {
			s.Linkable = append(s.Linkable, "/"+p)
		}
	}
	sort.Strings(s.Linkable)
	return s, nil
}

// linkable tells whether a path of the seed is an object file or an archive,
// which is what a linker copies code from.
func linkable(p string) bool { return strings.HasSuffix(p, ".o") || strings.HasSuffix(p, ".a") }

// seedSize gives the bytes of the seed's files by path, where its tree is there.
func (a *App) seedSize() func(path string) (int64, bool) {
	var mu sync.Mutex
	known := map[string]int64{}
	return func(path string) (int64, bool) {
		mu.Lock()
		defer mu.Unlock()
		n, ok := known[path]
		if !ok {
			n = -1
			if st, err := os.Lstat(filepath.Join(a.seedDir(), filepath.FromSlash(path))); err == nil && st.Mode().IsRegular() {
				n = st.Size()
			}
			known[path] = n
		}
		return max(n, 0), n >= 0
	}
}

// emptyArchive is the size of an archive without members, from which nothing can
// be linked.
const emptyArchive = 8

// seedNatives lists the seed's native files by digest, measured once and kept
// beside the tree.
func (a *App) seedNatives(l debian.Layer) (map[digest.Digest]string, error) {
	name := filepath.Join(filepath.Dir(l.Dir), "natives-2.json")
	m := map[digest.Digest]string{}
	if b, err := os.ReadFile(name); err == nil && json.Unmarshal(b, &m) == nil {
		return m, nil
	}
	for p := range l.Owners {
		full := filepath.Join(l.Dir, filepath.FromSlash(p))
		st, err := os.Lstat(full)
		if err != nil || !st.Mode().IsRegular() || st.Size() <= emptyArchive {
			continue // an archive without members is nobody's: all of them are the same
		}
		b, err := os.ReadFile(full)
		if err != nil {
			return nil, fmt.Errorf("reading the seed: %w", err)
		}
		if bytes.HasPrefix(b, []byte("\x7fELF")) || bytes.HasPrefix(b, []byte("!<arch>\n")) {
			if d := digest.FromBytes(b); m[d] == "" || "/"+p < m[d] {
				m[d] = "/" + p
			}
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return m, os.WriteFile(name, b, 0o644)
}

// SeedInfo is what `hallmark seed` shows.
type SeedInfo = api.Seed

// Seed describes the seed that this version builds on.
func (a *App) Seed() (SeedInfo, error) {
	i := SeedInfo{Name: a.pin.Name, Suite: a.pin.Suite, Digest: a.pinID, Packages: a.pin.Packages, Fetched: a.pin.Size()}
	if l, err := debian.LoadLayer(a.pin, a.seedDir()); err == nil {
		i.Installed, i.Layer = l.Bytes, l.Digest
	}
	return i, nil
}

// seedInputs lists the seed's packages as a provenance does.
func (a *App) seedInputs() []record.Input {
	var in []record.Input
	for _, p := range a.pin.Packages {
		in = append(in, record.Input{Tag: "builder", PURL: p.PURL(), File: filepath.Base(p.Path), Digest: p.Digest()})
	}
	return in
}

// SeedCandidate resolves a candidate from the machine's signed archive and gives it
// with what differs. Nothing is built on it until a policy names its digest.
func SeedCandidate(ctx context.Context) (api.SeedCandidate, error) {
	var out api.SeedCandidate
	old, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		return out, err
	}
	roots, err := debian.ParseRoots(seed.Roots)
	if err != nil {
		return out, err
	}
	c, err := debian.NewClient(ctx, debian.Config{})
	if err != nil {
		return out, err
	}
	pin, ev, err := c.Resolve(ctx, roots)
	if err != nil {
		return out, err
	}
	out.InRelease, out.Packages = ev.InRelease, ev.Packages
	if out.Diff, err = debian.Diff(old, pin); err != nil {
		return out, err
	}
	if out.Candidate, err = pin.Digest(); err != nil {
		return out, err
	}
	out.Pin, err = pin.JSON()
	return out, err
}
