package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/lockfile"
	"hallmark/internal/platform"
)

type branchesBody struct {
	Branches []api.Branch `json:"branches" doc:"The default one first, then by name"`
}

type oneBranch struct {
	InProject
	Branch string `path:"branch" maxLength:"64"`
}

func branchDocument(b platform.Branch) api.Branch {
	return api.Branch{Name: b.Name, Commit: "commit:" + b.Head.String(), Default: b.Default, Message: b.Commit.Message}
}

// branchAPI is a project's branches, comparisons and imports.
func (a surface) branchAPI() {
	s := a.Server
	served(a, huma.Operation{OperationID: "list-branches", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/branches", Tags: []string{tagProjects}, Summary: "A project's branches"},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *InProject) (*body[branchesBody], error) {
			all, err := p.Branches(ctx, who, in.Org, in.Project)
			out := branchesBody{Branches: []api.Branch{}}
			for _, b := range all {
				out.Branches = append(out.Branches, branchDocument(b))
			}
			return answer(out, err)
		})
	served(a, huma.Operation{OperationID: "create-branch", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/branches", Tags: []string{tagProjects}, DefaultStatus: http.StatusCreated,
		Summary: "Make a branch", Description: "Its name is one that git takes, of letters, digits, dot, dash, underscore and slash."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body struct {
			Name string `json:"name" minLength:"1" maxLength:"64"`
			From string `json:"from,omitempty" maxLength:"100" doc:"Where it begins: commit:sha256:…, or a branch; empty: the default branch"`
		}
	}) (*body[api.Branch], error) {
		b, err := p.CreateBranch(ctx, who, in.Org, in.Project, in.Body.Name, in.Body.From)
		return answer(branchDocument(b), err)
	})
	served(a, huma.Operation{OperationID: "remove-branch", Method: http.MethodDelete, Path: "/api/v1/projects/{org}/{project}/branches/{branch}", Tags: []string{tagProjects}, DefaultStatus: http.StatusNoContent,
		Summary: "Remove a branch", Description: "Its commits stay. The default branch cannot be removed: 409."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *oneBranch) (*none, error) {
		return done(p.RemoveBranch(ctx, who, in.Org, in.Project, in.Branch))
	})
	served(a, huma.Operation{OperationID: "set-default-branch", Method: http.MethodPut, Path: "/api/v1/projects/{org}/{project}/default-branch", Tags: []string{tagProjects}, DefaultStatus: http.StatusNoContent,
		Summary: "Make a branch the default one", Description: "The project's registry serves it from then on."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body struct {
			Branch string `json:"branch" minLength:"1" maxLength:"64"`
		}
	}) (*none, error) {
		return done(p.SetDefaultBranch(ctx, who, in.Org, in.Project, in.Body.Branch))
	})
	served(a, huma.Operation{OperationID: "compare-commits", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/comparison", Tags: []string{tagProjects}, Summary: "What differs between two branches or commits",
		Description: "Requirements, and, if both were solved, packages and their classes."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		From string `query:"from" maxLength:"100" doc:"commit:sha256:…, or a branch; empty: the default branch"`
		To   string `query:"to" maxLength:"100" doc:"commit:sha256:…, or a branch; empty: the default branch"`
	}) (*body[api.Comparison], error) {
		c, err := p.Compare(ctx, who, in.Org, in.Project, in.From, in.To)
		return answer(api.Comparison{From: "commit:" + c.From.String(), To: "commit:" + c.To.String(), Diff: DiffDocument(c.Diff), Effect: c.Effect, Unsolved: c.Unsolved}, err)
	})
	served(a, huma.Operation{OperationID: "import-file", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/imports", Tags: []string{tagProjects}, DefaultStatus: http.StatusOK, MaxBodyBytes: maxImport,
		Summary: "Import a lock file or a bill of materials", Description: "One commit that asks for what the file does. With dry_run it only says what would be taken, and what left out and why; what that would bring, preview-commit tells of add and remove.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusBadGateway}}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		InProject
		Body api.ImportRequest
	}) (*body[api.Imported], error) {
		q := in.Body
		expected, err := commitID(q.Expected)
		if err != nil {
			return nil, err
		}
		i, err := p.Import(ctx, who, in.Org, in.Project, q.Branch, q.Name, []byte(q.Content), platform.ImportChoice{
			Choice: lockfile.Choice{Direct: q.Direct, Groups: q.Groups, Without: q.Without}, Replace: q.Replace, AtTime: q.AtTime})
		if err != nil {
			return nil, err
		}
		out := importDocument(i)
		if q.DryRun || i.Empty() {
			return answer(out, nil)
		}
		if expected == "" {
			expected = i.Base
		}
		var id digest.Digest
		if id, err = p.Commit(ctx, who, in.Org, in.Project, q.Branch, i.Change, expected, q.Build); err != nil {
			return nil, err
		}
		made, err := s.committed(ctx, in.InProject, id, q.Build, nil)
		if err != nil {
			return nil, err
		}
		out.Commit, out.Run = &made.Body.Commit, made.Body.Run
		return answer(out, nil)
	})
}

// maxImport bounds a request that brings a file: the file with what JSON, or a form,
// puts around it, in bytes.
const maxImport = 2*lockfile.MaxBytes + 64<<10

func importDocument(i platform.Import) api.Imported {
	return api.Imported{File: i.File.Name, Format: string(i.File.Format), DirectKnown: i.File.DirectKnown, Taken: append([]lockfile.Found{}, i.Taken...), LeftOut: append([]lockfile.Left{}, i.Left...),
		Notes: append([]string{}, i.File.Notes...), Stands: i.Stands, Add: append([]string{}, i.Change.Add...), Remove: append([]string{}, i.Change.Remove...), Base: "commit:" + i.Base.String()}
}
