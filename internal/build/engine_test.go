package build

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// chain is tool <- lib <- app, and other beside them.
func (w *world) chain() (tool, lib, app, other plan.Step) {
	tool = w.step("tool")
	lib = w.step("lib", tool)
	app = w.step("app", lib, tool)
	other = w.step("other")
	return
}

func (w *world) all(e *Engine) Result {
	w.t.Helper()
	res, err := e.All(w.t.Context(), w.p)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func TestAllBuildsEverythingTwice(t *testing.T) {
	w := newWorld(t)
	tool, _, app, _ := w.chain()
	if got, want := w.all(w.e), (Result{Built: 4, Rebuilt: 4}); got != want {
		t.Errorf("%+v", got)
	}
	for _, s := range w.p.Steps {
		rs := w.records.rebuilds[s.ID]
		if w.records.count(s, record.First) != 1 || w.records.count(s, record.Rebuild) != 1 || len(rs) != 1 || rs[0].Outcome != record.Identical || rs[0].Sequence != 1 || rs[0].Previous != "" {
			t.Errorf("%s: %+v", s.PURL, rs)
		}
	}
	runs := strings.Fields(w.runner.runs())
	if i, j, k := slices.Index(runs, "tool"), slices.Index(runs, "lib"), slices.Index(runs, "app"); i > j || j > k || slices.Index(runs, "tool'") < i || slices.Index(runs, "app'") < k {
		t.Errorf("order: %v", runs)
	}
	first := w.records.builds[app.ID][0]
	if first.Schema != record.BuildSchema || first.Builder != w.e.Builder || first.Purpose != record.First || !first.SeedKnown || first.Output.Raw != first.Output.Digest || len(first.ID) != 32 || !w.blobs.Has(first.Log) {
		t.Errorf("%+v", first)
	}
	if b, err := w.blobs.ReadAll(first.Output.Digest, 100); err != nil || string(b) != string(app.PURL) {
		t.Errorf("%q, %v", b, err)
	}
	// All over again there is nothing to do, for a new engine neither.
	n := len(runs)
	for _, e := range []*Engine{w.e, w.again()} {
		if got, want := w.all(e), (Result{Cached: 4}); got != want {
			t.Errorf("again: %+v", got)
		}
	}
	if got := len(strings.Fields(w.runner.runs())); got != n {
		t.Errorf("%d runs more", got-n)
	}
	// A result whose bytes are gone is no result.
	if err := os.Remove(w.blobs.Path(w.records.builds[tool.ID][0].Output.Digest)); err != nil {
		t.Fatal(err)
	}
	if got := w.all(w.again()); got.Built != 1 || got.Cached != 3 {
		t.Errorf("blob gone: %+v", got)
	}
}

// One list makes both the mounts and the record (design: "What the build saw is
// what the provenance says").
func TestInputsAreTheMounts(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	t.Setenv("HALLMARK_DATA", "/secret/place")
	w := newWorld(t)
	tool, lib, app, _ := w.chain()
	w.all(w.e)
	for i, s := range w.runner.specs {
		var b record.Build
		for _, x := range w.records.builds {
			for _, y := range x {
				if string(s.Name) == y.Inputs[0].PURL && (s.Vary != nil) == (y.Purpose == record.Rebuild) {
					b = y
				}
			}
		}
		if len(b.Inputs) != len(s.Layers)+1 || len(s.Trees) != 1 {
			t.Fatalf("run %d: %d layers, %d inputs", i, len(s.Layers), len(b.Inputs))
		}
		if in := b.Inputs[0]; in.Tag != plan.TagSource || !strings.HasSuffix(filepath.Dir(s.Trees[0].From), in.Digest.Hex()) || s.Trees[0].To != "/build/src" {
			t.Errorf("run %d: source %+v, tree %+v", i, in, s.Trees[0])
		}
		for j, in := range b.Inputs[1:] {
			dir := s.Layers[j]
			switch {
			case in.Tag == plan.TagDeps && !strings.HasSuffix(filepath.Dir(dir), in.Digest.Hex()),
				in.PURL == "pkg:generic/hallmark-seed-s" && (dir != w.seedDir || in.Digest != w.p.Seed.Digest),
				strings.HasPrefix(in.PURL, "pkg:generic/hallmark-environment@") && !strings.Contains(dir, "base-fake-1"):
				t.Errorf("run %d: layer %d is %s, the record says %+v", i, j, dir, in)
			}
		}
		if s.Trees[0].Reverse != (s.Vary != nil) {
			t.Errorf("run %d: order of folders", i)
		}
		jobs := map[bool]string{false: "MAKEFLAGS=-j2", true: "MAKEFLAGS=-j1"}[s.Vary != nil]
		if !slices.Equal(s.Env, []string{"DECLARED=1", jobs}) {
			t.Errorf("run %d: environment %q", i, s.Env)
		}
		if len(s.Files) != 2 || s.Files[0].Path != "/usr/a" || s.Files[0].Mode != 0o444 {
			t.Errorf("run %d: files %+v", i, s.Files)
		}
	}
	b := w.records.builds[app.ID][0]
	var steps []digest.Digest
	for _, in := range b.Inputs {
		if in.Tag == plan.TagDeps {
			steps = append(steps, in.Step)
		}
	}
	if !slices.Equal(steps, []digest.Digest{lib.ID, tool.ID}) {
		t.Errorf("deps in the record: %v", steps)
	}
}

func TestFailureBlocksItsReadersAlone(t *testing.T) {
	w := newWorld(t)
	tool, lib, app, other := w.chain()
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Name == string(lib.PURL) {
			res.Exit = 1
			_, err := s.Log.Write([]byte("it broke"))
			return err
		}
		return leave("")(s, res)
	}
	if got, want := w.all(w.e), (Result{Built: 2, Rebuilt: 2, Failed: 2}); got != want {
		t.Errorf("%+v", got)
	}
	if len(w.records.builds[app.ID]) != 0 || len(w.records.rebuilds[lib.ID]) != 0 || len(w.records.rebuilds[tool.ID]) != 1 || len(w.records.rebuilds[other.ID]) != 1 {
		t.Errorf("%+v", w.records.rebuilds)
	}
	f := w.records.builds[lib.ID][0]
	if f.Outcome != record.Failed || f.Output != nil || f.Failure.Class != record.FailBuild || !slices.Equal(f.Failure.Log, []string{"it", "broke"}) {
		t.Errorf("%+v", f)
	}
	if b, err := w.blobs.ReadAll(f.Log, 100); err != nil || string(b) != "it broke" {
		t.Errorf("log %q, %v", b, err)
	}
	// What failed for good is not tried again; with Retry it is, and nothing else.
	w.runner.specs = nil
	if got := w.all(w.again()); got.Cached != 3 || got.Failed != 1 || w.runner.runs() != "" {
		t.Errorf("again: %+v, ran %s", got, w.runner.runs())
	}
	w.runner.does = nil
	e := w.again()
	e.Retry = true
	if got, want := w.all(e), (Result{Built: 2, Rebuilt: 2, Cached: 2}); got != want || w.runner.count("lib lib' app app'") != 4 {
		t.Errorf("retry: %+v, ran %s", got, w.runner.runs())
	}
}

