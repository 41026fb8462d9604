package app

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/server"
	"hallmark/internal/store"
)

// Limits of the catalog.
const (
	maxKnown    = 3000             // versions that one search reads
	maxPackages = 20               // that one search gives
	maxVersions = 40               // of a package that are shown
	maxLookUps  = 4                // at an index, at a time
	lookUpTime  = 20 * time.Second // for one
	pagesFor    = 5 * time.Minute  // how long an index's answer is given again
	maxPages    = 50               // answers that are kept for that
)

// Catalog is what a data directory holds of packages, and what their index says of
// one that it does not hold. Its methods may be called from several goroutines.
type Catalog struct {
	a     *App
	slots chan struct{}
	dial  func(ctx context.Context) (*pypi.Client, error)

	dialing sync.Mutex // guards client, until and left
	client  *pypi.Client
	until   time.Time
	left    int // how many more names it is asked about, since it keeps their pages

	mu    sync.Mutex // guards all below
	check *checker
	said  map[digest.Digest]verdictSaid // by the summary's bundle, which never changes
}

var _ server.Catalog = (*Catalog)(nil)

// verdictSaid is what a verified summary says.
type verdictSaid struct {
	policy string
	class  policy.Class
}

// Catalog gives the catalog of the data directory.
func (a *App) Catalog() *Catalog {
	return &Catalog{a: a, slots: make(chan struct{}, maxLookUps), said: map[digest.Digest]verdictSaid{},
		dial: func(ctx context.Context) (*pypi.Client, error) {
			cfg, err := pypi.MachineConfig(ctx)
			if err != nil {
				return nil, err
			}
			return pypi.NewClient(cfg)
		}}
}

// Search is server.Catalog's.
func (c *Catalog) Search(ctx context.Context, text string) ([]server.Package, error) {
	if system.Is(text) {
		return c.recipes(ctx, strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "sys:"), "pkg:"+system.Type+"/"))
	}
	part, err := namePart(text)
	if err != nil {
		return nil, err
	}
	known, err := c.a.Store.Known(ctx, "pypi", part, false, maxKnown)
	if err != nil {
		return nil, err
	}
	by := map[string][]store.KnownVersion{}
	var names []string
	for _, k := range known {
		n := k.PURL.Name()
		if by[n] == nil {
			names = append(names, n)
		}
		by[n] = append(by[n], k)
	}
	// The name itself first, then what begins with it, then the rest.
	rank := func(n string) int {
		switch {
		case n == part:
			return 0
		case strings.HasPrefix(n, part):
			return 1
		}
		return 2
	}
	slices.SortFunc(names, func(x, y string) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
	out := []server.Package{}
	for _, n := range names[:min(len(names), maxPackages)] {
		p, err := c.describe(ctx, n, by[n])
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	more, err := c.recipes(ctx, part)
	return append(out, more...), err
}

// recipes gives the recipes that have text in their names, each with what is known of
// its version.
func (c *Catalog) recipes(ctx context.Context, text string) ([]server.Package, error) {
	text, _, _ = strings.Cut(strings.ToLower(text), "@")
	all, err := Recipes()
	if err != nil {
		return nil, err
	}
	out := []server.Package{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.Contains(name, text) || len(out) == maxPackages {
			continue
		}
		r := all[name]
		v := server.PackageVersion{Version: r.Version, Build: server.BuildNone, Source: true}
		known, err := c.a.Store.Known(ctx, system.Type, name, true, maxKnown)
		if err != nil {
			return nil, err
		}
		for _, k := range known {
			if k.PURL == r.PURL() {
				if v, err = c.version(ctx, k); err != nil {
					return nil, err
				}
			}
		}
		p := server.Package{Name: name, PURL: string(purl.New(system.Type, name, "")), Type: system.Type, Licence: r.Licence, Versions: []server.PackageVersion{v}}
		p.Count()
		out = append(out, p)
	}
	return out, nil
}

// namePart is a part of a package's name in the spelling in which names are kept.
func namePart(text string) (string, error) {
	text = strings.TrimSpace(text)
	if u := strings.TrimPrefix(text, "pkg:pypi/"); u != text {
		text, _, _ = strings.Cut(u, "@")
	}
	if len(text) > 100 {
		return "", fault.New(fault.Usage, "search for %.40q…: at most 100 letters", text)
	}
	part := pypi.NormalizeName(text)
	if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", fault.New(fault.Usage, "search for %.100q: names have letters, digits, dots, dashes and underscores", text)
	}
	return part, nil
}

