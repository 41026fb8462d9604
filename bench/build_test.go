//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/app"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
	"hallmark/internal/store"
	"hallmark/recipes"
)

// noopStep is row a: a step that does nothing, against runc and against Nix. The
// run itself is measured where bare runc can be given the same bundle, in the
// sandbox's own benchmark; what a step keeps of it is measured here.
func noopStep(t *testing.T) ([]Row, error) {
	n := rounds(40)
	_, out, err := timed(t.Context(), "..", nil, "go", "test", "-run", "^$", "-bench", "^BenchmarkNoop$", "-benchtime", strconv.Itoa(n)+"x", "./internal/sandbox")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	run, okRun := metric(string(out), "ms/run")
	runc, okRunc := metric(string(out), "ms/runc")
	if !okRun || !okRunc {
		return nil, fmt.Errorf("the sandbox's benchmark gave no figures:\n%s", out)
	}
	keep, err := keeping(t, n)
	if err != nil {
		return nil, err
	}
	step := run + keep
	rows := []Row{{ID: "a-runc", What: "a step that does nothing, against bare runc with the same bundle", Ours: step, Theirs: runc, Unit: "ms",
		Figure: step / runc, Bound: 1.5, AtMost: true, Rounds: n, Note: fmt.Sprintf("root, facts, run, output %.1f ms; log, output and record stored %.1f ms", run, keep)}}
	nix := Row{ID: "a-nix", What: "the same, against nix-build of a derivation that does nothing"}
	d, err := nixBuild(t, n)
	var a absent
	switch {
	case errors.As(err, &a):
		nix.Absent, nix.Note = true, a.why
	case err != nil:
		return nil, err
	default:
		nix.Ours, nix.Theirs, nix.Unit, nix.Figure, nix.Bound, nix.AtMost, nix.Rounds = step, d, "ms", step/d, 1, true, n
	}
	return append(rows, nix), nil
}

// metric finds "12.3 NAME" in what go test -bench printed.
func metric(out, name string) (float64, bool) {
	f := strings.Fields(out)
	for i := 1; i < len(f); i++ {
		if f[i] == name {
			v, err := strconv.ParseFloat(f[i-1], 64)
			return v, err == nil
		}
	}
	return 0, false
}

// keeping gives the median time in ms in which a build's log, output, record and
// rows are stored.
func keeping(t *testing.T, n int) (float64, error) {
	a, err := app.Open(t.Context(), app.Config{Data: t.TempDir()}, true)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	ctx := t.Context()
	id := digest.FromBytes([]byte("step"))
	doc, err := a.Blobs.PutBytes(ctx, []byte("step"))
	if err != nil {
		return 0, err
	}
	if err := a.Store.PutStep(ctx, store.Step{ID: id, PURL: "pkg:pypi/noop@1", Document: doc}); err != nil {
		return 0, err
	}
	var took []float64
	for i := range n {
		began := time.Now()
		log, err := a.Blobs.PutBytes(ctx, []byte(fmt.Sprint("log ", i)))
		if err != nil {
			return 0, err
		}
		out, err := a.Blobs.PutBytes(ctx, []byte(fmt.Sprint("output ", i)))
		if err != nil {
			return 0, err
		}
		rec := record.Build{Schema: record.BuildSchema, ID: fmt.Sprint("build-", i), Step: id, Purpose: record.First, Builder: a.BuilderID(),
			Started: began, Finished: time.Now(), Outcome: record.Succeeded, Log: log, Output: &record.Output{File: "f", Digest: out}}
		d, b, err := canonical.Digest(rec)
		if err != nil {
			return 0, err
		}
		if _, _, err := a.Blobs.Put(ctx, bytes.NewReader(b), d, plan.MaxBytes); err != nil {
			return 0, err
		}
		if _, err := a.Store.AppendBuild(ctx, store.Build{Step: id, ID: rec.ID, Purpose: rec.Purpose, Outcome: rec.Outcome, Builder: rec.Builder, Record: d, Output: out,
			Started: rec.Started, Finished: rec.Finished}); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds()*1000)
	}
	return median(took), nil
}

