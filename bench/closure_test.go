//go:build bench

package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/plan"
	"hallmark/internal/project"
	"hallmark/internal/timeline"
)

// seventeen are the packages of row c.
var seventeen = []string{"flask", "django", "requests", "httpx", "pyyaml", "sqlalchemy", "jinja2", "attrs", "pytest", "rich", "click",
	"python-dateutil", "pydantic<2", "msgpack", "psutil", "aiohttp", "numpy"}

func smallClosure(t *testing.T) ([]Row, error) {
	return closure(t, "c-small", []string{"flask", "requests"})
}

func wholeClosure(t *testing.T) ([]Row, error) { return closure(t, "c-whole", seventeen) }

// closure is row c: everything that requirements need, built twice from nothing but
// the unpacked seed, against Fromager making the same wheels once.
func closure(t *testing.T, id string, reqs []string) ([]Row, error) {
	fromager, err := fromagerPath(t)
	if err != nil {
		return nil, err
	}
	took, p, trace, err := fromNothing(t, reqs)
	if err != nil {
		return nil, err
	}
	made := 0
	for _, a := range p.Artifacts {
		if a.Step != "" {
			made++
		}
	}
	theirs, wheels, err := runFromager(t, fromager, reqs, p)
	if err != nil {
		return nil, err
	}
	use := timeline.Busy(trace)
	return []Row{{ID: id, What: fmt.Sprintf("the closure of %d packages from nothing, each built twice, against Fromager building each once", len(reqs)),
		Ours: took.Seconds(), Theirs: theirs.Seconds(), Unit: "s", Figure: took.Seconds() / theirs.Seconds(), Bound: 1, AtMost: true, Rounds: 1,
		Note: fmt.Sprintf("%d steps, %d of them to run with; Fromager made %d wheels; downloads on both sides, the seed's apart; processors busy %.0f %%",
			len(p.Steps), made, wheels, 100*use.Share())}}, nil
}

// fromNothing builds requirements in an empty data directory whose seed is
// unpacked, and gives the time, the plan and the trace.
func fromNothing(t *testing.T, reqs []string) (time.Duration, *plan.Plan, []timeline.Event, error) {
	data, dir := filepath.Join(t.TempDir(), "data"), t.TempDir()
	if err := withSeed(t, data); err != nil {
		return 0, nil, nil, err
	}
	c := project.Config{Project: "bench/closure", Requirements: reqs, AtTime: at.Format(time.RFC3339)}
	if err := errors.Join(c.Validate(), c.Save(dir)); err != nil {
		return 0, nil, nil, err
	}
	h, trace := binary(t), filepath.Join(dir, "trace.json")
	took, _, err := timed(t.Context(), dir, nil, h, "--data", data, "--quiet", "builds", "--timeline", trace)
	if err != nil {
		return 0, nil, nil, err
	}
	_, b, err := timed(t.Context(), dir, nil, h, "--data", data, "export", "plan")
	if err != nil {
		return 0, nil, nil, err
	}
	p, err := plan.Parse(b)
	if err != nil {
		return 0, nil, nil, err
	}
	f, err := os.Open(trace)
	if err != nil {
		return 0, nil, nil, err
	}
	defer f.Close()
	events, err := timeline.Read(f)
	return took, p, events, err
}

// withSeed makes a data directory that has the unpacked seed and nothing else.
func withSeed(t *testing.T, data string) error {
	work := workFolder(t, "seed")
	a, err := app.Open(t.Context(), app.Config{Data: work}, true)
	if err != nil {
		return err
	}
	e, err := a.Engine()
	if err == nil {
		_, err = e.Seed(t.Context())
	}
	if err := errors.Join(err, a.Close()); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", work, data).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the seed: %w: %s", err, out)
	}
	return nil
}

// fromagerVersion is the newest for the seed's Python.
const fromagerVersion = "0.77.0"

// fromagerPath gives the Fromager that scripts/bench installed.
func fromagerPath(t *testing.T) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	p := filepath.Join(cache, "hallmark-tools", "fromager-"+fromagerVersion, "bin", "fromager")
	if _, err := os.Stat(p); err != nil {
		return "", absent{"Fromager " + fromagerVersion + " is not installed (scripts/bench does it)"}
	}
	return p, nil
}

// runFromager has Fromager make the wheels of the same versions from nothing.
func runFromager(t *testing.T, fromager string, reqs []string, p *plan.Plan) (time.Duration, int, error) {
	dir := t.TempDir()
	var pins []string
	seen := map[string]bool{}
	for _, a := range p.Artifacts {
		pins = append(pins, a.PURL.Name()+"=="+a.PURL.Version())
		seen[a.PURL.Name()] = true
	}
	// What is built with is pinned, too, where there is one version of it.
	versions := map[string]map[string]bool{}
	for _, s := range p.Steps {
		if n := s.PURL.Name(); !seen[n] {
			if versions[n] == nil {
				versions[n] = map[string]bool{}
			}
			versions[n][s.PURL.Version()] = true
		}
	}
	for n, vs := range versions {
		if len(vs) == 1 {
			for v := range vs {
				pins = append(pins, n+"=="+v)
			}
		}
	}
	slices.Sort(pins)
	if err := os.WriteFile(filepath.Join(dir, "constraints.txt"), []byte(strings.Join(pins, "\n")+"\n"), 0o644); err != nil {
		return 0, 0, err
	}
	env := []string{"PATH=" + filepath.Dir(fromager) + ":" + os.Getenv("PATH"), "HOME=" + dir, "UV_CACHE_DIR=" + filepath.Join(dir, "uv"), "PIP_FIND_LINKS="}
	took, _, err := timed(t.Context(), dir, env, fromager, append([]string{"-c", "constraints.txt", "bootstrap"}, reqs...)...)
	if err != nil {
		return 0, 0, err
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "wheels-repo", "downloads", "*.whl"))
	return took, len(wheels), err
}

// coresBusy is row f: how much of the workers' time is used while steps are ready.
func coresBusy(t *testing.T) ([]Row, error) {
	_, p, events, err := fromNothing(t, []string{"flask", "requests", "pyyaml", "msgpack"})
	if err != nil {
		return nil, err
	}
	use := timeline.Busy(events)
	return []Row{{ID: "f", What: fmt.Sprintf("workers busy while steps are ready, %d steps built twice", len(p.Steps)), Ours: 100 * use.Share(), Unit: "%",
		Figure: 100 * use.Share(), Bound: 95, Rounds: 1, Note: fmt.Sprintf("%d workers, %.0f s offered", use.Workers, use.Offered.Seconds())}}, nil
}
