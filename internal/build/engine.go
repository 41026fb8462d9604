// Package build runs the steps of a plan: prepares sources and environments,
// builds everything once, then again with the undeclared varied, compares, and
// records each build and each comparison.
//
// It knows no language (ecosystem.Language does), signs nothing and decides no
// class. The inputs that a build's record lists are the folders that were
// mounted: one list makes both.
package build

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
	"hallmark/internal/timeline"
)

// Blobs is where bytes are kept. Put checks want while it reads and stores
// nothing on a mismatch; with an empty want it stores whatever comes.
type Blobs interface {
	Put(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (digest.Digest, int64, error)
	Open(d digest.Digest) (*os.File, error)
	ReadAll(d digest.Digest, limit int64) ([]byte, error)
	Has(d digest.Digest) bool
	Path(d digest.Digest) string
}

// Records is the append-only memory of builds. What was appended is durable
// when the call returns.
type Records interface {
	AppendBuild(ctx context.Context, s plan.Step, b record.Build) error
	Builds(ctx context.Context, step digest.Digest) ([]record.Build, error)
	AppendRebuild(ctx context.Context, r record.RebuildResult) error
	Rebuilds(ctx context.Context, step digest.Digest) ([]record.RebuildResult, error)
}

// Runner is the sandbox.
type Runner interface {
	Run(ctx context.Context, s sandbox.Spec) (*sandbox.Result, error)
}

// Seed is the unpacked seed.
type Seed struct {
	Name   string
	Digest digest.Digest // of the set
	Dir    string        // the tree; asked for once, when the first build needs it
	// Files gives the path of the seed's file with this content, or "".
	Files func(d digest.Digest) string
	// Linkable are the object files and archives that the tree holds, by path:
	// whatever is linked in statically from the seed is among these.
	Linkable []string
	// Owners names the seed's package of each path of the tree, without a slash before it.
	Owners map[string]string
}

// Limits on what is stored of one build.
const (
	maxArtifact = 2 << 30
)

// Engine runs steps. Its methods may be called from several goroutines.
type Engine struct {
	Blobs    Blobs
	Records  Records
	Runner   Runner
	Language ecosystem.Language   // of packages whose type none of Others has
	Others   []ecosystem.Language // of further types
	Builder  string               // builder.id
	Platform plan.Platform
	Limits   sandbox.Limits
	Workers  int    // builds at a time; at least 1
	Faketime string // path of libfaketime inside the root
	Tmp      string // folder for what is unfinished
	// Seed unpacks the seed at first use.
	Seed func(ctx context.Context) (Seed, error)
	// Progress is told of every change; may be nil. It is called from several
	// goroutines.
	Progress func(Event)
	// Retry runs again what failed before.
	Retry bool

	// History gives how long earlier builds took; may be nil. It is asked once,
	// when something is due.
	History func(ctx context.Context) (Times, error)
	// Timeline takes down what runs when; may be nil.
	Timeline *timeline.Recorder
	// Watch is told of every change in what runs; may be nil. It must not block and
	// must not call the engine.
	Watch func(State)
	// Output gives what the output of a build of a step is written to as it comes,
	// besides its log; nil, or what it gives nil: nobody looks. What it gives is closed
	// at the build's end and must not block: a build never waits for who watches it.
	Output func(step digest.Digest, purpose record.Purpose) io.WriteCloser

	layers  *layers
	queue   *queue
	once    sync.Mutex
	seed    *Seed
	timesMu sync.Mutex
	times   *learnt // guarded by timesMu; it has its own lock
	aheadMu sync.Mutex
	begun   map[digest.Digest]bool // steps whose second build was begun ahead; guarded by aheadMu
	spare   []*task                // what was begun ahead; guarded by aheadMu
	told    time.Time
	rest    time.Duration
	known   bool
	refused sync.Map // by layer, the error of a source that is hostile
}

// State is what an engine does at a moment.
type State struct {
	Running []Running     // by worker
	Ready   int           // builds that wait for a worker and for nothing else
	Done    int           // builds of the plan that have ended
	Total   int           // builds of the plan that were due; 0: no plan is being built
	Rest    time.Duration // about how long it will take; 0 if nothing is known
	Known   bool          // most of Rest rests on builds that were measured
}

// Event is one change in the work.
type Event struct {
	Phase string // "query", "build", "prebuilt", "rebuild"
	Name  string // purl
	State string // "started", "done", "failed", "cached", "different"
	Done  int
	Total int
	Wall  time.Duration
}

// Open makes the engine ready; dir is the layers' folder.
func (e *Engine) Open(dir string) error {
	l, err := openLayers(dir)
	if err != nil {
		return err
	}
	e.layers, e.begun = l, map[digest.Digest]bool{}
	e.Workers = max(e.Workers, 1)
	e.queue = newQueue(e.Workers, e.Timeline, e.watch)
	return l.sweep()
}

// watch tells of a change; the queue's lock is held. What the rest will take is
// worked out a few times a second.
func (e *Engine) watch() {
	if e.Watch == nil {
		return
	}
	running, ready := e.queue.now()
	if at := time.Now(); at.Sub(e.told) > 250*time.Millisecond {
		e.told = at
		e.rest, e.known = e.queue.rest()
	}
	e.Watch(State{Running: running, Ready: ready, Done: e.queue.done, Total: e.queue.total, Rest: e.rest, Known: e.known})
}

func (e *Engine) tell(ev Event) {
	if e.Progress != nil {
		e.Progress(ev)
	}
}

func (e *Engine) theSeed(ctx context.Context) (*Seed, error) {
	e.once.Lock()
	defer e.once.Unlock()
	if e.seed == nil {
		s, err := e.Seed(ctx)
		if err != nil {
			return nil, err
		}
		e.seed = &s
	}
	return e.seed, nil
}

// mount is one read-only folder of a build's root together with what it is: the
// sandbox takes the folder, the record takes the input.
type mount struct {
	input record.Input
	dir   string
	rest  bool // what is left of the seed without packages that a recipe replaces
}

// sourceNote is what is known of an unpacked source.
type sourceNote struct {
	Newest  time.Time        `json:"newest"`
	Removed []record.Removed `json:"removed"`
}

// sourceRules is the version of the rules by which sources are unpacked and
// native files recognised.
const sourceRules = "1"

// PreparedSource is an unpacked source.
type PreparedSource struct {
	Dir     string
	Newest  time.Time
	Removed []record.Removed
}

// Source unpacks a stored source archive: within limits, its one top folder
// stripped, patches laid onto it, native files taken out unless natives says to
// leave them in (for the throw-away build alone). Errors of kind fault.Hostile
// concern the archive or its patches.
func (e *Engine) Source(ctx context.Context, d digest.Digest, file string, patches []plan.Patch, natives bool) (PreparedSource, error) {
	return e.Part(ctx, d, file, nil, patches, natives)
}

// Part is Source for a part of a source archive; nil: the whole.
func (e *Engine) Part(ctx context.Context, d digest.Digest, file string, u *plan.Unpack, patches []plan.Patch, natives bool) (PreparedSource, error) {
	kind := "source-"
	if natives {
		kind = "source-natives-"
	}
	key := kind + sourceRules + "-" + partKey(u) + patchesKey(patches) + d.Hex()
	part := archive.Part{}
	if u != nil {
		part = archive.Part{Inside: u.Inside, Without: u.Without}
	}
	if err, ok := e.refused.Load(key); ok {
		return PreparedSource{}, err.(error)
	}
	var note sourceNote
	dir, err := e.layers.get(key, &note, func(tree string) (any, error) {
		f, err := e.Blobs.Open(d)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		info, err := archive.UnpackPart(f, st.Size(), file, tree, archive.DefaultLimits(), part)
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", file, err)
		}
		if err := applyPatches(tree, patches); err != nil {
			return nil, fmt.Errorf("patching %s: %w", file, err)
		}
		removed, err := archive.Natives(tree, archive.DefaultLimits())
		if err != nil {
			return nil, fmt.Errorf("looking for native files in %s: %w", file, err)
		}
		if !natives {
			if err := archive.RemoveNatives(tree, removed); err != nil {
				return nil, fmt.Errorf("taking native files out of %s: %w", file, err)
			}
		}
		return sourceNote{Newest: info.Newest, Removed: removed}, nil
	})
	if err != nil {
		// A hostile source costs its unpacking once, not each time it is asked for.
		if fault.Is(err, fault.Hostile) {
			e.refused.Store(key, err)
		}
		return PreparedSource{}, err
	}
	return PreparedSource{Dir: dir, Newest: note.Newest, Removed: note.Removed}, ctx.Err()
}