// A failure is remembered, that of the clock too, until a retry is asked for or
// there is more time; one of the host says nothing about the step.
// A retry runs what fails once for query, first build and all later looks at it.
// A throw-away build that failed, by the clock too, is not run each time.
// A step whose file is gone is built again; if other bytes come of it, they are
// compared anew.
// Somebody who gives up does not make the others' question fail.
func TestErrorOfTheHostEndsAll(t *testing.T) {
	broken := errors.New("no sandbox")
	w := newWorld(t)
	w.chain()
	w.runner.does = func(sandbox.Spec, *sandbox.Result) error { return broken }
	if _, err := w.e.All(t.Context(), w.p); !errors.Is(err, broken) || !strings.Contains(err.Error(), "build of pkg:pypi/") {
		t.Errorf("%v", err)
	}
	if len(w.records.builds) != 0 {
		t.Error("a host's error became a record of a package")
	}
	w.runner.does = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.e.All(ctx, w.p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.records.fail = errors.New("disk full")
	if _, err := w.e.All(t.Context(), w.p); !errors.Is(err, w.records.fail) {
		t.Errorf("records: %v", err)
	}
	w.records.fail = nil
	w.p.Seed.Digest = digest.FromBytes([]byte("other")) // as the engine's seed gives it
	if _, err := w.again().All(t.Context(), w.p); !fault.Is(err, fault.Unsupported) {
		t.Errorf("planned on another seed: %v", err)
	}
	e := w.again()
	e.Seed = func(context.Context) (Seed, error) { return Seed{}, broken }
	if _, err := e.All(t.Context(), w.p); !errors.Is(err, broken) {
		t.Errorf("no seed: %v", err)
	}
}

func TestRebuildIsAppendedToTheSeries(t *testing.T) {
	w := newWorld(t)
	_, lib, _, _ := w.chain()
	w.all(w.e)
	w.runner.does = leave("drift")
	r2, err := w.e.Rebuild(t.Context(), w.p, lib.ID)
	if err != nil || r2.Outcome != record.Different || r2.Sequence != 2 || len(r2.Differences) == 0 {
		t.Fatalf("%+v, %v", r2, err)
	}
	prev, _, err := canonical.Digest(w.records.rebuilds[lib.ID][0])
	if err != nil || r2.Previous != prev {
		t.Errorf("previous %s, want %s", r2.Previous, prev)
	}
	w.runner.does = func(_ sandbox.Spec, res *sandbox.Result) error { res.Exit = 3; return nil }
	r3, err := w.e.Rebuild(t.Context(), w.p, lib.ID)
	if err != nil || r3.Outcome != record.CouldNotBuild || r3.Sequence != 3 || r3.Failure.Class != record.FailBuild || r3.SecondDigest != "" {
		t.Errorf("%+v, %v", r3, err)
	}
	if n := len(w.records.rebuilds[lib.ID]); n != 3 {
		t.Errorf("%d results", n)
	}
	if _, err := w.e.Rebuild(t.Context(), w.p, "sha256:none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no such step: %v", err)
	}
	x := newWorld(t)
	s := x.step("broken")
	x.runner.does = w.runner.does
	if _, err := x.e.Rebuild(t.Context(), x.p, s.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("nothing to compare with: %v", err)
	}
}

