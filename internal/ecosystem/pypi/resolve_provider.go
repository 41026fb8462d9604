package pypi

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"hallmark/internal/fault"
)

// Where a candidate's requirements came from.
const (
	FromSdist = "sdist"      // static in the source (PEP 643)
	FromWheel = "wheel-hint" // the published wheel's: a hint until ours is built
	FromQuery = "query"      // a backend was asked
)

// IndexProvider answers the resolver from indexes, as of a time. It is safe for
// concurrent use.
type IndexProvider struct {
	// Sdist opens a candidate's source; nil: sources are not read while solving.
	Sdist func(ctx context.Context, c Candidate) (io.ReadCloser, error)
	// Query asks the candidate's own backend for its metadata; nil: a candidate
	// that needs it is an error of kind fault.Unsupported.
	Query func(ctx context.Context, c Candidate) (Metadata, error)

	client *Client
	at     time.Time

	mu    sync.Mutex
	pages map[string]*Page         // guarded by mu; as of at
	meta  map[string]metadataEntry // guarded by mu
}

type metadataEntry struct {
	m      Metadata
	source string
}

// NewIndexProvider answers from client as of at; the zero time means now. sdist
// opens a source, query asks a backend; both may be nil. What is set to nil is
// skipped, see the fields.
func NewIndexProvider(client *Client, at time.Time, sdist func(context.Context, Candidate) (io.ReadCloser, error), query func(context.Context, Candidate) (Metadata, error)) *IndexProvider {
	return &IndexProvider{Sdist: sdist, Query: query, client: client, at: at,
		pages: map[string]*Page{}, meta: map[string]metadataEntry{}}
}

// Pin makes the provider answer with a page that a commit pinned in place of
// asking for it.
func (p *IndexProvider) Pin(page *Page) {
	page = p.atTime(page)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages[page.Name] = page
}

func (p *IndexProvider) atTime(page *Page) *Page {
	if !p.at.IsZero() {
		page, _ = page.At(p.at)
	}
	return page
}

// Page is Provider's.
func (p *IndexProvider) Page(ctx context.Context, name string) (*Page, error) {
	name = NormalizeName(name)
	p.mu.Lock()
	page := p.pages[name]
	p.mu.Unlock()
	if page != nil {
		return page, nil
	}
	live, err := p.client.Page(ctx, name)
	if err != nil {
		return nil, err
	}
	page = p.atTime(live)
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.pages[name]; old != nil {
		return old, nil
	}
	p.pages[name] = page
	return page, nil
}

// Prefetch asks for pages in the background; errors come up when they are
// needed.
func (p *IndexProvider) Prefetch(ctx context.Context, names []string) {
	for _, n := range names {
		p.mu.Lock()
		known := p.pages[NormalizeName(n)] != nil
		p.mu.Unlock()
		if !known {
			go func() { _, _ = p.Page(ctx, n) }()
		}
	}
}

// PagesOf gives the pages of the names, which a Solution has as Asked: what a
// commit pins, so that it can be solved again to the same end. A project that
// does not exist is an empty page. enforced is false if an index gave no upload
// time for some file, so that the time could not be enforced on it.
func (p *IndexProvider) PagesOf(ctx context.Context, names []string) (pages []*Page, enforced bool, err error) {
	enforced = true
	for _, n := range names {
		page, err := p.Page(ctx, n)
		switch {
		case fault.Is(err, fault.NotFound):
			page = &Page{Name: NormalizeName(n), Versions: []string{}, Files: []File{}}
		case err != nil:
			return nil, false, err
		}
		for _, f := range page.Files {
			enforced = enforced && f.UploadTime != ""
		}
		pages = append(pages, page)
	}
	sort.Slice(pages, func(i, j int) bool { return pages[i].Name < pages[j].Name })
	return pages, enforced, nil
}

// Metadata is Provider's: the source's where it is static, else a published
// wheel's, else a query's.
func (p *IndexProvider) Metadata(ctx context.Context, c Candidate) (Metadata, string, error) {
	k := c.Name + "@" + c.Version
	p.mu.Lock()
	e, ok := p.meta[k]
	p.mu.Unlock()
	if ok {
		return e.m, e.source, nil
	}
	m, source, err := p.metadata(ctx, c)
	if err != nil {
		return Metadata{}, "", err
	}
	p.mu.Lock()
	p.meta[k] = metadataEntry{m, source}
	p.mu.Unlock()
	return m, source, nil
}

func (p *IndexProvider) metadata(ctx context.Context, c Candidate) (Metadata, string, error) {
	if c.Sdist != nil && p.Sdist != nil {
		m, err := p.sdistMetadata(ctx, c)
		switch {
		case err == nil && m.StaticRequires():
			return m, FromSdist, nil
		case err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Hostile):
			return Metadata{}, "", err
		}
		// No PKG-INFO, one that cannot be read, or one that says that its
		// requirements come out of the build: the next best is asked.
	}
	if w := c.AnyWheel; w != nil {
		b, err := p.client.WheelMetadata(ctx, c.Name, *w)
		if err == nil {
			m, err := ParseMetadata(b)
			if err != nil {
				return Metadata{}, "", fmt.Errorf("wheel %s: %w", w.Name, err)
			}
			return m, FromWheel, nil
		}
		if !fault.Is(err, fault.NotFound) || c.Sdist == nil {
			return Metadata{}, "", err
		}
		// A wheel that the index has no more: the source's own backend is asked.
	}
	if p.Query == nil {
		return Metadata{}, "", fault.New(fault.Unsupported, "requirements of %s %s: neither its source nor a wheel says them, and no backend can be asked", c.Name, c.Version)
	}
	defer outsideBudget(ctx)()
	m, err := p.Query(ctx, c)
	return m, FromQuery, err
}

func (p *IndexProvider) sdistMetadata(ctx context.Context, c Candidate) (Metadata, error) {
	r, err := p.Sdist(ctx, c)
	if err != nil {
		return Metadata{}, err
	}
	defer r.Close()
	return SdistMetadata(r, c.Sdist.Name)
}
