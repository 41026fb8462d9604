package api

import (
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
)

// Damage is one thing that fsck found.
type Damage struct {
	Where    string `json:"where"`
	Message  string `json:"message"`
	Advice   string `json:"advice,omitempty" doc:"What to do next"`
	Repaired bool   `json:"repaired,omitempty" doc:"It was found, and mended"`
}

// Inspection is a check of the server's data directory, as hallmark fsck does it.
type Inspection struct {
	ID      string     `json:"id"`
	Repair  bool       `json:"repair" doc:"What can be had again is mended"`
	State   string     `json:"state" enum:"waiting,running,done,failed" doc:"waiting: for the build that is at work"`
	Message string     `json:"message,omitempty" doc:"Why it failed, or waits"`
	Asked   string     `json:"asked" doc:"Login name of who asked for it"`
	Stage   string     `json:"stage,omitempty"`
	Done    int        `json:"done"`
	Total   int        `json:"total" doc:"0: not known"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Found   []Damage   `json:"found" doc:"At its end"`
	Left    int        `json:"left,omitempty" doc:"How many more were found"`
}

// Seed is the seed: the pinned binaries that the first build starts from.
type Seed struct {
	Name      string           `json:"name"`
	Suite     string           `json:"suite"`
	Digest    digest.Digest    `json:"digest" doc:"Of the set"`
	Packages  []debian.Package `json:"packages"`
	Fetched   int64            `json:"bytes_packages" doc:"Of the package files"`
	Installed int64            `json:"bytes_installed,omitempty" doc:"As unpacked; 0 if not unpacked here"`
	Layer     digest.Digest    `json:"layer,omitempty" doc:"Of the tree"`
}

// SeedCandidate is a seed as the machine's signed archive gives it now. Nothing that
// is built on it is secure before a policy names it.
type SeedCandidate struct {
	Candidate digest.Digest  `json:"candidate" doc:"Of the set"`
	Diff      debian.PinDiff `json:"diff"`
	Pin       []byte         `json:"pin" doc:"The pin, as it would stand in the repository"`
	InRelease []byte         `json:"in_release" doc:"The archive's signed index"`
	Packages  []byte         `json:"packages" doc:"What it names, compressed as it came"`
}
