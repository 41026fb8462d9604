package app

import (
	"context"
	"net/http"
	"slices"
	"sort"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/server"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// Backend is the data directory as the server sees it: for reading.
type Backend struct{ a *App }

var _ server.Backend = Backend{}

// Backend gives the server's view.
func (a *App) Backend() Backend { return Backend{a} }

// Projects is server.Projects's.
func (b Backend) Projects(ctx context.Context) ([]string, error) {
	rows, err := b.a.Store.Projects(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Org+"/"+r.Name)
	}
	sort.Strings(names)
	return names, nil
}

// Project is server.Projects's.
func (b Backend) Project(ctx context.Context, org, name string) (*server.Project, error) {
	row, err := b.a.Store.BranchHead(ctx, org, name, server.BranchOf(ctx))
	if err != nil {
		return nil, err
	}
	v, err := b.a.kept().get(ctx, row.ID, false)
	if err != nil {
		return nil, err
	}
	// Made once for each status, so that the same pointer says that nothing changed.
	return v.project.get(func() (*server.Project, error) {
		r := v.report
		p := &server.Project{Document: r.Document, Policy: r.Policy, PolicyDigest: r.PolicyID, Requirements: r.Commit.Requirements,
			AtTime: r.Commit.AtTime, Message: r.Commit.Message, Created: row.Created, Signed: map[digest.Digest]bool{}}
		signed, err := b.a.Store.EvidenceOf(context.WithoutCancel(ctx), r.files())
		for d, rows := range signed {
			p.Signed[d] = len(rows) > 0
		}
		said := b.a.kept().said
		p.Elsewhere = func(file digest.Digest) bool {
			return slices.ContainsFunc(signed[file], func(e store.Evidence) bool {
				if e.Name != vsaFile {
					return false
				}
				s, ok := said.says(e, file)
				return ok && s.class == policy.Secure
			})
		}
		return p, err
	})
}

// NewestCommit is server.Heads's.
func (b Backend) NewestCommit(ctx context.Context, org, name string) (digest.Digest, error) {
	row, err := b.a.Store.BranchHead(ctx, org, name, server.BranchOf(ctx))
	return row.ID, err
}

// files are the digests of the files of a status, sorted.
func (r *Report) files() []digest.Digest {
	var files []digest.Digest
	for _, row := range r.Document.Artifacts {
		if row.Digest != nil {
			files = append(files, *row.Digest)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// Open is server.Files's.
func (b Backend) Open(_ context.Context, d digest.Digest) (server.File, error) {
	f, err := b.a.Blobs.Open(d)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Evidence is server.Evidence's.
func (b Backend) Evidence(ctx context.Context, subject digest.Digest, may server.May) ([]server.EvidenceFile, error) {
	rows, err := b.a.evidenceFor(ctx, subject, may)
	if err != nil {
		return nil, err
	}
	out := []server.EvidenceFile{}
	for _, r := range rows {
		out = append(out, server.EvidenceFile{Name: r.Name, PredicateType: r.PredicateType, Digest: r.Blob, LogIndex: r.LogIndex, Created: r.Created})
	}
	return out, nil
}

// EvidenceFile is server.Evidence's.
func (b Backend) EvidenceFile(ctx context.Context, subject digest.Digest, name string, may server.May) ([]byte, error) {
	rows, err := b.a.evidenceFor(ctx, subject, may)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.Name == name {
			return b.a.Blobs.ReadAll(r.Blob, maxDocument)
		}
	}
	return nil, fault.New(fault.NotFound, "evidence %.120s of %s is not stored", name, subject)
}

// TrustedRoot is server.Evidence's.
func (b Backend) TrustedRoot(context.Context) ([]byte, error) { return b.a.TrustedRoot() }

// Log is server.Evidence's.
// The part that grows is at its root, each part, that one too, under its key's ID.
func (b Backend) Log() http.Handler {
	now := evidence.LogHandler(b.a.logDir())
	parts := map[string]http.Handler{}
	for _, e := range b.a.keys.Shards() {
		parts[e.ID] = http.StripPrefix("/"+e.ID, evidence.LogHandler(b.a.path(e.Log.Folder)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if p := parts[id]; p != nil {
			p.ServeHTTP(w, r)
			return
		}
		now.ServeHTTP(w, r)
	})
}

// Builder is server.Identity's.
func (b Backend) Builder(ctx context.Context, key, mode string) (server.Builder, error) {
	e, ok := b.a.keys.Ring().Find(keys.RoleSigner, key)
	if !ok || mode != Mode {
		return server.Builder{}, fault.New(fault.NotFound, "there is no builder %.40q/%.40q here", key, mode)
	}
	d, doc := b.a.runner.Profile()
	id := b.a.builderOf(key)
	newest, err := b.a.newestFacts(ctx, id)
	return server.Builder{ID: id, PublicKey: []byte(e.Public), Until: e.Until, Revoked: revokedSince(e), Level: evidence.LevelBuild1, ProfileDigest: d, Profile: doc, Newest: newest}, err
}

// PublicKey is server.Identity's.
func (b Backend) PublicKey(_ context.Context, key string) ([]byte, error) {
	e, ok := b.a.keys.Ring().Find(keys.RoleSigner, key)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no key %.40q here", key)
	}
	return []byte(e.Public), nil
}

// ExternalURL is the base of builder and verifier ids.
func (a *App) ExternalURL() string { return a.cfg.ExternalURL }

// NewUnknown names the artifacts of grade unknown that were not so in the commit
// before. A parent that was never solved says nothing, so every unknown one is
// new then.
func (a *App) NewUnknown(ctx context.Context, r *Report) ([]string, error) {
	old := map[string]bool{}
	if r.Commit.Parent != "" {
		id, err := project.ParseCommitID(r.Commit.Parent)
		if err != nil {
			return nil, err
		}
		p, err := a.Glance(ctx, id)
		switch {
		case err == nil:
			for _, n := range unknown(p.Document) {
				old[n] = true
			}
		case !fault.Is(err, fault.Conflict):
			return nil, err
		}
	}
	var out []string
	for _, n := range unknown(r.Document) {
		if !old[n] {
			out = append(out, n)
		}
	}
	return out, nil
}

func unknown(d status.Document) []string {
	var out []string
	for _, row := range d.Artifacts {
		if row.Grade != nil && *row.Grade == policy.Unknown {
			out = append(out, string(row.PURL))
		}
	}
	return out
}
