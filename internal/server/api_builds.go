package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

type runsBody struct {
	Runs []api.Run `json:"runs" doc:"Newest first"`
}

type oneRun struct {
	InProject
	Run string `path:"run" maxLength:"64"`
}

// OfCommit names a commit of a project; without an id it is the newest.
type OfCommit struct {
	InProject
	Commit string `query:"commit" maxLength:"100" doc:"commit:sha256:…, or a branch; empty: the default one's newest"`
}

// OfArtifact names an artifact of a commit.
type OfArtifact struct {
	OfCommit
	Artifact string `query:"artifact" required:"true" maxLength:"500" doc:"A purl, a name, or sha256: with at least 8 hex digits"`
}

type whyBody struct {
	Hops []status.Hop `json:"hops" doc:"From the artifact to what is missing"`
}

// runDocument is a run as the API shows it, with how far it is.
func (s *Server) runDocument(r store.Run, ranks map[string]platform.Rank) api.Run {
	out := api.Run{ID: r.ID, Project: r.Org + "/" + r.Name, Commit: "commit:" + r.Commit.String(), Asked: r.Asked, Retry: r.Retry, State: string(r.State), Message: r.Message,
		Created: r.Created, Started: moment(r.Started), Finished: moment(r.Finished)}
	if r.Task != nil {
		out.Task = &api.Task{Kind: string(r.Task.Kind), What: r.Task.What}
	}
	if k, ok := ranks[r.ID]; ok {
		out.Place, out.Priority = k.Place, platform.LevelName(k.Level)
	}
	if st, ok := s.inMemory(r); ok && !r.State.Done() {
		p := &api.Progress{Stage: st.Stage, Done: st.Done, Total: st.Total, Doing: []api.Doing{}, Notes: append([]string{}, st.Notes...), Since: st.Since}
		for _, d := range st.Doing {
			p.Doing = append(p.Doing, api.Doing{PURL: d.PURL, Purpose: d.Purpose, Since: d.Since})
		}
		out.Progress = p
	}
	return out
}

