package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/build"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// The documents of a forecast, which the API answers with, too.
type (
	// Forecast is what builds would do, found out without doing it.
	Forecast = api.Forecast
	// ForecastFetch is a source archive that is not stored.
	ForecastFetch = api.ForecastFetch
	// ForecastAsk is a package whose backend has to be asked.
	ForecastAsk = api.ForecastAsk
	// ForecastBuild is one build that is due.
	ForecastBuild = api.ForecastBuild
	// ForecastCannot is a package that would not be built.
	ForecastCannot = api.ForecastCannot
	// ForecastSummary counts.
	ForecastSummary = api.ForecastSummary
)

// ForecastSchema names the form of Forecast; schemas/forecast.v1.json describes it.
const ForecastSchema = api.ForecastSchema

// DryRun says what Builds would do for the project in dir. It changes nothing: the
// data directory is only read, sources are not fetched and backends not asked. A
// commit that is not solved yet is solved by the index as it answers now, as far as
// what is stored allows.
func (a *App) DryRun(ctx context.Context, dir string) (*Forecast, error) {
	cfg, err := project.Load(dir)
	if err != nil {
		return nil, err
	}
	own, err := ownOf(dir)
	if err != nil {
		return nil, err
	}
	before := a.writes(ctx)
	f, err := a.forecast(ctx, cfg, own)
	if before != a.writes(ctx) {
		return nil, fault.Advise(fault.Unavailable, "Try again when it is done.", "dry run: another hallmark wrote to the data directory %s meanwhile", a.dir)
	}
	return f, err
}

// writes changes when somebody writes to the database.
func (a *App) writes(ctx context.Context) string {
	if a.Store.Postgres() {
		m, err := a.Store.Mark(ctx)
		return fmt.Sprint(m, err)
	}
	out := ""
	for _, name := range []string{databaseFile, databaseFile + "-wal"} {
		if st, err := os.Stat(a.path(name)); err == nil && st.Size() > 0 {
			out += fmt.Sprintln(name, st.Size(), st.ModTime().UnixNano())
		}
	}
	return out
}

// forecast is DryRun for a configuration with its overrides.
func (a *App) forecast(ctx context.Context, cfg project.Config, own own) (*Forecast, error) {
	f := &Forecast{Schema: ForecastSchema, Project: cfg.Project, Complete: true,
		Fetch: []ForecastFetch{}, Ask: []ForecastAsk{}, Build: []ForecastBuild{}, Blocked: []ForecastCannot{}, Undetermined: []purl.PURL{}}
	s, err := a.storedAs(ctx, cfg, own, f)
	if err != nil {
		return nil, err
	}
	e := a.forecaster()
	var p *plan.Plan
	if s != nil {
		p, f.Plan, f.Solved = s.Plan, s.ID, true
	} else if p, err = a.dryPlan(ctx, cfg, own, e, f); err != nil {
		return nil, err
	}
	for _, src := range p.Sources {
		if !a.Blobs.Has(src.Digest) {
			f.Fetch = append(f.Fetch, ForecastFetch{Package: string(src.PURL), File: src.File, Size: src.Size})
		}
	}
	due, err := e.Forecast(ctx, p)
	if err != nil {
		return nil, err
	}
	return f, a.tell(ctx, f, p, due)
}

