package server

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// Media types of the simple repository API (PEP 691).
const (
	simpleJSON   = "application/vnd.pypi.simple.v1+json"
	simpleHTML   = "application/vnd.pypi.simple.v1+html"
	plainHTML    = "text/html"
	simpleLatest = "application/vnd.pypi.simple.latest+"
)

// maxMetadata is the most bytes that a wheel's METADATA may have, unpacked.
const maxMetadata = 4 << 20

// simpleFormat chooses the media type of an answer by ?format= (PEP 691, "URL
// parameter"), else by Accept; empty if the client takes none that we have. A
// client that says nothing gets HTML, as PEP 503 has it.
func simpleFormat(r *http.Request) string {
	if f := r.URL.Query().Get("format"); f != "" {
		switch f {
		case "json":
			return simpleJSON
		case "html":
			return plainHTML
		case simpleJSON, simpleHTML, plainHTML:
			return f
		}
		return ""
	}
	accept := r.Header.Get("Accept")
	if accept == "" {
		return plainHTML
	}
	best, bestQ := "", 0.0
	for i, part := range strings.Split(accept, ",") {
		if i == 32 {
			break
		}
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if v, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(v, 64); err != nil || q < 0 || q > 1 {
				continue
			}
		}
		switch t {
		case simpleLatest + "json":
			t = simpleJSON
		case simpleLatest + "html":
			t = simpleHTML
		case "*/*", "text/*":
			t = plainHTML
		case "application/*":
			t = simpleJSON
		case simpleJSON, simpleHTML, plainHTML:
		default:
			continue
		}
		if q > bestQ || q == bestQ && best != simpleJSON && t == simpleJSON {
			best, bestQ = t, q
		}
	}
	return best
}

// simplePackage is one project of a plan: all the files that it names.
type simplePackage struct {
	name string // normalised
	rows []status.Row
}

