package server

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/record"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
	"hallmark/internal/store/storetest"
)

// fake is a backend in memory. Its faults are injectable.
type fake struct {
	mu       sync.Mutex
	projects map[string]func() (*Project, error)
	names    []string
	blobs    map[digest.Digest][]byte
	evidence map[digest.Digest]map[string][]byte
	asked    int // how often Project was called
	fail     error
	branches []string // that may have any file
	attempts map[digest.Digest]jobs.Attempt
	logs     map[string]string // of builds, by id
	runtime  *runtime.Spec     // of every commit; nil: there is none
}

// keepAttempt gives what stores attempts in the fake.
func (f *fake) keepAttempt(blobs *storetest.Blobs) func(context.Context, jobs.Attempt) (digest.Digest, error) {
	return func(_ context.Context, a jobs.Attempt) (digest.Digest, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.attempts == nil {
			f.attempts = map[digest.Digest]jobs.Attempt{}
		}
		d := blobs.Add(fmt.Sprintf("attempt %d of %s", len(f.attempts), a.Run))
		f.attempts[d] = a
		return d, nil
	}
}

func (f *fake) Attempt(_ context.Context, d digest.Digest) (jobs.Attempt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.attempts[d]
	if !ok {
		return a, fault.New(fault.NotFound, "blob %s is not stored", d)
	}
	return a, nil
}

func (f *fake) StoredLog(_ context.Context, build string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.logs[build]
	if !ok {
		return nil, fault.New(fault.NotFound, "build %.80q has left no log", build)
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

type nopFile struct{ *bytes.Reader }

func (nopFile) Close() error { return nil }

func (f *fake) Projects(context.Context) ([]string, error) { return f.names, f.fail }

func (f *fake) Project(_ context.Context, org, name string) (*Project, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.fail != nil {
		return nil, f.fail
	}
	p, ok := f.projects[org+"/"+name]
	if !ok {
		return nil, fault.New(fault.NotFound, "project %s/%s is not stored", org, name)
	}
	return p()
}

func (f *fake) BranchesWith(context.Context, string, string, digest.Digest) ([]string, error) {
	return f.branches, f.fail
}

func (f *fake) Open(_ context.Context, d digest.Digest) (File, error) {
	b, ok := f.blobs[d]
	if !ok {
		return nil, fault.New(fault.NotFound, "blob %s is not stored", d)
	}
	return nopFile{bytes.NewReader(b)}, nil
}

func (f *fake) Evidence(_ context.Context, d digest.Digest, _ May) ([]EvidenceFile, error) {
	var out []EvidenceFile
	for n, b := range f.evidence[d] {
		out = append(out, EvidenceFile{Name: n, PredicateType: "https://slsa.dev/provenance/v1", Digest: digest.FromBytes(b)})
	}
	slices.SortFunc(out, func(a, b EvidenceFile) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (f *fake) EvidenceFile(_ context.Context, d digest.Digest, name string, _ May) ([]byte, error) {
	if b, ok := f.evidence[d][name]; ok {
		return b, nil
	}
	return nil, fault.New(fault.NotFound, "evidence %.100q is not stored", name)
}

func (f *fake) TrustedRoot(context.Context) ([]byte, error) {
	return []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), nil
}

func (f *fake) Log() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "log "+r.URL.Path) })
}

const testKey = "0123456789abcdef"

func (f *fake) Builder(_ context.Context, key, mode string) (Builder, error) {
	if key != testKey || mode != "hermetic" {
		return Builder{}, fault.New(fault.NotFound, "no builder %.80q is ours", key+"/"+mode)
	}
	return Builder{ID: statustest.Builder, PublicKey: []byte("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"),
		Level: "SLSA_BUILD_LEVEL_1", ProfileDigest: "sha256:ab", Profile: []byte(`{"uid":65534}`),
		Newest: &record.Facts{Runtime: "runc 1.1", Kernel: "linux", Facts: []record.Fact{
			{Name: "limit.memory", Want: "4096", Got: "no control group", Cause: "not <root>; limits of the processes' resources stand in"},
			{Name: "limit.time", Want: "1h0m0s", Got: "1h0m0s", Holds: true}, {Name: "uid", Want: "1000", Got: "1000", Holds: true}}}}, nil
}

func (f *fake) PublicKey(_ context.Context, key string) ([]byte, error) {
	if key != testKey {
		return nil, fault.New(fault.NotFound, "no key %.80q is ours", key)
	}
	return []byte("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"), nil
}