// storedAs gives the solution of the commit that the configuration is, or nil.
func (a *App) storedAs(ctx context.Context, cfg project.Config, own own, f *Forecast) (*Solved, error) {
	id, head, err := a.Head(ctx, cfg.Project)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	next := cfg.Commit("", "", "", time.Now())
	if next.Recipes, err = recipesID(own.recipes); err != nil {
		return nil, err
	}
	if len(own.overrides) > 0 {
		if next.Overrides, _, err = canonical.Digest(own.overrides); err != nil {
			return nil, err
		}
	}
	if !project.SameConfiguration(head, next) {
		return nil, nil
	}
	f.Commit = "commit:" + id.String()
	s, err := a.Stored(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return s, err
}

// forecaster is an engine that says what would be done, and does nothing.
func (a *App) forecaster() *build.Engine {
	return &build.Engine{Blobs: a.Blobs, Records: records{a}, Language: pypi.Language{}, Others: otherLanguages, Builder: a.BuilderID(), Platform: a.Platform(),
		Limits: sandbox.DefaultLimits(), Workers: a.workers(), Retry: a.cfg.Retry, History: a.times}
}

// dryPlan solves a configuration with what is stored. What is not is put into the
// forecast, and its package is left without a step.
func (a *App) dryPlan(ctx context.Context, cfg project.Config, own own, e *build.Engine, f *Forecast) (*plan.Plan, error) {
	client, err := a.pypiClient(ctx)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, cfg.AtTime)
	if err != nil {
		return nil, fault.New(fault.Usage, "at_time %q: %w", cfg.AtTime, err)
	}
	// Sources that are stored are unpacked to be read, outside the data directory.
	tmp, err := os.MkdirTemp("", "hallmark-dry-run-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := e.Open(filepath.Join(tmp, "layers")); err != nil {
		return nil, err
	}
	e.Tmp = tmp
	h := &dryHost{a: a, e: e, f: f, seen: map[string]bool{}}
	planner, err := a.planner(at, own.overrides)
	if err != nil {
		return nil, err
	}
	planner.Host, planner.Fetch = h, h.fetch
	planner.Provider = pypi.NewIndexProvider(client, at, func(_ context.Context, c pypi.Candidate) (io.ReadCloser, error) {
		d := digest.Digest(digest.Prefix + c.Sdist.SHA256)
		if !a.Blobs.Has(d) {
			return nil, fault.New(fault.NotFound, "%s is not stored", c.Sdist.Name) // a wheel's metadata is the next best
		}
		return a.Blobs.Open(d)
	}, nil)
	a.progress.Stage("solve without fetching")
	return a.planAll(ctx, planner, h.system(), at, cfg.Requirements, own.recipes)
}

// dryHost answers planning from what is stored, and takes down what is not.
type dryHost struct {
	a *App
	e *build.Engine

	mu   sync.Mutex
	f    *Forecast       // guarded by mu
	seen map[string]bool // guarded by mu
}

// Have is pypi.Host's.
func (h *dryHost) Have(d digest.Digest) bool { return h.a.Blobs.Has(d) }

// Source is pypi.Host's.
func (h *dryHost) Source(ctx context.Context, d digest.Digest, file string, patches []plan.Patch) (pypi.PreparedSource, error) {
	s, err := h.e.Source(ctx, d, file, patches, false)
	if err != nil {
		return pypi.PreparedSource{}, err
	}
	return prepared(s), nil
}

// first tells whether something is seen for the first time; mu is held.
func (h *dryHost) first(what string) bool {
	was := h.seen[what]
	h.seen[what] = true
	return !was
}

// fetch takes down what would be fetched.
func (h *dryHost) fetch(_ context.Context, name string, file pypi.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first("fetch " + file.Name) {
		h.f.Complete = false
		h.f.Fetch = append(h.f.Fetch, ForecastFetch{Package: string(purl.New("pypi", name, file.Version)), File: file.Name, Size: file.Size})
	}
	return fault.New(fault.NotFound, "it is not stored, and a dry run fetches nothing")
}

