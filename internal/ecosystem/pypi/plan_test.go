package pypi

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// yard is an index with sources made by a test, and the platform around a
// planner.
type yard struct {
	t     *testing.T
	index *fakeIndex
	files map[string][]string // project to the JSON of its files
	dirs  map[digest.Digest]string

	mu      sync.Mutex
	have    map[digest.Digest]bool
	queries []string
	// answer is what a backend says; nil: nothing is required. err is the host's.
	answer func(s plan.Step) (files map[string][]byte, f *record.Failure, err error)
	broken map[string]error // source archive to the error of unpacking it
}

func newYard(t *testing.T) *yard {
	return &yard{t: t, index: newFakeIndex(t), files: map[string][]string{}, dirs: map[digest.Digest]string{}, have: map[digest.Digest]bool{}, broken: map[string]error{}}
}

// Have is Host's.
func (y *yard) Have(d digest.Digest) bool { y.mu.Lock(); defer y.mu.Unlock(); return y.have[d] }

// Source is Host's.
func (y *yard) Source(_ context.Context, d digest.Digest, file string, _ []plan.Patch) (PreparedSource, error) {
	if !y.Have(d) {
		return PreparedSource{}, fmt.Errorf("%s was not fetched", file)
	}
	if err := y.broken[file]; err != nil {
		return PreparedSource{}, err
	}
	return PreparedSource{Dir: y.dirs[d], Newest: time.Unix(1700000000, 0)}, nil
}

// Query is Host's.
func (y *yard) Query(_ context.Context, s plan.Step, known map[digest.Digest]plan.Step) (map[string][]byte, *record.Failure, error) {
	for _, d := range s.Deps() {
		if _, ok := known[d]; !ok {
			y.t.Errorf("query of %s: its input %s is not known", s.PURL, d.Short())
		}
	}
	y.mu.Lock()
	y.queries = append(y.queries, s.PURL.Name())
	y.mu.Unlock()
	if y.answer != nil {
		if files, f, err := y.answer(s); files != nil || f != nil || err != nil {
			return files, f, err
		}
	}
	return map[string][]byte{"query.json": []byte(`{"requires": []}`), "METADATA": []byte("Metadata-Version: 2.1\nName: " + s.PURL.Name() + "\nVersion: " + s.PURL.Version() + "\n")}, nil, nil
}

func (y *yard) offer(project, file, sha, uploaded string) {
	y.files[project] = append(y.files[project], fmt.Sprintf(`{"filename":%q,"url":"/f/%s","hashes":{"sha256":%q},"upload-time":%q}`, file, file, sha, uploaded))
	y.index.page(project, typeJSON, jsonPage(project, y.files[project]...))
}

// sdist offers a source of a project; what is in files stands beside its PKG-INFO.
// Metadata that is "" means static metadata without requirements.
func (y *yard) sdist(project, version string, files map[string]string, requires ...string) {
	y.t.Helper()
	meta := "Metadata-Version: 2.2\nName: " + project + "\nVersion: " + version + "\n"
	for _, r := range requires {
		meta += "Requires-Dist: " + r + "\n"
	}
	all := map[string]string{"PKG-INFO": meta}
	for n, c := range files {
		all[n] = c
	}
	dir := filepath.Join(y.t.TempDir(), project)
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	var names []string
	for n := range all {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if all[n] == "" {
			continue
		}
		err := errors.Join(w.WriteHeader(&tar.Header{Name: project + "-" + version + "/" + n, Mode: 0o644, Size: int64(len(all[n]))}),
			os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o755), os.WriteFile(filepath.Join(dir, n), []byte(all[n]), 0o644))
		if err != nil {
			y.t.Fatal(err)
		}
		if _, err := w.Write([]byte(all[n])); err != nil {
			y.t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), g.Close()); err != nil {
		y.t.Fatal(err)
	}
	d := digest.FromBytes(b.Bytes())
	y.dirs[d] = dir
	file := project + "-" + version + ".tar.gz"
	y.index.file("/f/"+file, b.Bytes(), false)
	y.offer(project, file, d.Hex(), "2025-01-01T00:00:00Z")
}

