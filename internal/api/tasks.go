package api

import (
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Task is what a run is for that does not build its whole commit.
type Task struct {
	Kind string `json:"kind" enum:"build,rebuild" doc:"build: one package and all that it is built with; rebuild: an artifact of the commit once more"`
	What string `json:"what" doc:"The requirement, or the artifact"`
}

// PackageBuild asks for the build of one package and all that it is built with.
type PackageBuild struct {
	Requirement string                   `json:"requirement" minLength:"1" maxLength:"16384" doc:"A package with its version as a purl, or a requirement"`
	AtTime      *time.Time               `json:"at_time,omitempty" doc:"Catalog time; default: now"`
	Overrides   *[]plan.PackageOverrides `json:"overrides,omitempty" maxItems:"500" doc:"In place of those of the branch's newest commit; they are kept for this build alone"`
	Branch      string                   `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
	Retry       bool                     `json:"retry,omitempty" doc:"Try again what failed before"`
}

// Built is one package of a build that belongs to no project's plan.
type Built struct {
	PURL    purl.PURL         `json:"purl"`
	Asked   bool              `json:"asked" doc:"It is what was asked for"`
	Status  string            `json:"status" doc:"succeeded, failed, blocked, skipped"`
	File    string            `json:"file,omitempty"`
	Digest  digest.Digest     `json:"digest,omitempty"`
	Outcome record.Comparison `json:"rebuild,omitempty"`
	Message string            `json:"message,omitempty" doc:"Why not"`
	Failure *record.Failure   `json:"failure,omitempty" doc:"Of the build that failed, or of the query before it"`
}

// Rebuilt is what a rebuild came to.
type Rebuilt struct {
	PURL    purl.PURL            `json:"purl"`
	Step    digest.Digest        `json:"step"`
	File    string               `json:"file"`
	Digest  digest.Digest        `json:"digest" doc:"Of the first build"`
	Outcome record.Comparison    `json:"outcome"`
	Result  record.RebuildResult `json:"result"`
}

// TaskResult is what came of a task.
type TaskResult struct {
	Plan  digest.Digest `json:"plan,omitempty" doc:"What a build was planned to"`
	Built []Built       `json:"built,omitempty" doc:"Of a build: what was asked for, and what it runs with"`
	Again *Rebuilt      `json:"rebuilt,omitempty" doc:"Of a rebuild"`
}
