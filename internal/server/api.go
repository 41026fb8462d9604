package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hallmark/internal/platform"
	"hallmark/internal/status"
)

type projectsOutput struct {
	Body struct {
		Projects []string `json:"projects" doc:"ORG/PROJECT, sorted"`
	}
}

type projectInput struct {
	Org     string `path:"org" maxLength:"64" doc:"The organization"`
	Project string `path:"project" maxLength:"64" doc:"The project"`
}

type statusOutput struct {
	Body status.Document
}

// api describes and registers the API. Errors are problems as RFC 9457 has them.
func (s *Server) api(mux *http.ServeMux) {
	c := huma.DefaultConfig("Hallmark", "v1")
	c.Info.Description = "How a project's packages were built, by whom, and what is proven of it."
	c.DocsPath, c.SchemasPath = "", "" // the docs page loads scripts from elsewhere
	c.CreateHooks = nil                // no $schema in answers: the documents have schemas of their own
	c.Servers = []*huma.Server{{URL: s.opts.ExternalURL}}
	api := humago.New(mux, c)
	problem := func(ctx context.Context, err error) error {
		r, e := http.NewRequestWithContext(ctx, http.MethodGet, "/api", nil)
		if e != nil {
			return e
		}
		code, text := s.say(r, err)
		return huma.NewError(code, text)
	}
	huma.Register(api, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/api/v1/projects",
		Summary: "All projects", Errors: []int{500},
	}, func(ctx context.Context, _ *struct{}) (*projectsOutput, error) {
		var out projectsOutput
		var err error
		if s.opts.Platform != nil {
			var all []platform.Listed
			all, err = s.opts.Platform.Projects(ctx, asks(ctx).Who)
			for _, p := range all {
				out.Body.Projects = append(out.Body.Projects, p.Org+"/"+p.Name)
			}
		} else {
			out.Body.Projects, err = s.cache.Projects(ctx)
		}
		if err != nil {
			return nil, problem(ctx, err)
		}
		if out.Body.Projects == nil {
			out.Body.Projects = []string{}
		}
		return &out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "get-status", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/status",
		Summary:     "The status of a project's newest commit",
		Description: "The same document as hallmark status --json. 409 if the commit was not solved yet.",
		Errors:      []int{404, 409, 500},
	}, func(ctx context.Context, in *projectInput) (*statusOutput, error) {
		p, err := s.open(ctx, in.Org, in.Project)
		if err != nil {
			return nil, problem(ctx, err)
		}
		return &statusOutput{Body: p.Document}, nil
	})
}