// wheelOnly offers a wheel and no source.
func (y *yard) wheelOnly(project, version string) {
	y.offer(project, project+"-"+version+"-py3-none-any.whl", zeros, "2025-01-01T00:00:00Z")
	w := testWheel(y.t, project, version, "Metadata-Version: 2.1\nName: "+project+"\nVersion: "+version+"\n", 10)
	name := project + "-" + version + "-py3-none-any.whl"
	y.index.file("/f/"+name, w, true)
	n := len(y.files[project])
	y.files[project][n-1] = fmt.Sprintf(`{"filename":%q,"url":"/f/%s","hashes":{"sha256":%q},"upload-time":"2025-01-01T00:00:00Z"}`, name, name, digest.FromBytes(w).Hex())
	y.index.page(project, typeJSON, jsonPage(project, y.files[project]...))
}

// built says how a source is built, as its pyproject.toml.
func built(backend string, requires ...string) map[string]string {
	b, _ := json.Marshal(requires)
	if requires == nil {
		b = []byte("[]")
	}
	return map[string]string{"pyproject.toml": fmt.Sprintf("[build-system]\nrequires = %s\nbuild-backend = %q\n", b, backend)}
}

func (y *yard) planner(workers int) *Planner {
	client := y.index.client(y.t)
	at := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	p := &Planner{Env: testEnvironment(y.t), At: at, Host: y, Workers: workers, Profile: "p",
		Platform: plan.Platform{OS: "linux", Arch: "amd64"}, Seed: plan.Seed{Name: "s", Digest: digest.FromBytes([]byte("seed"))}}
	p.Fetch = func(ctx context.Context, name string, f File) error {
		var b bytes.Buffer
		if err := client.Download(ctx, name, f, &b); err != nil {
			return err
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		y.have[digest.FromBytes(b.Bytes())] = true
		return nil
	}
	p.Provider = NewIndexProvider(client, at, func(ctx context.Context, c Candidate) (io.ReadCloser, error) {
		var b bytes.Buffer // read to its end, so that its digest is checked
		err := client.Download(ctx, c.Name, *c.Sdist, &b)
		return io.NopCloser(&b), err
	}, nil)
	return p
}

func (y *yard) plan(reqs ...string) *plan.Plan {
	y.t.Helper()
	p, err := y.planner(1).Plan(y.t.Context(), reqs)
	if err != nil {
		y.t.Fatal(err)
	}
	return p
}

// stepsOf gives the steps in their order, each with what it is built with.
func stepsOf(p *plan.Plan) string {
	var out []string
	for _, s := range p.Steps {
		var deps []string
		for _, in := range s.Inputs {
			if in.Tag == plan.TagDeps {
				deps = append(deps, in.PURL.Name()+"="+in.PURL.Version())
			}
		}
		out = append(out, fmt.Sprintf("%s=%s(%s)", s.PURL.Name(), s.PURL.Version(), strings.Join(deps, " ")))
	}
	return strings.Join(out, " ")
}

func (y *yard) want(p *plan.Plan, steps string) {
	y.t.Helper()
	if got := stepsOf(p); got != steps {
		y.t.Errorf("got  %s\nwant %s\n%+v", got, steps, p.Unplanned)
	}
}

// unplanned checks that one package has no step and that the message says why.
func (y *yard) unplanned(p *plan.Plan, name, code string, says ...string) plan.Unplanned {
	y.t.Helper()
	for _, u := range p.Unplanned {
		if u.PURL.Name() != name {
			continue
		}
		if u.Code != code {
			y.t.Errorf("%s: code %s, want %s (%s)", name, u.Code, code, u.Message)
		}
		for _, s := range says {
			if !strings.Contains(u.Message, s) {
				y.t.Errorf("%s: %q is not in %q", name, s, u.Message)
			}
		}
		if strings.ContainsAny(u.Message, "\n\x1b\x00") || len(u.Message) > 3000 {
			y.t.Errorf("%s: message %q", name, u.Message)
		}
		return u
	}
	y.t.Errorf("%s is planned: %s", name, stepsOf(p))
	return plan.Unplanned{}
}

func TestPlan(t *testing.T) {
	y := newYard(t)
	y.sdist("backend", "1", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\"src/\", \".\"]\n"})
	y.sdist("lib", "1.5", built("backend", "backend"))
	y.sdist("lib", "2", built("backend", "backend"))
	y.sdist("app", "1", built("backend:main", "backend>=1", "nothing; sys_platform == 'win32'"), "lib<2")
	p := y.plan("App")
	y.want(p, "backend=1() app=1(backend=1) lib=1.5(backend=1)")
	app, ok := p.Artifact("pkg:pypi/app@1")
	if !ok || !app.Direct || len(app.Requires) != 1 || app.Requires[0] != "pkg:pypi/lib@1.5" || app.Metadata != FromSdist || app.Published != nil || app.Source == "" {
		t.Errorf("%+v", app)
	}
	if lib, _ := p.Artifact("pkg:pypi/lib@1.5"); lib.Direct {
		t.Error("lib was not asked for")
	}
	if _, ok := p.Artifact("pkg:pypi/backend@1"); ok {
		t.Error("what is only built with is no row of the runtime closure")
	}
	s, _ := p.Step(app.Step)
	if s.Recipe.Backend != "backend:main" || s.Recipe.Query == "" || s.Recipe.Driver != DriverDigest.String() || s.Env.SourceDateEpoch != 1700000000 || s.Env.Variables["SOURCE_DATE_EPOCH"] != "1700000000" || s.Env.Profile != "p" {
		t.Errorf("%+v", s)
	}
	if b, _ := p.Step(p.Steps[0].ID); strings.Join(b.Recipe.BackendPath, ",") != "src,." {
		t.Errorf("backend-path %q", b.Recipe.BackendPath)
	}
	if len(p.Queries) != 3 || !p.AtTimeEnforced || p.Requirements[0] != "app" {
		t.Errorf("%d queries, enforced %t, %q", len(p.Queries), p.AtTimeEnforced, p.Requirements)
	}
}

