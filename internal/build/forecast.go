package build

import (
	"cmp"
	"context"
	"slices"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// Due is one build that All would run.
type Due struct {
	Step    plan.Step
	Purpose record.Purpose
	Why     Why
	Guess   time.Duration // about how long it takes
	Known   bool          // an earlier build of the same package was measured
}

// Forecast is what All would do.
type Forecast struct {
	Due     []Due         // in the plan's order, the builds of a step together
	Done    int           // steps for which nothing is due
	Blocked []plan.Step   // steps that something keeps from being built
	Takes   time.Duration // about how long it takes on the engine's workers
}

// Forecast says what All would do with a plan, and about how long it would take,
// from the records alone: it runs, fetches and writes nothing, and needs no Open.
func (e *Engine) Forecast(ctx context.Context, p *plan.Plan) (Forecast, error) {
	var f Forecast
	times, err := e.history(ctx)
	if err != nil {
		return f, err
	}
	sources := map[digest.Digest]plan.Source{}
	for _, s := range p.Sources {
		sources[s.Digest] = s
	}
	at := map[digest.Digest]int{} // step to its first build among the jobs
	blocked := map[digest.Digest]bool{}
	var jobs []forecastJob
	due := func(s plan.Step, p record.Purpose, why Why, after []int) {
		d := Due{Step: s, Purpose: p, Why: why}
		d.Guess, d.Known = times.guess(s.PURL, p, sources[s.Source()])
		f.Due = append(f.Due, d)
		jobs = append(jobs, forecastJob{takes: d.Guess, after: after})
	}
	for _, s := range p.Steps {
		builds, err := e.Records.Builds(ctx, s.ID)
		if err != nil {
			return f, err
		}
		rebuilds, err := e.Records.Rebuilds(ctx, s.ID)
		if err != nil {
			return f, err
		}
		var after []int
		for _, d := range s.Deps() {
			if i, ok := at[d]; ok {
				after = append(after, i)
			}
		}
		n := len(f.Due)
		src := sources[s.Source()]
		b, why := e.firstDue(builds)
		if why == "" && b.Outcome != record.Succeeded {
			blocked[s.ID] = true
		}
		if why != "" {
			if slices.ContainsFunc(s.Deps(), func(d digest.Digest) bool { return blocked[d] }) {
				blocked[s.ID] = true
				f.Blocked = append(f.Blocked, s)
				continue
			}
			at[s.ID] = len(jobs)
			due(s, record.First, why, after)
			after = append(slices.Clone(after), at[s.ID])
			if len(src.Removed) > 0 && newest(builds, record.Prebuilt) == nil {
				due(s, record.Prebuilt, DueNatives, after)
			}
			if len(rebuilds) == 0 {
				due(s, record.Rebuild, DueSecond, after)
			}
			continue
		}
		if why := e.prebuiltDue(src, b, builds); why != "" {
			due(s, record.Prebuilt, why, after)
		}
		if why := e.secondDue(b, builds, rebuilds); why != "" {
			due(s, record.Rebuild, why, after)
		}
		if len(f.Due) == n {
			f.Done++
		}
	}
	f.Takes = makespan(jobs, max(e.Workers, 1))
	return f, nil
}

// forecastJob is a build as the forecast plays it.
type forecastJob struct {
	takes time.Duration
	after []int // earlier jobs
}

// makespan plays what the queue would do and says when the last job would end.
func makespan(jobs []forecastJob, workers int) time.Duration {
	rank := make([]time.Duration, len(jobs))
	next := make([][]int, len(jobs))
	waits := make([]int, len(jobs))
	for i, j := range jobs {
		for _, a := range j.after {
			next[a] = append(next[a], i)
			waits[i]++
		}
	}
	for i := len(jobs) - 1; i >= 0; i-- {
		for _, n := range next[i] {
			rank[i] = max(rank[i], rank[n])
		}
		rank[i] += jobs[i].takes
	}
	var ready []int
	for i := range jobs {
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	type end struct {
		at  time.Duration
		job int
	}
	var running []end
	var now time.Duration
	for len(ready) > 0 || len(running) > 0 {
		slices.SortStableFunc(ready, func(a, b int) int { return cmp.Compare(rank[b], rank[a]) })
		for len(running) < workers && len(ready) > 0 {
			running = append(running, end{now + jobs[ready[0]].takes, ready[0]})
			ready = ready[1:]
		}
		slices.SortFunc(running, func(a, b end) int { return cmp.Compare(a.at, b.at) })
		e := running[0]
		running, now = running[1:], e.at
		for _, n := range next[e.job] {
			if waits[n]--; waits[n] == 0 {
				ready = append(ready, n)
			}
		}
	}
	return now
}

// Answered gives what a query step has answered already, or how it failed if it is
// not to be asked once more; ok is false if it would have to be asked.
func (e *Engine) Answered(ctx context.Context, step digest.Digest) (files map[string][]byte, f *record.Failure, ok bool, err error) {
	prior, err := e.Records.Builds(ctx, step)
	if err != nil {
		return nil, nil, false, err
	}
	r := newest(prior, record.Query)
	switch {
	case r == nil:
		return nil, nil, false, nil
	case r.Outcome != record.Succeeded:
		return nil, r.Failure, e.again(r.Failure, r.Usage.Wall) == "", nil
	}
	if files, err = e.answers(r); err != nil {
		return nil, nil, false, nil // damaged or gone: as good as never asked
	}
	return files, nil, true, nil
}