const elfFile = "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00"

func TestSourceWithNativeFilesIsBuiltOnceMoreWithThem(t *testing.T) {
	w := newWorld(t)
	native := w.stepOf("native", map[string]string{"setup.py": "x", "lib/a.so": elfFile, "b.txt": "text"})
	plain := w.step("plain", native)
	inTree := map[string]bool{}
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		_, err := os.Stat(filepath.Join(s.Trees[0].From, "lib/a.so"))
		inTree[fmt.Sprint(s.Name, " ", s.Vary != nil, " ", err == nil)] = true
		return leave("")(s, res)
	}
	w.all(w.e)
	if w.records.count(native, record.Prebuilt) != 1 || w.records.count(plain, record.Prebuilt) != 0 {
		t.Error("throw-away builds")
	}
	for _, k := range []string{"pkg:pypi/native@1 false false", "pkg:pypi/native@1 false true", "pkg:pypi/native@1 true false"} {
		if !inTree[k] {
			t.Errorf("no run %q: %v", k, inTree)
		}
	}
	if inTree["pkg:pypi/native@1 true true"] {
		t.Error("a second build saw a native file")
	}
	for _, b := range w.records.builds[native.ID] {
		want := []record.Removed(nil)
		if b.Purpose != record.Prebuilt {
			want = []record.Removed{{Path: "lib/a.so", Digest: digest.FromBytes([]byte(elfFile)), Size: int64(len(elfFile)), Kind: "elf"}}
		}
		if !reflect.DeepEqual(b.Removed, want) {
			t.Errorf("%s: removed %+v", b.Purpose, b.Removed)
		}
	}
	n := len(w.runner.specs)
	w.all(w.again())
	if len(w.runner.specs) != n {
		t.Error("run again though everything is known")
	}
}

