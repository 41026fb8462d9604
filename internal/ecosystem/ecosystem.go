// Package ecosystem says what the platform asks of a language: the seam between
// the builds, which know no language, and the rooms below this folder, each of
// which knows one.
package ecosystem

import (
	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Command is what a step runs, in the terms of the sandbox's root.
type Command struct {
	Args  []string
	Env   []string          // exactly the environment that the step declares, sorted
	Files map[string][]byte // small read-only files to lay into the root, by absolute path
	Makes []string          // folders that it makes, by absolute path: where they are there already, it ends
}

// Product is what a build made, after its language has looked at it.
type Product struct {
	Path    string   // the file as it will be served
	File    string   // its base name
	Raw     string   // the file as the build left it; the same as Path if nothing was named anew
	RawFile string   // base name of Raw
	Natives []Native // native and bytecode files inside, sorted by path
}

// Layer is what a step made, as it lies in the root of a build.
type Layer struct {
	PURL purl.PURL
	Dir  string
}

// Native is a native or bytecode file inside a product.
type Native struct {
	Path   string
	Kind   string // "elf", "pe", "pyc" … (archive.Kind), or that of what is inside it
	Digest digest.Digest
	Linked *archive.Linkage // of an ELF file; nil: not known
	From   *Origin          // nil: it was made by the build
}

// Origin is the file of one of a build's inputs that a file is, but for the names by which
// it is found and finds others.
type Origin struct {
	PURL   purl.PURL     // of the input
	Path   string        // in the input
	Digest digest.Digest // of the file there
}

// Wholes is a Language of which some steps read what another step made as the file that it
// is, not laid out.
type Wholes interface {
	// Whole gives the folder, absolute in the root, in which a step has the file of one of
	// its inputs; empty: it is laid out.
	Whole(s plan.Step, in plan.Input) string
}

// Companion is how a layer is made faster to use: a command run in the sandbox on
// the layer alone, whose output is laid into every root that the layer is in. It
// must be derived from the layer's files and execute none of them.
type Companion struct {
	Args   []string // empty: the layer needs none
	Env    []string
	At     string // absolute folder, inside, at which the output is laid
	Within string // the folder of the output that a layer's own may fill; else it is refused
}

// Language is what building asks of an ecosystem. Its methods may be called
// from several goroutines.
type Language interface {
	// Type is the purl type, such as "pypi".
	Type() string
	// BaseKey names the version of what Base lays down.
	BaseKey() string
	// Base lays down in dir the layer that every build of the language has.
	Base(dir string) error
	// Unpack lays a dependency's file down in dir as a layer.
	Unpack(file, dir string) error
	// SeedCompanion and Companion say how the seed's and a dependency's layer are
	// made faster to use.
	SeedCompanion() Companion
	Companion() Companion
	// Command gives what a step runs.
	Command(s plan.Step) (Command, error)
	// Accept looks at what a build left in dir. A failure is the build's fault; an
	// error is ours. root are the layers that it was built with, sorted by purl; work is
	// an empty folder for a file that is named anew.
	Accept(s plan.Step, p plan.Platform, root []Layer, dir, work string) (Product, *record.Failure, error)
	// Diagnose says why a command failed, from its log and exit code.
	Diagnose(log []byte, exit int) *record.Failure
}
