package pypi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// universeProvider is a small world for the resolver. A line is "name version:
// requirement; requirement", and behind "|" may stand flags: yanked,
// python=SPEC, extra=NAME, wheel=TAGS, bad.
type universeProvider struct {
	pages map[string]*Page
	meta  map[string]string
	asked []string
}

func newUniverse(t testing.TB, text string) *universeProvider {
	t.Helper()
	u := &universeProvider{pages: map[string]*Page{}, meta: map[string]string{}}
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		head, rest, _ := strings.Cut(line, ":")
		reqs, flags, _ := strings.Cut(rest, "|")
		name, version, ok := strings.Cut(head, " ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		p := u.pages[name]
		if p == nil {
			p = &Page{Name: name}
			u.pages[name] = p
		}
		f := File{Name: name + "-" + version + ".tar.gz", SHA256: zeros}
		meta := fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n", name, version)
		for _, x := range strings.Fields(flags) {
			k, v, _ := strings.Cut(x, "=")
			switch k {
			case "yanked":
				f.Yanked = &v
			case "python":
				f.RequiresPython = v
			case "metapython":
				meta += "Requires-Python: " + v + "\n"
			case "extra":
				meta += "Provides-Extra: " + v + "\n"
			case "wheel":
				f.Name = name + "-" + version + "-" + v + ".whl"
			case "bad":
				meta = "Name: other\nVersion: 1\n"
			}
		}
		for _, r := range strings.Split(reqs, "&") {
			if r = strings.TrimSpace(r); r != "" {
				meta += "Requires-Dist: " + r + "\n"
			}
		}
		u.meta[name+"@"+mustVersion(version).String()] = meta
		if err := p.add(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range u.pages {
		if err := p.finish(); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *universeProvider) Page(_ context.Context, name string) (*Page, error) {
	u.asked = append(u.asked, name)
	if p := u.pages[name]; p != nil {
		return p, nil
	}
	return nil, fault.New(fault.NotFound, "no index has a package named %s", name)
}

func (u *universeProvider) Metadata(_ context.Context, c Candidate) (Metadata, string, error) {
	m, err := ParseMetadata([]byte(u.meta[c.Name+"@"+c.Version]))
	return m, FromSdist, err
}

func solveUniverse(t testing.TB, u *universeProvider, opts Options, reqs ...string) (*Solution, error) {
	t.Helper()
	var rs []Requirement
	for _, s := range reqs {
		r, err := ParseRequirement(s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return Resolve(t.Context(), u, testEnvironment(t), rs, opts)
}

func pinsOf(s *Solution) string {
	var out []string
	for _, p := range s.Pins {
		out = append(out, nameKey(p.Name, p.Extras)+"="+p.Version)
	}
	return strings.Join(out, " ")
}

func TestResolve(t *testing.T) {
	for name, c := range map[string]struct{ world, reqs, want string }{
		"newest":                {"a 1:\na 2:", "a", "a=2"},
		"bound":                 {"a 1:\na 2:", "a<2", "a=1"},
		"dependency":            {"a 1: b>=1\nb 1:\nb 2:", "a", "a=1 b=2"},
		"backtrack":             {"a 2: b<1\na 1: b\nb 1:\nb 0.5: c>5\nc 1:", "a", "a=1 b=1"},
		"backtrack deep":        {"a 2: b\na 1:\nb 2: c==2\nb 1: c==1\nc 1: d>1\nc 2: d>1\nd 1:", "a", "a=1"},
		"loop":                  {"a 1: b\nb 1: a", "a", "a=1 b=1"},
		"diamond":               {"a 1: c<3\nb 1: c>1\nc 1:\nc 2:\nc 3:", "a&b", "a=1 b=1 c=2"},
		"extra":                 {"a 1: b; extra=='x' | extra=x\nb 1:", "a[x]", "a[x]=1 b=1"},
		"extra not asked":       {"a 1: b; extra=='x' | extra=x\nb 1:", "a", "a=1"},
		"extra that is not":     {"a 1: b; extra=='x'\nb 1:", "a[x]", "a[x]=1"},
		"extra of itself":       {"a 1: a[y]; extra=='all' & b; extra=='y' | extra=all extra=y\nb 1:", "a[all]", "a[all,y]=1 b=1"},
		"extra binds the base":  {"a 2: b; extra=='x' | extra=x\na 1: | extra=x\nb 1: a<2", "a[x]", "a[x]=1"},
		"marker":                {"a 1: b; sys_platform=='win32' & c; python_version>'3'\nc 1:", "a", "a=1 c=1"},
		"root marker":           {"a 1:", "a&b; os_name=='nt'", "a=1"},
		"yanked":                {"a 1:\na 2: | yanked", "a", "a=1"},
		"yanked pinned":         {"a 1:\na 2: | yanked", "a==2", "a=2"},
		"yanked, not pinned":    {"a 1:\na 2: | yanked", "a>1.5&b", "CONFLICT"},
		"yanked by star":        {"a 1:\na 2: | yanked", "a==2.*", "CONFLICT"},
		"pre":                   {"a 1:\na 2a1:", "a", "a=1"},
		"pre asked":             {"a 1:\na 2a1:", "a>=2a0", "a=2a1"},
		"pre only":              {"a 1a1:\na 2a1:", "a", "a=2a1"},
		"python of the file":    {"a 1:\na 2: | python=>=3.12", "a", "a=1"},
		"python of metadata":    {"a 1:\na 2: | metapython=>=3.12", "a", "a=1"},
		"bad python":            {"a 1:\na 2: | python=>=x", "a", "a=2"},
		"platform":              {"a 1:\na 2: | wheel=cp312-cp312-win_amd64", "a", "a=1"},
		"wheel only":            {"a 1:\na 2: | wheel=cp311-cp311-manylinux_2_17_x86_64", "a", "a=2"},
		"bad metadata":          {"a 1:\na 2: | bad", "a", "a=1"},
		"missing dependency":    {"a 1:\na 2: nope", "a", "a=1"},
		"equal spellings":       {"a 1.0:\na 1.0.0: | wheel=py3-none-any", "a", "a=1.0"},
		"local":                 {"a 1.0:\na 1.0+x:", "a==1.0", "a=1.0+x"},
		"conflict":              {"a 1: c<2\nb 1: c>=2\nc 1:\nc 2:", "a&b", "CONFLICT"},
		"conflict of the roots": {"a 1:\na 2:", "a<2&a>1", "CONFLICT"},
		"python impossible":     {"a 1: | metapython=<3", "a", "CONFLICT"},
		"unused is dropped":     {"a 2: b & c>5\na 1: d\nb 1:\nc 1:\nd 1:", "a", "a=1 d=1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := solveUniverse(t, newUniverse(t, c.world), Options{}, strings.Split(c.reqs, "&")...)
			got := "CONFLICT"
			if err == nil {
				got = pinsOf(s)
			} else if !fault.Is(err, fault.Conflict) {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestResolveSolution(t *testing.T) {
	u := newUniverse(t, "a 1: b & c; extra=='x' | extra=x\nb 1: c\nc 1:")
	s, err := solveUniverse(t, u, Options{}, "a[x,nope]")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := s.Pin("a")
	b, _ := s.Pin("b")
	if !a.Direct || b.Direct || strings.Join(a.Requires, " ") != "b c" || strings.Join(b.Requires, " ") != "c" || a.Candidate.Sdist == nil || a.Candidate.Metadata != FromSdist {
		t.Errorf("%+v\n%+v", a, b)
	}
	if strings.Join(s.Notices, "") != "a 1 has no extra nope." || strings.Join(s.Asked, " ") != "a b c" {
		t.Errorf("notices %q, asked %q", s.Notices, s.Asked)
	}
	if _, ok := s.Pin("zz"); ok {
		t.Error("a pin that is not there")
	}
}

func TestConflictIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		world, reqs string
		want        []string
	}{
		"clash":   {"a 1: c<2\nb 1: c>=2\nc 1:\nc 2:", "a&b", []string{"a 1 asks for c<2", "b 1 asks for c>=2"}},
		"root":    {"a 1: c<2\nc 1:\nc 2:", "a&c>=2", []string{"a 1 asks for c<2", "the project asks for c>=2"}},
		"none":    {"a 1: | python=<3\na 2: | wheel=cp311-cp311-win_amd64", "a", []string{"the project asks for a", "1 need another Python than 3.11.2", "2 have neither"}},
		"too new": {"a 1:", "a>=2", []string{"the project asks for a>=2", "a has versions up to 1"}},
		"missing": {"a 1: nope", "a", []string{"a 1 asks for nope", "there is no package nope"}},
		"python":  {"a 1: | metapython=<3", "a", []string{"a 1 asks for Python <3", "the interpreter is Python 3.11.2"}},
		"bad":     {"a 1: b | bad\nb 1: c<2\nc 2:\nd 1: b", "a&d", []string{"b 1 asks for c<2"}},
	} {
		_, err := solveUniverse(t, newUniverse(t, c.world), Options{}, strings.Split(c.reqs, "&")...)
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in\n%v", name, w, err)
			}
		}
	}
	if _, err := solveUniverse(t, newUniverse(t, ""), Options{}, "nope>=1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing package asked for: %v", err)
	}
}

// What says that it is another package is passed over; where nothing else fits it is
// chosen, refused and without requirements, so that it costs its row and no more.
func TestRefusedMetadataCostsItsRow(t *testing.T) {
	for name, c := range map[string]struct{ world, reqs, want, refused string }{
		"older one":       {"a 1:\na 2: | bad", "a", "a=1", ""},
		"nothing else":    {"a 1:\na 2: b | bad", "a==2", "a=2", "a"},
		"all":             {"a 1: | bad\na 2: | bad", "a", "a=2", "a"},
		"beside":          {"a 1: | bad\nb 1: c\nc 1: | bad\nc 0.5:", "a&b", "a=1 b=1 c=0.5", "a"},
		"needed":          {"a 1: b\nb 1: | bad", "a", "a=1 b=1", "b"},
		"older that asks": {"a 2: b\na 1:\nb 1: | bad", "a", "a=1", ""},
		"extra":           {"a 1: | bad extra=x", "a[x]", "a[x]=1", "a"},
		"a chain of them": {"a 1: | bad\nb 1: c & d\nc 1: | bad\nd 1: | bad", "a&b", "a=1 b=1 c=1 d=1", "a c d"},
	} {
		s, err := solveUniverse(t, newUniverse(t, c.world), Options{}, strings.Split(c.reqs, "&")...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var refused []string
		for _, p := range s.Pins {
			if p.Refused == nil {
				continue
			}
			refused = append(refused, p.Name)
			if !strings.Contains(p.Refused.Error(), "its metadata is that of other 1") || len(p.Requires) > 0 {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if pinsOf(s) != c.want || strings.Join(refused, " ") != c.refused {
			t.Errorf("%s: %s, refused %s", name, pinsOf(s), refused)
		}
		if !strings.Contains(strings.Join(s.Notices, " "), "was passed over: its metadata is that of other 1.") {
			t.Errorf("%s: nobody is told: %q", name, s.Notices)
		}
	}
}

func TestResolveOptions(t *testing.T) {
	u := newUniverse(t, "a 1:\na 2: b\nb 1:\nb 2:")
	veto := func(name, version string) error {
		if name == "a" && version == "2" {
			return errors.New("is in a ring")
		}
		return nil
	}
	s, err := solveUniverse(t, u, Options{Constraint: veto}, "a")
	if err != nil || pinsOf(s) != "a=1" {
		t.Errorf("veto: %v, %v", s, err)
	}
	if _, err := solveUniverse(t, u, Options{Constraint: veto}, "a>1"); err == nil || !strings.Contains(err.Error(), "is in a ring") {
		t.Errorf("veto is not explained: %v", err)
	}
	m, err := ParseMetadata([]byte("Name: a\nVersion: 2\nRequires-Dist: b<2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = solveUniverse(t, u, Options{Override: map[string]Metadata{"a@2": m}}, "a"); err != nil || pinsOf(s) != "a=2 b=1" {
		t.Errorf("override: %v, %v", s, err)
	}
}

func TestResolveIsBounded(t *testing.T) {
	// Every version of each of many packages wants a version of the next that
	// nobody has together with the last one.
	var w strings.Builder
	for p := range 12 {
		for v := range 12 {
			fmt.Fprintf(&w, "p%d %d: p%d>=%d & q>=%d\n", p, v, (p+1)%12, v, v*12+p)
		}
	}
	w.WriteString("q 1:\nz 1: p0")
	_, err := solveUniverse(t, newUniverse(t, w.String()), Options{MaxRounds: 3}, "p0", "p1", "p2", "p3", "p4", "z")
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("rounds: %v", err)
	}
	slow := &slowProvider{newUniverse(t, "a 1: b\nb 1:")}
	_, err = Resolve(t.Context(), slow, testEnvironment(t), []Requirement{{Name: "a"}}, Options{Timeout: 50 * time.Millisecond})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "longer than 50ms") {
		t.Errorf("time: %v", err)
	}
	failing := &failingProvider{newUniverse(t, "a 1:\na 2:")}
	if s, err := Resolve(t.Context(), failing, testEnvironment(t), []Requirement{{Name: "a"}}, Options{}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "a 2") {
		t.Errorf("an index that does not answer was passed over: %+v, %v", s, err)
	}
}

type slowProvider struct{ *universeProvider }

func (s *slowProvider) Metadata(ctx context.Context, _ Candidate) (Metadata, string, error) {
	<-ctx.Done()
	return Metadata{}, "", ctx.Err()
}

type failingProvider struct{ *universeProvider }

func (s *failingProvider) Metadata(context.Context, Candidate) (Metadata, string, error) {
	return Metadata{}, "", fault.New(fault.Unavailable, "no answer")
}

// TestSolutionSatisfies checks solutions of random worlds: every requirement is
// met, nothing is superfluous, and the same question has the same answer.
func TestSolutionSatisfies(t *testing.T) {
	env := testEnvironment(t)
	solved, failed := 0, 0
	for seed := range uint64(300) {
		world, reqs := randomWorld(rand.New(rand.NewPCG(seed, 7)))
		u := newUniverse(t, world)
		s, err := solveUniverse(t, u, Options{}, reqs...)
		if err != nil {
			if !fault.Is(err, fault.Conflict) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if failed++; failed <= 60 {
				if a := anySolution(t, u, env, reqs); a != "" {
					t.Errorf("seed %d: %v\nbut %s is a solution of %q in\n%s", seed, err, a, reqs, world)
				}
			}
			continue
		}
		solved++
		again, err := solveUniverse(t, u, Options{}, reqs...)
		if err != nil || pinsOf(again) != pinsOf(s) {
			t.Fatalf("seed %d: another answer: %s, then %s", seed, pinsOf(s), pinsOf(again))
		}
		needed := map[string]bool{}
		check := func(q Requirement) {
			p, ok := s.Pin(q.Name)
			if !ok || !q.Specifiers.Contains(mustVersion(p.Version)) {
				t.Fatalf("seed %d: %s is not met in %s\n%s", seed, q, pinsOf(s), world)
			}
			needed[q.Name] = true
		}
		for _, x := range reqs {
			q, _ := ParseRequirement(x)
			check(q)
		}
		for _, p := range s.Pins {
			for _, q := range p.Metadata.Requires(env, p.Extras) {
				check(q)
			}
		}
		for _, p := range s.Pins {
			if !needed[p.Name] {
				t.Fatalf("seed %d: nobody needs %s in %s", seed, p.Name, pinsOf(s))
			}
		}
	}
	if solved < 50 || failed < 10 {
		t.Errorf("%d solved, %d failed: the worlds are too alike", solved, failed)
	}
}

// anySolution tries all versions of a random world; empty: none fits.
func anySolution(t *testing.T, u *universeProvider, env Environment, roots []string) string {
	type ask struct {
		to    int
		extra bool
		good  [4]bool
	}
	index := func(name string) int { return int(name[1] - 'a') }
	asks := func(rs []Requirement) (out []ask) {
		for _, q := range rs {
			a := ask{to: index(q.Name), extra: len(q.Extras) > 0}
			for v := range a.good {
				a.good[v] = q.Specifiers.Contains(mustVersion(fmt.Sprint(v + 1)))
			}
			out = append(out, a)
		}
		return out
	}
	var first []Requirement
	for _, x := range roots {
		q, err := ParseRequirement(x)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, q)
	}
	start := asks(first)
	var needs [7][4][2][]ask
	for name := range u.pages {
		for v := range 4 {
			m, err := ParseMetadata([]byte(u.meta[fmt.Sprintf("%s@%d", name, v+1)]))
			if err != nil {
				t.Fatal(err)
			}
			needs[index(name)][v] = [2][]ask{asks(m.Requires(env, nil)), asks(m.Requires(env, []string{"x"}))}
		}
	}
	var chosen [7]int
	var seen [7][2]bool
	var ok func(as []ask) bool
	ok = func(as []ask) bool {
		for _, a := range as {
			if !a.good[chosen[a.to]] {
				return false
			}
			for e, want := range []bool{true, a.extra} {
				if want && !seen[a.to][e] {
					seen[a.to][e] = true
					if !ok(needs[a.to][chosen[a.to]][e]) {
						return false
					}
				}
			}
		}
		return true
	}
	for n := range 1 << 14 {
		for i := range chosen {
			chosen[i] = n >> (2 * i) & 3
		}
		seen = [7][2]bool{}
		if ok(start) {
			return fmt.Sprint(chosen)
		}
	}
	return ""
}

// randomWorld makes packages that ask for one another, extras among it.
func randomWorld(r *rand.Rand) (world string, reqs []string) {
	names := []string{"pa", "pb", "pc", "pd", "pe", "pf", "pg"}
	spec := func() string {
		return []string{"", ">=2", "<3", "==2", "!=3", "~=2.0", ">3", "==1", "<2"}[r.IntN(9)]
	}
	var w strings.Builder
	for i, n := range names {
		for v := range 4 {
			fmt.Fprintf(&w, "%s %d:", n, v+1)
			var deps []string
			for range 1 + r.IntN(2) {
				d := r.IntN(len(names))
				if d == i {
					continue
				}
				x := names[d]
				if r.IntN(4) == 0 {
					x += "[x]"
				}
				x += spec()
				if r.IntN(5) == 0 {
					x += "; extra == 'x'"
				}
				deps = append(deps, x)
			}
			fmt.Fprintf(&w, "%s | extra=x\n", strings.Join(deps, "&"))
		}
	}
	for range 1 + r.IntN(3) {
		x := names[r.IntN(len(names))]
		if r.IntN(4) == 0 {
			x += "[x]"
		}
		reqs = append(reqs, x+spec())
	}
	return w.String(), reqs
}

// TestRandomWorldsEqualPip serves random worlds as an index of real wheels, and
// asks the machine's pip and us.
func TestRandomWorldsEqualPip(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's pip")
	}
	python, version := pip311(t)
	env, err := NewEnvironment(version, "x86_64", 36)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range os.Environ() {
		if n, _, _ := strings.Cut(k, "="); strings.HasPrefix(n, "PIP_") {
			t.Setenv(n, "")
			os.Unsetenv(n)
		}
	}
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	t.Setenv("PIP_NO_CACHE_DIR", "1")
	solved := 0
	for i := range uint64(10) {
		seed := i + 5
		world, reqs := randomWorld(rand.New(rand.NewPCG(seed, 11)))
		u := newUniverse(t, world)
		f := newFakeIndex(t)
		for name, p := range u.pages {
			var files []string
			for _, x := range p.Files {
				whl := testWheel(t, name, x.Version, u.meta[name+"@"+x.Version], 0)
				file := name + "-" + x.Version + "-py3-none-any.whl"
				f.file("/f/"+file, whl, false)
				files = append(files, fmt.Sprintf(`{"filename":%q,"url":"/f/%s","hashes":{"sha256":%q}}`, file, file, digest.FromBytes(whl).Hex()))
			}
			f.page(name, typeJSON, jsonPage(name, files...))
		}
		args := append([]string{"-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--disable-pip-version-check", "--index-url", f.URL + "/simple/"}, reqs...)
		cmd := exec.Command(python, args...)
		cmd.Dir = t.TempDir()
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, perr := cmd.Output()
		want := "CONFLICT"
		if perr == nil {
			want = reportPins(t, out)
		} else if !strings.Contains(errs.String(), "ResolutionImpossible") && !strings.Contains(errs.String(), "No matching distribution") {
			t.Fatalf("pip: %v\n%s", perr, &errs)
		}
		var rs []Requirement
		for _, x := range reqs {
			q, err := ParseRequirement(x)
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, q)
		}
		s, err := Resolve(t.Context(), NewIndexProvider(f.client(t), time.Time{}, nil, nil), env, rs, Options{})
		got := "CONFLICT"
		if err == nil {
			solved++
			var pins []string
			for _, p := range s.Pins {
				pins = append(pins, p.Name+"=="+p.Version)
			}
			sort.Strings(pins)
			got = strings.Join(pins, "\n")
		} else if !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
		if want == "CONFLICT" && err == nil && s.careful {
			t.Logf("seed %d: found by the second search, which older versions of pip do not have", seed)
			continue // that it is a solution is TestSolutionSatisfies' to show
		}
		if got != want {
			t.Errorf("seed %d, %q: ours:\n%s\npip's:\n%s\nin\n%s", seed, reqs, got, want, world)
		}
		f.Close()
	}
	if solved < 5 {
		t.Errorf("only %d worlds had a solution", solved)
	}
}

func TestIndexProviderOrder(t *testing.T) {
	f := newFakeIndex(t)
	whl := testWheel(t, "foo", "1", "Metadata-Version: 2.1\nName: foo\nVersion: 1\nRequires-Dist: from-wheel\n", 0)
	f.file("/f/foo-1-py3-none-any.whl", whl, true)
	wheel := File{Name: "foo-1-py3-none-any.whl", SHA256: digest.FromBytes(whl).Hex(), url: f.URL + "/f/foo-1-py3-none-any.whl"}
	if !wheel.read("foo") {
		t.Fatal("name")
	}
	sdist := File{Name: "foo-1.tar.gz", SHA256: zeros}
	for name, c := range map[string]struct {
		sdist     string // error kind or PKG-INFO's metadata version
		wheel     bool
		query     bool
		source    string
		requires  string
		wantFault fault.Kind
	}{
		"static source":   {"2.2", true, true, FromSdist, "from-sdist", ""},
		"dynamic source":  {"2.1", true, true, FromWheel, "from-wheel", ""},
		"no wheel":        {"2.1", false, true, FromQuery, "from-query", ""},
		"nobody to ask":   {"2.1", false, false, "", "", fault.Unsupported},
		"wrong digest":    {"unverified", true, true, "", "", fault.Unverified},
		"broken metadata": {"broken", true, true, FromWheel, "from-wheel", ""},
	} {
		p := NewIndexProvider(f.client(t), time.Time{}, func(context.Context, Candidate) (io.ReadCloser, error) {
			if c.sdist == "unverified" {
				return nil, fault.New(fault.Unverified, "not the source")
			}
			meta := "Metadata-Version: " + c.sdist + "\nName: foo\nVersion: 1\nRequires-Dist: from-sdist\n"
			if c.sdist == "broken" {
				meta = "nonsense"
			}
			return io.NopCloser(bytes.NewReader(testSdist(t, "foo-1", meta))), nil
		}, nil)
		if c.query {
			p.Query = func(context.Context, Candidate) (Metadata, error) {
				return ParseMetadata([]byte("Name: foo\nVersion: 1\nRequires-Dist: from-query\n"))
			}
		}
		cand := Candidate{Name: "foo", Version: "1", Sdist: &sdist}
		if c.wheel {
			cand.AnyWheel = &wheel
		}
		m, source, err := p.Metadata(t.Context(), cand)
		if c.wantFault != "" {
			if !fault.Is(err, c.wantFault) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || source != c.source || m.RequiresDist[0].Name != c.requires {
			t.Errorf("%s: %s, %+v, %v", name, source, m, err)
		}
	}
}

func TestPinnedPagesSolveAgain(t *testing.T) {
	f := newFakeIndex(t)
	old := testWheel(t, "foo", "1", "Metadata-Version: 2.1\nName: foo\nVersion: 1\n", 0)
	entry := func(v, day string) string {
		return fmt.Sprintf(`{"filename":"foo-%s-py3-none-any.whl","url":"/f/foo-%s-py3-none-any.whl","hashes":{"sha256":%q},"upload-time":"%sT00:00:00Z"}`, v, v, digest.FromBytes(old).Hex(), day)
	}
	f.file("/f/foo-1-py3-none-any.whl", old, true)
	f.page("foo", typeJSON, jsonPage("foo", entry("1", "2024-01-01"), entry("2", "2025-01-01")))
	solve := func(at time.Time, pin []*Page) (*Solution, *IndexProvider) {
		p := NewIndexProvider(f.client(t), at, nil, nil)
		for _, x := range pin {
			p.Pin(x)
		}
		s, err := Resolve(t.Context(), p, testEnvironment(t), []Requirement{{Name: "foo"}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s, p
	}
	at := time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	s, p := solve(at, nil)
	pages, enforced, err := p.PagesOf(t.Context(), append(s.Asked, "nope"))
	if err != nil || !enforced || len(pages) != 2 || pinsOf(s) != "foo=1" {
		t.Fatalf("%s, %v, %t, %v", pinsOf(s), pages, enforced, err)
	}
	f.page("foo", typeJSON, jsonPage("foo", entry("1", "2024-01-01"), entry("1.5", "2024-02-01")))
	_, b, err := pages[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := ParsePage(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := solve(at, []*Page{pinned}); pinsOf(again) != pinsOf(s) {
		t.Errorf("solved again: %s in place of %s", pinsOf(again), pinsOf(s))
	}
}