// language is what knows a package's ecosystem.
func (e *Engine) language(u purl.PURL) ecosystem.Language {
	t := u.Type()
	for _, l := range e.Others {
		if l.Type() == t {
			return l
		}
	}
	return e.Language
}

// artifactKey names the layer of a file that a step made.
func artifactKey(l ecosystem.Language, d digest.Digest) string {
	return "artifact-" + l.BaseKey() + "-" + d.Hex()
}

// companionKey names a companion by the layer that it is for and by what makes it.
func companionKey(l ecosystem.Language, of digest.Digest, c ecosystem.Companion) string {
	made := digest.FromBytes(fmt.Appendf(nil, "%q %q %q %q", c.Args, c.Env, c.At, c.Within))
	return "companion-" + l.BaseKey() + "-" + made.Hex()[:8] + "-" + of.Hex()
}

// hasLayer tells whether a file that a step made is laid out already.
func (e *Engine) hasLayer(u purl.PURL, d digest.Digest) bool {
	l := e.language(u)
	c := l.Companion()
	return e.layers.has(artifactKey(l, d)) && (len(c.Args) == 0 || e.layers.has(companionKey(l, d, c)))
}

// seedInput names the seed as an input.
func seedInput(s *Seed) record.Input {
	return record.Input{Tag: plan.TagBuilder, PURL: string(purl.New("generic", "hallmark-seed-"+s.Name, "")), Digest: s.Digest}
}

