package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// errBlocked marks a step that something it is built with keeps from being
// built.
var errBlocked = errors.New("something it is built with could not be built")

// work is what one call wants of the queue: a plan's builds, or what a query is
// made with.
type work struct {
	e       *Engine
	known   map[digest.Digest]plan.Step
	sources map[digest.Digest]plan.Source
	stored  map[digest.Digest]*record.Build // first builds that need not be run
	blocked map[digest.Digest]bool          // steps that cannot be built, as is known beforehand
	specs   []spec
	listed  map[taskKey]bool
}

// errUnplanned is a step that names what is not among those that are known.
var errUnplanned = fault.New(fault.Corrupt, "a step needs a step that is not planned")

func (e *Engine) newWork(known map[digest.Digest]plan.Step, sources []plan.Source) *work {
	w := &work{e: e, known: known, sources: map[digest.Digest]plan.Source{}, stored: map[digest.Digest]*record.Build{},
		blocked: map[digest.Digest]bool{}, listed: map[taskKey]bool{}}
	for _, s := range sources {
		w.sources[s.Digest] = s
	}
	return w
}

func stepMap(p *plan.Plan) map[digest.Digest]plan.Step {
	m := make(map[digest.Digest]plan.Step, len(p.Steps))
	for _, s := range p.Steps {
		m[s.ID] = s
	}
	return m
}

// get gives a step's first build: stored before, or made since; nil if there is
// none.
func (w *work) get(id digest.Digest) *record.Build {
	if t := w.e.queue.ended(taskKey{id, record.First}); t != nil {
		return t.build
	}
	return w.stored[id]
}

func (w *work) good(id digest.Digest) bool {
	b := w.get(id)
	return b != nil && b.Outcome == record.Succeeded
}

// output gives what a step made.
func (w *work) output(id digest.Digest) (*record.Output, error) {
	if !w.good(id) {
		return nil, fmt.Errorf("%s: %w", w.known[id].PURL, errBlocked)
	}
	return w.get(id).Output, nil
}

// add puts a task on the list.
func (w *work) add(ctx context.Context, s spec, step plan.Step) error {
	if s.key.purpose != layering {
		times, err := w.e.history(ctx)
		if err != nil {
			return err
		}
		s.guess, s.known = times.guess(step.PURL, s.key.purpose, w.sources[step.Source()])
		// What it is built with is laid out beforehand, each once, so that nobody
		// waits for anybody else to do it.
		// On a floor of its own it is laid out when the first step needs it.
		own := step.Env.Partial()
		if !own {
			s.after = append(s.after, w.listGround(step.PURL))
		}
		for _, in := range step.Inputs {
			if in.Step == "" {
				continue
			}
			k := taskKey{in.Step, layering}
			s.after = append(s.after, taskKey{in.Step, record.First}, k)
			if w.listed[k] {
				continue
			}
			w.listed[k] = true
			if b := w.get(in.Step); b != nil && b.Output != nil && w.e.hasLayer(in.PURL, b.Output.Digest) {
				continue
			}
			x := spec{key: k, name: string(in.PURL), guess: guessLayer, known: true, after: []taskKey{{in.Step, record.First}}, run: w.layer(in, own)}
			if !own {
				x.after = append(x.after, w.listGround(in.PURL))
			}
			w.specs = append(w.specs, x)
		}
	}
	w.listed[s.key] = true
	w.specs = append(w.specs, s)
	return nil
}

// first lists a step's first build if it is due. What the step reads was listed
// before.
func (w *work) first(ctx context.Context, s plan.Step) (builds []record.Build, why Why, err error) {
	k := taskKey{s.ID, record.First}
	if builds, err = w.e.Records.Builds(ctx, s.ID); err != nil {
		return nil, "", err
	}
	if t := w.e.queue.ended(k); t != nil { // run already: what came of it is remembered
		w.stored[s.ID], w.blocked[s.ID] = t.build, t.build == nil
		return builds, "", nil
	}
	b, why := w.e.firstDue(builds)
	if why == "" {
		w.stored[s.ID] = b
		return builds, "", nil
	}
	for _, d := range s.Deps() {
		if _, ok := w.known[d]; !ok {
			return nil, "", errUnplanned
		}
		if !w.listed[taskKey{d, record.First}] && !w.good(d) {
			w.blocked[s.ID] = true
			return builds, "", nil
		}
	}
	return builds, why, w.add(ctx, spec{key: k, name: string(s.PURL), run: w.runFirst(s)}, s)
}

