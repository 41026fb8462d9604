package pypi

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipSets are real requirement sets; pip's answer to each is ours.
var pipSets = [][]string{
	{"flask"},
	{"requests"},
	{"django"},
	{"httpx[http2]"},
	{"fastapi"},
	{"jinja2"},
	{"rich"},
	{"click"},
	{"pytest"},
	{"sqlalchemy"},
	{"boto3"},
	{"pandas<3"},
	{"black"},
	{"mypy"},
	{"celery[redis]"},
	{"scrapy"},
	{"uvicorn[standard]"},
	{"aiohttp"},
	{"requests<2.30", "urllib3<2"},
	{"pydantic"},
	{"flask", "requests", "pydantic"},
	{"sphinx<8", "docutils<0.21"},
	{"opentelemetry-instrumentation-requests"},
}

// dirCache keeps wheel metadata between runs of the tests.
type dirCache string

func (d dirCache) Get(key string) ([]byte, bool) {
	b, err := os.ReadFile(filepath.Join(string(d), strings.ReplaceAll(key, "/", "-")))
	return b, err == nil
}

func (d dirCache) Put(key string, b []byte) {
	if os.MkdirAll(string(d), 0o755) == nil {
		p := filepath.Join(string(d), strings.ReplaceAll(key, "/", "-"))
		if os.WriteFile(p+".tmp", b, 0o644) == nil {
			_ = os.Rename(p+".tmp", p)
		}
	}
}

func testClient(t *testing.T) *Client {
	t.Helper()
	cfg, err := MachineConfig(context.Background())
	if err != nil {
		t.Fatalf("this test needs the machine's pip: %v", err)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	c.Cache = dirCache(filepath.Join(cache, "hallmark-test", "metadata"))
	return c
}

// pipReport is what is read of pip's installation report.
type pipReport struct {
	Install []struct {
		Metadata struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"metadata"`
	} `json:"install"`
}

// pipResolves asks pip, without find-links, for CPython 3.11 on this platform.
func pipResolves(t *testing.T, python string, reqs []string) string {
	t.Helper()
	args := append([]string{"-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--disable-pip-version-check"}, reqs...)
	cmd := exec.Command(python, args...)
	cmd.Dir = t.TempDir()
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PIP_FIND_LINKS=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		if x, ok := err.(*exec.ExitError); ok {
			t.Fatalf("pip: %v\n%s", err, x.Stderr)
		}
		t.Fatal(err)
	}
	return reportPins(t, out)
}

// reportPins are the pins of pip's report, a line each, sorted.
func reportPins(t *testing.T, out []byte) string {
	t.Helper()
	var r pipReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("pip's report: %v", err)
	}
	var pins []string
	for _, i := range r.Install {
		pins = append(pins, NormalizeName(i.Metadata.Name)+"=="+mustVersion(i.Metadata.Version).String())
	}
	sort.Strings(pins)
	return strings.Join(pins, "\n")
}

// pip311 finds a CPython 3.11 with pip and gives its full version.
func pip311(t *testing.T) (python, version string) {
	t.Helper()
	for _, p := range pythons() {
		out, err := exec.Command(p, "-c", "import pip, platform; print(platform.python_version())").Output()
		if v := strings.TrimSpace(string(out)); err == nil && strings.HasPrefix(v, "3.11.") {
			return p, v
		}
	}
	t.Fatal("this test needs a CPython 3.11 with pip on the path, or as /usr/bin/python3")
	return "", ""
}

func TestResolveEqualsPip(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	python, version := pip311(t)
	env, err := NewEnvironment(version, "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	client := testClient(t)
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for _, set := range pipSets {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			t.Run(strings.Join(set, " "), func(t *testing.T) {
				var reqs []Requirement
				for _, s := range set {
					r, err := ParseRequirement(s)
					if err != nil {
						t.Fatal(err)
					}
					reqs = append(reqs, r)
				}
				open := func(ctx context.Context, c Candidate) (io.ReadCloser, error) {
					return client.Open(ctx, c.Name, *c.Sdist)
				}
				p := NewIndexProvider(client, time.Time{}, open, nil)
				start := time.Now()
				sol, err := Resolve(context.Background(), p, env, reqs, Options{})
				if err != nil {
					t.Fatal(err)
				}
				ours := time.Since(start)
				var got []string
				for _, x := range sol.Pins {
					got = append(got, x.Name+"=="+x.Version)
				}
				sort.Strings(got)
				want := pipResolves(t, python, set)
				t.Logf("%d packages; %s, pip %s", len(got), ours.Round(time.Millisecond), (time.Since(start) - ours).Round(time.Millisecond))
				if g := strings.Join(got, "\n"); g != want {
					t.Errorf("ours:\n%s\npip's:\n%s", g, want)
				}
			})
		}()
	}
	wg.Wait()
}
