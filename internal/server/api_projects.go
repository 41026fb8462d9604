package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

type projectsBody struct {
	Projects []string `json:"projects" doc:"ORG/PROJECT, sorted"`
}

type waiverInput struct {
	InProject
	Body struct {
		PURL    string    `json:"purl" maxLength:"500" doc:"The package with its version"`
		Owner   string    `json:"owner,omitempty" maxLength:"64" doc:"Who answers for it; empty: you"`
		Reason  string    `json:"reason" minLength:"1" maxLength:"2000"`
		Expires time.Time `json:"expires" doc:"Within a year"`
	}
}

type waiversBody struct {
	Waivers []api.Waiver `json:"waivers" doc:"Newest first; ended and expired ones too"`
}

// projectAPI is projects, their settings and their waivers.
func (a surface) projectAPI() {
	s := a.Server
	does(a, huma.Operation{OperationID: "list-projects", Method: http.MethodGet, Path: "/api/v1/projects", Tags: []string{tagProjects}, Summary: "The projects that you may read"},
		func(ctx context.Context, _ *struct{}) (*body[projectsBody], error) {
			out := projectsBody{Projects: []string{}}
			if s.opts.Platform == nil {
				names, err := s.backend.Projects(ctx)
				out.Projects = append(out.Projects, names...)
				return answer(out, err)
			}
			all, err := s.opts.Platform.Projects(ctx, asks(ctx).Who)
			for _, p := range all {
				out.Projects = append(out.Projects, p.Org+"/"+p.Name)
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "create-project", Method: http.MethodPost, Path: "/api/v1/projects", Tags: []string{tagProjects}, DefaultStatus: http.StatusCreated,
		Summary: "Make a project", Description: "With a first commit that asks for nothing."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		Body struct {
			Project string     `json:"project" maxLength:"130" doc:"ORG/PROJECT"`
			AtTime  *time.Time `json:"at_time,omitempty" doc:"Catalog time; default: now"`
		}
	}) (*body[api.Project], error) {
		org, name, err := project.ParseName(in.Body.Project)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		if in.Body.AtTime != nil {
			at = *in.Body.AtTime
		}
		if _, err := p.CreateProject(ctx, who, org, name, at); err != nil {
			return nil, err
		}
		return answer(s.projectDocument(ctx, org, name))
	})
	does(a, huma.Operation{OperationID: "get-project", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}", Tags: []string{tagProjects}, Summary: "A project: what it asks for, and its settings"},
		func(ctx context.Context, in *InProject) (*body[api.Project], error) {
			return answer(s.projectDocument(ctx, in.Org, in.Project))
		})
	does(a, huma.Operation{OperationID: "get-status", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/status", Tags: []string{tagProjects}, Errors: []int{http.StatusConflict},
		Summary:     "The status of a branch's newest commit",
		Description: "The same document as hallmark status --json. 409 if the commit was not solved yet."},
		func(ctx context.Context, in *OnBranch) (*body[status.Document], error) {
			if in.Branch != "" {
				id, err := s.commit(ctx, in.Org, in.Project, in.Branch)
				if err != nil {
					return nil, err
				}
				return answer(s.backend.Status(ctx, id))
			}
			p, err := s.open(ctx, in.Org, in.Project)
			if err != nil {
				return nil, err
			}
			return answer(p.Document, nil)
		})
	served(a, huma.Operation{OperationID: "get-settings", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/settings", Tags: []string{tagProjects}, Summary: "Who may see a project, and what it demands"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *InProject) (*body[api.Settings], error) {
			v, err := p.Settings(ctx, who, in.Org, in.Project)
			return answer(api.Settings{Public: v.Public, RequireSecure: v.RequireSecure}, err)
		})
	served(a, huma.Operation{OperationID: "set-settings", Method: http.MethodPut, Path: "/api/v1/projects/{org}/{project}/settings", Tags: []string{tagProjects}, DefaultStatus: http.StatusNoContent, Summary: "Change who may see a project, and what it demands"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			InProject
			Body api.Settings
		}) (*none, error) {
			return done(p.SetSettings(ctx, who, store.Settings{Org: in.Org, Name: in.Project, Public: in.Body.Public, RequireSecure: in.Body.RequireSecure}))
		})
	served(a, huma.Operation{OperationID: "list-waivers", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/waivers", Tags: []string{tagProjects}, Summary: "A project's waivers"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *InProject) (*body[waiversBody], error) {
			rows, err := p.Waivers(ctx, who, in.Org, in.Project)
			out := waiversBody{Waivers: []api.Waiver{}}
			for _, w := range rows {
				out.Waivers = append(out.Waivers, api.Waiver{ID: w.ID, PURL: w.PURL, Owner: w.Owner, Reason: w.Reason, Created: w.Created, Expires: w.Expires, Ended: moment(w.Ended)})
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "create-waiver", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/waivers", Tags: []string{tagProjects}, DefaultStatus: http.StatusNoContent,
		Summary: "Grant a waiver", Description: "It answers a gate. It changes neither class nor percentage."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *waiverInput) (*none, error) {
		return done(p.Waive(ctx, who, in.Org, in.Project, in.Body.PURL, in.Body.Owner, in.Body.Reason, in.Body.Expires))
	})
	served(a, huma.Operation{OperationID: "end-waiver", Method: http.MethodDelete, Path: "/api/v1/projects/{org}/{project}/waivers/{id}", Tags: []string{tagProjects}, DefaultStatus: http.StatusNoContent, Summary: "Take a waiver back"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			InProject
			ID string `path:"id" maxLength:"64"`
		}) (*none, error) {
			return done(p.EndWaiver(ctx, who, in.Org, in.Project, in.ID))
		})
}

