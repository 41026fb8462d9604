package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/blob"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// memory is Records in memory.
type memory struct {
	mu       sync.Mutex
	builds   map[digest.Digest][]record.Build
	rebuilds map[digest.Digest][]record.RebuildResult
	fail     error // what every call answers, if it is set
}

func newMemory() *memory {
	return &memory{builds: map[digest.Digest][]record.Build{}, rebuilds: map[digest.Digest][]record.RebuildResult{}}
}

func (m *memory) AppendBuild(_ context.Context, s plan.Step, b record.Build) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.ID != b.Step {
		return errors.New("a record of another step")
	}
	m.builds[b.Step] = append(m.builds[b.Step], b)
	return m.fail
}

func (m *memory) Builds(_ context.Context, step digest.Digest) ([]record.Build, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]record.Build{}, m.builds[step]...), m.fail
}

func (m *memory) AppendRebuild(_ context.Context, r record.RebuildResult) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rebuilds[r.Step] = append(m.rebuilds[r.Step], r)
	return m.fail
}

func (m *memory) Rebuilds(_ context.Context, step digest.Digest) ([]record.RebuildResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]record.RebuildResult{}, m.rebuilds[step]...), m.fail
}

// count says how many builds of a purpose a step has.
func (m *memory) count(s plan.Step, p record.Purpose) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, b := range m.builds[s.ID] {
		if b.Purpose == p {
			n++
		}
	}
	return n
}

// fakeRunner writes what the test says into the output folder.
type fakeRunner struct {
	mu    sync.Mutex
	specs []sandbox.Spec
	// does is what a run does; nil: it leaves one file that depends on the name
	// alone. It may change the result.
	does func(s sandbox.Spec, res *sandbox.Result) error
}

func (r *fakeRunner) Run(ctx context.Context, s sandbox.Spec) (*sandbox.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.specs = append(r.specs, s)
	r.mu.Unlock()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	res := &sandbox.Result{Measured: record.Measured{record.AxisCPUs: "2", record.AxisClock: now.Format(time.RFC3339)}}
	if s.Vary != nil {
		res.Measured = record.Measured{record.AxisCPUs: "1", record.AxisClock: now.Add(s.Vary.Clock).Format(time.RFC3339)}
	}
	does := r.does
	if does == nil {
		does = leave("")
	}
	return res, does(s, res)
}

// leave gives a run that leaves one file.
func leave(content string) func(sandbox.Spec, *sandbox.Result) error {
	return func(s sandbox.Spec, _ *sandbox.Result) error {
		return os.WriteFile(filepath.Join(s.OutputDir, "out.txt"), []byte(s.Name+content), 0o644)
	}
}

// runs gives the names of the runs, each with what kind it was.
func (r *fakeRunner) runs() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.specs {
		n := purl.PURL(s.Name).Name()
		if s.Vary != nil {
			n += "'"
		}
		if s.Args[0] != "pep517" {
			n += "?"
		}
		out = append(out, n)
	}
	return strings.Join(out, " ")
}

// count says how many of the runs named there were, each once, if there were no
// others.
func (r *fakeRunner) count(names string) int {
	got, want := strings.Fields(r.runs()), strings.Fields(names)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return -1
	}
	return len(got)
}

// fakeLanguage takes any one file.
type fakeLanguage struct {
	accept func(s plan.Step, dir, work string) (ecosystem.Product, *record.Failure, error)
}

func (fakeLanguage) Type() string                       { return "pypi" }
func (fakeLanguage) BaseKey() string                    { return "fake-1" }
func (fakeLanguage) Base(dir string) error              { return os.MkdirAll(filepath.Join(dir, "base"), 0o755) }
func (fakeLanguage) SeedCompanion() ecosystem.Companion { return ecosystem.Companion{} }
func (fakeLanguage) Companion() ecosystem.Companion     { return ecosystem.Companion{} }

func (fakeLanguage) Unpack(file, dir string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, filepath.Base(file)), b, 0o644))
}

func (fakeLanguage) Command(s plan.Step) (ecosystem.Command, error) {
	return ecosystem.Command{Args: []string{s.Recipe.Kind}, Env: []string{"DECLARED=1"},
		Files: map[string][]byte{"/usr/b": []byte("b"), "/usr/a": []byte("a")}}, nil
}

func (l fakeLanguage) Accept(s plan.Step, _ plan.Platform, _ []ecosystem.Layer, dir, work string) (ecosystem.Product, *record.Failure, error) {
	if l.accept != nil {
		return l.accept(s, dir, work)
	}
	p := filepath.Join(dir, "out.txt")
	return ecosystem.Product{Path: p, File: "out.txt", Raw: p, RawFile: "out.txt"}, nil, nil
}