// ground lays out what every build of a language has: its base, the seed, and what
// makes the seed faster to use, which is nil if there is nothing.
func (e *Engine) ground(ctx context.Context, l ecosystem.Language) (base string, seed *Seed, fast *mount, err error) {
	if base, seed, err = e.bare(ctx, l); err != nil {
		return "", nil, nil, err
	}
	fast, err = e.companion(ctx, l, seedInput(seed).PURL, seed.Digest, l.SeedCompanion(), seed.Dir)
	return base, seed, fast, err
}

// bare lays out a language's base, and the seed.
func (e *Engine) bare(ctx context.Context, l ecosystem.Language) (base string, seed *Seed, err error) {
	base, err = e.layers.get("base-"+l.BaseKey(), nil, func(tree string) (any, error) {
		if err := os.Mkdir(tree, 0o755); err != nil {
			return nil, err
		}
		return map[string]string{}, l.Base(tree)
	})
	if err != nil {
		return "", nil, err
	}
	seed, err = e.theSeed(ctx)
	return base, seed, err
}

// layout lays out what a step made.
func (e *Engine) layout(u purl.PURL, out *record.Output) (string, error) {
	l := e.language(u)
	dir, err := e.layers.get(artifactKey(l, out.Digest), nil, func(tree string) (any, error) {
		// The language wants a file with its name, and so do its errors.
		tmp, err := os.MkdirTemp(e.Tmp, "unpack-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(tmp)
		named := filepath.Join(tmp, out.File)
		if err := e.copyOut(out.Digest, named); err != nil {
			return nil, err
		}
		return map[string]string{"file": out.File}, l.Unpack(named, tree)
	})
	if err != nil {
		return "", fmt.Errorf("laying out %s: %w", u, err)
	}
	return dir, nil
}

// whole lays down what a step made as the file that it is, in a folder of the root; at is
// the folder, absolute there.
func (e *Engine) whole(in plan.Input, out *record.Output, at string) (mount, error) {
	// By its name as well: another name of the same bytes is another root.
	name := digest.FromBytes(fmt.Appendf(nil, "%q %q %q", out.Digest, out.File, at))
	dir, err := e.layers.get("file-"+name.Hex(), nil, func(tree string) (any, error) {
		folder := filepath.Join(tree, filepath.FromSlash(at))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		if err := e.copyOut(out.Digest, filepath.Join(folder, out.File)); err != nil {
			return nil, err
		}
		return map[string]string{"file": out.File}, settle(tree)
	})
	if err != nil {
		return mount{}, fmt.Errorf("laying down %s: %w", in.PURL, err)
	}
	return mount{input: record.Input{Tag: in.Tag, PURL: string(in.PURL), File: out.File, Digest: out.Digest, Step: in.Step}, dir: dir}, nil
}

// dependency lays out what a step made on a floor of its language, with what makes it
// faster to use, which is nil if there is nothing. Without a floor it is the language's
// usual one.
func (e *Engine) dependency(ctx context.Context, in plan.Input, out *record.Output, fl *floor) (mount, *mount, error) {
	l := e.language(in.PURL)
	if fl == nil {
		base, seed, _, err := e.ground(ctx, l)
		if err != nil {
			return mount{}, nil, err
		}
		fl = &floor{dirs: []string{base, seed.Dir}}
	}
	dir, err := e.layout(in.PURL, out)
	if err != nil {
		return mount{}, nil, err
	}
	fast, err := e.companion(ctx, l, string(in.PURL), fl.of(out.Digest), l.Companion(), append([]string{dir}, fl.dirs...)...)
	return mount{input: record.Input{Tag: in.Tag, PURL: string(in.PURL), File: out.File, Digest: out.Digest, Step: in.Step}, dir: dir}, fast, err
}

// mounts gives the read-only folders of a step's root, top-most first.
func (e *Engine) mounts(ctx context.Context, s plan.Step, output func(digest.Digest) (*record.Output, error)) ([]mount, error) {
	l := e.language(s.PURL)
	fl, err := e.floor(ctx, l, s, output)
	if err != nil {
		return nil, err
	}
	seed := fl.whole
	// What makes layers faster to use is an input like any other.
	var ms, fast []mount
	for _, in := range s.Inputs {
		if in.Tag == plan.TagBuilder && in.Digest != seed.Digest {
			return nil, fault.New(fault.Unsupported, "step %s was planned on seed %s; this version has %s", s.PURL, in.Digest.Short(), seed.Digest.Short())
		}
		if in.Tag != plan.TagDeps {
			continue
		}
		out, err := output(in.Step)
		if err != nil {
			return nil, err
		}
		if ws, ok := l.(ecosystem.Wholes); ok {
			if at := ws.Whole(s, in); at != "" {
				m, err := e.whole(in, out, at)
				if err != nil {
					return nil, fmt.Errorf("environment of %s: %w", s.PURL, err)
				}
				ms = append(ms, m)
				continue
			}
		}
		under := fl
		if e.language(in.PURL).Type() != l.Type() {
			under = nil
		}
		m, f, err := e.dependency(ctx, in, out, under)
		if err != nil {
			return nil, fmt.Errorf("environment of %s: %w", s.PURL, err)
		}
		ms = append(ms, m)
		if f != nil {
			fast = append(fast, *f)
		}
	}
	if fl.fast != nil {
		fast = append(fast, *fl.fast)
	}
	baseInput := record.Input{Tag: plan.TagBuilder, PURL: "pkg:generic/hallmark-environment@" + l.BaseKey(), Digest: digest.FromBytes([]byte(l.BaseKey()))}
	ms = append(ms, fast...)
	return append(ms, mount{input: baseInput, dir: fl.base}, mount{input: seedInput(seed), dir: fl.seed, rest: fl.seed != seed.Dir}), nil
}

// companion gives the layer that a language makes of another layer to have it
// faster; nil if it makes none. It is made in the sandbox from the layers given
// and named by what it was made of.
func (e *Engine) companion(ctx context.Context, l ecosystem.Language, name string, of digest.Digest, c ecosystem.Companion, layers ...string) (*mount, error) {
	if len(c.Args) == 0 {
		return nil, nil
	}
	var note struct {
		Digest digest.Digest `json:"digest"`
	}
	dir, err := e.layers.get(companionKey(l, of, c), &note, func(tree string) (any, error) {
		out, err := os.MkdirTemp(e.Tmp, "companion-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(out)
		// Files that do not compile are of no use to anybody either: the exit code
		// says nothing.
		res, err := e.Runner.Run(ctx, sandbox.Spec{Name: name + " (companion)", Layers: layers, Args: c.Args, Env: c.Env, Dir: "/build", Limits: e.Limits, OutputDir: out})
		if err != nil {
			return nil, err
		}
		if res.Refused != "" || res.Limit != "" {
			res.Outputs = nil // without it the layer is slower to use, and nothing else
		}
		for _, o := range res.Outputs {
			if !strings.HasPrefix(o.Path, c.Within) {
				continue // not of its own folder
			}
			to := filepath.Join(tree, filepath.FromSlash(c.At), filepath.FromSlash(o.Path))
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return nil, err
			}
			if err := os.Rename(filepath.Join(out, filepath.FromSlash(o.Path)), to); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(os.MkdirAll(tree, 0o755), settle(tree)); err != nil {
			return nil, err
		}
		d, _, _, err := archive.TreeDigest(tree)
		return map[string]digest.Digest{"digest": d}, err
	})
	if err != nil {
		return nil, err
	}
	u, err := purl.PURL(name).WithQualifier("companion", l.BaseKey())
	if err != nil {
		return nil, err
	}
	return &mount{input: record.Input{Tag: plan.TagBuilder, PURL: string(u), Digest: note.Digest}, dir: dir}, nil
}

// settle gives everything in a tree one time, folders after what is in them.
func settle(tree string) error {
	at := time.Unix(315619200, 0) // 1980-01-02, as in the layers of wheels
	var dirs []string
	err := filepath.WalkDir(tree, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, p)
			return nil
		}
		return os.Chtimes(p, at, at)
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		err = errors.Join(err, os.Chtimes(dirs[i], at, at))
	}
	return err
}

