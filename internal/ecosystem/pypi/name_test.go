package pypi

import (
	"strings"
	"testing"
)

func TestNormalizeName(t *testing.T) {
	for in, want := range map[string]string{"Flask": "flask", "ruamel.yaml": "ruamel-yaml", "a__b-.-c": "a-b-c"} {
		if got := NormalizeName(in); got != want {
			t.Errorf("%s: got %s", in, got)
		}
	}
}

func TestWheelName(t *testing.T) {
	w, err := ParseWheelName("MarkupSafe-3.0.4-1x-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
	if err != nil || w.Name != "markupsafe" || w.Version.String() != "3.0.4" || w.Build != "1x" || len(w.Tags) != 2 || w.Tags[1].Platform != "manylinux2014_x86_64" {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err := ParseWheelName("foo_bar-1.0_1-py2.py3-none-any.whl"); err != nil || w.Version.String() != "1.0.post1" || len(w.Tags) != 2 {
		t.Errorf("%+v, %v", w, err)
	}
	for _, bad := range []string{"", "a.whl", "a-1.whl", "a-1-py3-none.whl", "a-x-py3-none-any.whl", "a-1-b-py3-none-any.whl", "a-1-1-1-py3-none-any.whl",
		"a-1-py3--any.whl", "../a-1-py3-none-any.whl", "a-1-py3-none-any.zip", "a b-1-py3-none-any.whl", "a-1-py3..py2-none-any.whl",
		"a-1-" + strings.Repeat("a.", 60) + "a-" + strings.Repeat("b.", 9) + "b-any.whl"} {
		if w, err := ParseWheelName(bad); err == nil {
			t.Errorf("%q reads as %+v", bad, w)
		}
	}
}

func TestSdistName(t *testing.T) {
	for _, c := range []struct{ file, name, version string }{
		{"flask-3.0.0.tar.gz", "flask", "3.0.0"}, {"Flask-0.1.zip", "flask", "0.1"}, {"zope.interface-5.0.tar.gz", "zope-interface", "5.0"},
		{"python-dateutil-2.8.2.tar.gz", "python-dateutil", "2.8.2"}, {"python_dateutil-2.9.0.post0.tar.gz", "python-dateutil", "2.9.0.post0"},
		{"foo-1.0-1.tar.bz2", "foo", "1.0.post1"}, {"foo-2-3.tar.gz", "foo-2", "3"},
	} {
		s, err := ParseSdistName(c.file, c.name)
		if err != nil || s.Version.String() != c.version {
			t.Errorf("%s: %+v, %v", c.file, s, err)
		}
	}
	for _, c := range [][2]string{{"flask-3.0.0.exe", "flask"}, {"flask-3.0.0.tar.gz", "flas"}, {"flask.tar.gz", "flask"}, {"flask-x.tar.gz", "flask"},
		{"flask-1.tar.gz", "flask-sqlalchemy"}, {"flask-sqlalchemy-1.tar.gz", "flask"}, {"a/flask-1.tar.gz", "flask"}} {
		if s, err := ParseSdistName(c[0], c[1]); err == nil {
			t.Errorf("%s of %s reads as %+v", c[0], c[1], s)
		}
	}
}

func FuzzFileNames(f *testing.F) {
	f.Add("a-1-py3-none-any.whl", "a")
	f.Add("a-b-1.0-1.tar.gz", "a-b")
	f.Fuzz(func(t *testing.T, file, name string) {
		if w, err := ParseWheelName(file); err == nil && (len(w.Tags) == 0 || len(w.Tags) > maxWheelTags || w.Version.IsZero()) {
			t.Fatalf("%q: %+v", file, w)
		}
		if s, err := ParseSdistName(file, name); err == nil && (s.Version.IsZero() || !strings.HasSuffix(file, s.Extension)) {
			t.Fatalf("%q: %+v", file, s)
		}
	})
}
