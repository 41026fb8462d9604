// Package record holds what happened in one build, as data: the facts read off
// the sandbox, what was varied, what the build reached for, and how it ended.
//
// These are the words that the sandbox (which writes them), the evidence (which
// signs them) and the policy (which judges them) share. The package has next to
// no behaviour and imports nothing but digest.
package record

import (
	"time"

	"hallmark/internal/digest"
)

// Purpose says what a build was made for. Only First and Rebuild builds count
// as evidence of reproducibility.
type Purpose string

// The purposes of a build.
const (
	First    Purpose = "first"    // the first final build of a step
	Rebuild  Purpose = "rebuild"  // a further build, with the undeclared varied
	Query    Purpose = "query"    // made while planning: a backend is asked something; makes nothing that is served
	Prebuilt Purpose = "prebuilt" // throw-away: the source with its native files left in place
)

// Outcome is how one build ended.
type Outcome string

// The outcomes of a build.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
)

// Comparison is the outcome of a rebuild; the four are never merged.
type Comparison string

// The outcomes of a rebuild.
const (
	Identical     Comparison = "identical"
	Equivalent    Comparison = "equivalent"
	Different     Comparison = "different"
	CouldNotBuild Comparison = "could-not-build"
)

// FailureClass is the class of the cause why a build did not succeed.
type FailureClass string

// The classes of causes.
const (
	FailBuild       FailureClass = "build-error"         // the build's own command failed
	FailMissingTool FailureClass = "missing-tool"        // it needs a program that the environment lacks
	FailMissingLib  FailureClass = "missing-library"     // it needs a header or library that the environment lacks
	FailNetwork     FailureClass = "network-access"      // it reached for the network, error hidden or not
	FailTimeout     FailureClass = "time-limit"          // it ran out of its time
	FailMemory      FailureClass = "memory-limit"        // it ran out of its memory
	FailProcesses   FailureClass = "process-limit"       // it ran out of its processes
	FailDisk        FailureClass = "disk-limit"          // it ran out of its disk
	FailOutput      FailureClass = "output-refused"      // what it left in the output is not what it may leave there
	FailLog         FailureClass = "log-limit"           // it wrote more log than allowed
	FailMetadata    FailureClass = "metadata-mismatch"   // what it made is not the package that was asked for
	FailNative      FailureClass = "native-tuning"       // it asks the compiler for code of this very processor
	FailLinks       FailureClass = "links-outside"       // it links a library that the platform does not promise
	FailDependency  FailureClass = "dependency-failed"   // something that it is built with could not be built
	FailSandbox     FailureClass = "sandbox-unavailable" // the host could not make the sandbox; says nothing about the package
)

// Failure says why a build did not succeed, for people and programs.
type Failure struct {
	Class   FailureClass `json:"class"`
	Message string       `json:"message"`           // one sentence
	Missing string       `json:"missing,omitempty"` // the tool, header or library by name
	Log     []string     `json:"log,omitempty"`     // the lines of the log that matter, at most 20
	Advice  string       `json:"advice,omitempty"`  // what to do next
	Limit   int64        `json:"limit,omitempty"`   // what it ran into, for the classes of limits: bytes, processes, or nanoseconds; 0: not known
}

// Attempt is one thing a build reached for on the network.
type Attempt struct {
	Kind   string `json:"kind"`            // "lookup" or "connect"
	Target string `json:"target"`          // a host name, or address:port
	Proto  string `json:"proto,omitempty"` // "tcp", "udp", "icmp" …
	Count  int    `json:"count"`           // how often
}

// Fact is one condition of the sandbox as it was read from outside.
type Fact struct {
	Name  string `json:"name"`            // "namespace.net", "seccomp", "limit.memory" …
	Want  string `json:"want"`            // what the profile promises
	Got   string `json:"got"`             // what was read
	Holds bool   `json:"holds"`           // whether the promise is kept
	Cause string `json:"cause,omitempty"` // why not, where it is known
	From  string `json:"from,omitempty"`  // who answered, if not the host's kernel: "gvisor", the kernel of the sandbox itself
}

