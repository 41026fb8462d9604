package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/platform"
)

type forecastInput struct {
	InProject
	Body api.ForecastRequest
}

type packageBuildInput struct {
	InProject
	Body api.PackageBuild
}

type rebuildInput struct {
	InProject
	Body struct {
		Artifact string `json:"artifact" minLength:"1" maxLength:"500" doc:"A purl, a name, or sha256: with at least 8 hex digits, of the branch's newest commit"`
		Branch   string `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
	}
}

// taskAPI is what would be built, and what is built beside a project's commits.
func (a surface) taskAPI() {
	s := a.Server
	const project = "/api/v1/projects/{org}/{project}"
	served(a, huma.Operation{OperationID: "forecast-build", Method: http.MethodPost, Path: project + "/forecasts", Tags: []string{tagBuilds}, DefaultStatus: http.StatusOK, MaxBodyBytes: maxChangeBody,
		Summary: "What a build would do", Description: "What would be fetched, asked, built and rebuilt, why, and for about how long, of a branch as it is or with a change (schemas/forecast.v1.json). Nothing is stored. It takes as long as planning takes, and ends when the request does.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusBadGateway, http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, in *forecastInput) (*body[api.Forecast], error) {
		return answer(p.Forecast(ctx, who, in.Org, in.Project, in.Body.Branch, changeOf(in.Body.Change), in.Body.Retry))
	})
	served(a, huma.Operation{OperationID: "build-package", Method: http.MethodPost, Path: project + "/package-builds", Tags: []string{tagBuilds}, DefaultStatus: http.StatusAccepted, MaxBodyBytes: maxChangeBody,
		Summary: "Queue the build of one package", Description: "With all that it is built with, twice, signed like any other build. It changes no commit, and nothing of it is served. What came of it tells get-run-result.",
		Errors: []int{http.StatusUnprocessableEntity, http.StatusBadGateway, http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, in *packageBuildInput) (*body[api.Run], error) {
		b := platform.PackageBuild{Requirement: in.Body.Requirement, Overrides: in.Body.Overrides, Retry: in.Body.Retry}
		if in.Body.AtTime != nil {
			b.At = *in.Body.AtTime
		}
		r, err := p.BuildPackage(ctx, who, in.Org, in.Project, in.Body.Branch, b)
		if err != nil {
			return nil, err
		}
		ranks, err := p.Ranks(ctx, r)
		return answer(s.runDocument(r, ranks), err)
	})
	served(a, huma.Operation{OperationID: "rebuild-artifact", Method: http.MethodPost, Path: project + "/rebuilds", Tags: []string{tagBuilds}, DefaultStatus: http.StatusAccepted,
		Summary: "Queue a rebuild of an artifact", Description: "For owners and maintainers. Its step is run again with the undeclared varied, and compared; the result joins the step's series, whatever it is. What came of it tells get-run-result.",
		Errors: []int{http.StatusBadGateway, http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, in *rebuildInput) (*body[api.Run], error) {
		r, err := p.Rebuild(ctx, who, in.Org, in.Project, in.Body.Branch, in.Body.Artifact)
		if err != nil {
			return nil, err
		}
		ranks, err := p.Ranks(ctx, r)
		return answer(s.runDocument(r, ranks), err)
	})
	served(a, huma.Operation{OperationID: "get-run-result", Method: http.MethodGet, Path: project + "/runs/{run}/result", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict},
		Summary: "What came of a run that built a package or rebuilt an artifact"}, func(ctx context.Context, p *platform.Service, who platform.Who, in *oneRun) (*body[api.TaskResult], error) {
		return answer(p.Result(ctx, who, in.Org, in.Project, in.Run))
	})
}