// Artifact gives what the document says of a file, with a build that is made up.
func (f *fake) Artifact(ctx context.Context, org, name string, d digest.Digest) (*Artifact, error) {
	p, err := f.Project(ctx, org, name)
	if err != nil {
		return nil, err
	}
	for _, row := range p.Document.Artifacts {
		if row.Digest == nil || *row.Digest != d {
			continue
		}
		a := &Artifact{PURL: row.PURL, File: *row.File, Digest: d, Size: int64(len(f.blobs[d])), Class: row.Class, Reasons: row.Reasons, Policy: p.Policy,
			Runtime: true, Direct: row.Direct, Served: true, Published: row.Builder == nil, KeyID: testKey, Verifier: "http://localhost:8420/verifier/" + testKey, Level: "SLSA_BUILD_LEVEL_1", Failure: row.Failure,
			Why: []status.Hop{{Artifact: row.PURL, Class: row.Class, Reasons: row.Reasons}}, Rests: Closure{Nodes: []ClosureNode{{PURL: row.PURL, Class: row.Class, Digest: d}}}}
		if row.Grade != nil {
			a.Grade = *row.Grade
		}
		for _, other := range p.Document.Artifacts {
			if other.PURL == row.PURL {
				continue
			}
			n := ClosureNode{PURL: other.PURL, Class: other.Class}
			if other.Digest != nil {
				n.Digest = *other.Digest
			}
			for _, x := range other.Reasons {
				if x.Artifact == "" || x.Artifact == other.PURL {
					n.Own = x.Message
				}
			}
			at := len(a.Rests.Nodes)
			a.Rests.Nodes = append(a.Rests.Nodes, n)
			a.Rests.Edges = append(a.Rests.Edges, ClosureEdge{From: (at - 1) / 3, To: at})
			a.Closure++
		}
		for i, n := range []ClosureNode{{PURL: purl.New("pypi", "gone", "1.0"), Missing: true}, {PURL: purl.New("pypi", "flit-core", "3.9.0"), Class: policy.Secure}} {
			a.Rests.Nodes = append(a.Rests.Nodes, n)
			a.Rests.Edges = append(a.Rests.Edges, ClosureEdge{From: i % (a.Closure + 1), To: len(a.Rests.Nodes) - 1, Build: true})
		}
		if row.Builder != nil {
			a.build(*row.Builder, p.Created)
		}
		return a, nil
	}
	return nil, fault.New(fault.NotFound, "%s/%s has no artifact %s", org, name, d.Short())
}

// build makes up how an artifact was built, twice again.
func (a *Artifact) build(builder string, at time.Time) {
	facts := record.Facts{Runtime: "runc 1.1", Kernel: "linux"}
	for _, n := range slices.Concat(record.IsolationFacts, record.EphemeralFacts, record.HermeticFacts) {
		facts.Facts = append(facts.Facts, record.Fact{Name: n, Want: "its own", Got: "its own", Holds: true})
	}
	first := record.Build{ID: "one", Purpose: record.First, Builder: builder, Outcome: record.Succeeded, Facts: facts, Started: at, Usage: record.Usage{Wall: 3 * time.Second},
		Network: []record.Attempt{{Kind: "lookup", Target: "host.invalid"}}, Inputs: []record.Input{{Tag: "deps", PURL: "pkg:pypi/flit-core@3.9.0", Digest: a.Digest}}, SeedFiles: []string{"/usr/lib/crt1.o"}}
	a.First, a.Builds = &first, []record.Build{first}
	a.Source = &plan.Source{PURL: a.PURL, File: a.PURL.Name() + ".tar.gz", Digest: a.Digest, Size: 1234, Kind: "archive", Tag: "unavailable", Removed: []plan.Removed{{Path: "launcher.exe", Digest: a.Digest, Kind: "pe"}}}
	a.Recipe = &plan.Recipe{Kind: "pep517", Backend: "flit_core.buildapi"}
	a.Rebuilds = []record.RebuildResult{
		{Sequence: 1, Outcome: record.Different, Time: at, Axes: []record.Axis{{Name: record.AxisClock, First: "2026", Second: "2027", Varied: true}},
			Differences: []record.Difference{{Path: "a.whl!/a.py", What: "content", First: "1", Second: "2", Hint: "a date"}}},
		{Sequence: 2, Outcome: record.Identical, Time: at, FirstRuntime: "runc 1.1 (linux)", SecondRuntime: "runsc (gvisor)",
			Axes: []record.Axis{{Name: record.AxisCPUs, First: "2", Second: "1", Varied: true}, {Name: record.AxisUptime, Cause: "no time namespace"}}}}
}

// wheel makes a pure wheel of one module that returns its own name.
func wheel(t testing.TB, name, version string, requires ...string) (string, []byte) {
	t.Helper()
	module := strings.ReplaceAll(name, "-", "_")
	dist := module + "-" + version
	meta := "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\nRequires-Python: >=3.8\n"
	for _, r := range requires {
		meta += "Requires-Dist: " + r + "\n"
	}
	files := [][2]string{
		{module + ".py", "NAME = '" + name + "'\n"},
		{dist + ".dist-info/METADATA", meta + "\nA package made by a test.\n"},
		{dist + ".dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
	}
	var recordFile strings.Builder
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(n, c string) {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(c))
	}
	for _, f := range files {
		add(f[0], f[1])
		h := sha256.Sum256([]byte(f[1]))
		fmt.Fprintf(&recordFile, "%s,sha256=%s,%d\n", f[0], base64.RawURLEncoding.EncodeToString(h[:]), len(f[1]))
	}
	fmt.Fprintf(&recordFile, "%s.dist-info/RECORD,,\n", dist)
	add(dist+".dist-info/RECORD", recordFile.String())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return dist + "-py3-none-any.whl", b.Bytes()
}