// Facts is what the control plane read off a sandbox after it was made and
// before the build started. Nothing in it comes from the build.
type Facts struct {
	Runtime string        `json:"runtime"`                  // name and version of the OCI runtime
	Program digest.Digest `json:"runtime_digest,omitempty"` // of the runtime's own file
	Kernel  string        `json:"kernel"`                   // "linux", "gvisor": the kind of kernel, not its release
	Profile string        `json:"profile"`                  // digest of the sandbox profile
	Read    time.Time     `json:"read"`                     // when, UTC
	Facts   []Fact        `json:"facts"`                    // sorted by name
}

// RanUnder names the OCI runtime and the kind of kernel of a build, "runc 1.1.5
// (linux)"; "" if nothing was read.
func (f Facts) RanUnder() string {
	if f.Runtime == "" {
		return ""
	}
	return f.Runtime + " (" + f.Kernel + ")"
}

// Names of the facts, grouped by the property that they establish. A missing
// fact does not hold.
var (
	// IsolationFacts must hold for a build to be isolated.
	IsolationFacts = []string{
		"namespace.cgroup", "namespace.ipc", "namespace.mount", "namespace.net",
		"namespace.pid", "namespace.user", "namespace.uts", "uid", "gid", "capabilities",
		"no-new-privileges", "seccomp", "mounts", "masked-paths",
	}
	// LimitFacts must hold for limits to be enforced by control groups.
	LimitFacts = []string{"limit.memory", "limit.processes", "limit.disk", "limit.time"}
	// EphemeralFacts must hold for a build to be ephemeral.
	EphemeralFacts = []string{"root.new", "root.writable-is-memory", "output.empty"}
	// HermeticFacts must hold for a build to be hermetic.
	HermeticFacts = []string{"interfaces", "routes", "inputs"}
)

// Axis is one thing a rebuild varies.
type Axis struct {
	Name   string `json:"name"`            // see Axes
	First  string `json:"first,omitempty"` // measured in the first build
	Second string `json:"second,omitempty"`
	Varied bool   `json:"varied"`
	Cause  string `json:"cause,omitempty"` // why not varied
}

// The axes that a rebuild varies (design: "Varied in the second build").
const (
	AxisCPUs      = "cpu-count"
	AxisKernel    = "kernel-release"
	AxisClock     = "wall-clock"
	AxisUptime    = "uptime"
	AxisPIDs      = "process-ids"
	AxisDirectory = "directory-order"
)

// AxisProcessor is recorded and never varied: what the processor itself answers
// (cpuid) is the same in both builds on one machine.
const AxisProcessor = "processor"

// Axes lists all axes that can be varied, sorted.
var Axes = []string{AxisCPUs, AxisDirectory, AxisKernel, AxisPIDs, AxisUptime, AxisClock}

// Measured is what one build's environment showed on each axis, read from
// outside or by a probe that ran before the build. Key: axis name.
type Measured map[string]string

// Output is the file a build made.
type Output struct {
	File    string        `json:"file"`          // base name
	Digest  digest.Digest `json:"digest"`        // of the file as it is served
	Size    int64         `json:"size"`          // bytes
	Raw     digest.Digest `json:"raw,omitempty"` // of the file as the build left it, if it was named anew
	RawFile string        `json:"raw_file,omitempty"`
}

// Removed is a native or bytecode file that was taken out of a source.
type Removed struct {
	Path   string        `json:"path"`             // relative to the source's root
	Digest digest.Digest `json:"digest"`           // of the file
	Size   int64         `json:"size"`             // bytes
	Kind   string        `json:"kind"`             // "elf", "pe", "macho", "ar", "wasm", "class", "pyc" …
	Member string        `json:"member,omitempty"` // inside this archive, the member at fault
}

