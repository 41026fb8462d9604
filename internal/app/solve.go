package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// maxSource bounds a source archive or a published file, in bytes.
const maxSource = 1 << 30

// pypiClient asks the machine's pip how it reaches its indexes, once.
func (a *App) pypiClient(ctx context.Context) (*pypi.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	cfg, err := pypi.MachineConfig(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range cfg.Notices {
		a.progress.Note(n)
	}
	c, err := pypi.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	a.client = c
	return c, nil
}

// fetch brings a file of a package into the store, checked while it comes.
func (a *App) fetch(ctx context.Context, name string, f pypi.File) error {
	d, err := digest.FromHex(f.SHA256)
	if err != nil {
		return fault.New(fault.Unverified, "fetching %s: its index gives no SHA-256 for it", f.Name)
	}
	if a.Blobs.Has(d) {
		return nil
	}
	c, err := a.pypiClient(ctx)
	if err != nil {
		return err
	}
	_, err, _ = a.fetching.Do(f.SHA256, func() (any, error) {
		began := time.Now()
		r, w := io.Pipe()
		go func() { w.CloseWithError(c.Download(ctx, name, f, w)) }()
		_, n, err := a.Blobs.Put(ctx, r, d, maxSource)
		r.CloseWithError(context.Canceled)
		a.fetched.add(n, time.Since(began))
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("fetching %s: %w", f.Name, err)
	}
	return nil
}

// downloads counts what was fetched from indexes.
type downloads struct {
	mu    sync.Mutex
	files int
	bytes int64
	took  time.Duration // of all, one after the other
}

func (d *downloads) add(n int64, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files, d.bytes, d.took = d.files+1, d.bytes+n, d.took+took
}

// String says it in a line.
func (d *downloads) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	archives := "source archives"
	if d.files == 1 {
		archives = "source archive"
	}
	return fmt.Sprintf("downloaded %d %s (%.1f MB) in %.1f s", d.files, archives, float64(d.bytes)/1e6, d.took.Seconds())
}

// host is what planning asks of the platform.
type host struct{ a *App }

func (h host) Have(d digest.Digest) bool { return h.a.Blobs.Has(d) }

func (h host) Source(ctx context.Context, d digest.Digest, file string, patches []plan.Patch) (pypi.PreparedSource, error) {
	e, err := h.a.Engine()
	if err != nil {
		return pypi.PreparedSource{}, err
	}
	s, err := e.Source(ctx, d, file, patches, false)
	if err != nil {
		return pypi.PreparedSource{}, err
	}
	return prepared(s), nil
}

// prepared is an unpacked source in the words of planning.
func prepared(s build.PreparedSource) pypi.PreparedSource {
	out := pypi.PreparedSource{Dir: s.Dir, Newest: s.Newest}
	for _, r := range s.Removed {
		out.Removed = append(out.Removed, plan.Removed{Path: r.Path, Digest: r.Digest, Kind: r.Kind})
	}
	return out
}

func (h host) Query(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	e, err := h.a.Engine()
	if err != nil {
		return nil, nil, err
	}
	return e.Query(ctx, s, known)
}

// Solved is a commit's plan with the index answers that it was made from.
type Solved struct {
	Plan    *plan.Plan
	ID      digest.Digest
	Answers map[string]string // package name to digest of its pinned index answer
	stored  bool
}

// Stored gives the solution of a commit if there is one; fault.NotFound if not.
func (a *App) Stored(ctx context.Context, commit digest.Digest) (*Solved, error) {
	sol, err := a.Store.Solution(ctx, commit)
	if err != nil {
		return nil, err
	}
	b, err := a.Blobs.ReadAll(sol.Plan, plan.MaxBytes)
	if err != nil {
		return nil, err
	}
	p, err := plan.Parse(b)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "the stored plan %s: %w", sol.Plan.Short(), err)
	}
	s := &Solved{Plan: p, ID: sol.Plan, stored: true, Answers: map[string]string{}}
	if sol.Answers != "" {
		if err := a.get(sol.Answers, &s.Answers); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Solve gives a commit's plan: the stored one, else a new one made from the
// machine's index as of the commit's time.
func (a *App) Solve(ctx context.Context, id digest.Digest, c project.Commit, overrides map[string]pypi.Metadata) (*Solved, error) {
	s, err := a.Stored(ctx, id)
	if err == nil || !fault.Is(err, fault.NotFound) {
		return s, err
	}
	at, err := time.Parse(time.RFC3339, c.AtTime)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "commit %s: at_time %q: %w", id.Short(), c.AtTime, err)
	}
	own, err := a.committed(c)
	if err != nil {
		return nil, err
	}
	return a.solve(ctx, c.Requirements, at, own, overrides)
}