// sample is statustest's project with real wheels in place of its files.
func sample(t testing.TB) *fake {
	t.Helper()
	f := &fake{projects: map[string]func() (*Project, error){}, names: []string{"acme/empty", "acme/started", "acme/unsolved", "acme/web"},
		blobs: map[digest.Digest][]byte{}, evidence: map[digest.Digest]map[string][]byte{}}
	in := statustest.Sample()
	// A file that is stored, but not of this plan.
	f.blobs[digest.FromBytes([]byte("other"))] = []byte("other")
	requires := map[string][]string{"flask": {"MarkupSafe>=2"}, "pydantic": {"pydantic_core==2.18.1"}}
	for i, a := range in.Plan.Artifacts {
		served, ok := in.Served[a.PURL]
		if !ok {
			continue
		}
		file, b := wheel(t, a.PURL.Name(), a.PURL.Version(), requires[a.PURL.Name()]...)
		d := digest.FromBytes(b)
		f.blobs[d] = b
		f.evidence[d] = map[string][]byte{"provenance.sigstore.json": []byte(`{"of":"` + a.PURL.Name() + `"}`), "vsa.dsse.json": []byte(`{}`)}
		served.Name, served.Digest = file, d
		in.Served[a.PURL] = served
		if !served.Published {
			in.Steps[in.Plan.Artifacts[i].Step] = statustest.GoodStep(a.Step, file, d)
		}
	}
	f.projects["acme/web"] = func() (*Project, error) {
		doc, _ := status.Build(in)
		return &Project{Document: doc, Policy: in.Policy, Requirements: in.Plan.Requirements, AtTime: in.Plan.AtTime,
			Created: time.Date(2026, 5, 17, 9, 0, 0, 0, time.UTC), Message: "add <flask> & pydantic"}, nil
	}
	f.projects["acme/empty"] = func() (*Project, error) {
		doc, _ := status.Build(status.Input{Project: "acme/empty", Plan: &plan.Plan{}, Policy: in.Policy})
		return &Project{Document: doc, Policy: in.Policy}, nil
	}
	f.projects["acme/started"] = func() (*Project, error) { // solved, and nothing built
		start := in
		start.Project, start.Steps, start.Served = "acme/started", nil, nil
		doc, _ := status.Build(start)
		return &Project{Document: doc, Policy: in.Policy}, nil
	}
	f.projects["acme/unsolved"] = func() (*Project, error) {
		return nil, fault.Advise(fault.Conflict, "Solve and build it: hallmark builds", "commit abc has not been solved yet")
	}
	return f
}

// large is the sample with many secure packages more.
func large(t testing.TB) *fake {
	f := sample(t)
	f.projects["acme/web"] = func(prev func() (*Project, error)) func() (*Project, error) {
		return func() (*Project, error) {
			p, err := prev()
			if err != nil {
				return nil, err
			}
			q := *p
			q.Document.Artifacts = append([]status.Row(nil), p.Document.Artifacts...)
			for _, row := range p.Document.Artifacts {
				if row.PURL.Name() != "flask" {
					continue
				}
				for i, n := range []string{"annotated-types", "blinker", "certifi", "charset-normalizer", "click", "idna", "itsdangerous", "jinja2", "requests", "typing-extensions", "urllib3", "werkzeug"} {
					r := row
					r.PURL = purl.New("pypi", n, fmt.Sprintf("%d.%d.0", i+1, i))
					file := strings.ReplaceAll(n, "-", "_") + "-" + r.PURL.Version() + "-py3-none-any.whl"
					r.File = &file
					r.Direct = n == "requests"
					q.Document.Artifacts = append(q.Document.Artifacts, r)
					q.Document.Summary.Artifacts++
					q.Document.Summary.Secure++
				}
			}
			n := q.Document.Summary.Secure * 100 / q.Document.Summary.Artifacts
			q.Document.Summary.PercentSecure = &n
			return &q, nil
		}
	}(f.projects["acme/web"])
	return f
}

// serve starts a server over b on a loopback port that it calls its own.
func serve(t testing.TB, b Backend) *httptest.Server {
	t.Helper()
	return serveLog(t, b, t.Output())
}

// serveLog is serve with a place for the server's log.
func serveLog(t testing.TB, b Backend, log io.Writer) *httptest.Server {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil)
	s, err := New(b, Options{SingleUser: true, ExternalURL: "http://" + ts.Listener.Addr().String(), Version: "test", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ts.Config.Handler = s
	ts.Start()
	t.Cleanup(ts.Close)
	return ts
}
