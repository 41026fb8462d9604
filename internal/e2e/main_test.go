package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"hallmark/internal/policy"
	"hallmark/internal/status"
	"hallmark/schemas"
)

// Exit codes that the program promises (design: "Names that outside checks rely
// on").
const (
	done       = 0
	failed     = 1
	usage      = 2
	denied     = 3
	unverified = 4
)

// catalog is the catalog time of every project here, so that the tests see the
// same packages next year.
const catalog = "2026-11-01T00:00:00Z"

// commandTime bounds one command of the program.
const commandTime = 15 * time.Minute

// world is what the tests of one process share.
var world struct {
	bin   string // the program
	temp  string // removed at the end; other users may look into it
	cache string // kept between runs: the seed's packages and its unpacked tree
	data  string // the data directory that most tests share
}

func TestMain(m *testing.M) {
	// -short leaves everything out, the program's compilation too.
	os.Exit(func() int {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		defer func() {
			os.RemoveAll(world.temp)
			if world.data != "" && world.data != os.Getenv("HALLMARK_E2E_KEEP") {
				os.RemoveAll(world.data)
			}
		}()
		return m.Run()
	}())
}

func prepare() error {
	var err error
	if world.cache = os.Getenv("HALLMARK_E2E_DATA"); world.cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		world.cache = filepath.Join(home, "hallmark-test", "e2e")
	}
	if world.temp, err = os.MkdirTemp("", "hallmark-e2e-"); err != nil {
		return err
	}
	return os.Chmod(world.temp, 0o755)
}

var build = sync.OnceValue(func() error {
	world.bin = filepath.Join(world.temp, "hallmark")
	cmd := exec.Command("go", "build", "-o", world.bin, "hallmark/cmd/hallmark")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the program: %w\n%s", err, out)
	}
	var err error
	// HALLMARK_E2E_KEEP names a data directory to use and to keep, for whoever
	// works on these tests: what is built already is not built again.
	if world.data = os.Getenv("HALLMARK_E2E_KEEP"); world.data == "" {
		world.data, err = newData(filepath.Join(world.cache, "run"))
	}
	return err
})

// need gives a test the program and the shared data directory; it skips the test
// under -short.
func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds packages: needs a network and namespaces")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
}

// newData makes a data directory beside the cached seed, so that the seed's
// packages and its tree come as hard links. The program writes no file in place,
// so what is linked stays as it is.
func newData(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	// What a run left that was ended from outside.
	old, _ := filepath.Glob(filepath.Join(parent, "data-*"))
	for _, d := range old {
		if st, err := os.Stat(d); err == nil && time.Since(st.ModTime()) > 2*time.Hour {
			os.RemoveAll(d)
		}
	}
	dir, err := os.MkdirTemp(parent, "data-")
	if err != nil {
		return "", err
	}
	return dir, linkSeed(dir)
}

// linkSeed fills an empty data directory with the cached seed; the program finds
// out by itself whether it is the one that it wants.
func linkSeed(dir string) error {
	seed := filepath.Join(world.cache, "seed")
	if _, err := os.Stat(seed); err != nil {
		return nil // the first run fetches it
	}
	if err := run("cp", "-al", seed+"/.", dir); err != nil {
		return err
	}
	// The copy took the seed's age with it, and newData of another run would take
	// the folder for one that was left.
	now := time.Now()
	return os.Chtimes(dir, now, now)
}

// keepSeed caches the seed of a data directory for later runs.
func keepSeed(t *testing.T, data string) {
	t.Helper()
	seed := filepath.Join(world.cache, "seed")
	trees, err := filepath.Glob(filepath.Join(data, "layers", "seed-*"))
	if err != nil || len(trees) != 1 {
		t.Fatalf("the data directory has %d trees of seeds: %v", len(trees), err)
	}
	name := filepath.Base(trees[0])
	if _, err := os.Stat(filepath.Join(seed, "layers", name)); err == nil {
		return
	}
	fresh := seed + ".new"
	packages := filepath.Join(fresh, "blobs", "sha256")
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(packages, 0o755), os.Mkdir(filepath.Join(fresh, "layers"), 0o755),
		run("cp", "-al", trees[0], filepath.Join(fresh, "layers", name))); err != nil {
		t.Fatal(err)
	}
	for _, hex := range seedPackages(t, data) {
		to := filepath.Join(packages, hex[:2])
		if err := errors.Join(os.MkdirAll(to, 0o755), os.Link(blobPath(data, hex), filepath.Join(to, hex))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.RemoveAll(seed), os.Rename(fresh, seed)); err != nil {
		t.Fatal(err)
	}
}

// seedPackages gives the digests, in hex, of the seed's packages.
func seedPackages(t *testing.T, data string) []string {
	t.Helper()
	var doc struct{ Packages []struct{ SHA256 string } }
	project{dir: t.TempDir(), data: data}.json(t, &doc, done, "seed")
	var out []string
	for _, p := range doc.Packages {
		out = append(out, p.SHA256)
	}
	return out
}

