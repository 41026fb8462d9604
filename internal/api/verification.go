package api

import (
	"strings"

	"hallmark/internal/purl"
)

// Check is one thing that a verification looked at.
type Check struct {
	Artifact purl.PURL `json:"artifact,omitempty"`
	What     string    `json:"what"`
	OK       bool      `json:"ok"`
	Detail   string    `json:"detail,omitempty"`
}

// Verification is all that a verification looked at; OK if every check passed.
type Verification struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Add keeps what a check of an artifact found: err is nil if it passed.
func (v *Verification) Add(u purl.PURL, what string, err error) {
	c := Check{Artifact: u, What: what, OK: err == nil}
	if err != nil {
		c.Detail = strings.Join(strings.Fields(err.Error()), " ")
	}
	v.Checks = append(v.Checks, c)
	v.OK = v.OK && c.OK
}

// Failed counts the checks that did not pass.
func (v *Verification) Failed() int {
	n := 0
	for _, c := range v.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}