func (s *Server) projectDocument(ctx context.Context, org, name string) (api.Project, error) {
	p, err := s.hosted()
	if err != nil {
		return api.Project{}, err
	}
	who := asks(ctx).Who
	v, err := p.Settings(ctx, who, org, name)
	if err != nil {
		return api.Project{}, err
	}
	h, err := p.Head(ctx, who, org, name, "")
	if err != nil {
		return api.Project{}, err
	}
	c := api.CommitOf("commit:"+h.ID.String(), h.Commit)
	return api.Project{Project: c.Project, Commit: c.ID, Role: string(who.Role(org)), Public: v.Public, RequireSecure: v.RequireSecure,
		Requirements: c.Requirements, Platforms: c.Platforms, AtTime: c.AtTime, Policy: c.Policy, OnUnproven: c.OnUnproven}, nil
}

type commitsBody struct {
	Commits []api.Commit `json:"commits" doc:"Newest first"`
}

type changeInput struct {
	InProject
	Body api.Change
}

type oneCommit struct {
	InProject
	Commit string `path:"commit" maxLength:"100" doc:"commit:sha256:…"`
}

type commitBody struct {
	api.Change
	Build bool `json:"build,omitempty" doc:"Queue its build as well"`
}

type overridesBody struct {
	Overrides []plan.PackageOverrides `json:"overrides" doc:"In the order of their files' names"`
}

// maxChangeBody bounds a request that brings a change: with overrides it may have
// patches.
const maxChangeBody = 8 << 20