// packages gives what the plan offers of Python, by normalised name, sorted. It
// never has more than the plan: what is not there is not there. A wheel that was built
// for the project's own runtime is not offered, since a client would take it on any
// machine. Where there is to be a portable one of the package, that is offered and
// nothing else, also while it is not there.
func packages(p *Project) []simplePackage {
	by := map[string]*simplePackage{}
	portable := map[string]bool{}
	for _, row := range p.Document.Artifacts {
		if row.PURL.Type() == "pypi" && pypi.IsPortable(row.PURL) {
			portable[pypi.NormalizeName(row.PURL.Name())] = true
		}
	}
	for _, row := range p.Document.Artifacts {
		if portable[pypi.NormalizeName(row.PURL.Name())] && !pypi.IsPortable(row.PURL) {
			continue
		}
		if row.PURL.Type() != "pypi" || row.Digest == nil || row.File == nil || pypi.CheckFileName(*row.File) != nil || !pypi.Portable(*row.File) {
			continue
		}
		n := pypi.NormalizeName(row.PURL.Name())
		if by[n] == nil {
			by[n] = &simplePackage{name: n}
		}
		by[n].rows = append(by[n].rows, row)
	}
	out := make([]simplePackage, 0, len(by))
	for _, v := range by {
		out = append(out, *v)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// forRuntime gives the wheel of a package that was built for the project's own runtime,
// and why there is no portable one of it; empty if there is none, or nothing is known.
func forRuntime(p *Project, name string) (file, why string) {
	for _, row := range p.Document.Artifacts {
		switch {
		case row.PURL.Type() != "pypi" || pypi.NormalizeName(row.PURL.Name()) != name:
		case pypi.IsPortable(row.PURL):
			why = "Its portable wheel is not there yet."
			if len(row.Reasons) > 0 {
				why = "Its portable wheel is not there: " + row.Reasons[0].Message
			}
		case row.File != nil && !pypi.Portable(*row.File):
			file = *row.File
		}
	}
	return file, why
}

type simpleMeta struct {
	APIVersion string `json:"api-version"`
}

var simpleIndexHTML = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta name="pypi:repository-version" content="1.1"><title>Simple index</title></head>
<body>
{{range .}}<a href="{{.}}/">{{.}}</a><br>
{{end}}</body>
</html>
`))
})

// simpleIndex lists the names of a plan's packages (PEP 503, PEP 691).
func (s *Server) simpleIndex(w http.ResponseWriter, r *http.Request) {
	format, p, ok := s.simple(w, r)
	if !ok {
		return
	}
	names := []string{}
	for _, v := range s.cache.tables(p).packages() {
		names = append(names, v.name)
	}
	if format == simpleJSON {
		type project struct {
			Name string `json:"name"`
		}
		projects := []project{}
		for _, n := range names {
			projects = append(projects, project{n})
		}
		s.writeJSON(w, r, simpleJSON, struct {
			Meta     simpleMeta `json:"meta"`
			Projects []project  `json:"projects"`
		}{simpleMeta{"1.1"}, projects})
		return
	}
	s.html(w, r, format, simpleIndexHTML(), names)
}

// unknown answers a client that sent no token for a project that not everybody may
// read: it is asked for one.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) bool {
	if asks(r.Context()).SignedIn() || s.opts.Platform == nil {
		return false
	}
	if err := s.read(r.Context(), r.PathValue("org"), r.PathValue("project")); !fault.Is(err, fault.NotFound) {
		return false
	}
	challenge(w)
	return true
}

// take is nil if whoever asks may have the bytes of a row's file.
func (s *Server) take(ctx context.Context, org, name string, row status.Row) error {
	if s.opts.Platform == nil {
		return nil // a single user's
	}
	if rests(row) {
		err := s.takeAs(ctx, org, name, row, true)
		if err == nil || !fault.Is(err, fault.Denied) {
			return err
		}
		p, perr := s.backend.Project(ctx, org, name)
		if perr != nil {
			return perr
		}
		if p.elsewhere(row) {
			return err
		}
	}
	return s.takeAs(ctx, org, name, row, secure(row))
}

// takeAs asks the gate about a row's file as a secure one, or not.
func (s *Server) takeAs(ctx context.Context, org, name string, row status.Row, secure bool) error {
	return s.opts.Platform.TakeOf(ctx, asks(ctx).Who, org, name, BranchOf(ctx), string(row.PURL), secure)
}

// rests tells whether a row's file was built here and is community by what it rests on
// alone. The same bytes may be a secure artifact where that is another.
func rests(row status.Row) bool {
	return !secure(row) && row.Builder != nil && row.Digest != nil && len(row.Reasons) > 0 &&
		!slices.ContainsFunc(row.Reasons, func(r policy.Reason) bool { return r.Code != policy.DependencyCommunity })
}

// elsewhere tells whether a row's file is a secure artifact somewhere.
func (p *Project) elsewhere(row status.Row) bool {
	return p.Elsewhere != nil && rests(row) && p.Elsewhere(*row.Digest)
}

// simple answers what is common to both pages: the format, and the project.
func (s *Server) simple(w http.ResponseWriter, r *http.Request) (string, *Project, bool) {
	w.Header().Set("Vary", "Accept, Authorization, Cookie")
	w.Header().Set("Cache-Control", "private, no-cache") // a cache that others share has no part of what needs a reader
	format := simpleFormat(r)
	if format == "" {
		http.Error(w, "This index speaks "+simpleJSON+", "+simpleHTML+" and text/html.", http.StatusNotAcceptable)
		return "", nil, false
	}
	if s.unknown(w, r) {
		return "", nil, false
	}
	p, err := s.open(r.Context(), r.PathValue("org"), r.PathValue("project"))
	if fault.Is(err, fault.Conflict) {
		// To a package manager, what was not solved is not there.
		err = fault.New(fault.NotFound, "%w", err)
	}
	if err != nil {
		s.fail(w, r, err)
		return "", nil, false
	}
	return format, p, true
}

func (s *Server) html(w http.ResponseWriter, r *http.Request, format string, t *template.Template, data any) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, format+"; charset=utf-8", b.Bytes())
}

// simpleFileEntry is one file of a project's page (PEP 691, with the fields of
// PEP 658, 714 and 700).
type simpleFileEntry struct {
	Filename       string            `json:"filename"`
	URL            string            `json:"url"`
	Hashes         map[string]string `json:"hashes"`
	Size           int64             `json:"size"`
	RequiresPython *string           `json:"requires-python,omitempty"`
	CoreMetadata   any               `json:"core-metadata,omitempty"` // PEP 714: the older name as an object ends pip before 23.2
	Yanked         bool              `json:"yanked"`
	GPGSig         bool              `json:"gpg-sig"`

	SHA256   string `json:"-"`
	Metadata string `json:"-"` // its SHA-256; empty: none
}

var simpleProjectHTML = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("project").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta name="pypi:repository-version" content="1.1"><title>Links for {{.Name}}</title></head>
<body>
<h1>Links for {{.Name}}</h1>
{{range .Files}}<a href="{{.URL}}#sha256={{.SHA256}}"{{with .RequiresPython}} data-requires-python="{{.}}"{{end}}{{with .Metadata}} data-core-metadata="sha256={{.}}" data-dist-info-metadata="sha256={{.}}"{{end}}>{{.Filename}}</a><br>
{{end}}</body>
</html>
`))
})

