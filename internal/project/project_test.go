package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
)

const good = "project: acme/web\nrequirements:\n  - flask>=3\nat_time: 2026-10-01T00:00:00Z\n"

func TestParse(t *testing.T) {
	c, err := Parse([]byte(good))
	want := Config{Project: "acme/web", Requirements: []string{"flask>=3"}, Platforms: []string{DefaultPlatform},
		AtTime: "2026-10-01T00:00:00Z", Policy: DefaultPolicy, OnUnproven: Published}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, %v", c, err)
	}
	for name, y := range map[string]string{
		"zone":        strings.Replace(good, "2026-10-01T00:00:00Z", "2026-10-01T02:00:00.9+02:00", 1),
		"quoted":      strings.Replace(good, "2026-10-01T00:00:00Z", `"2026-10-01T00:00:00Z"`, 1),
		"all keys":    good + "platforms: [linux/amd64]\npolicy: " + DefaultPolicy + "\non_unproven: published\n",
		"comment":     "# a\n" + good + "# b\n",
		"one marker":  "---\n" + good,
		"flow":        `{project: acme/web, requirements: ["flask>=3"], at_time: 2026-10-01T00:00:00Z}`,
		"empty lists": good + "platforms: []\n",
	} {
		if c, err := Parse([]byte(y)); err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, y := range map[string]string{
		"unknown key":        good + "secure: true\n",
		"misspelt key":       strings.Replace(good, "requirements", "requirement", 1),
		"other case":         strings.Replace(good, "project", "Project", 1),
		"key twice":          good + "project: acme/api\n",
		"second document":    good + "---\nproject: evil/x\n",
		"rubbish behind":     good + "...\nx",
		"nothing":            "",
		"a list":             "- a\n",
		"a text":             "hello",
		"not YAML":           "project: [\n",
		"not UTF-8":          good + "policy: \xff\n",
		"no project":         strings.Replace(good, "project: acme/web\n", "", 1),
		"no time":            strings.Replace(good, "at_time: 2026-10-01T00:00:00Z\n", "", 1),
		"day":                strings.Replace(good, "2026-10-01T00:00:00Z", "2026-10-01", 1),
		"bad time":           strings.Replace(good, "2026-10-01T00:00:00Z", "yesterday", 1),
		"platform":           good + "platforms: [linux/amd64, windows/amd64]\n",
		"on_unproven":        good + "on_unproven: whatever\n",
		"requirements a map": strings.Replace(good, "  - flask>=3\n", "  flask: 3\n", 1),
		"requirement empty":  strings.Replace(good, "flask>=3", `""`, 1),
		"too many":           "project: acme/web\nat_time: 2026-10-01T00:00:00Z\nrequirements:\n" + strings.Repeat(" - a\n", maxRequirements+1),
		"too long":           good + "#" + strings.Repeat("x", maxConfig),
		"bomb":               "a: &a [x,x,x,x,x,x,x,x,x]\n" + bomb(9) + good,
	} {
		began := time.Now()
		c, err := Parse([]byte(y))
		if err == nil || fault.KindOf(err) != fault.Usage && fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %+v, %v", name, c, err)
			continue
		}
		if len(err.Error()) > 2000 || time.Since(began) > 2*time.Second {
			t.Errorf("%s: error of %d bytes after %s", name, len(err.Error()), time.Since(began))
		}
	}
}

// bomb is a chain of aliases that would grow to 9^n texts.
func bomb(n int) string {
	s := ""
	for i := range n {
		a, b := string(rune('a'+i)), string(rune('b'+i))
		s += fmt.Sprintf("%s: &%s [*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s]\n", b, b, a, a, a, a, a, a, a, a, a)
	}
	return s
}

func TestParseName(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, ok := range map[string]bool{
		"acme/web": true, "a/b": true, "a.b-c_d/1": true, long + "/" + long: true, "local/x--y": true,
		long + "a/b": false, "a/" + long + "a": false, "acme": false, "acme/": false, "/web": false, "a/b/c": false, "A/b": false, "a/b ": false,
		"a/b\n": false, "-a/b": false, "a/b-": false, "a/.b": false, "../b": false, "a/..": false, "a/é": false, "a\\b/c": false, "": false, "a/b?c": false, "a%2f/b": false,
		"api/x": false, "r/x": false, "static/x": false, "evidence/x": false, "verifier/x": false, "builder/x": false, "log/x": false, "healthz/x": false, "metrics/x": false, "x/api": true,
		"openapi.json/x": false, "trusted_root.json/x": false,
	} {
		org, proj, err := ParseName(name)
		if (err == nil) != ok || ok && org+"/"+proj != name || !ok && (org != "" || proj != "" || !fault.Is(err, fault.Usage)) {
			t.Errorf("ParseName(%.80q) = %q, %q, %v", name, org, proj, err)
		}
	}
}

func commitOf(t *testing.T, y string) Commit {
	t.Helper()
	c, err := Parse([]byte(y))
	if err != nil {
		t.Fatal(err)
	}
	return c.Commit("", "ann", "make", time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("", 3600)))
}