func TestPublishedIsAWheelOrNothing(t *testing.T) {
	sdist, wheel := &File{Name: "a-1.tar.gz", SHA256: zeros, Size: 3}, &File{Name: "a-1-py3-none-any.whl", SHA256: zeros, Size: 4, Provenance: true}
	if p := publishedOf(Candidate{Sdist: sdist}); p != nil {
		t.Errorf("a source archive is offered to whoever installs: %+v", p)
	}
	if p := publishedOf(Candidate{Sdist: sdist, Wheel: wheel}); p == nil || p.File != wheel.Name || p.Size != 4 || !p.Attested || p.Digest != digest.Prefix+zeros {
		t.Errorf("%+v", p)
	}
}

func TestPlanHookRequirements(t *testing.T) {
	y := newYard(t)
	y.sdist("backend", "1", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"})
	y.sdist("more", "1", built("backend", "backend"))
	y.sdist("app", "1", built("backend", "backend"))
	y.answer = func(s plan.Step) (map[string][]byte, *record.Failure, error) {
		if s.PURL.Name() == "app" {
			return map[string][]byte{"query.json": []byte(`{"requires": ["more ", "more", "backend"]}`)}, nil, nil
		}
		return nil, nil, nil
	}
	p := y.plan("app")
	y.want(p, "backend=1() more=1(backend=1) app=1(backend=1 more=1)")
	if s := p.Steps[2]; strings.Join(s.Recipe.HookRequires, ",") != "backend,more" || strings.Join(s.Recipe.Requires, ",") != "backend" {
		t.Errorf("%+v", s.Recipe)
	}
	// The question was asked with what the source declares, and no more.
	for _, q := range p.Queries {
		if q.ID == p.Steps[2].Recipe.Query && len(q.Deps()) != 1 {
			t.Errorf("%+v", q.Inputs)
		}
	}
}

func TestPlanHostileAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		json string
		says string
	}{
		"nothing":      {"", "not a list of requirements"},
		"not JSON":     {"\x1b[2J{", "not a list of requirements"},
		"a list":       {`["a"]`, "not a list of requirements"},
		"numbers":      {`{"requires":[1]}`, "not a list of requirements"},
		"long":         {`{"requires":["` + strings.Repeat("x", maxQuery) + `"]}`, "at most"},
		"many":         {`{"requires":["` + strings.Repeat(`a","`, maxRequires) + `a"]}`, "at most"},
		"no name":      {`{"requires":["evil\u001b[2J\n; x"]}`, "cannot be read"},
		"empty":        {`{"requires":[""]}`, "cannot be read"},
		"an address":   {`{"requires":["a @ https://evil.invalid/a.whl"]}`, ""},
		"missing":      {`{"requires":["nowhere"]}`, "cannot be met"},
		"itself":       {`{"requires":["app"]}`, "ring"},
		"wheel only":   {`{"requires":["binary"]}`, "no source archive"},
		"a local file": {`{"requires":["./x"]}`, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.sdist("app", "1", built("b"))
			y.sdist("good", "1", built("b"))
			y.wheelOnly("binary", "1")
			y.answer = func(s plan.Step) (map[string][]byte, *record.Failure, error) {
				if s.PURL.Name() == "app" {
					return map[string][]byte{"query.json": []byte(c.json)}, nil, nil
				}
				return nil, nil, nil
			}
			p := y.plan("app", "good")
			y.want(p, "good=1()")
			u := y.unplanned(p, "app", "build-failed", c.says)
			if len(u.Inputs) < 2 {
				t.Errorf("its inputs are known: %+v", u)
			}
			if a, ok := p.Artifact("pkg:pypi/app@1"); !ok || a.Step != "" || a.Source == "" {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestPlanFailingQuery(t *testing.T) {
	y := newYard(t)
	y.sdist("app", "1", built("b"))
	y.sdist("user", "1", built("b", "app"))
	y.sdist("good", "1", built("b"))
	y.answer = func(s plan.Step) (map[string][]byte, *record.Failure, error) {
		if s.PURL.Name() == "app" {
			return nil, &record.Failure{Class: record.FailMissingTool, Message: "The build needs rustc."}, nil
		}
		return nil, nil, nil
	}
	p := y.plan("app", "good", "user")
	y.want(p, "good=1()")
	y.unplanned(p, "app", "build-failed", "asked for its requirements and failed: The build needs rustc.")
	if u := y.unplanned(p, "user", "build-failed", "It is built with pkg:pypi/app@1, which could not be built"); u.Cause != "pkg:pypi/app@1" {
		t.Errorf("cause %q", u.Cause)
	}
	broken := errors.New("no sandbox")
	y.answer = func(plan.Step) (map[string][]byte, *record.Failure, error) { return nil, nil, broken }
	for _, workers := range []int{1, 3} {
		if _, err := y.planner(workers).Plan(t.Context(), []string{"app", "good"}); !errors.Is(err, broken) {
			t.Errorf("the host's error with %d workers: %v", workers, err)
		}
	}
}

func TestPlanNamesTheStepAtFault(t *testing.T) {
	y := newYard(t)
	y.sdist("tool", "1", built("b"))
	y.sdist("app", "1", built("b", "tool"))
	y.answer = func(s plan.Step) (map[string][]byte, *record.Failure, error) {
		if s.PURL.Name() == "app" {
			return nil, &record.Failure{Class: record.FailDependency, Message: "It is built with pkg:pypi/tool@1, whose build failed: no."}, nil
		}
		return nil, nil, nil
	}
	if u := y.unplanned(y.plan("app"), "app", "build-failed", "It is built with pkg:pypi/tool@1"); u.Cause != "pkg:pypi/tool@1" {
		t.Errorf("cause %q", u.Cause)
	}
}

func TestPlanRings(t *testing.T) {
	inTree := map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"}
	t.Run("opened by backend-path", func(t *testing.T) {
		y := newYard(t)
		y.sdist("aa", "1", inTree)
		y.sdist("bb", "1", built("aa", "aa"))
		y.want(y.plan("bb"), "aa=1() bb=1(aa=1)")
	})
	for _, entry := range [][]string{{"aa"}, {"aa", "bb"}, {"bb"}} {
		t.Run("opened by an older version, from "+strings.Join(entry, " "), func(t *testing.T) {
			y := newYard(t)
			y.sdist("aa", "2", built("bb", "bb"))
			y.sdist("aa", "1", inTree)
			y.sdist("bb", "1", built("aa", "aa"))
			p := y.plan(entry...)
			if len(p.Unplanned) != 0 {
				t.Errorf("%+v", p.Unplanned)
			}
			if !strings.HasPrefix(stepsOf(p), "aa=1() bb=1(aa=1)") {
				t.Error(stepsOf(p))
			}
		})
	}
	t.Run("opened further in, leaving nothing behind", func(t *testing.T) {
		y := newYard(t)
		y.sdist("aa", "2", built("bb", "cc", "dd"))
		y.sdist("aa", "1", inTree)
		y.sdist("bb", "1", built("aa", "aa"))
		y.sdist("cc", "1", built("bb", "bb"))
		y.sdist("dd", "1", inTree) // needed by what is given up alone
		p := y.plan("bb")
		y.want(p, "aa=1() bb=1(aa=1)")
		if len(p.Unplanned) != 0 || len(p.Sources) != 2 || len(p.Queries) != 2 {
			t.Errorf("left behind: %+v, %d sources, %d queries", p.Unplanned, len(p.Sources), len(p.Queries))
		}
	})
	t.Run("that nothing opens", func(t *testing.T) {
		y := newYard(t)
		y.sdist("aa", "1", built("bb", "bb"))
		y.sdist("bb", "1", built("aa", "aa"))
		y.sdist("good", "1", built("b"))
		p := y.plan("aa", "good")
		y.want(p, "good=1()")
		y.unplanned(p, "aa", "build-failed", "ring", "aa@1 → bb@1")
		y.unplanned(p, "bb", "build-failed", "ring", "aa@1 → bb@1")
	})
	t.Run("of one", func(t *testing.T) {
		y := newYard(t)
		y.sdist("aa", "1", built("aa", "aa"))
		y.unplanned(y.plan("aa"), "aa", "build-failed", "ring", "aa@1")
	})
}

func TestPlanRefusesSources(t *testing.T) {
	toml := func(s string) map[string]string { return map[string]string{"pyproject.toml": "[build-system]\n" + s} }
	for name, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"no build system":  {map[string]string{"README": "x"}, "Nothing says how it is built"},
		"not TOML":         {map[string]string{"pyproject.toml": "[[["}, "not TOML"},
		"absolute":         {toml("requires=[]\nbuild-backend='b'\nbackend-path=['/etc']"), "leaves the source"},
		"escaping":         {toml("requires=[]\nbuild-backend='b'\nbackend-path=['a/../../b']"), "leaves the source"},
		"up":               {toml("requires=[]\nbuild-backend='b'\nbackend-path=['..']"), "leaves the source"},
		"empty path":       {toml("requires=[]\nbuild-backend='b'\nbackend-path=['']"), "leaves the source"},
		"path, no backend": {toml("requires=[]\nbackend-path=['.']"), "without build-backend"},
		"odd backend":      {toml("requires=[]\nbuild-backend='os; import x'"), "not module:object"},
		"backend escape":   {toml("requires=[]\nbuild-backend=\"b\\u001b[2J\""), "not module:object"},
		"requires a text":  {toml("requires='setuptools'"), "not TOML"},
		"no requires":      {toml("build-backend='b'"), "without requires"},
		"wheel only":       {built("b", "binary"), "no source archive"},
		"conflict":         {built("b", "lib<1", "lib>1"), "cannot be met"},
		"unknown":          {built("b", "nowhere"), "cannot be met"},
		"not a name":       {built("b", "???"), "cannot be read"},
		"many":             {built("b", make([]string, maxRequires+1)...), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.sdist("app", "1", c.files)
			y.sdist("lib", "1", built("b"))
			y.wheelOnly("binary", "1")
			p := y.plan("app", "lib")
			y.want(p, "lib=1()")
			y.unplanned(p, "app", "build-failed", c.says)
		})
	}
	y := newYard(t)
	y.wheelOnly("binary", "1")
	y.sdist("hostile", "1", built("b"))
	y.sdist("lib", "1", built("b"))
	y.broken["hostile-1.tar.gz"] = fault.New(fault.Hostile, "the archive\x1b[2J\nleaves its folder")
	p := y.plan("binary", "hostile", "lib")
	y.want(p, "lib=1()")
	y.unplanned(p, "binary", "no-source", "no source archive of version 1")
	y.unplanned(p, "hostile", "build-failed", "Its source archive was refused: the archive; leaves its folder.")
	y.broken["hostile-1.tar.gz"] = fault.New(fault.NotFound, "the index has it no more")
	p = y.plan("hostile", "lib")
	y.want(p, "lib=1()")
	y.unplanned(p, "hostile", "no-source", "the index has it no more")
	y.broken["hostile-1.tar.gz"] = errors.New("disk full")
	if _, err := y.planner(1).Plan(t.Context(), []string{"hostile"}); err == nil {
		t.Error("an error of the host became one of the package")
	}
}

// TestPlanRefusedMetadata: an index that gives other bytes than it promises, or
// another package's metadata, costs the row of that package. It is not built, no
// published file of it is offered, and no other version is taken for broken bytes.
func TestPlanRefusedMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		lie     func(y *yard)
		says    string
		version string
	}{
		"source with another digest": {func(y *yard) {
			y.index.file("/f/app-2.tar.gz", []byte("something else"), false)
		}, "promised digest", "2"},
		"source without a digest": {func(y *yard) {
			y.files["app"] = nil
			y.offer("app", "app-2.tar.gz", "", "2025-01-01T00:00:00Z")
		}, "no sha256", "2"},
		"wheel's metadata with another digest": {func(y *yard) {
			y.files["app"] = []string{`{"filename":"app-2-py3-none-any.whl","url":"/f/app-2-py3-none-any.whl","hashes":{"sha256":"` + zeros + `"},"core-metadata":{"sha256":"` + zeros + `"},"upload-time":"2025-01-01T00:00:00Z"}`}
			y.index.page("app", typeJSON, jsonPage("app", y.files["app"]...))
			y.index.file("/f/app-2-py3-none-any.whl.metadata", []byte("Metadata-Version: 2.1\nName: app\nVersion: 2\n"), false)
		}, "want sha256 " + zeros, "2"},
		"wheel of another size": {func(y *yard) {
			w := testWheel(t, "app", "2", "Metadata-Version: 2.1\nName: app\nVersion: 2\n", 10)
			y.index.file("/f/app-2-py3-none-any.whl", w, true)
			y.files["app"] = []string{`{"filename":"app-2-py3-none-any.whl","url":"/f/app-2-py3-none-any.whl","hashes":{"sha256":"` + zeros + `"},"size":7,"upload-time":"2025-01-01T00:00:00Z"}`}
			y.index.page("app", typeJSON, jsonPage("app", y.files["app"]...))
		}, "the index 7", "2"},
		"wheel that is gone": {func(y *yard) {
			y.files["app"] = nil
			y.offer("app", "app-2-py3-none-any.whl", zeros, "2025-01-01T00:00:00Z")
		}, "404", "2"},
		"another package's name": {func(y *yard) {
			y.files["app"] = nil
			y.sdist("app", "2", map[string]string{"PKG-INFO": "Metadata-Version: 2.2\nName: lib\nVersion: 2\n"})
		}, "that of lib 2", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.sdist("app", "1", built("b"))
			y.sdist("app", "2", built("b"), "lib")
			y.sdist("lib", "1", built("b"))
			y.sdist("uses", "1", built("app", "app==2"))
			c.lie(y)
			p := y.plan("app==2", "lib", "uses")
			y.want(p, "lib=1()")
			u := y.unplanned(p, "app", "build-failed", c.says)
			if a, ok := p.Artifact(u.PURL); !ok || u.PURL.Version() != c.version || a.Published != nil || a.Metadata != plan.MetadataRefused || len(a.Requires) > 0 {
				t.Errorf("%+v", a)
			}
			y.unplanned(p, "uses", "build-failed")
		})
	}
}