// simpleProject lists the files that the plan names of one package.
func (s *Server) simpleProject(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if err := pypi.CheckName(name); err != nil {
		http.NotFound(w, r)
		return
	}
	if n := pypi.NormalizeName(name); n != name {
		// PEP 503: other spellings may redirect. Made of checked parts only.
		u := url.URL{Path: "/r/" + r.PathValue("org") + "/" + r.PathValue("project") + "/pypi/simple/" + n + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
		return
	}
	format, p, ok := s.simple(w, r)
	if !ok {
		return
	}
	var found *simplePackage
	for _, v := range s.cache.tables(p).packages() {
		if v.name == name {
			found = &v
		}
	}
	if found == nil {
		why := fmt.Sprintf("The plan of %s has no file of %s.", p.Document.Project, name)
		if file, more := forRuntime(p, name); file != "" {
			why = strings.TrimSpace(fmt.Sprintf("%s links libraries of the runtime of %s, which another machine need not have, and is not offered to pip: hallmark checkout or hallmark export oci install it with them. %s", file, p.Document.Project, more))
		}
		s.fail(w, r, fault.New(fault.NotFound, "%s", why))
		return
	}
	page := struct {
		Meta     simpleMeta        `json:"meta"`
		Name     string            `json:"name"`
		Versions []string          `json:"versions"` // PEP 700
		Files    []simpleFileEntry `json:"files"`
	}{Meta: simpleMeta{"1.1"}, Name: name, Versions: []string{}, Files: []simpleFileEntry{}}
	for _, row := range found.rows {
		e, err := s.entry(r.Context(), p, row)
		if fault.Is(err, fault.NotFound) {
			continue // its bytes are not here: it is not offered
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		page.Files = append(page.Files, e)
		page.Versions = append(page.Versions, row.PURL.Version())
	}
	if format == simpleJSON {
		s.writeJSON(w, r, simpleJSON, page)
		return
	}
	s.html(w, r, format, simpleProjectHTML(), page)
}

func (s *Server) entry(ctx context.Context, p *Project, row status.Row) (simpleFileEntry, error) {
	m, err := s.meta.of(ctx, s.backend, *row.Digest, *row.File)
	if err != nil {
		return simpleFileEntry{}, err
	}
	e := simpleFileEntry{
		Filename: *row.File, Size: m.size, SHA256: row.Digest.Hex(), Metadata: m.digest.Hex(),
		Hashes: map[string]string{"sha256": row.Digest.Hex()},
		URL:    (&url.URL{Path: "/r/" + p.Document.Project + "/pypi/files/" + row.Digest.Hex() + "/" + *row.File}).String(),
	}
	if m.requiresPython != "" {
		e.RequiresPython = &m.requiresPython
	}
	if m.digest != "" {
		h := map[string]string{"sha256": m.digest.Hex()}
		e.CoreMetadata = h
	}
	return e, nil
}

// simpleFile serves a file of the plan, or with ".metadata" behind its name its
// METADATA (PEP 658). Nothing that the plan does not name is served, whether it
// is stored or not.
func (s *Server) simpleFile(w http.ResponseWriter, r *http.Request) {
	d, err := digest.FromHex(r.PathValue("hex"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if s.unknown(w, r) {
		return
	}
	file, wantMeta := strings.CutSuffix(r.PathValue("file"), ".metadata")
	var row *status.Row
	// A file that only another branch runs with is linked to by that branch's pages.
	p, r, err := s.openWith(r, d, func(p *Project) bool {
		for _, v := range s.cache.tables(p).packages() {
			for i := range v.rows {
				if *v.rows[i].Digest == d && *v.rows[i].File == file {
					row = &v.rows[i]
				}
			}
		}
		return row != nil
	})
	if err != nil {
		if fault.Is(err, fault.Conflict) {
			err = fault.New(fault.NotFound, "%w", err)
		}
		s.fail(w, r, err)
		return
	}
	if row == nil {
		s.fail(w, r, fault.New(fault.NotFound, "The plan of %s has no such file.", p.Document.Project))
		return
	}
	if err := s.take(r.Context(), r.PathValue("org"), r.PathValue("project"), *row); err != nil && !wantMeta {
		s.fail(w, r, err)
		return
	}
	if wantMeta {
		m, err := s.meta.of(r.Context(), s.backend, d, file)
		if err == nil && m.digest == "" {
			err = fault.New(fault.NotFound, "%s has no metadata of its own.", file)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
		s.write(w, r, "text/plain; charset=utf-8", m.metadata)
		return
	}
	f, err := s.backend.Open(r.Context(), d)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("ETag", `"`+d.Hex()+`"`)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Content-Disposition", "attachment")
	s.metrics.files.Add(1)
	if m, err := s.meta.of(r.Context(), s.backend, d, file); err == nil {
		s.metrics.bytes.Add(m.size)
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}

// wheelMeta is what a project's page says of a wheel.
type wheelMeta struct {
	size           int64
	metadata       []byte // METADATA, whole
	digest         digest.Digest
	requiresPython string
}

// Bounds of what is remembered of wheels: how many, and bytes of their METADATA, which
// their authors choose.
const (
	maxMetas     = 10_000
	maxMetaBytes = 64 << 20
)

// metadataCache remembers what was read out of wheels; a wheel never changes.
type metadataCache struct {
	mu    sync.Mutex // guards all and bytes, held while reading, so that one wheel is read once
	all   map[wheelFile]wheelMeta
	bytes int
}

// wheelFile is a wheel under a name: which METADATA is its own, the name says.
type wheelFile struct {
	digest digest.Digest
	name   string
}

func newMetadataCache() *metadataCache { return &metadataCache{all: map[wheelFile]wheelMeta{}} }

// of reads a wheel's METADATA. A wheel without a readable one has none, which is
// no error: clients then fetch the whole file.
func (c *metadataCache) of(ctx context.Context, files Files, d digest.Digest, name string) (wheelMeta, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := wheelFile{d, name}
	if m, ok := c.all[key]; ok {
		return m, nil
	}
	f, err := files.Open(ctx, d)
	if err != nil {
		return wheelMeta{}, err
	}
	defer f.Close()
	var m wheelMeta
	if m.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return wheelMeta{}, fmt.Errorf("size of %s: %w", d, err)
	}
	if strings.HasSuffix(name, ".whl") {
		if b, err := wheelMetadata(f, m.size, name); err == nil {
			if core, err := pypi.ParseMetadata(b); err == nil {
				m.metadata, m.digest, m.requiresPython = b, digest.FromBytes(b), core.RequiresPython
			}
		}
	}
	if len(c.all) >= maxMetas || c.bytes+len(m.metadata) > maxMetaBytes {
		clear(c.all)
		c.bytes = 0
	}
	c.all[key] = m
	c.bytes += len(m.metadata)
	return m, nil
}

// wheelMetadata reads the one METADATA of the .dist-info folder at a wheel's
// root whose name and version are those of the file's name.
func wheelMetadata(r io.ReaderAt, size int64, name string) ([]byte, error) {
	z, err := archive.ReadZipDirectory(r, size, archive.DefaultLimits().Entries)
	if err != nil {
		return nil, fmt.Errorf("wheel %s: %w", name, err)
	}
	parts := strings.SplitN(name, "-", 3)
	if len(parts) < 3 {
		return nil, fault.New(fault.Hostile, "wheel %s: its name is not a wheel's", name)
	}
	var found *zip.File
	for _, f := range z.File {
		dir, base, ok := strings.Cut(f.Name, "/")
		if !ok || base != "METADATA" || !strings.HasSuffix(dir, ".dist-info") {
			continue
		}
		n, v, _ := strings.Cut(strings.TrimSuffix(dir, ".dist-info"), "-")
		if pypi.NormalizeName(n) != pypi.NormalizeName(parts[0]) || pypi.NormalizeName(v) != pypi.NormalizeName(parts[1]) {
			continue
		}
		if found != nil {
			return nil, fault.New(fault.Hostile, "wheel %s has two METADATA files", name)
		}
		found = f
	}
	if found == nil {
		return nil, fault.New(fault.Hostile, "wheel %s has no METADATA", name)
	}
	if found.UncompressedSize64 > maxMetadata {
		return nil, fault.New(fault.Hostile, "METADATA of %s has %d bytes, at most %d", name, found.UncompressedSize64, maxMetadata)
	}
	rc, err := found.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, maxMetadata+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxMetadata {
		return nil, fault.New(fault.Hostile, "METADATA of %s has more than %d bytes", name, maxMetadata)
	}
	return b, nil
}

// secure tells whether a row is.
func secure(r status.Row) bool { return r.Class == policy.Secure }