func (fakeLanguage) Diagnose(log []byte, exit int) *record.Failure {
	f := &record.Failure{Class: record.FailBuild, Message: fmt.Sprintf("exit %d.", exit), Log: strings.Fields(string(log))}
	if bytes.Contains(log, []byte("cargo")) {
		f.Class, f.Missing, f.Message = record.FailMissingTool, "cargo", "The build needs the program cargo, which the build environment lacks."
	}
	return f
}

// world is an engine with everything around it faked but blobs and layers.
type world struct {
	t       testing.TB
	e       *Engine
	blobs   *blob.Store
	records *memory
	runner  *fakeRunner
	p       *plan.Plan
	seedDir string
	layers  string
	events  []Event
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	blobs, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, blobs: blobs, records: newMemory(), runner: &fakeRunner{}, seedDir: filepath.Join(dir, "seed"), layers: filepath.Join(dir, "layers")}
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(w.seedDir, 0o755), os.Mkdir(tmp, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.p = &plan.Plan{Schema: plan.Schema, Ecosystem: "pypi", Seed: plan.Seed{Name: "s", Digest: digest.FromBytes([]byte("seed"))}}
	w.e = &Engine{Blobs: blobs, Records: w.records, Runner: w.runner, Language: fakeLanguage{}, Builder: "http://localhost/builder/k/hermetic",
		Limits: sandbox.DefaultLimits(), Workers: 2, Tmp: tmp, Faketime: "/faketime",
		Seed: func(context.Context) (Seed, error) {
			return Seed{Name: "s", Digest: w.p.Seed.Digest, Dir: w.seedDir, Files: func(digest.Digest) string { return "" }, Linkable: []string{"usr/lib/crt1.o"}}, nil
		}}
	var mu sync.Mutex
	w.e.Progress = func(ev Event) { mu.Lock(); w.events = append(w.events, ev); mu.Unlock() }
	if err := w.e.Open(w.layers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, _ := os.ReadDir(tmp)
		making, _ := filepath.Glob(filepath.Join(w.layers, ".making-*"))
		if len(left)+len(making) > 0 {
			t.Errorf("left behind: %v %v", left, making)
		}
	})
	t.Cleanup(w.e.Rest)
	return w
}

// again is the same data directory opened by a new engine.
func (w *world) again() *Engine {
	e := &Engine{Blobs: w.blobs, Records: w.records, Runner: w.runner, Language: w.e.Language, Builder: w.e.Builder, Limits: w.e.Limits,
		Workers: w.e.Workers, Tmp: w.e.Tmp, Faketime: w.e.Faketime, Seed: w.e.Seed}
	if err := e.Open(w.layers); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(e.Rest)
	return e
}

// targz makes an archive with one folder at its top.
func targz(t testing.TB, top string, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for n, c := range files {
		if err := w.WriteHeader(&tar.Header{Name: top + "/" + n, Mode: 0o644, Size: int64(len(c)), ModTime: time.Unix(1700000000, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// step makes a step with a source of its own, stores the source, and adds it to
// the plan.
func (w *world) step(name string, deps ...plan.Step) plan.Step {
	return w.stepOf(name, map[string]string{"setup.py": name}, deps...)
}

func (w *world) stepOf(name string, files map[string]string, deps ...plan.Step) plan.Step {
	w.t.Helper()
	d, err := w.blobs.PutBytes(w.t.Context(), targz(w.t, name+"-1", files))
	if err != nil {
		w.t.Fatal(err)
	}
	u := purl.New("pypi", name, "1")
	s := plan.Step{PURL: u, Recipe: plan.Recipe{Kind: "pep517"}, Inputs: []plan.Input{
		{Tag: plan.TagSource, PURL: u, File: name + "-1.tar.gz", Digest: d},
		{Tag: plan.TagBuilder, PURL: "pkg:generic/hallmark-seed-s", Digest: w.p.Seed.Digest}}}
	for _, dep := range deps {
		s.Inputs = append(s.Inputs, plan.Input{Tag: plan.TagDeps, PURL: dep.PURL, Step: dep.ID})
	}
	if s, err = s.Seal(); err != nil {
		w.t.Fatal(err)
	}
	src := plan.Source{PURL: u, File: name + "-1.tar.gz", Digest: d}
	prep, err := w.e.Source(w.t.Context(), d, src.File, nil, false)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range prep.Removed {
		src.Removed = append(src.Removed, plan.Removed{Path: r.Path, Digest: r.Digest, Kind: r.Kind})
	}
	w.p.Steps, w.p.Sources = append(w.p.Steps, s), append(w.p.Sources, src)
	if err := w.p.Check(); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// query makes the query step of a step.
func (w *world) query(s plan.Step) plan.Step {
	s.Recipe.Kind = "pep517-query"
	s, err := s.Seal()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}