func TestWhatIsInsideIsSaid(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	inSeed := digest.FromBytes([]byte("a file of the seed"))
	seed := w.e.Seed
	w.e.Seed = func(ctx context.Context) (Seed, error) {
		sd, err := seed(ctx)
		sd.Files = func(d digest.Digest) string {
			if d == inSeed {
				return "usr/lib/python3/x.pyc"
			}
			return ""
		}
		return sd, err
	}
	var natives []ecosystem.Native
	w.e.Language = fakeLanguage{accept: func(_ plan.Step, dir, work string) (ecosystem.Product, *record.Failure, error) {
		raw, named := filepath.Join(dir, "out.txt"), filepath.Join(work, "named.txt")
		return ecosystem.Product{Path: named, File: "named.txt", Raw: raw, RawFile: "out.txt", Natives: natives}, nil, os.WriteFile(named, []byte("named"), 0o644)
	}}
	natives = []ecosystem.Native{{Path: "p/x.pyc", Kind: "pyc", Digest: inSeed}}
	w.all(w.e)
	b := w.records.builds[s.ID][0]
	if b.Output.File != "named.txt" || b.Output.Raw == b.Output.Digest || b.Output.RawFile != "out.txt" || !w.blobs.Has(b.Output.Raw) || !slices.Equal(b.Ships, []string{"pyc p/x.pyc"}) || !slices.Equal(b.SeedFiles, []string{"usr/lib/python3/x.pyc"}) || !b.SeedKnown {
		t.Errorf("%+v %+v", b, b.Output)
	}
	if r := w.records.rebuilds[s.ID][0]; r.Outcome != record.Identical {
		t.Errorf("%+v", r)
	}
	natives = []ecosystem.Native{{Path: "p/x.so", Kind: "elf", Digest: digest.FromBytes(nil)}}
	rec, _, err := w.e.run(t.Context(), s, record.First, nil, nil)
	if err != nil || !slices.Equal(rec.SeedFiles, []string{"usr/lib/crt1.o"}) {
		t.Errorf("what is linked may hold all that can be linked in: %+v, %v", rec, err)
	}
	w.e.Language = fakeLanguage{accept: func(plan.Step, string, string) (ecosystem.Product, *record.Failure, error) {
		return ecosystem.Product{}, &record.Failure{Class: record.FailMetadata, Message: "m"}, nil
	}}
	if rec, _, err = w.e.run(t.Context(), s, record.First, nil, nil); err != nil || rec.Outcome != record.Failed || rec.Failure.Class != record.FailMetadata || rec.Output != nil {
		t.Errorf("refused: %+v, %v", rec, err)
	}
}