// copyOut writes a blob to a new file, verified while reading.
func (e *Engine) copyOut(d digest.Digest, name string) error {
	f, err := e.Blobs.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, digest.NewReader(f, d, maxArtifact))
	return errors.Join(err, w.Close())
}

// By how much the second build's clocks are moved.
const (
	clockShift  = (400*24 + 1) * time.Hour
	uptimeShift = 9999999 * time.Second
)

// secondAxes is how the second build of a step is run, on one processor: builds
// that run side by side name another one each.
func secondAxes(faketime string, cpu int) *sandbox.Variation {
	return &sandbox.Variation{
		CPUs: 1, FirstCPU: cpu, KernelRelease: true, Clock: clockShift, Uptime: uptimeShift,
		PIDs: 300, Faketime: faketime,
	}
}

// phases are what people read of what is run.
var phases = map[record.Purpose]string{record.First: "first build", record.Rebuild: "second build", record.Prebuilt: "throw-away build", record.Query: "query"}

// run makes one build of a step in the sandbox. The error is about the host;
// whatever the build itself did is in the record.
func (e *Engine) run(ctx context.Context, s plan.Step, purpose record.Purpose, output func(digest.Digest) (*record.Output, error), t *turn) (*record.Build, map[string][]byte, error) {
	t.phase("prepare")
	src := s.Source()
	prep, err := e.Part(ctx, src, s.SourceFile(), s.Recipe.Unpack, s.Recipe.Patches(), purpose == record.Prebuilt)
	if err != nil {
		return nil, nil, err
	}
	ms, err := e.mounts(ctx, s, output)
	if err != nil {
		return nil, nil, err
	}
	lang := e.language(s.PURL)
	cmd, err := lang.Command(s)
	if err != nil {
		return nil, nil, err
	}
	work, err := os.MkdirTemp(e.Tmp, "build-")
	if err != nil {
		return nil, nil, fmt.Errorf("build of %s: %w", s.PURL, err)
	}
	defer os.RemoveAll(work)
	out, named := filepath.Join(work, "out"), filepath.Join(work, "named")
	if err := errors.Join(os.Mkdir(out, 0o755), os.Mkdir(named, 0o755)); err != nil {
		return nil, nil, fmt.Errorf("build of %s: %w", s.PURL, err)
	}
	said := &logKeeper{}
	live := e.follow(s.ID, purpose)
	defer live.Close()
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, nil, err
	}
	rec := &record.Build{
		Schema: record.BuildSchema, ID: hex.EncodeToString(id), Step: s.ID, Purpose: purpose,
		Builder: e.Builder, Started: time.Now().UTC(),
	}
	spec := sandbox.Spec{
		Name: string(s.PURL), Args: cmd.Args, Env: append([]string{}, cmd.Env...), Dir: "/build",
		Limits: e.Limits, OutputDir: out, Log: io.MultiWriter(said, live),
		Trees: []sandbox.Tree{{From: prep.Dir, To: "/build/src", Reverse: purpose == record.Rebuild}},
	}
	for p, data := range cmd.Files {
		spec.Files = append(spec.Files, sandbox.File{Path: p, Data: data, Mode: 0o444})
	}
	sort.Slice(spec.Files, func(i, j int) bool { return spec.Files[i].Path < spec.Files[j].Path })
	// The axis of parallelism: what make is told goes with the processors.
	jobs, lane := t.share()
	if purpose == record.Rebuild {
		spec.Vary, jobs = secondAxes(e.Faketime, lane), 1
	}
	spec.Env = append(spec.Env, "MAKEFLAGS=-j"+strconv.Itoa(jobs))
	rec.Inputs = []record.Input{{Tag: plan.TagSource, PURL: string(s.PURL), File: s.SourceFile(), Digest: src}}
	for _, p := range s.Recipe.Patches() {
		rec.Inputs = append(rec.Inputs, record.Input{Tag: plan.TagSource, PURL: string(purl.New("generic", "hallmark-patch-"+p.File, "")), File: p.File, Digest: p.Digest})
	}
	for _, m := range ms {
		spec.Layers = append(spec.Layers, m.dir)
		rec.Inputs = append(rec.Inputs, m.input)
	}
	if purpose != record.Prebuilt {
		rec.Removed = prep.Removed
	}

	t.phase(phases[purpose])
	res, err := e.Runner.Run(ctx, spec)
	t.phase("record")
	if err != nil {
		return nil, nil, fmt.Errorf("build of %s: %w", s.PURL, err)
	}
	rec.Finished = time.Now().UTC()
	rec.Facts, rec.Measured, rec.NotVaried, rec.Network, rec.Usage = res.Facts, res.Measured, res.NotVaried, res.Network, res.Usage

	log := said.Bytes()
	if rec.Log, _, err = e.Blobs.Put(ctx, bytes.NewReader(log), "", int64(len(log))); err != nil {
		return nil, nil, fmt.Errorf("keeping the log of %s: %w", s.PURL, err)
	}
	fail := func(f *record.Failure) (*record.Build, map[string][]byte, error) {
		rec.Outcome, rec.Failure = record.Failed, f
		return rec, nil, nil
	}
	if f := e.judge(lang, res, log, said.found); f != nil {
		return fail(f)
	}
	if s.Recipe.Asks() {
		files, f, err := readAnswers(out)
		if err != nil {
			return nil, nil, err
		}
		if f != nil {
			return fail(f)
		}
		rec.Outcome = record.Succeeded
		return rec, files, nil
	}
	product, f, err := lang.Accept(s, e.Platform, layersOf(ms), out, named)
	if err != nil {
		return nil, nil, fmt.Errorf("taking what the build of %s made: %w", s.PURL, err)
	}
	if f != nil {
		return fail(f)
	}
	if err := e.keep(ctx, rec, product, ms); err != nil {
		return nil, nil, err
	}
	rec.Outcome = record.Succeeded
	return rec, nil, nil
}

