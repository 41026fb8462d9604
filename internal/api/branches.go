package api

import (
	"time"

	"hallmark/internal/lockfile"
	"hallmark/internal/remedy"
)

// Branch is a line of a project's commits.
type Branch struct {
	Name    string `json:"name"`
	Commit  string `json:"commit" doc:"Its newest, commit:sha256:…"`
	Default bool   `json:"default" doc:"The project's registry serves it, and it is meant where none is named"`
	Message string `json:"message" doc:"Of that commit"`
}

// Comparison is what differs between two commits of a project.
type Comparison struct {
	From     string         `json:"from" doc:"commit:sha256:…"`
	To       string         `json:"to" doc:"commit:sha256:…"`
	Diff     Diff           `json:"diff" doc:"What they ask for"`
	Effect   *remedy.Effect `json:"effect,omitempty" doc:"What they run with, and its classes; left out if one of them was not solved yet"`
	Unsolved string         `json:"unsolved,omitempty" doc:"Why there is no effect"`
}

// ImportRequest is a file to import, and how.
type ImportRequest struct {
	Name     string     `json:"name" maxLength:"200" doc:"The file's name; what it is, its content says"`
	Content  string     `json:"content" minLength:"1" maxLength:"4194304" doc:"The file, as text"`
	Branch   string     `json:"branch,omitempty" maxLength:"64" doc:"Empty: the default one"`
	Replace  bool       `json:"replace,omitempty" doc:"The project asks for nothing else afterwards"`
	Direct   bool       `json:"direct,omitempty" doc:"Only what the file's project asks for itself, where the file tells"`
	Groups   bool       `json:"groups,omitempty" doc:"Packages that are only for groups such as dev, too"`
	Without  []string   `json:"without,omitempty" maxItems:"5000" doc:"Packages to leave out, by name"`
	AtTime   *time.Time `json:"at_time,omitempty" doc:"Catalog time: nothing published later is seen"`
	DryRun   bool       `json:"dry_run,omitempty" doc:"Commit nothing"`
	Expected string     `json:"expected,omitempty" maxLength:"100" doc:"The commit that it was thought out on: 409 if the branch has moved since"`
	Build    bool       `json:"build,omitempty" doc:"Queue the commit's build as well"`
}

// Imported is what a file comes to.
type Imported struct {
	File        string           `json:"file"`
	Format      string           `json:"format"`
	DirectKnown bool             `json:"direct_known" doc:"The file tells what its project asks for itself"`
	Taken       []lockfile.Found `json:"taken"`
	LeftOut     []lockfile.Left  `json:"left_out"`
	Notes       []string         `json:"notes"`
	Stands      int              `json:"stands" doc:"How many of the requirements the project has already"`
	Add         []string         `json:"add" doc:"Requirements; what preview-commit and create-commit take"`
	Remove      []string         `json:"remove" doc:"Packages"`
	Base        string           `json:"base" doc:"The commit that it was thought out on"`
	Commit      *Commit          `json:"commit,omitempty" doc:"The commit that was made; left out on a dry run, or if there was nothing to change"`
	Run         *Run             `json:"run,omitempty" doc:"If a build was asked for"`
}
