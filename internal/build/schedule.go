package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/compare"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// errBlocked marks a step that something it is built with keeps from being
// built.
var errBlocked = errors.New("something it is built with could not be built")

// First gives the last first build of a step that counts: the newest that
// succeeded, else the newest that failed; nil if there is none.
func First(builds []record.Build) *record.Build { return newest(builds, record.First) }

func newest(builds []record.Build, p record.Purpose) *record.Build {
	var best *record.Build
	for i := range builds {
		b := &builds[i]
		if b.Purpose != p {
			continue
		}
		if best == nil || b.Outcome == record.Succeeded || best.Outcome != record.Succeeded {
			best = b
		}
	}
	return best
}

// lasting tells whether a failure would be the same again: one of the host or of
// the clock is not.
func lasting(f *record.Failure) bool {
	return f != nil && f.Class != record.FailTimeout && f.Class != record.FailSandbox
}

// Query runs a query step (PEP 517's get_requires hooks and the like), building
// before it what it is built with. What a query is made with is a plan of its own,
// complete before its first build; so those are first builds like any other, and
// All finds them done. The query itself has purpose query and counts for nothing.
func (e *Engine) Query(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	type answer struct {
		files map[string][]byte
		f     *record.Failure
	}
	v, err, _ := e.asking.Do(string(s.ID), func() (any, error) {
		files, f, err := e.query(ctx, s, known)
		return answer{files, f}, err
	})
	if err != nil {
		return nil, nil, err
	}
	a := v.(answer)
	return a.files, a.f, nil
}