type revertBody struct {
	Commit string `json:"commit" maxLength:"100" doc:"The commit whose configuration shall be that of the next"`
	Branch string `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
	Build  bool   `json:"build,omitempty" doc:"Queue its build as well"`
}

// commitAPI is a project's line of commits.
func (a surface) commitAPI() {
	s := a.Server
	served(a, huma.Operation{OperationID: "list-commits", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/commits", Tags: []string{tagProjects}, Summary: "A project's history"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
			OnBranch
			Limit int `query:"limit" minimum:"1" maximum:"1000" default:"50"`
		}) (*body[commitsBody], error) {
			rows, err := p.History(ctx, who, in.Org, in.Project, in.Branch, in.Limit)
			out := commitsBody{Commits: []api.Commit{}}
			for _, l := range rows {
				out.Commits = append(out.Commits, api.CommitOf("commit:"+l.ID.String(), l.Commit))
			}
			return answer(out, err)
		})
	does(a, huma.Operation{OperationID: "get-commit", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/commits/{commit}", Tags: []string{tagProjects}, Summary: "A commit"},
		func(ctx context.Context, in *oneCommit) (*body[api.Commit], error) {
			id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
			if err != nil {
				return nil, err
			}
			c, err := s.opts.Platform.CommitOf(ctx, asks(ctx).Who, in.Org, in.Project, id)
			return answer(api.CommitOf("commit:"+id.String(), c), err)
		})
	does(a, huma.Operation{OperationID: "get-overrides", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/overrides", Tags: []string{tagProjects}, Summary: "The overrides of a commit's own",
		Description: "What builds of packages need and no rule can know, as the project says it; none if it has none. A change sends them in this form."}, func(ctx context.Context, in *OfCommit) (*body[overridesBody], error) {
		id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
		if err != nil {
			return nil, err
		}
		p, err := s.hosted()
		if err != nil {
			return nil, err
		}
		list, err := p.OverridesOf(ctx, asks(ctx).Who, in.Org, in.Project, id)
		return answer(overridesBody{append([]plan.PackageOverrides{}, list...)}, err)
	})
	served(a, huma.Operation{OperationID: "propose-commit", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/proposals", Tags: []string{tagProjects}, DefaultStatus: http.StatusOK, MaxBodyBytes: maxChangeBody,
		Summary: "What a change would commit", Description: "Nothing is stored."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *changeInput) (*body[api.Proposal], error) {
		next, head, err := p.Propose(ctx, who, in.Org, in.Project, in.Body.Branch, changeOf(in.Body))
		if err != nil {
			return nil, err
		}
		old, err := p.CommitOf(ctx, who, in.Org, in.Project, head)
		if err != nil {
			return nil, err
		}
		id, _, err := next.ID()
		return answer(api.Proposal{Head: "commit:" + head.String(), Commit: api.CommitOf(id, next), Diff: DiffDocument(p.DiffOf(old, next))}, err)
	})
	served(a, huma.Operation{OperationID: "create-commit", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/commits", Tags: []string{tagProjects}, DefaultStatus: http.StatusCreated, MaxBodyBytes: maxChangeBody,
		Summary: "Change a project", Description: "One commit on top of a branch, and, if asked for, its build, both or neither."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body commitBody
	}) (*body[api.Committed], error) {
		expected, err := commitID(in.Body.Expected)
		if err != nil {
			return nil, err
		}
		id, err := p.Commit(ctx, who, in.Org, in.Project, in.Body.Branch, changeOf(in.Body.Change), expected, in.Body.Build)
		return s.committed(ctx, in.InProject, id, in.Body.Build, err)
	})
	served(a, huma.Operation{OperationID: "revert-to-commit", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/reverts", Tags: []string{tagProjects}, DefaultStatus: http.StatusCreated,
		Summary: "Ask again for what an earlier commit asked for"}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body revertBody
	}) (*body[api.Committed], error) {
		to, err := commitID(in.Body.Commit)
		if err != nil {
			return nil, err
		}
		id, err := p.Revert(ctx, who, in.Org, in.Project, in.Body.Branch, to, in.Body.Build)
		return s.committed(ctx, in.InProject, id, in.Body.Build, err)
	})
	does(a, huma.Operation{OperationID: "get-diff", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/diff", Tags: []string{tagProjects}, Summary: "What changes from one commit to another"},
		func(ctx context.Context, in *struct {
			InProject
			From string `query:"from" required:"true" maxLength:"100" doc:"commit:sha256:…"`
			To   string `query:"to" required:"true" maxLength:"100" doc:"commit:sha256:…"`
		}) (*body[api.Diff], error) {
			from, err := s.commit(ctx, in.Org, in.Project, in.From)
			if err != nil {
				return nil, err
			}
			to, err := s.commit(ctx, in.Org, in.Project, in.To)
			if err != nil {
				return nil, err
			}
			d, err := s.opts.Platform.Diff(ctx, asks(ctx).Who, in.Org, in.Project, from, to)
			return answer(DiffDocument(d), err)
		})
	does(a, huma.Operation{OperationID: "get-commit-status", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/commits/{commit}/status", Tags: []string{tagProjects}, Errors: []int{http.StatusConflict},
		Summary: "The status of any commit", Description: "409 if it was not solved yet."}, func(ctx context.Context, in *oneCommit) (*body[status.Document], error) {
		id, err := s.commit(ctx, in.Org, in.Project, in.Commit)
		if err != nil {
			return nil, err
		}
		return answer(s.backend.Status(ctx, id))
	})
}

func changeOf(c api.Change) platform.Change {
	return platform.Change{Add: c.Add, Remove: c.Remove, AtTime: c.AtTime, Policy: c.Policy, OnUnproven: c.OnUnproven, Message: c.Message, Overrides: c.Overrides}
}

// DiffDocument is a difference as the API shows it.
func DiffDocument(d platform.Diff) api.Diff {
	out := api.Diff{Added: append([]string{}, d.Added...), Removed: append([]string{}, d.Removed...), Changed: []api.Changed{}, Fields: []api.FieldDiff{}}
	for _, c := range d.Changed {
		out.Changed = append(out.Changed, api.Changed{Before: c[0], After: c[1]})
	}
	for _, f := range d.Fields {
		out.Fields = append(out.Fields, api.FieldDiff{Name: f[0], Before: f[1], After: f[2]})
	}
	return out
}

// commit finds a commit of the project that whoever asks may read: by its id, or the
// newest of a branch; empty: of the default one.
func (s *Server) commit(ctx context.Context, org, name, id string) (digest.Digest, error) {
	if id == "" {
		return s.head(ctx, org, name)
	}
	if err := s.read(ctx, org, name); err != nil {
		return "", err
	}
	p, err := s.hosted()
	if err != nil {
		return "", err
	}
	return p.Resolve(ctx, asks(ctx).Who, org, name, id)
}

// head is the newest commit of a project that whoever asks may read.
func (s *Server) head(ctx context.Context, org, name string) (digest.Digest, error) {
	if s.opts.Platform == nil {
		p, err := s.open(ctx, org, name)
		if err != nil {
			return "", err
		}
		return commitID(p.Document.Commit)
	}
	h, err := s.opts.Platform.Head(ctx, asks(ctx).Who, org, name, "")
	return h.ID, err
}

// committed answers with a commit that was made just now, and its run.
func (s *Server) committed(ctx context.Context, in InProject, id digest.Digest, built bool, err error) (*body[api.Committed], error) {
	if err != nil {
		return nil, err
	}
	who := asks(ctx).Who
	c, err := s.opts.Platform.CommitOf(ctx, who, in.Org, in.Project, id)
	if err != nil {
		return nil, err
	}
	out := api.Committed{Commit: api.CommitOf("commit:"+id.String(), c)}
	if built {
		runs, err := s.opts.Platform.Runs(ctx, who, in.Org, in.Project, 20)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			if r.Commit == id {
				ranks, err := s.opts.Platform.Ranks(ctx, r)
				if err != nil {
					return nil, err
				}
				run := s.runDocument(r, ranks)
				out.Run = &run
				break
			}
		}
	}
	return answer(out, nil)
}

// gateInput is what a gate demands.
type gateInput struct {
	OnBranch
	MinSecure    int  `query:"min_secure" minimum:"-1" maximum:"100" default:"-1" doc:"Say no below this percentage; -1: do not ask"`
	NoNewUnknown bool `query:"no_new_unknown" doc:"Say no if an artifact is of grade unknown that was not so in the parent commit"`
}

// gate answers a gate about a branch's newest commit.
func (s *Server) gate(ctx context.Context, in gateInput) (api.Gate, error) {
	if s.opts.Platform != nil {
		return s.gateOf(ctx, in)
	}
	p, err := s.open(ctx, in.Org, in.Project)
	if err != nil {
		return api.Gate{}, err
	}
	sum := p.Document.Summary
	g := api.Gate{PercentSecure: sum.PercentSecure, NewUnknown: []string{}, Says: []string{}, Answered: []string{}}
	if in.MinSecure >= 0 && (sum.PercentSecure == nil || *sum.PercentSecure < in.MinSecure) {
		g.Says = append(g.Says, fmt.Sprintf("%s secure, at least %d %% demanded", sum.Percent(), in.MinSecure))
	}
	if in.NoNewUnknown {
		id, err := commitID(p.Document.Commit)
		if err != nil {
			return api.Gate{}, err
		}
		names, err := s.backend.NewUnknown(ctx, id)
		if err != nil {
			return api.Gate{}, err
		}
		g.NewUnknown = append(g.NewUnknown, names...)
		if len(names) > 0 {
			g.Says = append(g.Says, "unknown since this commit: "+strings.Join(names, ", "))
		}
	}
	g.OK = len(g.Says) == 0
	return g, nil
}