// others lists a step's second build and the one with native files, if they are
// due or may be.
func (w *work) others(ctx context.Context, s plan.Step, builds []record.Build) error {
	coming := w.listed[taskKey{s.ID, record.First}]
	b := w.get(s.ID)
	if !coming && b == nil {
		return nil
	}
	rebuilds, err := w.e.Records.Rebuilds(ctx, s.ID)
	if err != nil {
		return err
	}
	// Beside the first build only what is due whatever that gives.
	beside := coming && len(rebuilds) == 0
	want := func(p record.Purpose, run func(context.Context, *turn) error) error {
		k := taskKey{s.ID, p}
		if w.e.queue.ended(k) != nil {
			return nil
		}
		x := spec{key: k, name: string(s.PURL), after: []taskKey{{s.ID, record.First}}, run: run}
		if p == record.Rebuild && beside {
			x.beside = taskKey{s.ID, record.First}
		}
		return w.add(ctx, x, s)
	}
	src := w.sources[s.Source()]
	if coming && len(src.Removed) > 0 || w.e.prebuiltDue(src, b, builds) != "" {
		if err := want(record.Prebuilt, w.runPrebuilt(s)); err != nil {
			return err
		}
	}
	due := coming
	if !coming && b.Outcome == record.Succeeded {
		due = w.e.secondDue(b, builds, rebuilds) != ""
	}
	if !due {
		return nil
	}
	return want(record.Rebuild, w.runSecond(s))
}

// listGround lists the laying out of what every build of a package's ecosystem has,
// once.
func (w *work) listGround(u purl.PURL) taskKey {
	l := w.e.language(u)
	// No step has such an id: a digest has a colon in it.
	k := taskKey{digest.Digest("ground-" + l.Type()), layering}
	if !w.listed[k] {
		w.listed[k] = true
		w.specs = append(w.specs, spec{key: k, name: "environment", guess: guessLayer, known: true, run: func(ctx context.Context, t *turn) error {
			t.phase("prepare")
			_, _, _, err := w.e.ground(ctx, l)
			return err
		}})
	}
	return k
}

// layer lays out what a step made; bare: without what makes it faster to use, which
// depends on the floor.
func (w *work) layer(in plan.Input, bare bool) func(context.Context, *turn) error {
	return func(ctx context.Context, t *turn) error {
		if !w.good(in.Step) {
			return nil
		}
		t.phase("lay out")
		if bare {
			_, err := w.e.layout(in.PURL, w.get(in.Step).Output)
			return err
		}
		_, _, err := w.e.dependency(ctx, in, w.get(in.Step).Output, nil)
		return err
	}
}

func (w *work) runFirst(s plan.Step) func(context.Context, *turn) error {
	return func(ctx context.Context, t *turn) error {
		for _, d := range s.Deps() {
			if !w.good(d) {
				return nil // blocked: no build comes of it
			}
		}
		rec, _, err := w.e.run(ctx, s, record.First, w.output, t)
		if err != nil {
			return err
		}
		return w.keep(ctx, s, rec, t)
	}
}

// keep appends what came of a build to its step's series.
func (w *work) keep(ctx context.Context, s plan.Step, rec *record.Build, t *turn) error {
	t.phase("record")
	if err := w.e.Records.AppendBuild(ctx, s, *rec); err != nil {
		return err
	}
	w.e.learn(s, rec)
	t.t.build = rec
	return nil
}

func (w *work) runPrebuilt(s plan.Step) func(context.Context, *turn) error {
	return func(ctx context.Context, t *turn) error {
		builds, err := w.e.Records.Builds(ctx, s.ID)
		if err != nil || w.e.prebuiltDue(w.sources[s.Source()], w.get(s.ID), builds) == "" {
			return err
		}
		rec, _, err := w.e.run(ctx, s, record.Prebuilt, w.output, t)
		if err != nil {
			return err
		}
		return w.keep(ctx, s, rec, t)
	}
}