func (e *Engine) query(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	output := func(id digest.Digest) (*record.Output, error) {
		rec, err := e.forQuery(ctx, known[id], known)
		if err != nil {
			return nil, err
		}
		if rec.Outcome != record.Succeeded {
			return nil, &dependencyError{rec: rec, purl: string(known[id].PURL)}
		}
		return rec.Output, nil
	}
	prior, err := e.Records.Builds(ctx, s.ID)
	if err != nil {
		return nil, nil, err
	}
	if r := newest(prior, record.Query); r != nil {
		// A solve asks more than once: what failed is tried again once at most.
		_, now := e.asked.Load(s.ID)
		if r.Outcome == record.Succeeded {
			if files, err := e.answers(r); err == nil {
				return files, nil, nil
			}
		} else if now || lasting(r.Failure) && !e.Retry {
			return nil, r.Failure, nil
		}
	}
	rec, files, err := e.run(ctx, s, record.Query, output)
	var dep *dependencyError
	if errors.As(err, &dep) {
		f := &record.Failure{Class: record.FailDependency, Missing: dep.rec.Failure.Missing, Log: dep.rec.Failure.Log,
			Message: fmt.Sprintf("It is built with %s, whose build failed: %s", dep.purl, dep.rec.Failure.Message), Advice: dep.rec.Failure.Advice}
		return nil, f, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if rec.Outcome == record.Succeeded {
		if err := e.keepAnswers(ctx, rec, files); err != nil {
			return nil, nil, err
		}
	}
	if err := e.Records.AppendBuild(ctx, s, *rec); err != nil {
		return nil, nil, err
	}
	e.asked.Store(s.ID, true)
	return files, rec.Failure, nil
}

// dependencyError says that an input of a step could not be built.
type dependencyError struct {
	rec  *record.Build
	purl string
}

func (d *dependencyError) Error() string { return d.purl + " could not be built" }

// keepAnswers stores what a query step left as one document; the record's output
// names it.
func (e *Engine) keepAnswers(ctx context.Context, rec *record.Build, files map[string][]byte) error {
	d, b, err := canonical.Digest(files)
	if err != nil {
		return err
	}
	if _, _, err := e.Blobs.Put(ctx, bytes.NewReader(b), d, maxArtifact); err != nil {
		return err
	}
	rec.Output = &record.Output{File: "answers.json", Digest: d, Size: int64(len(b)), Raw: d, RawFile: "answers.json"}
	rec.SeedKnown = true
	return nil
}

func (e *Engine) answers(rec *record.Build) (map[string][]byte, error) {
	b, err := e.Blobs.ReadAll(rec.Output.Digest, 64<<20)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	return files, json.Unmarshal(b, &files)
}

// forQuery builds a step so that a query can run with it; once for all that
// wait for it.
func (e *Engine) forQuery(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (*record.Build, error) {
	e.outMu.Lock()
	c := e.outs[s.ID]
	if c != nil {
		e.outMu.Unlock()
		select {
		case <-c.done:
			return c.rec, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c = &call{done: make(chan struct{})}
	e.outs[s.ID] = c
	e.outMu.Unlock()
	c.rec, c.err = e.buildForQuery(ctx, s, known)
	if c.err != nil {
		e.outMu.Lock()
		delete(e.outs, s.ID)
		e.outMu.Unlock()
	}
	close(c.done)
	return c.rec, c.err
}

func (e *Engine) buildForQuery(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (*record.Build, error) {
	if s.ID == "" {
		return nil, fault.New(fault.Corrupt, "a query needs a step that is not planned")
	}
	prior, err := e.Records.Builds(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	if r := First(prior); r != nil && (r.Outcome == record.Succeeded && e.Blobs.Has(r.Output.Digest) || lasting(r.Failure) && !e.Retry) {
		return r, nil
	}
	output := func(id digest.Digest) (*record.Output, error) {
		rec, err := e.forQuery(ctx, known[id], known)
		if err != nil {
			return nil, err
		}
		if rec.Outcome != record.Succeeded {
			return nil, &dependencyError{rec: rec, purl: string(known[id].PURL)}
		}
		return rec.Output, nil
	}
	e.tell(Event{Phase: "query", Name: string(s.PURL), State: "started"})
	rec, _, err := e.run(ctx, s, record.First, output)
	if err != nil {
		return nil, err
	}
	e.tell(Event{Phase: "query", Name: string(s.PURL), State: string(rec.Outcome), Wall: rec.Usage.Wall})
	return rec, e.Records.AppendBuild(ctx, s, *rec)
}

// Result is what All did.
type Result struct {
	Built, Rebuilt, Cached, Failed int
}

// All runs every step of a plan that is not yet run: all first builds in the
// order that their inputs allow, then the throw-away builds of sources with
// native files, then all second builds. The error is about the host or ctx; a
// package that fails is in the records.
func (e *Engine) All(ctx context.Context, p *plan.Plan) (Result, error) {
	var res Result
	first, err := e.firstBuilds(ctx, p, &res)
	if err != nil {
		return res, err
	}
	if err := e.prebuiltBuilds(ctx, p, first); err != nil {
		return res, err
	}
	return res, e.secondBuilds(ctx, p, first, &res)
}

// firsts holds the first build of each step; steps that are blocked have none.
type firsts struct {
	mu sync.Mutex
	m  map[digest.Digest]*record.Build
}

func (f *firsts) get(id digest.Digest) *record.Build {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[id]
}

func (f *firsts) set(id digest.Digest, b *record.Build) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[id] = b
}

func (f *firsts) output(known map[digest.Digest]plan.Step) func(digest.Digest) (*record.Output, error) {
	return func(id digest.Digest) (*record.Output, error) {
		b := f.get(id)
		if b == nil || b.Outcome != record.Succeeded {
			return nil, fmt.Errorf("%s: %w", known[id].PURL, errBlocked)
		}
		return b.Output, nil
	}
}

func stepMap(p *plan.Plan) map[digest.Digest]plan.Step {
	m := make(map[digest.Digest]plan.Step, len(p.Steps))
	for _, s := range p.Steps {
		m[s.ID] = s
	}
	return m
}

func (e *Engine) firstBuilds(ctx context.Context, p *plan.Plan, res *Result) (*firsts, error) {
	known := stepMap(p)
	f := &firsts{m: map[digest.Digest]*record.Build{}}
	var mu sync.Mutex
	done := 0
	err := e.graph(ctx, p.Steps, func(ctx context.Context, s plan.Step) error {
		finish := func(state string, wall time.Duration, count *int) {
			mu.Lock()
			defer mu.Unlock()
			done++
			*count++
			e.tell(Event{Phase: "build", Name: string(s.PURL), State: state, Done: done, Total: len(p.Steps), Wall: wall})
		}
		prior, err := e.Records.Builds(ctx, s.ID)
		if err != nil {
			return err
		}
		if b := First(prior); b != nil && (b.Outcome == record.Succeeded && e.Blobs.Has(b.Output.Digest) || lasting(b.Failure) && !e.Retry) {
			f.set(s.ID, b)
			finish("cached", 0, &res.Cached)
			return nil
		}
		for _, d := range s.Deps() {
			if b := f.get(d); b == nil || b.Outcome != record.Succeeded {
				finish("blocked", 0, &res.Failed)
				return nil
			}
		}
		e.tell(Event{Phase: "build", Name: string(s.PURL), State: "started", Total: len(p.Steps)})
		rec, _, err := e.run(ctx, s, record.First, f.output(known))
		if err != nil {
			return err
		}
		if err := e.Records.AppendBuild(ctx, s, *rec); err != nil {
			return err
		}
		f.set(s.ID, rec)
		if rec.Outcome == record.Succeeded {
			finish("done", rec.Usage.Wall, &res.Built)
		} else {
			finish("failed", rec.Usage.Wall, &res.Failed)
		}
		return nil
	})
	return f, err
}

// prebuiltBuilds builds each source that has native files once more with them
// in place, so that what the result needs of them or would ship shows.
func (e *Engine) prebuiltBuilds(ctx context.Context, p *plan.Plan, f *firsts) error {
	known := stepMap(p)
	return e.each(ctx, p.Steps, func(ctx context.Context, s plan.Step) error {
		src, ok := p.SourceOf(s.Source())
		b := f.get(s.ID)
		if !ok || len(src.Removed) == 0 || b == nil || b.Outcome == record.Failed && !lasting(b.Failure) {
			return nil
		}
		prior, err := e.Records.Builds(ctx, s.ID)
		if err != nil {
			return err
		}
		if r := newest(prior, record.Prebuilt); r != nil && (r.Outcome == record.Succeeded || lasting(r.Failure)) {
			return nil
		}
		rec, _, err := e.run(ctx, s, record.Prebuilt, f.output(known))
		if err != nil {
			return err
		}
		e.tell(Event{Phase: "prebuilt", Name: string(s.PURL), State: string(rec.Outcome), Wall: rec.Usage.Wall})
		return e.Records.AppendBuild(ctx, s, *rec)
	})
}

func (e *Engine) secondBuilds(ctx context.Context, p *plan.Plan, f *firsts, res *Result) error {
	var todo []plan.Step
	for _, s := range p.Steps {
		b := f.get(s.ID)
		if b == nil || b.Outcome != record.Succeeded {
			continue
		}
		rs, err := e.Records.Rebuilds(ctx, s.ID)
		if err != nil {
			return err
		}
		if len(rs) == 0 || rs[len(rs)-1].Outcome == record.CouldNotBuild && (e.Retry || !lasting(rs[len(rs)-1].Failure)) {
			todo = append(todo, s)
		}
	}
	known := stepMap(p)
	var mu sync.Mutex
	done := 0
	return e.each(ctx, todo, func(ctx context.Context, s plan.Step) error {
		e.tell(Event{Phase: "rebuild", Name: string(s.PURL), State: "started", Total: len(todo)})
		r, wall, err := e.again(ctx, s, f.get(s.ID), f.output(known))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		res.Rebuilt++
		e.tell(Event{Phase: "rebuild", Name: string(s.PURL), State: string(r.Outcome), Done: done, Total: len(todo), Wall: wall})
		return nil
	})
}

// Rebuild runs a step of the plan once more with the undeclared varied and
// compares with its first build.
func (e *Engine) Rebuild(ctx context.Context, p *plan.Plan, id digest.Digest) (record.RebuildResult, error) {
	s, ok := p.Step(id)
	if !ok {
		return record.RebuildResult{}, fault.New(fault.NotFound, "step %s is not in the plan", id.Short())
	}
	var res Result
	f, err := e.firstBuilds(ctx, p.Closure(id), &res)
	if err != nil {
		return record.RebuildResult{}, err
	}
	b := f.get(id)
	if b == nil || b.Outcome != record.Succeeded {
		return record.RebuildResult{}, fault.New(fault.Conflict, "%s has no successful first build to compare with", s.PURL)
	}
	r, _, err := e.again(ctx, s, b, f.output(stepMap(p)))
	return r, err
}

// again makes one second build, compares, and appends both to the series.
func (e *Engine) again(ctx context.Context, s plan.Step, first *record.Build, output func(digest.Digest) (*record.Output, error)) (record.RebuildResult, time.Duration, error) {
	var r record.RebuildResult
	rec, _, err := e.run(ctx, s, record.Rebuild, output)
	if err != nil {
		return r, 0, err
	}
	if err := e.Records.AppendBuild(ctx, s, *rec); err != nil {
		return r, 0, err
	}
	if r, err = e.compare(s, first, rec); err != nil {
		return r, 0, err
	}
	prior, err := e.Records.Rebuilds(ctx, s.ID)
	if err != nil {
		return r, 0, err
	}
	r.Sequence = len(prior) + 1
	if len(prior) > 0 {
		if r.Previous, _, err = canonical.Digest(prior[len(prior)-1]); err != nil {
			return r, 0, err
		}
	}
	return r, rec.Usage.Wall, e.Records.AppendRebuild(ctx, r)
}

// compare gives the outcome of a rebuild.
func (e *Engine) compare(s plan.Step, first, second *record.Build) (record.RebuildResult, error) {
	r := record.RebuildResult{
		Schema: record.RebuildSchema, Step: s.ID, First: first.ID, Second: second.ID,
		FirstDigest: first.Output.Digest, Axes: axes(first, second), Builder: e.Builder, Time: time.Now().UTC(),
	}
	if second.Outcome != record.Succeeded {
		r.Outcome, r.Failure = record.CouldNotBuild, second.Failure
		return r, nil
	}
	r.SecondDigest = second.Output.Digest
	// What the two builds left is compared, before anything was named anew.
	if first.Output.Raw == second.Output.Raw && first.Output.Digest == second.Output.Digest && first.Output.RawFile == second.Output.RawFile {
		r.Outcome = record.Identical
		return r, nil
	}
	tmp, err := os.MkdirTemp(e.Tmp, "compare-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(tmp)
	var paths [2]string
	for i, o := range []*record.Output{first.Output, second.Output} {
		dir := filepath.Join(tmp, fmt.Sprint(i+1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return r, err
		}
		paths[i] = filepath.Join(dir, o.RawFile)
		if err := e.copyOut(o.Raw, paths[i]); err != nil {
			return r, err
		}
	}
	r.Outcome, r.Differences, r.Normalisations, r.Truncated, err = compare.Files(paths[0], paths[1])
	if err != nil {
		return r, fmt.Errorf("comparing two builds of %s: %w", s.PURL, err)
	}
	if r.Outcome == record.Identical {
		r.Outcome = record.Different
	}
	if first.Output.RawFile != second.Output.RawFile {
		r.Outcome = record.Different
		r.Differences = append([]record.Difference{{Path: first.Output.RawFile, What: "metadata", First: first.Output.RawFile, Second: second.Output.RawFile, Hint: "the name of the file"}}, r.Differences...)
	}
	return r, nil
}

// axes puts the measured values of two builds side by side.
func axes(first, second *record.Build) []record.Axis {
	var out []record.Axis
	for _, name := range record.Axes {
		a := record.Axis{Name: name, First: first.Measured[name], Second: second.Measured[name]}
		a.Varied = a.First != "" && a.Second != "" && a.First != a.Second && second.NotVaried[name] == "" && moved(name, a.First, a.Second)
		if !a.Varied {
			a.Cause = second.NotVaried[name]
			if a.Cause == "" {
				a.Cause = "both builds measured the same"
			}
		}
		out = append(out, a)
	}
	return append(out, record.Axis{Name: record.AxisProcessor, Cause: "both builds ran on one processor, and what it answers to a program that asks it cannot be masked"})
}

// moved tells whether an axis that moves by itself was moved on purpose: two
// builds never run at the same second.
func moved(axis, first, second string) bool {
	switch axis {
	case record.AxisClock:
		a, errA := time.Parse(time.RFC3339, first)
		b, errB := time.Parse(time.RFC3339, second)
		return errA == nil && errB == nil && b.Sub(a) > clockShift-24*time.Hour
	case record.AxisUptime:
		a, errA := strconv.ParseFloat(first, 64)
		b, errB := strconv.ParseFloat(second, 64)
		return errA == nil && errB == nil && math.Abs(b-a) > uptimeShift.Seconds()/2
	}
	return true
}

// graph runs fn for every step, each after those that it reads, Workers at a
// time. The first error ends it.
func (e *Engine) graph(ctx context.Context, steps []plan.Step, fn func(context.Context, plan.Step) error) error {
	waits := map[digest.Digest]int{}
	readers := map[digest.Digest][]plan.Step{}
	in := map[digest.Digest]bool{}
	for _, s := range steps {
		in[s.ID] = true
	}
	var ready []plan.Step
	for _, s := range steps {
		for _, d := range s.Deps() {
			if in[d] {
				waits[s.ID]++
				readers[d] = append(readers[d], s)
			}
		}
		if waits[s.ID] == 0 {
			ready = append(ready, s)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type end struct {
		s   plan.Step
		err error
	}
	ends := make(chan end)
	running, finished := 0, 0
	for finished < len(steps) {
		for running < e.Workers && len(ready) > 0 && ctx.Err() == nil {
			// What most others wait for goes first.
			sort.SliceStable(ready, func(i, j int) bool { return len(readers[ready[i].ID]) > len(readers[ready[j].ID]) })
			s := ready[0]
			ready = ready[1:]
			running++
			go func() { ends <- end{s, fn(ctx, s)} }()
		}
		if running == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fault.New(fault.Corrupt, "the plan's steps wait for one another in a ring")
		}
		e := <-ends
		running--
		finished++
		if e.err != nil {
			cancel(e.err)
			continue
		}
		for _, r := range readers[e.s.ID] {
			if waits[r.ID]--; waits[r.ID] == 0 {
				ready = append(ready, r)
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// each runs fn for every step in no order, Workers at a time.
func (e *Engine) each(ctx context.Context, steps []plan.Step, fn func(context.Context, plan.Step) error) error {
	free := make([]plan.Step, len(steps))
	for i, s := range steps {
		free[i] = s
		free[i].Inputs = nil // no order among them
	}
	full := map[digest.Digest]plan.Step{}
	for _, s := range steps {
		full[s.ID] = s
	}
	return e.graph(ctx, free, func(ctx context.Context, s plan.Step) error { return fn(ctx, full[s.ID]) })
}