func TestPlanLegacySource(t *testing.T) {
	y := newYard(t)
	y.sdist("setuptools", "68", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"setuptools.build_meta\"\nbackend-path = [\".\"]\n"})
	y.sdist("old", "1", map[string]string{"setup.py": "from setuptools import setup"})
	y.sdist("older", "1", map[string]string{"setup.cfg": "[metadata]", "pyproject.toml": "[tool.black]\n"})
	p := y.plan("old", "older")
	y.want(p, "setuptools=68() old=1(setuptools=68) older=1(setuptools=68)")
	if r := p.Steps[1].Recipe; r.Backend != legacyBackend {
		t.Errorf("%+v", r)
	}
}

func TestPlanRequirementForms(t *testing.T) {
	y := newYard(t)
	y.sdist("six", "1.16.0", built("b"))
	y.sdist("six", "1.17.0", built("b"))
	for _, c := range []struct{ in, norm, version string }{
		{"six", "six", "1.17.0"}, {"Six<1.17", "six<1.17", "1.16.0"}, {"pypi:six==1.16", "six==1.16", "1.16.0"}, {"pkg:pypi/six@1.16.0", "six==1.16.0", "1.16.0"},
		{"pkg:pypi/six", "six", "1.17.0"}, {" six ~= 1.16.0 ", "six~=1.16.0", "1.16.0"}, {"six; python_version > '3'", "", "1.17.0"},
	} {
		p := y.plan(c.in)
		if len(p.Artifacts) != 1 || p.Artifacts[0].PURL.Version() != c.version || c.norm != "" && p.Requirements[0] != c.norm {
			t.Errorf("%q: %q, %+v", c.in, p.Requirements, p.Artifacts)
		}
	}
	for in, kind := range map[string]fault.Kind{
		"pkg:npm/express@4": fault.Unsupported, "npm:express": fault.Usage, "pkg:": fault.Usage, "": fault.Usage, "???": fault.Usage, "six ==": fault.Usage, "./six": fault.Usage,
		"six>=9": fault.Conflict, "nowhere": fault.NotFound, "six\x1b[2J": fault.Usage, "six @ https://x.invalid/six.whl": fault.Usage,
	} {
		if _, err := y.planner(1).Plan(t.Context(), []string{in}); fault.KindOf(err) != kind {
			t.Errorf("%q: kind %q, %v", in, fault.KindOf(err), err)
		}
	}
}