// Query is pypi.Host's.
func (h *dryHost) Query(ctx context.Context, s plan.Step, _ map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	files, f, ok, err := h.e.Answered(ctx, s.ID)
	if ok || err != nil {
		return files, f, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first("ask " + string(s.ID)) {
		h.f.Complete = false
		ask := ForecastAsk{PURL: s.PURL, What: "requirements", Message: "What else it is built with is not known before its backend is asked; its builds, and those of what it asks for, are not counted here."}
		if s.Recipe.Kind == "pep517-metadata" {
			ask.What, ask.Message = "metadata", "What it runs with is not known before its backend is asked."
		}
		h.f.Ask = append(h.f.Ask, ask)
	}
	return nil, &record.Failure{Class: record.FailDependency, Message: notAsked}, nil
}

// notAsked is the failure of a query that a dry run does not run.
const notAsked = "a dry run asks nobody"

// tell puts what is due into the forecast.
func (a *App) tell(ctx context.Context, f *Forecast, p *plan.Plan, due build.Forecast) error {
	sum := &f.Summary
	sum.Workers, sum.Done = a.workers(), due.Done
	measured := 0
	for _, d := range due.Due {
		row := ForecastBuild{PURL: d.Step.PURL, Step: d.Step.ID, Purpose: d.Purpose, Why: d.Why}
		switch d.Purpose {
		case record.First:
			sum.First++
		case record.Rebuild:
			sum.Rebuild++
		case record.Prebuilt:
			sum.Prebuilt++
		}
		if d.Known {
			measured++
			row.Seconds = seconds(d.Guess)
		}
		if d.Purpose == record.First && d.Why == build.DueNew {
			var err error
			if row.Changed, err = a.changed(ctx, d.Step); err != nil {
				return err
			}
		}
		f.Build = append(f.Build, row)
	}
	sum.Unmeasured = len(due.Due) - measured
	pending := map[purl.PURL]bool{}
	for _, x := range f.Ask {
		pending[x.PURL] = true
	}
	for _, x := range f.Fetch {
		pending[purl.PURL(x.Package)] = true
		sum.FetchBytes += x.Size
	}
	for _, u := range p.Unplanned {
		if pending[u.PURL] || pending[u.Cause] {
			f.Undetermined = append(f.Undetermined, u.PURL)
		} else {
			f.Blocked = append(f.Blocked, ForecastCannot{PURL: u.PURL, Message: u.Message})
		}
	}
	// What is not planned yet was perhaps measured all the same.
	times, err := a.times(ctx)
	if err != nil {
		return err
	}
	takes := due.Takes
	for _, u := range f.Undetermined {
		for _, p := range []record.Purpose{record.First, record.Rebuild} {
			d, known := times.Guess(u, p, plan.Source{})
			if known {
				measured++
			} else {
				sum.Unmeasured++
			}
			takes += d / time.Duration(sum.Workers)
		}
	}
	if measured > 0 || sum.Unmeasured == 0 {
		sum.Seconds = seconds(takes)
	}
	for _, s := range due.Blocked {
		f.Blocked = append(f.Blocked, ForecastCannot{PURL: s.PURL, Message: "Something that it is built with failed before; --retry runs that again."})
	}
	sum.Fetch, sum.Ask = len(f.Fetch), len(f.Ask)
	slices.SortFunc(f.Fetch, func(a, b ForecastFetch) int { return cmp.Compare(a.File, b.File) })
	slices.SortFunc(f.Ask, func(a, b ForecastAsk) int { return cmp.Or(cmp.Compare(a.PURL, b.PURL), cmp.Compare(a.What, b.What)) })
	return nil
}

func seconds(d time.Duration) *float64 {
	s := float64(d.Round(100*time.Millisecond)) / float64(time.Second)
	return &s
}

// changed says which inputs of a step are others than those of the newest step of
// the same package that was built; nothing if it never was.
func (a *App) changed(ctx context.Context, s plan.Step) ([]string, error) {
	rows, err := a.Store.StepsByPURL(ctx, s.PURL)
	if err != nil {
		return nil, err
	}
	var newest time.Time
	var old *plan.Step
	for _, r := range rows {
		if r.ID == s.ID {
			continue
		}
		builds, err := a.Store.Builds(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		for _, b := range builds {
			if b.Purpose != record.First || !b.Finished.After(newest) {
				continue
			}
			var st plan.Step
			if err := a.get(r.Document, &st); err != nil {
				return nil, errors.Join(fmt.Errorf("step %s", r.ID.Short()), err)
			}
			newest, old = b.Finished, &st
		}
	}
	if old == nil {
		return nil, nil
	}
	return plan.Changes(*old, s), nil
}
