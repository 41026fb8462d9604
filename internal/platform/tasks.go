package platform

import (
	"context"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/store"
)

// maxOpenTasks is how many tasks of a project may wait or work at a time.
const maxOpenTasks = 50

// Forecast says what building a branch would take, with a change if there is one;
// BuildProject, and ChangeProject for a change. Nothing is stored. It takes as long as
// planning takes, and ends with ctx.
func (s *Service) Forecast(ctx context.Context, w Who, org, name, branch string, ch Change, retry bool) (api.Forecast, error) {
	if err := s.may(ctx, w, access.BuildProject, org, name); err != nil {
		return api.Forecast{}, err
	}
	if s.outlook == nil {
		return api.Forecast{}, fault.Advise(fault.Unsupported, "Build it with the command: hallmark builds", "this server builds nothing")
	}
	h, err := s.Head(ctx, w, org, name, branch)
	if err != nil {
		return api.Forecast{}, err
	}
	next := h.Commit
	if !ch.Empty() {
		if next, _, err = s.Propose(ctx, w, org, name, branch, ch); err != nil {
			return api.Forecast{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()
	end, err := s.previews.turn(ctx, org+"/"+name)
	if err != nil {
		return api.Forecast{}, err
	}
	defer end()
	f, err := s.outlook.Forecast(ctx, branch, next, retry, func(string) {})
	if err != nil && ctx.Err() != nil {
		err = fault.Advise(fault.Unavailable, "Ask for it again.", "finding out what is to be done was stopped: it took too long, or nobody waited for it")
	}
	return f, err
}

// PackageBuild is one package to be built.
type PackageBuild struct {
	Requirement string
	At          time.Time                // catalog time; zero: now
	Overrides   *[]plan.PackageOverrides // nil: those of the branch's newest commit
	Retry       bool
}

// BuildPackage queues the build of one package and all that it is built with, for a
// project; BuildProject. It changes no commit, and nothing of it is served.
func (s *Service) BuildPackage(ctx context.Context, w Who, org, name, branch string, b PackageBuild) (store.Run, error) {
	if err := s.may(ctx, w, access.BuildProject, org, name); err != nil {
		return store.Run{}, err
	}
	if _, _, err := s.docs.Requirement(b.Requirement); err != nil {
		return store.Run{}, err
	}
	if b.At.IsZero() {
		b.At = s.now()
	}
	t := store.Task{Kind: store.TaskBuild, What: b.Requirement, At: b.At.UTC().Truncate(time.Second)}
	var text []byte
	if b.Overrides != nil {
		var err error
		if t.Overrides, text, err = s.docs.ReadOverrides(*b.Overrides); err != nil {
			return store.Run{}, err
		}
	}
	return s.addTask(ctx, w, org, name, branch, t, text, b.Retry)
}

// Rebuild queues a rebuild of an artifact of a branch's newest commit; RebuildProject.
// Its result joins the step's series, whatever it is.
func (s *Service) Rebuild(ctx context.Context, w Who, org, name, branch, artifact string) (store.Run, error) {
	if err := s.may(ctx, w, access.RebuildProject, org, name); err != nil {
		return store.Run{}, err
	}
	if s.outlook == nil {
		return store.Run{}, fault.New(fault.Unsupported, "this server builds nothing")
	}
	h, err := s.Head(ctx, w, org, name, branch)
	if err != nil {
		return store.Run{}, err
	}
	if _, err := s.outlook.Built(ctx, h.ID, artifact); err != nil {
		return store.Run{}, err
	}
	return s.addTask(ctx, w, org, name, branch, store.Task{Kind: store.TaskRebuild, What: artifact}, nil, false)
}

// addTask queues a task; one that is the same and has not ended is given in its place.
// text is what its overrides say.
func (s *Service) addTask(ctx context.Context, w Who, org, name, branch string, t store.Task, text []byte, retry bool) (store.Run, error) {
	if err := s.mayBuild(ctx, w, org); err != nil {
		return store.Run{}, err
	}
	head, err := s.rows.BranchHead(ctx, org, name, branch)
	if err != nil {
		return store.Run{}, err
	}
	open, err := s.rows.OpenRuns(ctx)
	if err != nil {
		return store.Run{}, err
	}
	waiting := 0
	for _, r := range open {
		if r.Org != org || r.Name != name || r.Task == nil {
			continue
		}
		waiting++
		if r.Commit == head.ID && r.Retry == retry && r.Task.Kind == t.Kind && r.Task.What == t.What && r.Task.At.Equal(t.At) && r.Task.Overrides == t.Overrides {
			return r, nil
		}
	}
	if waiting >= maxOpenTasks {
		return store.Run{}, fault.Advise(fault.Unavailable, "Wait until some have ended, or cancel them.", "%s/%s has %d builds of single packages waiting", org, name, waiting)
	}
	if len(text) > 0 {
		if err := s.docs.KeepDocument(ctx, t.Overrides, text); err != nil {
			return store.Run{}, err
		}
	}
	r := s.newRun(w, org, name, head.ID, retry)
	r.Task = &t
	if err := s.rows.AddRun(ctx, *r, s.by(w), s.queue.Add(r.ID)); err != nil {
		return store.Run{}, err
	}
	return s.rows.Run(ctx, r.ID)
}

// Result gives what came of a run's task, for the project's readers: fault.Conflict if
// it has not ended, fault.NotFound if there is none.
func (s *Service) Result(ctx context.Context, w Who, org, name, run string) (api.TaskResult, error) {
	var out api.TaskResult
	r, err := s.Run(ctx, w, org, name, run)
	switch {
	case err != nil:
		return out, err
	case r.Task == nil:
		return out, fault.Advise(fault.NotFound, "What came of it is the commit's status.", "run %.40q built its whole commit", run)
	case !r.State.Done():
		return out, fault.Advise(fault.Conflict, "Wait for its end.", "run %.40q has not ended", run)
	case r.Task.Result == "":
		return out, fault.New(fault.NotFound, "nothing came of run %.40q: %s", run, r.Message)
	}
	return out, s.docs.Document(r.Task.Result, &out)
}

// OverridesOf gives a commit's own overrides, for the project's readers.
func (s *Service) OverridesOf(ctx context.Context, w Who, org, name string, commit digest.Digest) ([]plan.PackageOverrides, error) {
	c, err := s.CommitOf(ctx, w, org, name, commit)
	if err != nil {
		return nil, err
	}
	return s.docs.OverridesOf(c)
}