func blobPath(data, hex string) string { return filepath.Join(data, "blobs", "sha256", hex[:2], hex) }

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// project is a project's folder with the data directory that it is worked on in.
type project struct {
	dir, data string
	env       []string // beside the machine's own
	user      string   // who works on it; empty: who runs the tests
}

// newProject makes a project in the shared data directory.
func newProject(t *testing.T, name string, env []string, reqs ...string) project {
	t.Helper()
	return newProjectIn(t, world.data, name, env, reqs...)
}

func newProjectIn(t *testing.T, data, name string, env []string, reqs ...string) project {
	t.Helper()
	p := project{dir: t.TempDir(), data: data, env: env}
	p.run(t, done, "init", name, "--at-time", catalog)
	p.run(t, done, append([]string{"install"}, reqs...)...)
	return p
}

// onUnproven sets what the project does with what cannot be proven.
func (p project) onUnproven(t *testing.T, what string) {
	t.Helper()
	p.set(t, "on_unproven", what)
}

// set gives a key of hallmark.yaml a value of one line.
func (p project) set(t *testing.T, key, value string) {
	t.Helper()
	name := filepath.Join(p.dir, "hallmark.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.HasPrefix(l, key+":") })
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n" + key + ": " + value + "\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// output is what a command said.
type output struct {
	stdout, stderr string
	code           int
}

func (o output) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", o.code, o.stdout, o.stderr)
}

// command makes a command of the program, which is killed at the test's end.
func (p project) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, world.bin, args...)
	gone := []string{"PIP_FIND_LINKS", "HALLMARK_SERVER"}
	if p.user != "" {
		cmd = exec.CommandContext(ctx, "setpriv", append([]string{"--reuid", p.user, "--regid", p.user, "--init-groups", world.bin}, args...)...)
		gone = append(gone, "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME")
	}
	cmd.Dir = p.dir
	cmd.Env = append(clean(os.Environ(), gone...), "HALLMARK_DATA="+p.data)
	if p.user != "" {
		cmd.Env = append(cmd.Env, "HOME="+p.dir, "USER="+p.user, "LOGNAME="+p.user)
	}
	cmd.Env = append(cmd.Env, p.env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// clean gives an environment without the variables named.
func clean(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(names, name)
	})
}

// run runs the program and demands an exit code.
func (p project) run(t *testing.T, code int, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	cmd := p.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("hallmark %s: %v", strings.Join(args, " "), err)
	}
	o := output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if o.code != code {
		t.Fatalf("hallmark %s: want exit code %d, have %s", strings.Join(args, " "), code, o)
	}
	return o
}

// json runs the program with --json and reads its one document.
func (p project) json(t *testing.T, to any, code int, args ...string) output {
	t.Helper()
	o := p.run(t, code, append(args, "--json")...)
	if err := json.Unmarshal([]byte(o.stdout), to); err != nil {
		t.Fatalf("hallmark %s --json: %v\n%s", strings.Join(args, " "), err, o)
	}
	return o
}

// status runs builds or status and gives the document, checked against its
// schema and its own numbers.
func (p project) status(t *testing.T, code int, args ...string) status.Document {
	t.Helper()
	var d status.Document
	o := p.json(t, &d, code, args...)
	valid(t, "status.v1", o.stdout)
	// Count by hand.
	secure := 0
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure {
			secure++
		}
	}
	all := len(d.Artifacts)
	s := d.Summary
	if s.Artifacts != all || s.Secure != secure || s.Community != all-secure {
		t.Errorf("the summary says %+v; counted: %d of %d secure", s, secure, all)
	}
	switch {
	case all == 0 && s.PercentSecure != nil:
		t.Errorf("%d percent of nothing", *s.PercentSecure)
	case all > 0 && (s.PercentSecure == nil || *s.PercentSecure != 100*secure/all):
		t.Errorf("percent is %v; %d of %d are secure", s.Percent(), secure, all)
	}
	return d
}

// valid holds a document against a schema of the repository.
func valid(t *testing.T, name, doc string) {
	t.Helper()
	b, err := schemas.Files.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// row finds a package's row by name.
func row(t *testing.T, d status.Document, name string) status.Row {
	t.Helper()
	for _, r := range d.Artifacts {
		if r.PURL.Name() == name {
			return r
		}
	}
	t.Fatalf("%s has no row", name)
	return status.Row{}
}

// show is a row on a line, for messages.
func show(r status.Row) string {
	b, _ := json.Marshal(r)
	return string(b)
}

// reason finds a reason by code; false if there is none.
func reason(r status.Row, code string) (policy.Reason, bool) {
	for _, x := range r.Reasons {
		if x.Code == code {
			return x, true
		}
	}
	return policy.Reason{}, false
}