// The id of a configuration is what lock files and evidence name: it must not
// change from one version of Hallmark to the next.
func TestCommitIDIsStable(t *testing.T) {
	c := commitOf(t, good)
	id, b, err := c.ID()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"at_time":"2026-10-01T00:00:00Z","author":"ann","created":"2026-01-02T02:04:05Z","message":"make","on_unproven":"published",` +
		`"platforms":["linux/amd64"],"policy":"urn:hallmark:policy:first-light:v1","project":"acme/web","requirements":["flask>=3"],"schema":"urn:hallmark:commit:v1"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	if id != "commit:sha256:8c2723a15daa50a851b988889df14589ec287cb7830e5a7740b3618aa2e398a4" {
		t.Error(id)
	}
	d, err := ParseCommitID(id)
	if err != nil || "commit:"+d.String() != id {
		t.Errorf("%s, %v", d, err)
	}
	back, err := ParseCommit(b)
	if err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("%+v, %v", back, err)
	}
	for _, s := range []string{"", "sha256:" + strings.Repeat("a", 64), "commit:", "commit:sha256:abc", "commit:commit:" + d.String()} {
		if _, err := ParseCommitID(s); err == nil {
			t.Errorf("ParseCommitID(%q)", s)
		}
	}
	for _, s := range []string{"", "{}", "null", "[]", `{"schema":"urn:hallmark:commit:v2"}`} {
		if _, err := ParseCommit([]byte(s)); err == nil {
			t.Errorf("ParseCommit(%q)", s)
		}
	}
}

func TestSameConfiguration(t *testing.T) {
	a := commitOf(t, strings.Replace(good, "  - flask>=3\n", "  - b\n  - a\n", 1))
	for name, c := range map[string]struct {
		change func(*Commit)
		same   bool
	}{
		"nothing": {func(*Commit) {}, true},
		"story":   {func(c *Commit) { c.Parent, c.Author, c.Message, c.Created = "p", "b", "m", "2020-01-01T00:00:00Z" }, true},
		"project": {func(c *Commit) { c.Project = "acme/api" }, false}, "requirement": {func(c *Commit) { c.Requirements = []string{"a"} }, false},
		"platform": {func(c *Commit) { c.Platforms = nil }, false}, "time": {func(c *Commit) { c.AtTime = "2026-10-01T00:00:01Z" }, false},
		"policy": {func(c *Commit) { c.Policy = "x" }, false}, "unproven": {func(c *Commit) { c.OnUnproven = Built }, false}, "schema": {func(c *Commit) { c.Schema = "x" }, false},
	} {
		b := a
		c.change(&b)
		if SameConfiguration(a, b) != c.same || SameConfiguration(b, a) != c.same {
			t.Errorf("%s: same %t", name, !c.same)
		}
	}
	if b := commitOf(t, strings.Replace(good, "  - flask>=3\n", "  - a\n  - b\n", 1)); !SameConfiguration(a, b) {
		t.Error("the order of requirements makes another configuration")
	}
	if a.Parent != "" || a.Author != "ann" {
		t.Error("SameConfiguration changed its argument")
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "hallmark init") {
		t.Errorf("nothing there: %v", err)
	}
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	c.Requirements = []string{"a; python_version>'3' # x", "- b: c", "yes", "1.0", "é\"'"}
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	if back, err := Load(dir); err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("%+v, %v", back, err)
	}
	st, err := os.Stat(filepath.Join(dir, ConfigFile))
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	l := Lock{Commit: "commit:x", Index: map[string]string{"b": "2", "a": "1"}, Sources: []Locked{{PURL: "p", File: "f", Digest: "d"}}}
	if err := l.Save(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, LockFile))
	if err != nil || !strings.HasPrefix(string(b), "{\n  \"schema\": \""+LockSchema+"\"") || !strings.HasSuffix(string(b), "}\n") || strings.Index(string(b), `"a"`) > strings.Index(string(b), `"b"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// A reader sees the whole old file or the whole new one, and a write that fails
// leaves the old one and nothing beside it.
func TestSaveIsAtomic(t *testing.T) {
	dir := t.TempDir()
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := Load(dir); err != nil {
				ended <- err
				return
			}
		}
	}()
	for i := range 30 {
		c.Requirements = append(c.Requirements, fmt.Sprintf("package%d", i))
		if err := c.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("a reader saw half a file: %v", err)
	}
	// The name is taken by a folder: the last step fails.
	if err := os.MkdirAll(filepath.Join(dir, LockFile, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (Lock{}).Save(dir); err == nil {
		t.Error("saved over a folder")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := c.Save(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("project: &a acme/web\nrequirements: [*a]\nat_time: 2026-10-01 00:00:00\n"))
	f.Add([]byte("!!binary x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := c.Save(dir); err != nil {
			t.Fatal(err)
		}
		back, err := Load(dir)
		if err != nil {
			t.Fatalf("%q is saved as what cannot be read: %v", b, err)
		}
		now := time.Unix(0, 0)
		if x, y := c.Commit("", "", "", now), back.Commit("", "", "", now); !SameConfiguration(x, y) {
			t.Errorf("%q comes back as another configuration:\n%+v\n%+v", b, x, y)
		}
	})
}