// keep stores what was made, and what it was named from, and says what of the
// seed is inside, given the root's layers.
func (e *Engine) keep(ctx context.Context, rec *record.Build, p ecosystem.Product, root []mount) error {
	put := func(path string) (digest.Digest, int64, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", 0, err
		}
		defer f.Close()
		return e.Blobs.Put(ctx, f, "", maxArtifact)
	}
	d, n, err := put(p.Path)
	if err != nil {
		return fmt.Errorf("keeping %s: %w", p.File, err)
	}
	rec.Output = &record.Output{File: p.File, Digest: d, Size: n}
	rec.Output.Raw, rec.Output.RawFile = d, p.RawFile
	if p.Raw != p.Path {
		if rec.Output.Raw, _, err = put(p.Raw); err != nil {
			return fmt.Errorf("keeping %s: %w", p.RawFile, err)
		}
	}
	for _, n := range p.Natives {
		rec.Ships = append(rec.Ships, n.Kind+" "+n.Path)
	}
	if rec.SeedFiles, rec.SeedKnown, err = e.seedInside(ctx, root, p.Natives); err != nil {
		return fmt.Errorf("looking for bytes of the seed in %s: %w", p.File, err)
	}
	rec.Needs, rec.Gives, rec.Linked = linkage(p.Natives)
	for _, n := range p.Natives {
		if n.From != nil {
			rec.Contains = append(rec.Contains, record.Contained{Path: n.Path, PURL: string(n.From.PURL), File: n.From.Path, Digest: n.From.Digest})
		}
	}
	return nil
}