// nixBuild gives the median time in ms of a derivation that does nothing.
func nixBuild(t *testing.T, n int) (float64, error) {
	nix, err := exec.LookPath("nix-build")
	if err != nil {
		return 0, absent{"nix-build is not installed (Debian: nix-bin)"}
	}
	dir := t.TempDir()
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+w", dir).Run() }) // its store is read-only
	const expr = `{ n }: derivation { name = "noop-${n}"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo done > $out" ]; }`
	if err := os.WriteFile(filepath.Join(dir, "noop.nix"), []byte(expr), 0o644); err != nil {
		return 0, err
	}
	var took []float64
	for i := range n + 2 {
		d, _, err := timed(t.Context(), dir, []string{"HOME=" + dir}, nix, "noop.nix", "--argstr", "n", fmt.Sprintf("%d-%d", os.Getpid(), i), "--no-out-link",
			"--store", filepath.Join(dir, "store"), "--option", "sandbox", "true", "--option", "build-users-group", "",
			"--option", "sandbox-paths", "/bin /lib /lib64 /usr", "--option", "substituters", "")
		if err != nil {
			return 0, err
		}
		if i >= 2 {
			took = append(took, d.Seconds()*1000)
		}
	}
	return median(took), nil
}

// capture is a sandbox that keeps what it was told to run.
type capture struct {
	*sandbox.Runner
	mu    sync.Mutex
	specs map[string]sandbox.Spec // the first builds by package; no variation
}

// Run is build.Runner's.
func (c *capture) Run(ctx context.Context, s sandbox.Spec) (*sandbox.Result, error) {
	if s.Vary == nil {
		c.mu.Lock()
		s := s
		s.Log = nil
		c.specs[s.Name] = s
		c.mu.Unlock()
	}
	return c.Runner.Run(ctx, s)
}

// at is the catalog time of what is built here.
var at = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

// realBuilds is row b: a package of C, a large one without, and a recipe, against the
// same commands in a root of the same layers without a sandbox.
func realBuilds(t *testing.T) ([]Row, error) {
	if os.Geteuid() != 0 {
		return nil, absent{"the plain build needs root, for chroot"}
	}
	var out []Row
	for _, p := range []struct {
		id, name, what string
		step           func(row string) string // which step of the row is measured
	}{
		{"b-c", "sqlalchemy", "SQLAlchemy, built with Cython and a C compiler", func(row string) string { return row }},
		{"b-pure", "django", "Django, 2,700 files of Python", func(row string) string { return row }},
		// What it installs, its own tests included; then there is the step that splits that.
		{"b-recipe", "sys:" + benchRecipe, "Expat, a recipe: configured, compiled, tested, installed", func(row string) string { return row + "?layer=build" }},
	} {
		spec, err := specOf(t, p.name, p.step)
		if err != nil {
			return nil, err
		}
		r, err := sandbox.Open(sandbox.Config{StateDir: t.TempDir()})
		if err != nil {
			return nil, err
		}
		n := rounds(5)
		a, b, ratio, err := paired(n, func(int) (time.Duration, error) {
			s := spec
			s.OutputDir = t.TempDir()
			began := time.Now()
			res, err := r.Run(t.Context(), s)
			if err == nil && res.Exit != 0 {
				err = fmt.Errorf("%s in the sandbox: exit %d", p.name, res.Exit)
			}
			return time.Since(began), err
		}, func(int) (time.Duration, error) { return plain(t, spec) })
		if err != nil {
			return nil, err
		}
		out = append(out, Row{ID: p.id, What: p.what + ", against the same commands in a plain chroot", Ours: a, Theirs: b, Unit: "s", Figure: ratio, Bound: 1.05, AtMost: true, Rounds: n})
	}
	return out, nil
}

// benchRecipe is a library whose own tests run in its build.
const benchRecipe = "expat"

// recipeOnTheSeed is a catalog of one recipe, which is thus built on the seed's C library:
// ours would have to be built first.
func recipeOnTheSeed() (system.Catalog, error) {
	const name = benchRecipe + ".yaml"
	b, err := recipes.Files.ReadFile("sys/" + name)
	if err != nil {
		return nil, err
	}
	return system.Catalog{}.With([]system.File{{Name: name, Text: string(b)}})
}

