package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/platform"
)

// RunPriority is where a run shall stand in the queue.
type RunPriority struct {
	Run  string `path:"run" maxLength:"64"`
	Body struct {
		Priority string `json:"priority" enum:"high,normal,low"`
	}
}

// set reads the priority and sets it.
func (in RunPriority) set(do func(run string, level int) error) (*none, error) {
	level, err := platform.LevelOf(in.Body.Priority)
	if err != nil {
		return nil, err
	}
	return done(do(in.Run, level))
}

// watchAPI is a run while it goes on: its steps, and what they say.
func (a surface) watchAPI(mux *http.ServeMux) {
	s := a.Server
	const run = "/api/v1/projects/{org}/{project}/runs/{run}"
	does(a, huma.Operation{OperationID: "list-steps", Method: http.MethodGet, Path: run + "/steps", Tags: []string{tagBuilds}, Summary: "What a build builds, and how far each step is",
		Description: "Of the attempt at the run that is asked for. What was found built already is not among it."},
		func(ctx context.Context, in *struct {
			InProject
			Run     string `path:"run" maxLength:"64"`
			Attempt int    `query:"attempt" minimum:"0" maximum:"1000000" doc:"Its number (list-attempts); 0: the newest"`
		}) (*body[api.Steps], error) {
			number := ""
			if in.Attempt > 0 {
				number = strconv.Itoa(in.Attempt)
			}
			_, at, err := s.attemptAt(ctx, in.Org, in.Project, in.Run, number)
			if err != nil {
				return nil, err
			}
			out := api.Steps{Kept: at.known, Attempt: at.Number, Steps: []api.Step{}}
			for _, x := range at.steps {
				out.Steps = append(out.Steps, api.Step(x))
			}
			return answer(out, nil)
		})
	served(a, huma.Operation{OperationID: "list-attempts", Method: http.MethodGet, Path: run + "/attempts", Tags: []string{tagBuilds}, Summary: "The attempts at a build that have ended",
		Description: "The first one first. What the end of the server cut off goes on with the next one, as does what failed and may pass."},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *oneRun) (*body[api.Attempts], error) {
			rows, err := p.Attempts(ctx, who, in.Org, in.Project, in.Run)
			out := api.Attempts{Attempts: []api.Attempt{}}
			for _, r := range rows {
				out.Attempts = append(out.Attempts, api.Attempt{Number: r.Seq, State: string(r.State), Message: r.Message, Started: r.Started, Ended: r.Ended})
			}
			return answer(out, err)
		})
	step := &huma.Param{Name: "step", In: "query", Schema: &huma.Schema{Type: "string"}, Description: "A step's id within the run; empty: whichever builds"}
	number := &huma.Param{Name: "attempt", In: "query", Schema: &huma.Schema{Type: "integer"}, Description: "An attempt's number (list-attempts); none: the newest"}
	whole := &huma.Param{Name: "whole", In: "query", Schema: &huma.Schema{Type: "string"}, Description: "1: the log as it was stored, when the step has ended: the build's own words, foreign bytes"}
	from := &huma.Param{Name: "from", In: "query", Schema: &huma.Schema{Type: "integer"}, Description: "Where to go on, in bytes of the log"}
	a.raw(mux, huma.Operation{OperationID: "get-running-log", Method: http.MethodGet, Path: run + "/log", Tags: []string{tagBuilds}, Summary: "What a step has said so far",
		Description: "The build's own words without control characters, at most the newest 64 KiB, in whole lines while it runs. The header Hallmark-Next says where to go on, Hallmark-Left how many bytes are missing before it, Hallmark-Ended whether more can come. The whole log is stored when the step has ended."},
		"text/plain", "The log so far", []*huma.Param{step, from, number, whole}, func(w http.ResponseWriter, r *http.Request) {
			if err := s.writeRunLog(w, r); err != nil {
				s.failAPI(w, r, err)
			}
		})
	a.raw(mux, huma.Operation{OperationID: "watch-run", Method: http.MethodGet, Path: run + "/events", Tags: []string{tagBuilds}, Errors: []int{http.StatusBadGateway}, Summary: "A build as it goes on",
		Description: "Server-sent events: run (how far it is), steps (all of them, when one changes), log (what the step says that was asked for), end. A watcher that is too slow is told how many bytes of a log it missed (left)."},
		"text/event-stream", "Events until the run has ended", []*huma.Param{step, from}, func(w http.ResponseWriter, r *http.Request) { s.runFeed(w, r, s.failAPI, false) })
	served(a, huma.Operation{OperationID: "set-run-priority", Method: http.MethodPost, Path: run + "/priority", Tags: []string{tagBuilds}, DefaultStatus: http.StatusNoContent,
		Summary: "Raise or lower a build among its organization's", Description: "For owners and maintainers. Organizations take turns: it takes no turn from another one."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		RunPriority
	}) (*none, error) {
		return in.set(func(run string, level int) error { return p.SetLevel(ctx, who, in.Org, in.Project, run, level) })
	})
	served(a, huma.Operation{OperationID: "list-queue", Method: http.MethodGet, Path: "/api/v1/queue", Tags: []string{tagBuilds}, Summary: "All builds that wait or run, in their order",
		Description: "For administrators: whose each is, and nothing of what it builds."}, func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[api.Queue], error) {
		rows, err := p.Line(ctx, who)
		out := api.Queue{Runs: []api.Queued{}}
		for _, q := range rows {
			out.Runs = append(out.Runs, api.Queued{ID: q.ID, Org: q.Org, State: string(q.State), Created: q.Created, Place: q.Place, Priority: platform.LevelName(q.Level), Over: platform.LevelName(q.Over)})
		}
		return answer(out, err)
	})
	served(a, huma.Operation{OperationID: "set-queue-priority", Method: http.MethodPost, Path: "/api/v1/queue/{run}/priority", Tags: []string{tagBuilds}, DefaultStatus: http.StatusNoContent,
		Summary: "Raise or lower a build among all", Description: "For administrators."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *RunPriority) (*none, error) {
		return in.set(func(run string, level int) error { return p.SetOver(ctx, who, run, level) })
	})
}
