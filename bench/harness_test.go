//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/sandbox"
)

var (
	rowsFlag   = flag.String("rows", "", "measure these rows alone, such as a,d; default: all but closure")
	roundsFlag = flag.Int("rounds", 0, "rounds of each comparison; 0: what each row says")
	writeFlag  = flag.Bool("write", true, "write results.json and docs/performance.md")
)

// Row is one figure of the table.
type Row struct {
	ID     string  `json:"id"`     // "a-runc"; the letter is that of the plan
	What   string  `json:"what"`   // what was compared
	Ours   float64 `json:"ours"`   // in Unit
	Theirs float64 `json:"theirs"` // in Unit; 0: it is not compared with anything
	Unit   string  `json:"unit"`
	Figure float64 `json:"figure"` // what the bound is about: mostly Ours/Theirs
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"` // the figure may be at most the bound; else at least
	Rounds int     `json:"rounds"`
	Note   string  `json:"note,omitempty"` // or why it could not be measured
	Absent bool    `json:"absent,omitempty"`
	Date   string  `json:"date"`
	Load   string  `json:"load"` // of the machine before it
}

// Machine is what the figures depend on; no names of hosts.
type Machine struct {
	Cores   int    `json:"cores"`
	Model   string `json:"model"`
	Memory  string `json:"memory"`
	Kernel  string `json:"kernel"`
	Runtime string `json:"runtime"`
	Go      string `json:"go"`
}

type results struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
}

// absent says that a row cannot be measured here.
type absent struct{ why string }

func (a absent) Error() string { return a.why }

func TestMain(m *testing.M) {
	if doc := os.Getenv(plainEnv); doc != "" {
		os.Exit(plainChild(doc))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// TestBench measures the rows, one after the other, and writes the table.
func TestBench(t *testing.T) {
	all := []struct {
		id  string
		run func(*testing.T) ([]Row, error)
	}{
		{"a", noopStep}, {"b", realBuilds}, {"c", smallClosure}, {"closure", wholeClosure}, {"d", nothingToDo}, {"e", verifyAll}, {"f", coresBusy}, {"g", usersAndPages},
	}
	want := strings.FieldsFunc(*rowsFlag, func(r rune) bool { return r == ',' || r == ' ' })
	res := results{Machine: machine(t)}
	old := readResults(t)
	for _, r := range all {
		if len(want) > 0 && !slices.Contains(want, r.id) || len(want) == 0 && r.id == "closure" {
			continue
		}
		t.Run(r.id, func(t *testing.T) {
			load := loadAverage()
			rows, err := r.run(t)
			var a absent
			if errors.As(err, &a) {
				rows, err = []Row{{ID: r.id, What: "row " + r.id, Absent: true, Note: a.why}}, nil
			}
			if err != nil {
				t.Error(err)
				return
			}
			for i := range rows {
				rows[i].Date, rows[i].Load = time.Now().UTC().Format(time.DateOnly), load
			}
			res.Rows = append(res.Rows, rows...)
			fmt.Print(table(rows))
		})
	}
	for _, o := range old.Rows {
		if !slices.ContainsFunc(res.Rows, func(r Row) bool { return r.ID == o.ID || r.Absent && strings.HasPrefix(o.ID, r.ID) }) {
			res.Rows = append(res.Rows, o)
		}
	}
	slices.SortFunc(res.Rows, func(x, y Row) int { return strings.Compare(x.ID, y.ID) })
	fmt.Println()
	fmt.Print(table(res.Rows))
	if *writeFlag {
		if err := res.write(); err != nil {
			t.Error(err)
		}
	}
}

func readResults(t *testing.T) results {
	var r results
	b, err := os.ReadFile("results.json")
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r results) write() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile("results.json", append(b, '\n'), 0o644); err != nil {
		return err
	}
	head, err := os.ReadFile("performance.head.txt")
	if err != nil {
		return err
	}
	m := r.Machine
	text := string(head) + "\n## The machine\n\n" + fmt.Sprintf("%d processors (%s), %s of memory, Linux %s, %s, %s.\n", m.Cores, m.Model, m.Memory, m.Kernel, m.Runtime, m.Go) +
		"\n## The figures\n\n" + table(r.Rows)
	return os.WriteFile(filepath.Join("..", "docs", "performance.md"), []byte(text), 0o644)
}

// table gives rows as Markdown.
func table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| | what | Hallmark | the other | figure | bound | | rounds | measured |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if r.Absent {
			fmt.Fprintf(&b, "| %s | %s | | | | | not measured: %s | | %s |\n", r.ID, r.What, r.Note, r.Date)
			continue
		}
		theirs, met, sign := "", "missed", "≥"
		if r.Theirs != 0 {
			theirs = quantity(r.Theirs, r.Unit)
		}
		if r.AtMost {
			sign = "≤"
		}
		if r.AtMost && r.Figure <= r.Bound || !r.AtMost && r.Figure >= r.Bound {
			met = "met"
		}
		unit := ""
		if r.Theirs == 0 {
			unit = " " + r.Unit
		}
		what := r.What
		if r.Note != "" {
			what += " (" + r.Note + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.3g%s | %s %g%s | %s | %d | %s, load %s |\n",
			r.ID, what, quantity(r.Ours, r.Unit), theirs, r.Figure, unit, sign, r.Bound, unit, met, r.Rounds, r.Date, r.Load)
	}
	return b.String()
}