func TestPlanAtTime(t *testing.T) {
	y := newYard(t)
	y.sdist("lib", "1", built("b"))
	y.offer("lib", "lib-2.tar.gz", zeros, "2025-06-01T00:00:01Z")
	p := y.plan("lib")
	y.want(p, "lib=1()")
	if p.AtTime != "2025-06-01T00:00:00Z" || !p.AtTimeEnforced {
		t.Errorf("%s %t", p.AtTime, p.AtTimeEnforced)
	}
	// SOURCE_DATE_EPOCH is no later than the upload and no earlier than a zip can say.
	pl := y.planner(1)
	for _, c := range []struct {
		newest time.Time
		upload string
		want   int64
	}{
		{time.Unix(1700000000, 0), "", 1700000000}, {time.Unix(0, 0), "", 315619200}, {time.Now().AddDate(9, 0, 0), "", pl.At.Unix()},
		{time.Unix(1700000000, 0), "2001-09-09T01:46:40Z", 1000000000}, {time.Unix(1700000000, 0), "2099-01-01T00:00:00Z", 1700000000}, {time.Unix(1700000000, 0), "rubbish", 1700000000},
	} {
		if got := pl.epoch(Pin{Candidate: Candidate{Sdist: &File{UploadTime: c.upload}}}, c.newest); got != c.want {
			t.Errorf("epoch of %s, uploaded %q: %d, want %d", c.newest, c.upload, got, c.want)
		}
	}
}