// specOf builds a package or a recipe with its closure, once in the life of the work
// folder, and gives what its own build runs, in the step that step gives of its purl.
func specOf(t *testing.T, name string, step func(row string) string) (sandbox.Spec, error) {
	work := workFolder(t, "data")
	a, err := app.Open(t.Context(), app.Config{Data: work, Recipes: recipeOnTheSeed}, true)
	if err != nil {
		return sandbox.Spec{}, err
	}
	defer a.Close()
	e, err := a.Engine()
	if err != nil {
		return sandbox.Spec{}, err
	}
	c := &capture{Runner: a.Runner(), specs: map[string]sandbox.Spec{}}
	e.Runner = c
	rows, err := a.BuildOne(t.Context(), "", name, at)
	if err != nil {
		return sandbox.Spec{}, err
	}
	kept := filepath.Join(filepath.Dir(work), "spec-"+strings.TrimPrefix(name, "sys:")+".json")
	for _, row := range rows {
		if !row.Asked {
			continue
		}
		if s, ok := c.specs[step(string(row.PURL))]; ok {
			b, err := json.Marshal(s)
			if err != nil {
				return s, err
			}
			return s, os.WriteFile(kept, b, 0o644)
		}
	}
	// Built in an earlier run.
	var s sandbox.Spec
	b, err := os.ReadFile(kept)
	if err != nil {
		return s, fmt.Errorf("%s was built before, but what its build ran was not kept; remove %s: %w", name, filepath.Dir(work), err)
	}
	return s, json.Unmarshal(b, &s)
}

// plainEnv tells this program that it is the plain build; its value is a plainJob.
const plainEnv = "HALLMARK_BENCH_PLAIN"

type plainJob struct {
	Spec sandbox.Spec
	Dir  string // an empty folder
}

// plain runs a spec's command in a root of its layers without a sandbox, and gives
// how long it took, the copying of its source included.
func plain(t *testing.T, spec sandbox.Spec) (time.Duration, error) {
	spec.OutputDir = ""
	doc, err := json.Marshal(plainJob{spec, t.TempDir()})
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), plainEnv+"="+string(doc))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("plain build: %w\n%s", err, said.String())
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(ns), err
}

// plainChild is the plain build, in a mount namespace of its own: it makes the
// root, then takes the time of copying the source and running the command.
func plainChild(doc string) int {
	took, err := func() (time.Duration, error) {
		var j plainJob
		if err := json.Unmarshal([]byte(doc), &j); err != nil {
			return 0, err
		}
		root, err := plainRoot(j)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		for _, tr := range j.Spec.Trees {
			to := filepath.Join(root, tr.To)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return 0, err
			}
			if out, err := exec.Command("cp", "-a", tr.From, to).CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%w: %s", err, out)
			}
		}
		cmd := exec.Command("/usr/bin/env", append([]string{"-i", "-C", "/build", "HOME=/build", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TERM=dumb", "TZ=UTC",
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, append(append([]string{}, j.Spec.Env...), j.Spec.Args...)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, out[max(0, len(out)-3000):])
		}
		return time.Since(began), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(took.Nanoseconds())
	return 0
}

func plainRoot(j plainJob) (string, error) {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", kind, target, err)
		}
		return nil
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	if err := mount("tmpfs", j.Dir, "tmpfs", 0, "mode=755"); err != nil {
		return "", err
	}
	if err := os.Chdir(j.Dir); err != nil {
		return "", err
	}
	var lower []string
	for i, l := range j.Spec.Layers {
		name := strconv.Itoa(i) // the old mount call has 4 KiB for all of them
		if err := os.Symlink(l, name); err != nil {
			return "", err
		}
		lower = append(lower, name)
	}
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	if err := mount("overlay", "root", "overlay", 0, "lowerdir="+strings.Join(lower, ":")+",upperdir=upper,workdir=work"); err != nil {
		return "", err
	}
	root := filepath.Join(j.Dir, "root")
	for _, d := range []string{"proc", "dev", "tmp", "build", "out"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	for _, f := range j.Spec.Files {
		name := filepath.Join(root, f.Path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, f.Data, 0o755)); err != nil {
			return "", err
		}
	}
	return root, errors.Join(mount("proc", root+"/proc", "proc", 0, ""), mount("/dev", root+"/dev", "", unix.MS_BIND|unix.MS_REC, ""),
		mount("tmpfs", root+"/out", "tmpfs", 0, ""), mount("tmpfs", root+"/tmp", "tmpfs", 0, "mode=1777"))
}
