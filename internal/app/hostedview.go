package app

import (
	"context"
	"io"
	"net/http"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/jobs"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/server"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// What a server asks a data directory, each time of the opening that answers then.

// Backend gives the server's view.
func (h *Hosted) Backend() server.Backend { return hostedBackend{h.current} }

// Catalog gives what the Configuration tab searches.
func (h *Hosted) Catalog() server.Catalog { return hostedCatalog{h.current} }

// Stats gives the numbers for /metrics: of all organizations together, and by tier.
// Nothing in them names a tenant.
func (h *Hosted) Stats(ctx context.Context) (server.Stats, error) {
	return answer(h.current, func(o *opening) (server.Stats, error) { return h.counters.read(ctx, o.App) })
}

// foundOf is App.foundOf.
func (h *Hosted) foundOf(ctx context.Context, r store.Run) (steps []jobs.Step, last time.Time, err error) {
	_, err = answer(h.current, func(o *opening) (struct{}, error) {
		var err error
		steps, last, err = o.App.foundOf(ctx, r)
		return struct{}{}, err
	})
	return steps, last, err
}

// hostedBackend is server.Backend, and server.Heads.
type hostedBackend struct{ c *current }

var (
	_ server.Backend = hostedBackend{}
	_ server.Heads   = hostedBackend{}
)

// ask asks the backend of the opening that answers now.
func ask[T any](c *current, do func(b Backend) (T, error)) (T, error) {
	return answer(c, func(o *opening) (T, error) { return do(o.App.Backend()) })
}

// Projects is server.Projects's.
func (b hostedBackend) Projects(ctx context.Context) ([]string, error) {
	return ask(b.c, func(b Backend) ([]string, error) { return b.Projects(ctx) })
}

// Project is server.Projects's.
func (b hostedBackend) Project(ctx context.Context, org, name string) (*server.Project, error) {
	return ask(b.c, func(b Backend) (*server.Project, error) { return b.Project(ctx, org, name) })
}

// NewestCommit is server.Heads's.
func (b hostedBackend) NewestCommit(ctx context.Context, org, name string) (digest.Digest, error) {
	return ask(b.c, func(b Backend) (digest.Digest, error) { return b.NewestCommit(ctx, org, name) })
}

// Open is server.Files's. The file outlives the opening.
func (b hostedBackend) Open(ctx context.Context, d digest.Digest) (server.File, error) {
	return ask(b.c, func(b Backend) (server.File, error) { return b.Open(ctx, d) })
}

// Evidence is server.Evidence's.
func (b hostedBackend) Evidence(ctx context.Context, subject digest.Digest, may server.May) ([]server.EvidenceFile, error) {
	return ask(b.c, func(b Backend) ([]server.EvidenceFile, error) { return b.Evidence(ctx, subject, may) })
}

// EvidenceFile is server.Evidence's.
func (b hostedBackend) EvidenceFile(ctx context.Context, subject digest.Digest, name string, may server.May) ([]byte, error) {
	return ask(b.c, func(b Backend) ([]byte, error) { return b.EvidenceFile(ctx, subject, name, may) })
}

// TrustedRoot is server.Evidence's.
func (b hostedBackend) TrustedRoot(ctx context.Context) ([]byte, error) {
	return ask(b.c, func(b Backend) ([]byte, error) { return b.TrustedRoot(ctx) })
}

// Log is server.Evidence's: which parts the log has is asked for each request.
func (b hostedBackend) Log() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, err := b.c.take()
		if err != nil {
			http.Error(w, "the log cannot be read at the moment", http.StatusServiceUnavailable)
			return
		}
		defer b.c.give(o)
		o.App.Backend().Log().ServeHTTP(w, r)
	})
}

// Builder is server.Identity's.
func (b hostedBackend) Builder(ctx context.Context, key, mode string) (server.Builder, error) {
	return ask(b.c, func(b Backend) (server.Builder, error) { return b.Builder(ctx, key, mode) })
}

// PublicKey is server.Identity's.
func (b hostedBackend) PublicKey(ctx context.Context, key string) ([]byte, error) {
	return ask(b.c, func(b Backend) ([]byte, error) { return b.PublicKey(ctx, key) })
}

// Status is server.Reports's.
func (b hostedBackend) Status(ctx context.Context, commit digest.Digest) (status.Document, error) {
	return ask(b.c, func(b Backend) (status.Document, error) { return b.Status(ctx, commit) })
}

// Why is server.Reports's.
func (b hostedBackend) Why(ctx context.Context, commit digest.Digest, artifact string) ([]status.Hop, error) {
	return ask(b.c, func(b Backend) ([]status.Hop, error) { return b.Why(ctx, commit, artifact) })
}

// Frontier is server.Reports's.
func (b hostedBackend) Frontier(ctx context.Context, commit digest.Digest) (status.Frontier, error) {
	return ask(b.c, func(b Backend) (status.Frontier, error) { return b.Frontier(ctx, commit) })
}

// Plan is server.Reports's.
func (b hostedBackend) Plan(ctx context.Context, commit digest.Digest) ([]byte, error) {
	return ask(b.c, func(b Backend) ([]byte, error) { return b.Plan(ctx, commit) })
}