// Build is one run of a step. Builds of a step are an append-only series.
type Build struct {
	Schema    string            `json:"schema"` // BuildSchema
	ID        string            `json:"id"`     // random, unique
	Step      digest.Digest     `json:"step"`
	Purpose   Purpose           `json:"purpose"`
	Builder   string            `json:"builder"` // builder.id
	Started   time.Time         `json:"started"`
	Finished  time.Time         `json:"finished"`
	Outcome   Outcome           `json:"outcome"`
	Failure   *Failure          `json:"failure,omitempty"`
	Output    *Output           `json:"output,omitempty"`
	Facts     Facts             `json:"facts"`
	Measured  Measured          `json:"measured,omitempty"`
	NotVaried map[string]string `json:"not_varied,omitempty"` // axis to cause, for builds that were to vary
	Network   []Attempt         `json:"network,omitempty"`
	Removed   []Removed         `json:"removed,omitempty"`
	Log       digest.Digest     `json:"log,omitempty"`            // of the whole log, as a blob
	Ships     []string          `json:"ships,omitempty"`          // native and bytecode files in the output, sorted
	SeedFiles []string          `json:"seed_inside,omitempty"`    // files of the seed whose bytes are or may be inside the output, sorted
	SeedKnown bool              `json:"seed_measured"`            // whether SeedFiles was measured
	Needs     []string          `json:"needs,omitempty"`          // libraries and loaders that native files in the output ask for by name and that are not in it, sorted
	Gives     []string          `json:"gives,omitempty"`          // names under which libraries in the output can be asked for, sorted
	Linked    bool              `json:"needs_measured,omitempty"` // whether Needs and Gives were measured
	Contains  []Contained       `json:"contains,omitempty"`       // files of layers that are in the output, sorted by path
	Inputs    []Input           `json:"inputs"`                   // what was mounted, each by digest: the source, then the folders, top-most first
	Usage     Usage             `json:"usage"`
}

// BuildSchema names the form of Build.
const BuildSchema = "urn:hallmark:build-record:v1"

// Input is one thing that a build could read, by digest.
type Input struct {
	Tag    string        `json:"tag"` // "src", "builder" or "deps"
	PURL   string        `json:"purl"`
	File   string        `json:"file,omitempty"`
	Digest digest.Digest `json:"digest"`
	Step   digest.Digest `json:"step,omitempty"` // the step that made it, if we did
}

// Contained is a file of a layer that a build was made with and that is in its output, as
// it is but for the names by which it is found and finds others.
type Contained struct {
	Path   string        `json:"path"`   // in the output
	PURL   string        `json:"purl"`   // of the layer, as among the inputs
	File   string        `json:"file"`   // in the layer
	Digest digest.Digest `json:"digest"` // of the file in the layer
}

// Usage is what a build took.
type Usage struct {
	Wall   time.Duration `json:"wall_ns"`
	CPU    time.Duration `json:"cpu_ns,omitempty"`
	Memory int64         `json:"memory_bytes,omitempty"` // the peak, where it could be read
}

// Difference is one place where two builds' outputs differ.
type Difference struct {
	Path   string `json:"path"`             // file, and member within archives, separated by "!/"
	What   string `json:"what"`             // "content", "only-in-first", "only-in-second", "order", "time", "mode", "metadata"
	Offset int64  `json:"offset,omitempty"` // first differing byte, for content
	First  string `json:"first,omitempty"`  // an excerpt, printable, at most 200 bytes
	Second string `json:"second,omitempty"`
	Hint   string `json:"hint,omitempty"` // what it looks like: "a date", "a path", "order of entries" …
}

// RebuildResult compares a step's builds; one is appended for each rebuild.
type RebuildResult struct {
	Schema         string        `json:"schema"` // RebuildSchema
	Step           digest.Digest `json:"step"`
	Sequence       int           `json:"sequence"`           // 1 for a step's first rebuild
	Previous       digest.Digest `json:"previous,omitempty"` // of the previous result's canonical JSON
	First          string        `json:"first"`              // build id
	Second         string        `json:"second"`             // build id
	Outcome        Comparison    `json:"outcome"`
	FirstDigest    digest.Digest `json:"first_digest,omitempty"`
	SecondDigest   digest.Digest `json:"second_digest,omitempty"`
	Normalisations []string      `json:"normalisations,omitempty"` // "name@version", for equivalent
	Failure        *Failure      `json:"failure,omitempty"`        // for could-not-build
	Axes           []Axis        `json:"axes"`
	FirstRuntime   string        `json:"first_runtime,omitempty"`  // what the first build ran under: the OCI runtime and the kind of kernel
	SecondRuntime  string        `json:"second_runtime,omitempty"` // and the second
	Differences    []Difference  `json:"differences,omitempty"`    // at most 100
	Truncated      bool          `json:"truncated,omitempty"`      // there were more differences
	Builder        string        `json:"builder"`
	Time           time.Time     `json:"time"`
}

// RebuildSchema names the form of RebuildResult; it is also the predicate type
// under which it is signed.
const RebuildSchema = "urn:hallmark:rebuild:v1"