// The same input gives the same plan, however many plan at a time.
func TestPlanIsDeterministic(t *testing.T) {
	y := newYard(t)
	y.sdist("base", "1", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"})
	y.sdist("base", "2", built("mid", "mid"))
	y.sdist("mid", "1", built("base", "base"))
	reqs := []string{}
	for i := range 8 {
		deps := []string{"base", "mid"}
		if i > 0 {
			deps = append(deps, fmt.Sprintf("p%d", i-1))
		}
		name := fmt.Sprintf("p%d", i)
		y.sdist(name, "1", built("base", deps[:1+i%len(deps)]...))
		reqs = append(reqs, name)
	}
	// One whose requirements only its backend knows.
	y.sdist("asked", "1", map[string]string{"pyproject.toml": built("base", "base")["pyproject.toml"], "PKG-INFO": "Metadata-Version: 2.1\nName: asked\nVersion: 1\n"})
	reqs = append(reqs, "asked")
	var want digest.Digest
	for i, workers := range []int{1, 1, 4, 4, 0, 8} {
		p, err := y.planner(workers).Plan(t.Context(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		d, _, err := p.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = d
		}
		if d != want {
			t.Errorf("run %d with %d workers gave another plan: %s", i, workers, stepsOf(p))
		}
		reqs[0], reqs[len(reqs)-1] = reqs[len(reqs)-1], reqs[0]
	}
	// The same planner, asked again.
	pl := y.planner(2)
	for range 2 {
		p, err := pl.Plan(t.Context(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		if d, _, _ := p.Digest(); d != want {
			t.Error("a planner that is used again plans otherwise")
		}
	}
}

func TestPlanCancelled(t *testing.T) {
	y := newYard(t)
	y.sdist("a", "1", built("b"))
	ctx, cancel := context.WithCancel(t.Context())
	y.answer = func(plan.Step) (map[string][]byte, *record.Failure, error) { cancel(); return nil, nil, ctx.Err() }
	if _, err := y.planner(2).Plan(ctx, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := purl.New("pypi", "a", "1"); got != "pkg:pypi/a@1" {
		t.Error(got)
	}
}