// linkage gives what the native files of a product need of others to be loaded, and
// what they can be asked for as; ok is false if one of them could not be read.
func linkage(files []ecosystem.Native) (needs, gives []string, ok bool) {
	want, have := map[string]bool{}, map[string]bool{}
	for _, n := range files {
		if n.Kind != "elf" {
			continue
		}
		if n.Linked == nil {
			return nil, nil, false
		}
		// A file is found by its own name, too.
		have[path.Base(n.Path)] = true
		if n.Linked.Name != "" {
			have[n.Linked.Name] = true
		}
		for _, s := range n.Linked.Needs {
			want[s] = true
		}
	}
	for s := range want {
		if !have[s] {
			needs = append(needs, s)
		}
	}
	for s := range have {
		if strings.Contains(s, ".so") {
			gives = append(gives, s)
		}
	}
	slices.Sort(needs)
	slices.Sort(gives)
	return needs, gives, true
}

// hidden tells whether a layer above the seed has something at the path of one of
// the seed's files, so that nothing in the root can read the seed's.
func hidden(root []mount, seed, path string) bool {
	for _, m := range root {
		if m.dir == seed {
			return false
		}
		if m.rest {
			_, err := os.Lstat(filepath.Join(m.dir, path))
			return errors.Is(err, os.ErrNotExist)
		}
		if st, err := os.Lstat(filepath.Join(m.dir, path)); err == nil && st.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// readAnswers reads what a query step left: a few small files.
func readAnswers(dir string) (map[string][]byte, *record.Failure, error) {
	const maxAnswer = 4 << 20
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	files := map[string][]byte{}
	for _, en := range entries {
		st, err := en.Info()
		if err != nil {
			return nil, nil, err
		}
		if len(files) == 10 || !st.Mode().IsRegular() || st.Size() > maxAnswer {
			return nil, &record.Failure{Class: record.FailOutput, Message: fmt.Sprintf("The backend's answer is not a few small files (%.80q).", en.Name())}, nil
		}
		b, err := os.ReadFile(filepath.Join(dir, en.Name()))
		if err != nil {
			return nil, nil, err
		}
		files[en.Name()] = b
	}
	return files, nil, nil
}
