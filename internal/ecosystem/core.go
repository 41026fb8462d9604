package ecosystem

import (
	"context"

	"hallmark/internal/plan"
	"hallmark/internal/purl"
)

// Core is an interpreter that a project brings itself, built of a recipe, in place of
// the seed's: the packages of its language are planned on it. Its methods may be called
// from several goroutines.
type Core interface {
	// Version is the full version, such as "3.11.2".
	Version() string
	// CPlusPlus names the recipe of the C++ library, which whatever is in C++ links; empty
	// if there is none.
	CPlusPlus() string
	// Under plans what lies under a build that links libraries of the recipes named.
	Under(ctx context.Context, libraries []string) (Ground, error)
	// Requires names what a package runs with that links them.
	Requires(libraries []string) []purl.PURL
}

// Ground is what lies under a build in place of the seed's interpreter.
type Ground struct {
	Layers []plan.Step // those whose whole layers lie under it
	Behind []plan.Step // all that these are built with, and more
	// Without are the packages of the seed that are not in the root, sorted.
	Without []string
	// Bare: nor is any of its object files and archives.
	Bare bool
	// Bad is why there is nothing: one of the recipes cannot be built.
	Bad *plan.Unplanned
}
