package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"hallmark/internal/api"
	"hallmark/internal/platform"
)

// operateAPI is what of the data directory itself can be done from a server.
func (a surface) operateAPI() {
	served(a, huma.Operation{OperationID: "start-inspection", Method: http.MethodPost, Path: "/api/v1/inspection", Tags: []string{tagAdmin}, DefaultStatus: http.StatusAccepted,
		Summary: "Check the data directory, as hallmark fsck does", Description: "For administrators. It waits for the build that is at work, and builds wait for it. One that only checks ends by itself when nobody asks for it for a minute. With repair what can be had again is mended.",
		Errors: []int{http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, in *struct {
		Body struct {
			Repair bool `json:"repair,omitempty" doc:"Mend what can be had again"`
		}
	}) (*body[api.Inspection], error) {
		return answer(p.Inspect(ctx, who, in.Body.Repair))
	})
	served(a, huma.Operation{OperationID: "get-inspection", Method: http.MethodGet, Path: "/api/v1/inspection", Tags: []string{tagAdmin}, Summary: "How far the newest check of the data directory is, and what it found",
		Description: "For administrators.", Errors: []int{http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[api.Inspection], error) {
		return answer(p.Inspection(who))
	})
	served(a, huma.Operation{OperationID: "end-inspection", Method: http.MethodDelete, Path: "/api/v1/inspection", Tags: []string{tagAdmin}, DefaultStatus: http.StatusNoContent, Summary: "Break off a check of the data directory",
		Description: "For administrators. A repair goes on to its end.", Errors: []int{http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*none, error) {
		return done(p.EndInspection(who))
	})
	served(a, huma.Operation{OperationID: "get-seed", Method: http.MethodGet, Path: "/api/v1/seed", Tags: []string{tagEvidence}, Summary: "The pinned binaries that the first build starts from",
		Errors: []int{http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[api.Seed], error) {
		return answer(p.Seed(who))
	})
	served(a, huma.Operation{OperationID: "create-seed-candidate", Method: http.MethodPost, Path: "/api/v1/seed/candidates", Tags: []string{tagAdmin}, DefaultStatus: http.StatusOK,
		Summary: "Resolve a seed as the signed archive of the server's machine has it now", Description: "For administrators. Nothing is changed: the seed is part of the program, and nothing that is built on another is secure before a policy names it.",
		Errors: []int{http.StatusBadGateway, http.StatusUnprocessableEntity, http.StatusNotImplemented}}, func(ctx context.Context, p *platform.Service, who platform.Who, _ *struct{}) (*body[api.SeedCandidate], error) {
		return answer(p.SeedCandidate(ctx, who))
	})
}
