package main

import (
	"fmt"
	"io"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/client"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
)

// dryRunOnServer asks the server what builds would do there.
func (c *buildsCmd) dryRunOnServer(e *env, s *client.Client, here asked, head api.Commit) error {
	ch, err := changeTo(head, here)
	if err != nil {
		return err
	}
	f, err := s.Forecast(e.ctx, here.Project, ch, c.Retry)
	if err != nil {
		return err
	}
	return e.print(f, func(w io.Writer) error { return printForecast(harmlessly{w}, &f) })
}

// harmlessly writes foreign text so that a terminal obeys nothing of it.
type harmlessly struct{ w io.Writer }

// Write is io.Writer's.
func (h harmlessly) Write(b []byte) (int, error) {
	_, err := io.WriteString(h.w, harmless(string(b)))
	return len(b), err
}

// onServer has the server build one package, for the project here: with its rights,
// its organization's minutes, and the overrides beside it. No commit changes.
func (c *buildCmd) onServer(e *env) error {
	if c.Shell {
		return notOnServer("build --shell", "The root of a build on a server is nobody's to enter. Make the same one here: hallmark export plan -o plan.json, and without --server hallmark rebuild --plan plan.json ARTIFACT, then hallmark build --shell ARTIFACT")
	}
	if err := c.here("build"); err != nil {
		return err
	}
	here, err := e.asked()
	if fault.Is(err, fault.NotFound) {
		return fault.Advise(fault.Usage, "Make one or take one up here: hallmark init ORG/PROJECT", "build on a server counts for a project, and there is none in this folder")
	}
	if err != nil {
		return err
	}
	s, err := e.server()
	if err != nil {
		return err
	}
	at := c.AtTime.UTC().Truncate(time.Second)
	own := append([]plan.PackageOverrides{}, here.own...)
	run, err := s.BuildPackage(e.ctx, here.Project, api.PackageBuild{Requirement: c.What, AtTime: &at, Overrides: &own, Retry: c.Retry})
	if err != nil {
		return err
	}
	res, err := e.resultOf(s, here.Project, run)
	if err != nil {
		return err
	}
	return e.showBuilt(res.Built)
}

// onServer has the server rebuild an artifact of the project here.
func (c *rebuildCmd) onServer(e *env) error {
	if c.Plan != "" {
		return notOnServer("rebuild --plan", "A plan is rebuilt by whoever does not take the server's word: leave out --server and HALLMARK_SERVER.")
	}
	if err := (buildFlags{timelineFlag: c.timelineFlag}).here("rebuild"); err != nil {
		return err
	}
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	run, err := s.Rebuild(e.ctx, cfg.Project, c.Artifact)
	if err != nil {
		return err
	}
	res, err := e.resultOf(s, cfg.Project, run)
	if err != nil {
		return err
	}
	if res.Again == nil {
		return fault.New(fault.Hostile, "%s gives no result of the rebuild", s.Server())
	}
	return e.showRebuilt(res.Again)
}

// resultOf follows a run to its end and gives what came of it.
func (e *env) resultOf(s *client.Client, name string, run api.Run) (api.TaskResult, error) {
	if err := e.follow(s, name, run); err != nil {
		return api.TaskResult{}, err
	}
	return s.Result(e.ctx, name, run.ID)
}

// inspect has the server check its data directory, and shows how far that is.
func (e *env) inspect(repair bool) ([]app.Damage, int, error) {
	s, err := e.server()
	if err != nil {
		return nil, 0, err
	}
	if !e.global.Quiet {
		e.bar = newProgress(e.err)
	}
	stage := ""
	v, err := s.Inspect(e.ctx, repair, func(v api.Inspection) {
		if e.bar == nil {
			return
		}
		now := v.Stage
		if v.State == "waiting" {
			now = "wait for the build that is at work"
		}
		if now != stage {
			stage = now
			e.bar.Stage(client.Clean(now, 60))
		}
		if v.Total > 0 {
			e.bar.Step(v.Done, v.Total, "")
		}
	})
	if err != nil {
		return nil, 0, err
	}
	e.endProgress()
	if v.State != "done" {
		return nil, 0, fmt.Errorf("the check of the data directory of %s: %s: %s", s.Server(), harmless(v.State), client.Clean(v.Message, 2000))
	}
	for i := range v.Found {
		d := &v.Found[i]
		d.Where, d.Message, d.Advice = client.Clean(d.Where, 500), client.Clean(d.Message, 2000), client.Clean(d.Advice, 1000)
	}
	return v.Found, max(v.Left, 0), nil
}