func (w *work) runSecond(s plan.Step) func(context.Context, *turn) error {
	return func(ctx context.Context, t *turn) error {
		if f := w.e.queue.find(taskKey{s.ID, record.First}); f != nil && !f.over() {
			return w.secondBeside(ctx, s, f, t)
		}
		if !w.good(s.ID) {
			return nil
		}
		b := w.get(s.ID)
		builds, err := w.e.Records.Builds(ctx, s.ID)
		if err != nil {
			return err
		}
		rebuilds, err := w.e.Records.Rebuilds(ctx, s.ID)
		if err != nil || w.e.secondDue(b, builds, rebuilds) == "" {
			return err
		}
		return w.second(ctx, s, b, t)
	}
}

// secondBeside makes the second build while the first one runs. Nothing of it is
// kept before the first one has ended, and nothing at all if that failed: then it
// is stopped, as if it had never begun.
func (w *work) secondBeside(ctx context.Context, s plan.Step, first *task, t *turn) error {
	run, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-first.done:
			if !w.good(s.ID) {
				stop()
			}
		case <-run.Done():
		}
	}()
	rec, _, err := w.e.run(run, s, record.Rebuild, w.output, t)
	if err == nil {
		t.phase("wait")
	}
	select {
	case <-first.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case first.err != nil:
		return first.err
	case !w.good(s.ID):
		return nil
	case err != nil:
		return err
	}
	return w.compared(ctx, s, w.get(s.ID), rec, t)
}

// second makes one second build, compares, and appends both to the series.
func (w *work) second(ctx context.Context, s plan.Step, first *record.Build, t *turn) error {
	rec, _, err := w.e.run(ctx, s, record.Rebuild, w.output, t)
	if err != nil {
		return err
	}
	return w.compared(ctx, s, first, rec, t)
}

// compared keeps a second build, compares it with the first, and appends both to
// the series.
func (w *work) compared(ctx context.Context, s plan.Step, first, rec *record.Build, t *turn) error {
	if err := w.keep(ctx, s, rec, t); err != nil {
		return err
	}
	t.phase("compare")
	r, err := w.e.compare(s, first, rec)
	if err != nil {
		return err
	}
	prior, err := w.e.Records.Rebuilds(ctx, s.ID)
	if err != nil {
		return err
	}
	r.Sequence = len(prior) + 1
	if len(prior) > 0 {
		if r.Previous, _, err = canonical.Digest(prior[len(prior)-1]); err != nil {
			return err
		}
	}
	if err := w.e.Records.AppendRebuild(ctx, r); err != nil {
		return err
	}
	t.t.result = &r
	return nil
}

// do runs what is listed.
func (w *work) do(ctx context.Context, ended func(*task)) error {
	if len(w.specs) == 0 {
		return ctx.Err()
	}
	ts, err := w.e.queue.enlist(ctx, w.specs)
	if err != nil {
		return err
	}
	defer w.e.queue.drop(ts)
	return w.e.queue.each(ctx, ts, ended)
}

// Result is what All did.
type Result struct {
	Built, Rebuilt, Cached, Failed int
}