func quantity(v float64, unit string) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

func machine(t *testing.T) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	for _, line := range lines("/proc/cpuinfo") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			m.Model = strings.TrimSpace(v)
		}
	}
	for _, line := range lines("/proc/meminfo") {
		var kb int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kb); n == 1 {
			m.Memory = fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
		}
	}
	r, err := sandbox.Open(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m.Runtime = r.Runtime()
	return m
}

func lines(name string) []string {
	b, _ := os.ReadFile(name) // what is missing is left out of the table
	return strings.Split(string(b), "\n")
}

func loadAverage() string {
	f := strings.Fields(strings.Join(lines("/proc/loadavg"), " "))
	if len(f) == 0 {
		return "?"
	}
	return f[0]
}

// rounds is how often a row is repeated.
func rounds(n int) int {
	if *roundsFlag > 0 {
		return *roundsFlag
	}
	return n
}

// paired runs ours and theirs in turns, the first round unmeasured, and gives the
// medians in seconds and the median of the ratios of each pair.
func paired(n int, ours, theirs func(i int) (time.Duration, error)) (a, b, ratio float64, err error) {
	var as, bs, rs []float64
	for i := range n + 1 {
		x, err := ours(i)
		if err != nil {
			return 0, 0, 0, err
		}
		y, err := theirs(i)
		if err != nil {
			return 0, 0, 0, err
		}
		if i == 0 && n > 1 {
			continue
		}
		as, bs, rs = append(as, x.Seconds()), append(bs, y.Seconds()), append(rs, x.Seconds()/y.Seconds())
		if n == 1 {
			break
		}
	}
	return median(as), median(bs), median(rs), nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// timed runs a program and gives how long it took, from its start to its end.
func timed(ctx context.Context, dir string, env []string, name string, args ...string) (time.Duration, []byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		said := stderr.String()
		if len(said) > 3000 {
			said = said[len(said)-3000:]
		}
		return took, out, fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, said)
	}
	return took, out, nil
}

// binary builds the program once.
var built string

func binary(t *testing.T) string {
	t.Helper()
	if built != "" {
		return built
	}
	dir, err := os.MkdirTemp("", "hallmark-bench-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hallmark")
	out, err := exec.Command("../scripts/build", path).CombinedOutput()
	if err != nil {
		t.Fatalf("scripts/build: %v\n%s", err, out)
	}
	built = path
	return path
}

// workFolder is where big things of the bench lie: kept between runs, so that the
// seed is fetched once.
func workFolder(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "hallmark-bench", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
