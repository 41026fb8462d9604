package api

import (
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// ForecastSchema names the form of Forecast; schemas/forecast.v1.json describes it.
const ForecastSchema = "urn:hallmark:forecast:v1"

// Forecast is what builds would do, found out without doing it.
type Forecast struct {
	Schema  string        `json:"schema"`
	Project string        `json:"project"`
	Commit  string        `json:"commit,omitempty" doc:"Empty: builds would make a new one"`
	Solved  bool          `json:"solved" doc:"The commit is solved already; if not, this rests on the index as it answers now"`
	Plan    digest.Digest `json:"plan,omitempty" doc:"Of the stored solution"`
	// Complete is false if something has to be fetched or asked before it is known
	// what some packages are built with: then more may be due than is said here.
	Complete     bool             `json:"complete" doc:"false: something has to be fetched or asked first, and more may be due than is said here"`
	Fetch        []ForecastFetch  `json:"fetch"`
	Ask          []ForecastAsk    `json:"ask"`
	Build        []ForecastBuild  `json:"build"`
	Blocked      []ForecastCannot `json:"blocked"`
	Undetermined []purl.PURL      `json:"undetermined" doc:"Packages that wait for what is to be fetched or asked before it is known what building them takes"`
	Summary      ForecastSummary  `json:"summary"`
}

// ForecastFetch is a source archive that is not stored.
type ForecastFetch struct {
	Package string `json:"package"`
	File    string `json:"file"`
	Size    int64  `json:"size" doc:"Bytes; 0 if the index does not say"`
}

// ForecastAsk is a package whose backend has to be asked.
type ForecastAsk struct {
	PURL    purl.PURL `json:"purl"`
	What    string    `json:"what" doc:"requirements or metadata"`
	Message string    `json:"message" doc:"What is not known before"`
}

// ForecastBuild is one build that is due.
type ForecastBuild struct {
	PURL    purl.PURL      `json:"purl"`
	Step    digest.Digest  `json:"step"`
	Purpose record.Purpose `json:"purpose" doc:"first, rebuild or prebuilt"`
	Why     build.Why      `json:"why"`
	Changed []string       `json:"changed,omitempty" doc:"Which inputs are others than in the newest earlier step of the package"`
	Seconds *float64       `json:"seconds" doc:"About; null: never measured"`
}

// ForecastCannot is a package that would not be built.
type ForecastCannot struct {
	PURL    purl.PURL `json:"purl"`
	Message string    `json:"message"`
}

// ForecastSummary counts.
type ForecastSummary struct {
	First      int      `json:"first"`
	Rebuild    int      `json:"rebuild"`
	Prebuilt   int      `json:"prebuilt"`
	Done       int      `json:"done" doc:"Steps for which nothing is due"`
	Fetch      int      `json:"fetch"`
	FetchBytes int64    `json:"fetch_bytes"`
	Ask        int      `json:"ask"`
	Unmeasured int      `json:"unmeasured" doc:"Builds whose time is a guess"`
	Workers    int      `json:"workers"`
	Seconds    *float64 `json:"seconds" doc:"About, for all builds; null: nothing of it was ever measured"`
}

// ForecastRequest is what a forecast is asked about: the branch as it is, or with a
// change.
type ForecastRequest struct {
	Change
	Retry bool `json:"retry,omitempty" doc:"As if what failed before were tried again"`
}