// All runs every build of a plan that is due: first builds, second builds and the
// throw-away builds of sources with native files, each when what it reads is
// there, the one first that most time hangs on. The error is about the host or
// ctx; a package that fails is in the records.
func (e *Engine) All(ctx context.Context, p *plan.Plan) (Result, error) {
	var res Result
	w := e.newWork(stepMap(p), p.Sources)
	for _, s := range p.Steps {
		builds, why, err := w.first(ctx, s)
		if err != nil {
			return res, err
		}
		switch {
		case w.blocked[s.ID]:
			res.Failed++
			e.tell(Event{Phase: "build", Name: string(s.PURL), State: "blocked"})
			continue
		case why == "":
			res.Cached++
			if b := w.get(s.ID); b != nil {
				e.Timeline.Mark("cached", string(s.PURL)+" cached", map[string]any{"step": string(s.ID), "outcome": string(b.Outcome), "cached": true})
			}
		}
		if err := w.others(ctx, s, builds); err != nil {
			return res, err
		}
	}
	total, done := 0, 0
	for _, s := range w.specs {
		if s.key.purpose != layering {
			total++
		}
	}
	e.queue.count(total, 0)
	defer e.queue.count(-total, 0)
	err := w.do(ctx, func(t *task) {
		if t.key.purpose == layering {
			return
		}
		done++
		e.queue.count(0, 1)
		ev := Event{Name: t.name, Done: done, Total: total}
		if t.build != nil {
			ev.Wall, ev.State = t.build.Usage.Wall, string(t.build.Outcome)
		}
		switch t.key.purpose {
		case record.First:
			ev.Phase = "build"
			switch {
			case t.build == nil:
				ev.State = "blocked"
				res.Failed++
			case t.build.Outcome == record.Succeeded:
				ev.State = "done"
				res.Built++
			default:
				res.Failed++
			}
		case record.Prebuilt:
			ev.Phase = "prebuilt"
		case record.Rebuild:
			ev.Phase = "rebuild"
			if t.result != nil {
				ev.State = string(t.result.Outcome)
				res.Rebuilt++
			}
		}
		e.tell(ev)
	})
	e.Rest()
	return res, err
}

// Rebuild runs a step of the plan once more with the undeclared varied and
// compares with its first build, which it makes if it is not there.
func (e *Engine) Rebuild(ctx context.Context, p *plan.Plan, id digest.Digest) (record.RebuildResult, error) {
	s, ok := p.Step(id)
	if !ok {
		return record.RebuildResult{}, fault.New(fault.NotFound, "step %s is not in the plan", id.Short())
	}
	part := p.Closure(id)
	w := e.newWork(stepMap(part), part.Sources)
	for _, s := range part.Steps {
		if _, _, err := w.first(ctx, s); err != nil {
			return record.RebuildResult{}, err
		}
	}
	var res *record.RebuildResult
	k := taskKey{id, record.Rebuild}
	err := w.add(ctx, spec{key: k, name: string(s.PURL), fresh: true, after: []taskKey{{id, record.First}}, run: func(ctx context.Context, t *turn) error {
		for _, d := range s.Deps() {
			if !w.good(d) {
				return nil
			}
		}
		if !w.good(id) {
			return nil
		}
		return w.second(ctx, s, w.get(id), t)
	}}, s)
	if err == nil {
		err = w.do(ctx, func(t *task) {
			if t.key == k {
				res = t.result
			}
		})
	}
	if err != nil {
		return record.RebuildResult{}, err
	}
	if res == nil {
		return record.RebuildResult{}, fault.New(fault.Conflict, "%s has no successful first build to compare with", s.PURL)
	}
	return *res, nil
}

