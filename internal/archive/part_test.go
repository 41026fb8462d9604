package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// tree lists what is in a folder, files with what they say.
func partTree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			rel += "=" + string(b)
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// TestUnpackPart shows which part of an archive a source is: an archive in it, without
// what is named.
func TestUnpackPart(t *testing.T) {
	inner := tarOf(t, folder("i-1"), file("i-1/a.c", "a"), file("i-1/tests/bin.o", "x"), file("i-1/tests/more/y", "y"), file("i-1/docs/index", "d"), link("i-1/tests/l", "bin.o"))
	outer := tarOf(t, folder("o-1"), file("o-1/README", "r"), file("o-1/in/i-1.tar", string(inner)), folder("o-1/empty"))
	for name, c := range map[string]struct {
		part archive.Part
		want string
	}{
		"inside":                 {archive.Part{Inside: "in/i-1.tar"}, "a.c=a docs/ docs/index=d tests/ tests/bin.o=x tests/l tests/more/ tests/more/y=y"},
		"inside, without":        {archive.Part{Inside: "in/i-1.tar", Without: []string{"tests"}}, "a.c=a docs/ docs/index=d"},
		"a pattern":              {archive.Part{Inside: "in/i-1.tar", Without: []string{"tests/*", "d?cs/index"}}, "a.c=a"},
		"without in the outer":   {archive.Part{Without: []string{"in", "empty"}}, "README=r"},
		"what is not there":      {archive.Part{Without: []string{"in", "nothing"}}, "README=r empty/"},
		"the inner of the outer": {archive.Part{Inside: "in/i-1.tar", Without: []string{"in", "README"}}, "a.c=a docs/ docs/index=d tests/ tests/bin.o=x tests/l tests/more/ tests/more/y=y"},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		info, err := archive.UnpackPart(bytes.NewReader(outer), int64(len(outer)), "o-1.tar", dir, archive.DefaultLimits(), c.part)
		if err != nil || info.Newest != noon {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		if got := partTree(t, dir); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestUnpackPartRefuses shows what is no source: the state is as before.
func TestUnpackPartRefuses(t *testing.T) {
	two := tarOf(t, file("a/x", "1"), file("b/y", "2"))
	leaves := tarOf(t, folder("i"), link("i/l", "../../../etc/passwd"))
	twice := tarOf(t, file("i/f", "1"), file("i/f", "2"))
	cut := tarOf(t, folder("i"), file("i/f", strings.Repeat("x", 2000)))
	bomb := tarOf(t, folder("i"), file("i/big", strings.Repeat("x", 5000)))
	outer := tarOf(t, folder("o"), file("o/text.tar", "no archive"), file("o/plain", "no archive"), file("o/two.tar", string(two)), file("o/leaves.tar", string(leaves)),
		file("o/twice.tar", string(twice)), file("o/cut.tar", string(cut[:1600])), file("o/bomb.tar", string(bomb)), link("o/link.tar", "two.tar"), folder("o/folder.tar"),
		file("o/hidden.tar", string(tarOf(t, file("i/a", "a"), hard("i/b", "i/a")))))
	lim := archive.DefaultLimits()
	lim.File = 1 << 20
	for name, c := range map[string]struct {
		part archive.Part
		kind fault.Kind
		says string
	}{
		"not there":                       {archive.Part{Inside: "none.tar"}, fault.Hostile, "is not in it"},
		"in a file":                       {archive.Part{Inside: "plain/none.tar"}, fault.Hostile, ""},
		"a link":                          {archive.Part{Inside: "link.tar"}, fault.Hostile, "is no file"},
		"a folder":                        {archive.Part{Inside: "folder.tar"}, fault.Hostile, "is no file"},
		"no archive":                      {archive.Part{Inside: "text.tar"}, fault.Hostile, "its content says"},
		"no name of an archive":           {archive.Part{Inside: "plain"}, fault.Unsupported, "ends in none of"},
		"two tops":                        {archive.Part{Inside: "two.tar"}, fault.Hostile, "one folder at its top"},
		"a link out":                      {archive.Part{Inside: "leaves.tar"}, fault.Hostile, "leaves the archive's own folder"},
		"twice":                           {archive.Part{Inside: "twice.tar"}, fault.Hostile, "there twice"},
		"twice, left out":                 {archive.Part{Inside: "twice.tar", Without: []string{"f"}}, fault.Hostile, "there twice"},
		"cut off":                         {archive.Part{Inside: "cut.tar"}, fault.Hostile, ""},
		"a way out":                       {archive.Part{Inside: "../x.tar"}, fault.Usage, "no path of a file in it"},
		"an absolute path":                {archive.Part{Inside: "/etc/x.tar"}, fault.Usage, "no path of a file in it"},
		"a bad pattern":                   {archive.Part{Without: []string{"[a"}}, fault.Usage, "leaving out"},
		"a hard link to what is left out": {archive.Part{Inside: "hidden.tar", Without: []string{"a"}}, fault.Hostile, "which is left out"},
	} {
		parent := t.TempDir()
		_, err := archive.UnpackPart(bytes.NewReader(outer), int64(len(outer)), "o.tar", filepath.Join(parent, "x"), lim, c.part)
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
	lim.File = 4000
	for _, p := range []archive.Part{{Inside: "bomb.tar"}, {Inside: "text.tar"}} {
		if _, err := archive.UnpackPart(bytes.NewReader(outer), int64(len(outer)), "o.tar", filepath.Join(t.TempDir(), "x"), lim, p); !archive.IsLimit(err) {
			t.Errorf("%s is past a limit: %v", p.Inside, err)
		}
	}
}