func TestJudge(t *testing.T) {
	w := newWorld(t)
	w.e.Limits = sandbox.Limits{Memory: 5 << 20, Disk: 6 << 20, Output: 7 << 20, Log: 8 << 20, Processes: 9, Wall: time.Minute}
	reached := []record.Attempt{{Kind: "lookup", Target: "index.invalid"}, {Kind: "connect", Target: "192.0.2.1:443"}}
	for name, c := range map[string]struct {
		res   sandbox.Result
		log   string
		class record.FailureClass
		says  string
	}{
		"well":                   {sandbox.Result{}, "all good, no error", "", ""},
		"exit":                   {sandbox.Result{Exit: 2}, "", record.FailBuild, "exit 2."},
		"signal":                 {sandbox.Result{Exit: 139, Signal: "SIGSEGV"}, "", record.FailBuild, "signal SIGSEGV"},
		"signal without exit":    {sandbox.Result{Signal: "SIGKILL"}, "", record.FailBuild, "signal SIGKILL"},
		"time":                   {sandbox.Result{Limit: record.FailTimeout, Exit: 137}, "", record.FailTimeout, "1m0s"},
		"memory":                 {sandbox.Result{Limit: record.FailMemory, Exit: 1}, "", record.FailMemory, "5 MiB of memory"},
		"processes":              {sandbox.Result{Limit: record.FailProcesses}, "", record.FailProcesses, "9 processes"},
		"disk":                   {sandbox.Result{Limit: record.FailDisk}, "", record.FailDisk, "6 MiB of disk"},
		"output":                 {sandbox.Result{Limit: record.FailOutput}, "", record.FailOutput, "7 MiB of output"},
		"log":                    {sandbox.Result{Limit: record.FailLog}, "", record.FailLog, "8 MiB of log"},
		"another limit":          {sandbox.Result{Limit: "new-limit"}, "", "new-limit", "(new-limit)"},
		"refused":                {sandbox.Result{Refused: "It left a device."}, "", record.FailOutput, "It left a device."},
		"refused after exit":     {sandbox.Result{Refused: "It left a device.", Exit: 1}, "", record.FailBuild, "exit 1."},
		"network, error hidden":  {sandbox.Result{Network: reached}, "", record.FailNetwork, "lookup index.invalid, connect 192.0.2.1:443."},
		"network, then time":     {sandbox.Result{Network: reached, Limit: record.FailTimeout}, "", record.FailNetwork, "reached for the network"},
		"network for a tool":     {sandbox.Result{Network: reached, Exit: 1}, "cargo not found", record.FailNetwork, "program cargo, which the build environment lacks; to get it, it reached for the network: lookup"},
		"processor":              {sandbox.Result{}, "cc -O2 -march=native -c a.c", record.FailNative, "(-march=native)"},
		"processor, refused":     {sandbox.Result{Exit: 1}, "cc -O2 -march=native -c a.c\ncc: error: -march=native " + sandbox.RefusedNative, record.FailNative, "(-march=native)"},
		"processor, only tried":  {sandbox.Result{}, "cc -O2 -march=native -c a.c\ncc: error: -march=native " + sandbox.RefusedNative + "\ncc -O2 -c a.c", "", ""},
		"processor, quoted":      {sandbox.Result{}, "['cc', '-mtune=native']", record.FailNative, "mtune=native"},
		"processor, named level": {sandbox.Result{}, "cc -march=x86-64-v2 -DX=-march=nativex my-march=native", "", ""},
	} {
		var said logKeeper
		_, _ = said.Write([]byte(c.log))
		f := w.e.judge(w.e.Language, &c.res, said.Bytes(), said.found)
		switch {
		case c.class == "" && f != nil, c.class != "" && f == nil:
			t.Errorf("%s: %+v", name, f)
		case f != nil && (f.Class != c.class || !strings.Contains(f.Message, c.says)):
			t.Errorf("%s: %+v", name, f)
		}
	}
	many := sandbox.Result{Network: make([]record.Attempt, 100)}
	if f := w.e.judge(w.e.Language, &many, nil, nil); strings.Count(f.Message, ",") != 5 {
		t.Errorf("of many attempts: %s", f.Message)
	}
}