// Query runs a query step (PEP 517's get_requires hooks and the like), building
// before it what it is built with. What a query is made with is a plan of its own,
// complete before its first build; so those are first builds like any other, and
// All finds them done. The query itself has purpose query and counts for nothing.
// Several may ask the same; it is run once, for as long as one of them waits.
func (e *Engine) Query(ctx context.Context, s plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	k := taskKey{s.ID, record.Query}
	w := e.newWork(maps.Clone(known), nil)
	if t := e.queue.ended(k); t != nil && t.build != nil {
		return t.answers, t.build.Failure, nil
	}
	if files, f, ok, err := e.Answered(ctx, s.ID); ok || err != nil {
		return files, f, err
	}
	if err := w.closure(ctx, s, map[digest.Digest]bool{}, 0); err != nil {
		return nil, nil, err
	}
	if err := w.add(ctx, spec{key: k, name: string(s.PURL), run: w.runQuery(s)}, s); err != nil {
		return nil, nil, err
	}
	var t *task
	err := w.do(ctx, func(x *task) {
		if x.key == k {
			t = x
		}
		if x.key.purpose == record.First && x.build != nil {
			if x.build.Outcome == record.Succeeded {
				e.ahead(ctx, w, w.known[x.key.step])
			}
			e.tell(Event{Phase: "query", Name: x.name, State: string(x.build.Outcome), Wall: x.build.Usage.Wall})
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if t.build == nil {
		return nil, w.culprit(s), nil
	}
	return t.answers, t.build.Failure, nil
}

// ahead begins the second build of a step that was built for a query, on workers
// that would be idle: planning asks one backend after the other and seldom has work
// for all. The plan that comes of it has the same step, so that All finds the
// second build done or under way; what it does not have is dropped. An error comes
// up again when somebody waits for the build.
func (e *Engine) ahead(ctx context.Context, of *work, s plan.Step) {
	e.aheadMu.Lock()
	defer e.aheadMu.Unlock()
	if e.Workers < 2 || e.begun[s.ID] {
		return
	}
	e.begun[s.ID] = true
	w := e.newWork(of.known, nil)
	w.stored = maps.Clone(of.stored) // what it is built with need not have been built by this engine
	builds, err := e.Records.Builds(ctx, s.ID)
	if err != nil || w.others(ctx, s, builds) != nil {
		return
	}
	for i := range w.specs {
		w.specs[i].spare = true
	}
	if ts, err := e.queue.enlist(ctx, w.specs); err == nil {
		e.spare = append(e.spare, ts...)
	}
}

// Rest cancels what was begun ahead and nobody waits for. The engine can be used
// on.
func (e *Engine) Rest() {
	e.aheadMu.Lock()
	defer e.aheadMu.Unlock()
	e.queue.drop(e.spare)
	e.spare = nil
}

// maxQueryDepth bounds how deep what a query is made with may go.
const maxQueryDepth = 1000

// closure lists the first builds that a step needs, each after what it reads.
func (w *work) closure(ctx context.Context, s plan.Step, seen map[digest.Digest]bool, depth int) error {
	if depth > maxQueryDepth {
		return fault.New(fault.Hostile, "%s is built with steps more than %d deep", s.PURL, maxQueryDepth)
	}
	for _, id := range s.Deps() {
		if seen[id] {
			continue
		}
		seen[id] = true
		d, ok := w.known[id]
		if !ok {
			return errUnplanned
		}
		if err := w.closure(ctx, d, seen, depth+1); err != nil {
			return err
		}
		if _, _, err := w.first(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// runQuery asks; nothing comes of it if something it is made with was not built.
func (w *work) runQuery(s plan.Step) func(context.Context, *turn) error {
	return func(ctx context.Context, t *turn) error {
		for _, d := range s.Deps() {
			if !w.good(d) {
				return nil
			}
		}
		rec, files, err := w.e.run(ctx, s, record.Query, w.output, t)
		if err != nil {
			return err
		}
		if rec.Outcome == record.Succeeded {
			if err := w.e.keepAnswers(ctx, rec, files); err != nil {
				return err
			}
			t.t.answers = files
		}
		return w.keep(ctx, s, rec, t)
	}
}

// culprit says what keeps a step from being run: the build that failed, of what it
// is built with or what that is built with.
func (w *work) culprit(s plan.Step) *record.Failure {
	for _, id := range s.Deps() {
		switch b := w.get(id); {
		case b == nil:
			if f := w.culprit(w.known[id]); f != nil {
				return f
			}
		case b.Outcome != record.Succeeded:
			f := &record.Failure{Class: record.FailDependency, Message: fmt.Sprintf("It is built with %s, whose build failed.", w.known[id].PURL)}
			if why := b.Failure; why != nil {
				f.Missing, f.Log, f.Advice = why.Missing, why.Log, why.Advice
				f.Message = fmt.Sprintf("It is built with %s, whose build failed: %s", w.known[id].PURL, why.Message)
			}
			return f
		}
	}
	return nil
}

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

// history gives the times of earlier builds, read when they are first needed.
func (e *Engine) history(ctx context.Context) (*learnt, error) {
	e.timesMu.Lock()
	defer e.timesMu.Unlock()
	if e.times == nil {
		l := &learnt{times: Times{}}
		if e.History != nil {
			t, err := e.History(ctx)
			if err != nil {
				return nil, err
			}
			l.times = t
		}
		e.times = l
	}
	return e.times, nil
}

// learn takes down how long a build took.
func (e *Engine) learn(s plan.Step, rec *record.Build) {
	e.timesMu.Lock()
	l := e.times
	e.timesMu.Unlock()
	if l != nil && rec.Usage.Wall > time.Millisecond {
		l.learn(s.PURL, rec)
	}
}