// describe gives a package with its versions that are stored, newest first.
func (c *Catalog) describe(ctx context.Context, name string, known []store.KnownVersion) (server.Package, error) {
	p := server.Package{Name: name, PURL: string(purl.New("pypi", name, "")), Type: "pypi", Versions: []server.PackageVersion{}}
	for _, k := range known {
		v, err := c.version(ctx, k)
		if err != nil {
			return p, err
		}
		p.Versions = append(p.Versions, v)
	}
	newestFirst(p.Versions)
	p.Count()
	p.Licence = c.licence(known, p.Versions)
	if n := len(p.Versions); n > maxVersions {
		p.Versions, p.More = p.Versions[:maxVersions], n-maxVersions
	}
	return p, nil
}

func newestFirst(vs []server.PackageVersion) {
	slices.SortFunc(vs, func(x, y server.PackageVersion) int {
		a, errA := pypi.ParseVersion(x.Version)
		b, errB := pypi.ParseVersion(y.Version)
		if errA != nil || errB != nil {
			return cmp.Compare(y.Version, x.Version)
		}
		return b.Compare(a)
	})
}

// version says what is known of one version: whether a summary of ours that
// verifies, the newest about one of its files under a policy, calls it secure.
func (c *Catalog) version(ctx context.Context, k store.KnownVersion) (server.PackageVersion, error) {
	v := server.PackageVersion{Version: k.PURL.Version(), Build: server.BuildNone}
	if k.Steps > 0 {
		v.Build = server.BuildTried
	}
	if len(k.Built) == 0 {
		return v, nil
	}
	v.Build = server.BuildCommunity
	var files []digest.Digest
	for _, f := range k.Built {
		files = append(files, f.Digest)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	rows, err := c.a.Store.EvidenceOf(ctx, files)
	if err != nil {
		return v, err
	}
	for _, file := range files {
		if rows[file], err = c.a.visible(ctx, rows[file], only("")); err != nil {
			return v, err
		}
		newest := map[string]policy.Class{}
		for _, row := range rows[file] {
			if row.Name != vsaFile {
				continue
			}
			if said, ok := c.says(row, file); ok {
				newest[said.policy] = said.class
			}
		}
		for uri, class := range newest {
			if class == policy.Secure && (v.Policy == "" || uri < v.Policy) {
				v.Build, v.Policy, v.Digest = server.BuildSecure, uri, file.String()
			}
		}
	}
	return v, nil
}

// says gives what a stored summary says, if it verifies.
func (c *Catalog) says(row store.Evidence, subject digest.Digest) (verdictSaid, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.said[row.Blob]; ok {
		return v, v.policy != ""
	}
	var v verdictSaid
	if b, err := c.a.Blobs.ReadAll(row.Blob, maxDocument); err == nil {
		v = c.read(b, subject)
	}
	if len(c.said) >= 50_000 {
		clear(c.said)
	}
	c.said[row.Blob] = v
	return v, v.policy != ""
}

// read verifies a summary and reads it; nothing if it does not verify, or is under
// a policy that this program does not ship. It needs c.mu.
func (c *Catalog) read(bundle []byte, subject digest.Digest) verdictSaid {
	if c.check == nil {
		check, err := c.a.checker(true)
		if err != nil {
			return verdictSaid{}
		}
		c.check = check
	}
	vf, err := c.check.v.Verify(bundle, subject, evidence.TypeVSA)
	if err != nil {
		return verdictSaid{}
	}
	var p struct {
		Policy struct {
			URI    string            `json:"uri"`
			Digest map[string]string `json:"digest"`
		} `json:"policy"`
		Result string       `json:"verificationResult"`
		Class  policy.Class `json:"hallmark_class"`
	}
	if json.Unmarshal(vf.Predicate, &p) != nil {
		return verdictSaid{}
	}
	if _, id, err := Policy(p.Policy.URI); err != nil || id.Hex() != p.Policy.Digest["sha256"] {
		return verdictSaid{}
	}
	if p.Result != "PASSED" && p.Class == policy.Secure {
		return verdictSaid{}
	}
	return verdictSaid{p.Policy.URI, p.Class}
}

// licence is what the newest wheel of ours says of its licence; empty if none does.
func (c *Catalog) licence(known []store.KnownVersion, newest []server.PackageVersion) string {
	by := map[string][]store.File{}
	for _, k := range known {
		by[k.PURL.Version()] = k.Built
	}
	tried := 0
	for _, v := range newest {
		for _, d := range by[v.Version] {
			if tried++; tried > 3 {
				return ""
			}
			f, err := c.a.Blobs.Open(d.Digest)
			if err != nil {
				continue
			}
			l, err := server.WheelLicence(f, d.Name)
			f.Close()
			if err == nil && l != "" {
				return l
			}
		}
	}
	return ""
}

// LookUp is server.Catalog's.
func (c *Catalog) LookUp(ctx context.Context, text string) (server.Package, error) {
	name, err := namePart(text)
	if err != nil {
		return server.Package{}, err
	}
	if err := pypi.CheckName(name); err != nil {
		return server.Package{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return server.Package{}, fault.Advise(fault.Unavailable, "Try again in a moment.", "looking up %s: too many ask at the same time", name)
	}
	client, err := c.index(ctx)
	if err != nil {
		return server.Package{}, err
	}
	page, err := client.Page(ctx, name)
	if err != nil {
		return server.Package{}, err
	}
	known, err := c.a.Store.Known(ctx, "pypi", name, true, maxKnown)
	if err != nil {
		return server.Package{}, err
	}
	p, err := c.describe(ctx, name, known)
	if err != nil {
		return server.Package{}, err
	}
	have := map[string]server.PackageVersion{}
	for _, v := range p.Versions {
		have[v.Version] = v
	}
	p.Asked, p.Index, p.More, p.Versions = true, page.Index, 0, nil
	if page.Index != "" {
		// What was built of the name came from elsewhere.
		have = map[string]server.PackageVersion{}
	}
	at := map[string]int{}
	for _, f := range page.Files {
		i, ok := at[f.Version]
		if !ok {
			v, ok := have[f.Version]
			if !ok {
				v = server.PackageVersion{Version: f.Version, Build: server.BuildNone}
			}
			i = len(p.Versions)
			at[f.Version] = i
			v.Yanked = true
			p.Versions = append(p.Versions, v)
		}
		v := &p.Versions[i]
		v.Source = v.Source || !f.IsWheel()
		v.Yanked = v.Yanked && f.Yanked != nil
		if t := f.UploadTime; t != "" && (v.Uploaded == "" || t < v.Uploaded) {
			v.Uploaded = t
		}
	}
	newestFirst(p.Versions)
	p.Count()
	if n := len(p.Versions); n > maxVersions {
		p.Versions, p.More = p.Versions[:maxVersions], n-maxVersions
	}
	return p, nil
}

// index gives a client of the indexes. A client asks about each name once, so it
// is used for a while only.
func (c *Catalog) index(ctx context.Context) (*pypi.Client, error) {
	c.dialing.Lock()
	defer c.dialing.Unlock()
	now := time.Now()
	if c.client != nil && now.Before(c.until) && c.left > 0 {
		c.left--
		return c.client, nil
	}
	if c.client != nil {
		next, err := pypi.NewClient(c.client.Config())
		if err == nil {
			c.client, c.until, c.left = next, now.Add(pagesFor), maxPages
		}
		return next, err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.client, c.until, c.left = client, now.Add(pagesFor), maxPages
	return client, nil
}