func TestAxes(t *testing.T) {
	m := record.Measured{}
	n := record.Measured{}
	set := func(name, first, second string) { m[name], n[name] = first, second }
	set(record.AxisCPUs, "2", "1")
	set(record.AxisKernel, "6.1", "6.1")
	set(record.AxisClock, "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z")
	set(record.AxisUptime, "100", "99999999")
	set(record.AxisPIDs, "2", "305")
	m[record.AxisDirectory] = "sorted"
	got := map[string]record.Axis{}
	for _, a := range axes(&record.Build{Measured: m}, &record.Build{Measured: n, NotVaried: map[string]string{record.AxisPIDs: "the host said no"}}) {
		got[a.Name] = a
		if a.Varied == (a.Cause != "") {
			t.Errorf("%+v: varied, or a cause why not", a)
		}
	}
	for name, want := range map[string]bool{record.AxisCPUs: true, record.AxisKernel: false, record.AxisClock: false, record.AxisUptime: true, record.AxisPIDs: false, record.AxisDirectory: false, record.AxisProcessor: false} {
		if a, ok := got[name]; !ok || a.Varied != want {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if got[record.AxisPIDs].Cause != "the host said no" {
		t.Errorf("%+v", got[record.AxisPIDs])
	}
	for _, c := range []struct {
		axis, first, second string
		want                bool
	}{
		{record.AxisClock, "2026-01-01T00:00:00Z", "2027-02-05T01:00:00Z", true},
		{record.AxisClock, "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", false},
		{record.AxisClock, "2027-02-05T01:00:00Z", "2026-01-01T00:00:00Z", false},
		{record.AxisClock, "x", "2027-02-05T01:00:00Z", false},
		{record.AxisClock, "2026-01-01T00:00:00Z", "", false},
		{record.AxisUptime, "1000", "1060.5", false},
		{record.AxisUptime, "10000999", "1000", true},
		{record.AxisUptime, "NaN", "1000", false},
		{record.AxisUptime, "x", "1000", false},
		{record.AxisCPUs, "2", "1", true},
	} {
		if moved(c.axis, c.first, c.second) != c.want {
			t.Errorf("moved(%q, %q, %q)", c.axis, c.first, c.second)
		}
	}
}

// wheel makes a zip with the members at a time.
func wheel(t *testing.T, at time.Time, members ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		f, err := z.CreateHeader(&zip.FileHeader{Name: members[i], Method: zip.Deflate, Modified: at})
		if err == nil {
			_, err = f.Write([]byte(members[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCompare(t *testing.T) {
	w := newWorld(t)
	s := w.step("a")
	one, two := time.Unix(1e9, 0), time.Unix(1.1e9, 0)
	a, at, b := wheel(t, one, "a.py", "x = 1\n"), wheel(t, two, "a.py", "x = 1\n"), wheel(t, one, "a.py", "x = 2\n")
	put := func(c []byte, file, rawFile string, raw []byte) *record.Build {
		d, err := w.blobs.PutBytes(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.blobs.PutBytes(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		return &record.Build{ID: file, Outcome: record.Succeeded, Output: &record.Output{File: file, Digest: d, Raw: r, RawFile: rawFile}}
	}
	plain := func(c []byte) *record.Build { return put(c, "a.whl", "a.whl", c) }
	for name, c := range map[string]struct {
		first, second *record.Build
		want          record.Comparison
		differences   bool
	}{
		"same bytes":                      {plain(a), plain(a), record.Identical, false},
		"times":                           {plain(a), plain(at), record.Equivalent, true},
		"content":                         {plain(a), plain(b), record.Different, true},
		"no archives":                     {plain([]byte("x")), plain([]byte("y")), record.Different, true},
		"named anew alike":                {put(b, "m.whl", "a.whl", a), put(b, "m.whl", "a.whl", a), record.Identical, false},
		"same result of other raw":        {put(b, "m.whl", "a.whl", a), put(b, "m.whl", "a.whl", at), record.Equivalent, true},
		"other result of one raw":         {put(a, "m.whl", "a.whl", a), put(b, "m.whl", "a.whl", a), record.Different, false},
		"another name of the same bytes":  {put(a, "a.whl", "a.whl", a), put(a, "b.whl", "b.whl", a), record.Different, true},
		"another name, equivalent within": {put(a, "a.whl", "a.whl", a), put(at, "b.whl", "b.whl", at), record.Different, true},
	} {
		r, err := w.e.compare(s, c.first, c.second)
		if err != nil || r.Outcome != c.want || (len(r.Differences) > 0) != c.differences || r.Schema != record.RebuildSchema || r.Step != s.ID || r.FirstDigest != c.first.Output.Digest || r.SecondDigest != c.second.Output.Digest {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if (r.Outcome == record.Equivalent) != (len(r.Normalisations) > 0) && r.Outcome != record.Different {
			t.Errorf("%s: normalisations %v", name, r.Normalisations)
		}
	}
	// What is stored and no longer what it was is not compared.
	broken := plain([]byte("broken"))
	name := w.blobs.Path(broken.Output.Raw)
	if err := errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, []byte("other!"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.e.compare(s, plain(a), broken); err == nil {
		t.Error("a damaged blob was compared")
	}
}

func TestHostileSource(t *testing.T) {
	w := newWorld(t)
	for name, b := range map[string][]byte{"no archive": []byte("hello"), "escape": targz(t, "x", map[string]string{"../../../evil": "1"})} {
		d, err := w.blobs.PutBytes(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := w.e.Source(t.Context(), d, "x-1.tar.gz", nil, false); !fault.Is(err, fault.Hostile) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := w.e.Source(t.Context(), digest.FromBytes([]byte("absent")), "x-1.tar.gz", nil, false); err == nil {
		t.Error("a source that is not stored")
	}
}

func TestCompanions(t *testing.T) {
	w := newWorld(t)
	w.e.Language = companionLanguage{}
	_, lib, _, _ := w.chain()
	made := 0
	var mu sync.Mutex
	evil := false
	w.runner.does = func(s sandbox.Spec, res *sandbox.Result) error {
		if s.Args[0] != "compile" {
			return leave("")(s, res)
		}
		mu.Lock()
		made++
		mu.Unlock()
		path := "own/x.pyc"
		if evil {
			path = "else/x.pyc"
		}
		res.Outputs = []sandbox.Output{{Path: path}}
		return errors.Join(os.MkdirAll(filepath.Join(s.OutputDir, filepath.Dir(path)), 0o755), os.WriteFile(filepath.Join(s.OutputDir, path), []byte(s.Name), 0o644))
	}
	w.all(w.e)
	if made != 3 { // of the seed, tool and lib: each once
		t.Errorf("made %d", made)
	}
	b := w.records.builds[lib.ID][0]
	n := 0
	for _, in := range b.Inputs {
		if strings.Contains(in.PURL, "companion=fake-1") {
			n++
			if in.Tag != plan.TagBuilder || !in.Digest.Valid() {
				t.Errorf("%+v", in)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d companions in the record: %+v", n, b.Inputs)
	}
	for _, dir := range w.runner.specs[len(w.runner.specs)-1].Layers {
		if f := filepath.Join(dir, "at/own/x.pyc"); strings.Contains(dir, "companion-") {
			if st, err := os.Stat(f); err != nil || st.ModTime().Unix() != 315619200 {
				t.Errorf("%v", err)
			}
		}
	}
	evil = true
	x := newWorld(t)
	x.e.Language, x.runner.does = companionLanguage{}, w.runner.does
	x.step("a")
	if _, err := x.e.All(t.Context(), x.p); err != nil {
		t.Errorf("output outside its folder: %v", err)
	}
	for _, dir := range x.runner.specs[len(x.runner.specs)-1].Layers {
		if _, err := os.Stat(filepath.Join(dir, "at/else/x.pyc")); err == nil {
			t.Error("what a companion wrote outside its own folder is in the root")
		}
	}
}

// companionLanguage makes a companion of every layer.
type companionLanguage struct{ fakeLanguage }

func (companionLanguage) SeedCompanion() ecosystem.Companion {
	return ecosystem.Companion{Args: []string{"compile"}, At: "/at", Within: "own/"}
}
func (l companionLanguage) Companion() ecosystem.Companion { return l.SeedCompanion() }
