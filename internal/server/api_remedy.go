package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/platform"
	"hallmark/internal/remedy"
)

type waysBody struct {
	Faults []remedy.Fault `json:"faults" doc:"What keeps packages from being secure, most holding back first, each with its ways out"`
	FixAll []string       `json:"fix_all" doc:"Requirements that a change would add to take, for each fault, the newest version that is proven here; preview it, then commit it"`
}

// remedyAPI is what pages show of effects, ways out and reports.
func (a surface) remedyAPI() {
	s := a.Server
	served(a, huma.Operation{OperationID: "preview-commit", Method: http.MethodPost, Path: "/api/v1/projects/{org}/{project}/previews", Tags: []string{tagProjects}, DefaultStatus: http.StatusOK, MaxBodyBytes: maxChangeBody,
		Summary: "What a change would bring", Description: "Status and closure as they would be, what changes, and about how long building takes. Nothing is stored. It takes as long as planning takes, and ends when the request does.",
		Errors: []int{http.StatusConflict, http.StatusUnprocessableEntity, http.StatusBadGateway, http.StatusNotImplemented}},
		func(ctx context.Context, p *platform.Service, who platform.Who, in *changeInput) (*body[remedy.Effect], error) {
			return answer(p.Preview(ctx, who, in.Org, in.Project, in.Body.Branch, changeOf(in.Body)))
		})
	served(a, huma.Operation{OperationID: "list-ways-out", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/remedies", Tags: []string{tagBuilds}, Errors: []int{http.StatusConflict, http.StatusNotImplemented},
		Summary: "What can be done about what is not secure"}, func(ctx context.Context, p *platform.Service, who platform.Who, in *OnBranch) (*body[waysBody], error) {
		f, _, err := p.Faults(ctx, who, in.Org, in.Project, in.Branch)
		out := waysBody{Faults: f, FixAll: append([]string{}, remedy.FixAll(f)...)}
		if out.Faults == nil {
			out.Faults = []remedy.Fault{}
		}
		return answer(out, err)
	})
	served(a, huma.Operation{OperationID: "get-report", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/report", Tags: []string{tagEvidence}, Errors: []int{http.StatusConflict, http.StatusNotImplemented},
		Summary: "What was proven, by whom, under which policy", Description: "The document of /{org}/{project}/report.json (schemas/report.v1.json)."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *OnBranch) (*body[remedy.Report], error) {
		return answer(p.Report(ctx, who, in.Org, in.Project, in.Branch))
	})
	served(a, huma.Operation{OperationID: "get-badge", Method: http.MethodGet, Path: "/api/v1/projects/{org}/{project}/badge", Tags: []string{tagProjects}, Errors: []int{http.StatusNotImplemented},
		Summary: "The address of a project's badge", Description: "With a token where the project is not public: whoever has the address sees the percentage, and nothing else."}, func(ctx context.Context, p *platform.Service, who platform.Who, in *InProject) (*body[badgeBody], error) {
		out := badgeBody{URL: s.opts.ExternalURL + "/badge/" + in.Org + "/" + in.Project + ".svg"}
		token, err := p.BadgeToken(ctx, who, in.Org, in.Project)
		if err != nil {
			return nil, err
		}
		set, err := p.Settings(ctx, who, in.Org, in.Project)
		if err == nil && !set.Public {
			out.URL += "?token=" + token
		}
		return answer(out, err)
	})
}

type badgeBody struct {
	URL string `json:"url"`
}

// gateOf answers a gate with the waivers that hold.
func (s *Server) gateOf(ctx context.Context, in gateInput) (api.Gate, error) {
	d := platform.GateDemand{NoNewUnknown: in.NoNewUnknown}
	if in.MinSecure >= 0 {
		d.MinSecure = &in.MinSecure
	}
	a, err := s.opts.Platform.Gate(ctx, asks(ctx).Who, in.Org, in.Project, in.Branch, d)
	if err != nil {
		return api.Gate{}, err
	}
	g := api.Gate{OK: a.OK, PercentSecure: a.Percent, NewUnknown: []string{}, Says: a.Refusals, Answered: append([]string{}, a.Notes()...)}
	for _, u := range a.NewUnknown {
		g.NewUnknown = append(g.NewUnknown, string(u))
	}
	return g, nil
}
