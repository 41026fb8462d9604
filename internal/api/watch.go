package api

import (
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/record"
)

// Step is one build of a run.
type Step struct {
	ID      string          `json:"id" doc:"Names it within the run"`
	Step    digest.Digest   `json:"step" doc:"Of the plan"`
	PURL    string          `json:"purl"`
	Purpose record.Purpose  `json:"purpose" doc:"first, rebuild (the second build), prebuilt (thrown away), query (its backend is asked)"`
	State   string          `json:"state" enum:"waiting,running,done,failed,blocked,skipped,stopped" doc:"blocked: something it is built with failed; skipped: not needed in the end; stopped: the run ended before it"`
	Phase   string          `json:"phase,omitempty" doc:"While it runs"`
	Began   *time.Time      `json:"began,omitempty"`
	Ended   *time.Time      `json:"ended,omitempty"`
	Build   string          `json:"build,omitempty" doc:"Id of the build that came of it; names its stored log (find-log)"`
	Outcome string          `json:"outcome,omitempty" doc:"succeeded or failed; of a second build how the two compare"`
	Failure *record.Failure `json:"failure,omitempty" doc:"Why it failed, with the lines of its log that matter"`
}

// Steps are the builds of a run.
type Steps struct {
	Kept    bool   `json:"kept" doc:"false: the run has not begun, or nothing is known of the attempt"`
	Attempt int    `json:"attempt" doc:"Its number, from 1"`
	Steps   []Step `json:"steps"`
}

// Attempt is a go at a run that has ended.
type Attempt struct {
	Number  int       `json:"number" doc:"From 1"`
	State   string    `json:"state" enum:"succeeded,failed,cancelled,cut-off" doc:"cut-off: the server ended while it ran"`
	Message string    `json:"message" doc:"Why"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
}

// Attempts are the goes at a run that have ended.
type Attempts struct {
	Attempts []Attempt `json:"attempts" doc:"The first one first"`
}

// Queued is a run that waits or works, as an administrator sees it.
type Queued struct {
	ID       string    `json:"id"`
	Org      string    `json:"org"`
	State    string    `json:"state" enum:"queued,running"`
	Created  time.Time `json:"created"`
	Place    int       `json:"place,omitempty" doc:"1: the next; none: it works"`
	Priority string    `json:"priority" enum:"high,normal,low" doc:"Among the organization's runs"`
	Over     string    `json:"over" enum:"high,normal,low" doc:"Among all"`
}

// Queue is the server's builds, in their order.
type Queue struct {
	Runs []Queued `json:"runs"`
}