// buildAPI is builds, what they came to, and their logs.
func (a surface) buildAPI(mux *http.ServeMux) {
	s := a.Server
	a.watchAPI(mux)
	a.taskAPI()
	served(a, huma.Operation{OperationID: "list-runs", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/runs", Tags: []string{tagBuilds}, Summary: "A project's builds on this server"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			InProject
			Limit int `query:"limit" minimum:"1" maximum:"1000" default:"50"`
		}) (*body[runsBody], error) {
			rows, err := p.Runs(ctx, who, in.Org, in.Project, in.Limit)
			if err != nil {
				return nil, err
			}
			ranks, err := p.Ranks(ctx, rows...)
			out := runsBody{Runs: []api.Run{}}
			for _, r := range rows {
				out.Runs = append(out.Runs, s.runDocument(r, ranks))
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "create-run", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/runs", Tags: []string{tagBuilds}, DefaultStatus: http.StatusAccepted,
		Summary: "Queue a build of a branch's newest commit", Description: "A run of the same commit that has not ended is given in its place."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body struct {
			Branch string `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
			Retry  bool   `json:"retry,omitempty" doc:"Try again what failed before"`
		}
	}) (*body[api.Run], error) {
		r, err := p.Build(ctx, who, in.Org, in.Project, in.Body.Branch, in.Body.Retry)
		if err != nil {
			return nil, err
		}
		ranks, err := p.Ranks(ctx, r)
		return answer(s.runDocument(r, ranks), err)
	})
	served(a, huma.Operation{OperationID: "get-run", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/runs/{run}", Tags: []string{tagBuilds}, Summary: "A build, and how far it is"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *oneRun) (*body[api.Run], error) {
			r, err := p.Run(ctx, who, in.Org, in.Project, in.Run)
			if err != nil {
				return nil, err
			}
			ranks, err := p.Ranks(ctx, r)
			return answer(s.runDocument(r, ranks), err)
		})
	served(a, huma.Operation{OperationID: "cancel-run", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/runs/{run}/cancel", Tags: []string{tagBuilds}, DefaultStatus: http.StatusNoContent, Summary: "End a build, or take it out of the queue"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *oneRun) (*none, error) {
			return done(p.Cancel(ctx, who, in.Org, in.Project, in.Run))
		})
	a.raw(mux, huma.Operation{OperationID: "watch-runs", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/events", Tags: []string{tagBuilds}, Errors: []int{http.StatusBadGateway}, Summary: "How far the project's builds are, as they go on",
		Description: "Server-sent events of type run, each the state of the build that changed last since the server's start, whatever its branch; comments in between keep the connection."}, "text/event-stream", "Events without end", nil, s.apiEvents)
	does(a, huma.Operation{OperationID: "explain-artifact", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/why", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "Why an artifact is in its class", Description: "The shortest way to what is missing; where a build failed, the lines of its log that matter and what to do next."},
		func(ctx context.Context, in *OfArtifact) (*body[whyBody], error) {
			id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
			if err != nil {
				return nil, err
			}
			hops, err := s.backend.Why(ctx, id, in.Artifact)
			for i := range hops {
				if hops[i].Reasons == nil {
					hops[i].Reasons = []policy.Reason{}
				}
			}
			return answer(whyBody{hops}, err)
		})
	does(a, huma.Operation{OperationID: "get-frontier", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/frontier", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "What of the closure was not built from source", Description: "In what runs, linked-in bytes too, and in what built it. A number that is null is not known, which is not zero."},
		func(ctx context.Context, in *OfCommit) (*body[status.Frontier], error) {
			id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
			if err != nil {
				return nil, err
			}
			return answer(s.backend.Frontier(ctx, id))
		})
	does(a, huma.Operation{OperationID: "ask-gate", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/gate", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "Whether the newest commit passes a gate"}, func(ctx context.Context, in *gateInput) (*body[api.Gate], error) {
		return answer(s.gate(ctx, *in))
	})
	does(a, huma.Operation{OperationID: "find-log", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/log", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "Find a build whose log is kept", Description: "Of several builds the one that says why the step failed; if none does, the newest."}, func(ctx context.Context, in *OfArtifact) (*body[api.Log], error) {
		l, _, err := s.buildLog(ctx, in)
		return answer(l, err)
	})
	a.raw(mux, huma.Operation{OperationID: "get-log-text", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/log/text", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "The whole log of a build", Description: "The build's own words: foreign bytes, at most 64 MiB."}, "text/plain", "The log", []*huma.Param{
		{Name: "artifact", In: "query", Required: true, Schema: &huma.Schema{Type: "string"}, Description: "An artifact, a step (sha256: and its id) or a build's id"},
		{Name: "commit", In: "query", Schema: &huma.Schema{Type: "string"}, Description: "commit:sha256:…; empty: the newest"},
	}, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		in := OfArtifact{OfCommit{InProject{r.PathValue("org"), r.PathValue("project")}, q.Get("commit")}, q.Get("artifact")}
		_, text, err := s.buildLog(r.Context(), &in)
		if err != nil {
			s.failAPI(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "private, no-store")
		s.write(w, r, "text/plain; charset=utf-8", text)
	})
}

func (s *Server) buildLog(ctx context.Context, in *OfArtifact) (api.Log, []byte, error) {
	id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
	if err != nil {
		return api.Log{}, nil, err
	}
	if in.Artifact == "" || len(in.Artifact) > 500 {
		return api.Log{}, nil, fault.New(fault.Usage, "whose log? name an artifact, a step or a build")
	}
	return s.backend.BuildLog(ctx, id, in.Artifact)
}

// apiEvents is the page's events, of whatever is built of the project, with problems
// for errors.
func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request) {
	if err := s.read(r.Context(), r.PathValue("org"), r.PathValue("project")); err != nil {
		s.failAPI(w, r, err)
		return
	}
	s.tellProject(w, r, func(context.Context) (jobs.State, bool) {
		st, ok, _ := s.opts.Builds.Watch(r.PathValue("org") + "/" + r.PathValue("project"))
		return st, ok
	})
}

// evidenceAPI is what is signed, and what was solved.
func (a surface) evidenceAPI(mux *http.ServeMux) {
	s := a.Server
	commitParam := []*huma.Param{{Name: "commit", In: "query", Schema: &huma.Schema{Type: "string"}, Description: "commit:sha256:…; empty: the newest"}}
	doc := func(name string, get func(ctx context.Context, commit digest.Digest) ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			id, err := s.commit(r.Context(), r.PathValue("org"), r.PathValue("project"), r.URL.Query().Get("commit"))
			var b []byte
			if err == nil {
				b, err = get(r.Context(), id)
			}
			if err != nil {
				s.failAPI(w, r, err)
				return
			}
			w.Header().Set("Cache-Control", "private, no-cache")
			w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
			s.write(w, r, "application/json", b)
		}
	}
	a.raw(mux, huma.Operation{OperationID: "get-plan", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/plan", Tags: []string{tagEvidence}, Errors: []int{http.StatusConflict},
		Summary: "The plan of a commit", Description: "Canonical JSON, byte for byte what its digest is of (schemas/plan.v1.json); anybody can rerun it."}, "application/json", "The plan", commitParam, doc("plan.json", s.backend.Plan))
	a.raw(mux, huma.Operation{OperationID: "get-lock", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/lock", Tags: []string{tagEvidence}, Errors: []int{http.StatusConflict},
		Summary: "hallmark.lock of a commit"}, "application/json", "The lock", commitParam, doc("hallmark.lock", s.backend.Lock))
	does(a, huma.Operation{OperationID: "export-evidence", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/export", Tags: []string{tagEvidence}, Errors: []int{http.StatusConflict},
		Summary: "An artifact's evidence as files", Description: "The files that hallmark export evidence writes beside the artifact."}, func(ctx context.Context, in *OfArtifact) (*body[api.Export], error) {
		id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
		if err != nil {
			return nil, err
		}
		out, err := s.backend.Export(ctx, id, in.Artifact)
		if err != nil {
			return nil, err
		}
		out.Path = "/r/" + in.Org + "/" + in.Project + "/pypi/files/" + out.Digest.Hex() + "/" + out.File
		return answer(out, nil)
	})
	does(a, huma.Operation{OperationID: "list-evidence", Method: http.MethodGet, Path: "/api/v1/evidence/{digest}", Tags: []string{tagEvidence}, Security: anybody, Summary: "What is signed about a file"},
		func(ctx context.Context, in *struct {
			Digest string `path:"digest" maxLength:"71" doc:"SHA-256 of the file in hex"`
		}) (*body[evidenceList], error) {
			subject, err := digest.FromHex(in.Digest)
			if err != nil {
				return nil, fault.New(fault.Usage, "evidence about %.80q: want 64 hex digits", in.Digest)
			}
			return answer(s.evidenceAbout(ctx, subject))
		})
}