// solve makes a plan for requirements at a time; own is what the project brings,
// which stands before those that ship. Of the packages that pages are about the index
// is not asked again.
func (a *App) solve(ctx context.Context, requirements []string, at time.Time, own own, overrides map[string]pypi.Metadata, pages ...*pypi.Page) (*Solved, error) {
	// Planning asks backends in the sandbox: say now if there can be none.
	if err := a.runner.Check(ctx); err != nil {
		return nil, err
	}
	client, err := a.pypiClient(ctx)
	if err != nil {
		return nil, err
	}
	planner, err := a.planner(at, own.overrides)
	if err != nil {
		return nil, err
	}
	if planner.Seed.Bytes, err = a.seedBytes(ctx); err != nil {
		return nil, err
	}
	planner.Provider = pypi.NewIndexProvider(client, at, func(ctx context.Context, c pypi.Candidate) (io.ReadCloser, error) {
		if err := a.fetch(ctx, c.Name, *c.Sdist); err != nil {
			return nil, err
		}
		return a.Blobs.Open(digest.Digest(digest.Prefix + c.Sdist.SHA256))
	}, nil)
	for _, page := range pages {
		planner.Provider.Pin(page)
	}
	planner.Host, planner.Fetch, planner.Overrides, planner.Workers = host{a}, a.fetch, overrides, a.workers()
	a.progress.Stage("solve")
	p, err := a.planAll(ctx, planner, systemHost{a}, at, requirements, own.recipes)
	if err != nil {
		return nil, err
	}
	for _, n := range planner.Notices {
		a.progress.Note(n)
	}
	id, _, err := p.Digest()
	if err != nil {
		return nil, err
	}
	s := &Solved{Plan: p, ID: id, Answers: map[string]string{}}
	for _, page := range planner.Pages {
		d, b, err := page.Digest()
		if err != nil {
			return nil, err
		}
		if _, err := a.putBytes(ctx, d, b); err != nil {
			return nil, err
		}
		s.Answers[page.Name] = d.String()
	}
	return s, nil
}

// pinned gives the index answers that a plan was made from, but for those about
// packages that it refuses and about names that nothing was found for.
func (a *App) pinned(s *Solved) ([]*pypi.Page, error) {
	refused := map[string]bool{}
	for _, x := range s.Plan.Artifacts {
		refused[x.PURL.Name()] = x.Metadata == plan.MetadataRefused
	}
	var pages []*pypi.Page
	for _, name := range slices.Sorted(maps.Keys(s.Answers)) {
		d, err := digest.Parse(s.Answers[name])
		if err != nil {
			return nil, fault.New(fault.Corrupt, "the pinned index answer for %s: %w", name, err)
		}
		b, err := a.Blobs.ReadAll(d, maxDocument)
		if err != nil {
			return nil, fmt.Errorf("the pinned index answer for %s: %w", name, err)
		}
		p, err := pypi.ParsePage(b)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "the pinned index answer for %s: %w", name, err)
		}
		if !refused[name] && len(p.Files) > 0 {
			pages = append(pages, p)
		}
	}
	return pages, nil
}

// planner plans as of a time with this directory's builder and seed; own are the
// project's overrides. Where it finds packages, and who builds, is the caller's.
func (a *App) planner(at time.Time, own []pypi.Override) (*pypi.Planner, error) {
	env, err := a.environment()
	if err != nil {
		return nil, err
	}
	shipped, err := shippedOverrides()
	if err != nil {
		return nil, err
	}
	profile, _ := a.runner.Profile()
	return &pypi.Planner{
		Env: env, Platform: a.Platform(), Profile: profile, At: at,
		Seed: plan.Seed{Name: a.pin.Name, Digest: a.pinID}, Programs: a.pin.Programs(),
		Recipes: func(name, version string) (*plan.Override, error) {
			return pypi.PickOverride(name, version, own, shipped)
		},
		Progress: func(what string) { a.progress.Step(0, 0, what) },
	}, nil
}

func (a *App) putBytes(ctx context.Context, d digest.Digest, b []byte) (digest.Digest, error) {
	got, _, err := a.Blobs.Put(ctx, bytes.NewReader(b), d, maxDocument)
	return got, err
}

// keepSolution stores a plan with its steps and sources, and that the commit was
// solved to it.
func (a *App) keepSolution(ctx context.Context, commit digest.Digest, s *Solved) error {
	if s.stored {
		return nil
	}
	c, err := a.Store.Commit(ctx, commit)
	if err != nil {
		return err
	}
	if err := a.hold(ctx, c.Org+"/"+c.Name, s.Plan); err != nil {
		return err
	}
	if err := a.keepPlan(ctx, s.Plan); err != nil {
		return err
	}
	answers, err := a.put(ctx, s.Answers)
	if err != nil {
		return err
	}
	if err := a.Store.PutSolution(ctx, store.Solution{Commit: commit, Plan: s.ID, Answers: answers, Created: time.Now().UTC()}); err != nil {
		return err
	}
	s.stored = true
	return nil
}

// keepPlan stores a plan, its steps and the names of its sources, and before them what
// of it is private.
func (a *App) keepPlan(ctx context.Context, p *plan.Plan) error {
	if err := a.hold(ctx, "", p); err != nil {
		return err
	}
	if _, err := a.put(ctx, p); err != nil {
		return err
	}
	if err := a.putSteps(ctx, append(append([]plan.Step{}, p.Steps...), p.Queries...)...); err != nil {
		return err
	}
	for _, src := range p.Sources {
		if err := a.Store.AddFile(ctx, store.File{Digest: src.Digest, PURL: src.PURL, Name: src.File, Size: src.Size, Kind: store.FileSource}); err != nil {
			return err
		}
	}
	return nil
}

// fetchSources brings every source of a plan into the store, by purl and digest.
func (a *App) fetchSources(ctx context.Context, p *plan.Plan) error {
	for i, src := range p.Sources {
		a.progress.Step(i, len(p.Sources), "fetch "+src.File)
		if src.PURL.Type() == system.Type {
			if err := a.fetchSystem(ctx, system.Source{File: src.File, Digest: src.Digest, Size: src.Size}); err != nil {
				return err
			}
			continue
		}
		if src.PURL.Type() != "pypi" {
			return fault.New(fault.Unsupported, "fetching %s: this version builds Python packages and recipes alone", src.PURL)
		}
		if err := a.fetch(ctx, src.PURL.Name(), pypi.File{Name: src.File, SHA256: src.Digest.Hex(), Size: src.Size}); err != nil {
			return err
		}
	}
	return nil
}