// Lock is server.Reports's.
func (b hostedBackend) Lock(ctx context.Context, commit digest.Digest) ([]byte, error) {
	return ask(b.c, func(b Backend) ([]byte, error) { return b.Lock(ctx, commit) })
}

// NewUnknown is server.Reports's.
func (b hostedBackend) NewUnknown(ctx context.Context, commit digest.Digest) ([]string, error) {
	return ask(b.c, func(b Backend) ([]string, error) { return b.NewUnknown(ctx, commit) })
}

// Export is server.Reports's.
func (b hostedBackend) Export(ctx context.Context, commit digest.Digest, artifact string) (api.Export, error) {
	return ask(b.c, func(b Backend) (api.Export, error) { return b.Export(ctx, commit, artifact) })
}

// BuildLog is server.Reports's.
func (b hostedBackend) BuildLog(ctx context.Context, commit digest.Digest, name string) (api.Log, []byte, error) {
	var text []byte
	l, err := ask(b.c, func(b Backend) (l api.Log, err error) {
		l, text, err = b.BuildLog(ctx, commit, name)
		return l, err
	})
	return l, text, err
}

// Attempt is server.Attempts's.
func (b hostedBackend) Attempt(ctx context.Context, document digest.Digest) (jobs.Attempt, error) {
	return ask(b.c, func(b Backend) (jobs.Attempt, error) { return b.Attempt(ctx, document) })
}

// StoredLog is server.Attempts's. The log outlives the opening.
func (b hostedBackend) StoredLog(ctx context.Context, build string) (io.ReadCloser, error) {
	return ask(b.c, func(b Backend) (io.ReadCloser, error) { return b.StoredLog(ctx, build) })
}

// BranchesWith is server.Projects's.
func (b hostedBackend) BranchesWith(ctx context.Context, org, name string, d digest.Digest) ([]string, error) {
	return ask(b.c, func(b Backend) ([]string, error) { return b.BranchesWith(ctx, org, name, d) })
}

// Artifact is server.Artifacts's.
func (b hostedBackend) Artifact(ctx context.Context, org, name string, d digest.Digest) (*server.Artifact, error) {
	return ask(b.c, func(b Backend) (*server.Artifact, error) { return b.Artifact(ctx, org, name, d) })
}

// hostedCatalog is server.Catalog.
type hostedCatalog struct{ c *current }

// Search is server.Catalog's.
func (k hostedCatalog) Search(ctx context.Context, text string) ([]server.Package, error) {
	return answer(k.c, func(o *opening) ([]server.Package, error) { return o.catalog.Search(ctx, text) })
}

// LookUp is server.Catalog's.
func (k hostedCatalog) LookUp(ctx context.Context, name string) (server.Package, error) {
	return answer(k.c, func(o *opening) (server.Package, error) { return o.catalog.LookUp(ctx, name) })
}

// hostedOutlook is platform.Outlook.
type hostedOutlook struct{ c *current }

// Standing is platform.Outlook's.
func (k hostedOutlook) Standing(ctx context.Context, id digest.Digest, retry bool) (remedy.Standing, error) {
	return answer(k.c, func(o *opening) (remedy.Standing, error) { return o.outlook.Standing(ctx, id, retry) })
}

// Effect is platform.Outlook's.
func (k hostedOutlook) Effect(ctx context.Context, base digest.Digest, next project.Commit, say func(string)) (remedy.Effect, error) {
	return answer(k.c, func(o *opening) (remedy.Effect, error) { return o.outlook.Effect(ctx, base, next, say) })
}

// Forecast is platform.Outlook's.
func (k hostedOutlook) Forecast(ctx context.Context, branch string, next project.Commit, retry bool, say func(string)) (api.Forecast, error) {
	return answer(k.c, func(o *opening) (api.Forecast, error) { return o.outlook.Forecast(ctx, branch, next, retry, say) })
}

// Built is platform.Outlook's.
func (k hostedOutlook) Built(ctx context.Context, id digest.Digest, artifact string) (purl.PURL, error) {
	return answer(k.c, func(o *opening) (purl.PURL, error) { return o.outlook.Built(ctx, id, artifact) })
}

// Faults is platform.Outlook's.
func (k hostedOutlook) Faults(ctx context.Context, id digest.Digest) ([]remedy.Fault, error) {
	return answer(k.c, func(o *opening) ([]remedy.Fault, error) { return o.outlook.Faults(ctx, id) })
}

// SBOM is platform.Outlook's.
func (k hostedOutlook) SBOM(ctx context.Context, id digest.Digest, f sbom.Format) ([]byte, error) {
	return answer(k.c, func(o *opening) ([]byte, error) { return o.outlook.SBOM(ctx, id, f) })
}

// hostedDocuments is platform.Documents.
type hostedDocuments struct {
	documents
	c *current
}

var _ platform.Documents = hostedDocuments{}

// Commit is platform.Documents's.
func (k hostedDocuments) Commit(ctx context.Context, id digest.Digest) (project.Commit, error) {
	return answer(k.c, func(o *opening) (project.Commit, error) { return o.App.Commit(ctx, id) })
}

// ReadLockfile is platform.Documents's.
func (k hostedDocuments) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	return answer(k.c, func(o *opening) (lockfile.File, error) { return o.App.ReadLockfile(name, content) })
}
