package pypi

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

func TestDiagnose(t *testing.T) {
	tool, lib, build := record.FailMissingTool, record.FailMissingLib, record.FailBuild
	for log, want := range map[string]struct {
		class   record.FailureClass
		missing string
	}{
		"error: can't find Rust compiler":                                                       {tool, "rustc"},
		"Rust not found, installing into a temporary directory":                                 {tool, "rustc"},
		"Cargo, the Rust package manager, is not installed or is not on PATH.":                  {tool, "cargo"},
		"FileNotFoundError: [Errno 2] No such file or directory: 'cmake'":                       {tool, "cmake"},
		"error: command 'swig' failed: No such file or directory":                               {tool, "swig"},
		"/bin/sh: 1: gfortran: not found":                                                       {tool, "gfortran"},
		"bash: line 3: go: command not found":                                                   {tool, "go"},
		"env: 'node': No such file or directory":                                                {tool, "node"},
		"make[2]: nasm: No such file or directory":                                              {tool, "nasm"},
		"Error: pg_config executable not found.":                                                {tool, "pg_config"},
		"a.c:1:10: fatal error: libxml/parser.h: No such file or directory":                     {lib, "libxml/parser.h"},
		"/usr/bin/ld: cannot find -lfoo: No such file or directory":                             {lib, "foo"},
		"No package 'cairo' found":                                                              {lib, "cairo"},
		"Package libffi was not found in the pkg-config search path.":                           {lib, "libffi"},
		"Package 'zlib', required by 'virtual:world', not found":                                {lib, "zlib"},
		`meson.build:1:0: ERROR: Dependency "openblas" not found, tried pkgconfig`:              {lib, "openblas"},
		"ModuleNotFoundError: No module named 'numpy.core'":                                     {build, "numpy.core"},
		"ValueError: x\nsomething else":                                                         {build, ""},
		"":                                                                                      {build, ""},
		"FileNotFoundError: [Errno 2] No such file or directory: '/etc/x'":                      {build, ""},
		"\x1b[31mfatal error: \x1b[1mffi.h\x1b[0m: No such file or directory":                   {lib, "ffi.h"},
		"fatal error: ffi.h: No such file or directory\r":                                       {lib, "ffi.h"},
		"ModuleNotFoundError: No module named 'x'\nfatal error: a.h: No such file or directory": {lib, "a.h"},
	} {
		f := Diagnose([]byte(log), 1)
		if f.Class != want.class || f.Missing != want.missing || f.Advice == "" || !strings.HasSuffix(f.Message, ".") || want.missing != "" && !strings.Contains(f.Message, want.missing) {
			t.Errorf("%q: %+v", log, f)
		}
	}
	if f := Diagnose([]byte("all well\nValueError: bad value...\nbye"), 7); f.Message != "The build ended with exit code 7: ValueError: bad value." {
		t.Error(f.Message)
	}
	if f := Diagnose(nil, 7); f.Message != "The build ended with exit code 7: it said nothing." {
		t.Error(f.Message)
	}
}

// clean tells whether a text can be shown on a terminal.
func clean(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return false
		}
	}
	return utf8.ValidString(s)
}

func checkFailure(t *testing.T, f *record.Failure) {
	t.Helper()
	all := append([]string{f.Message, f.Missing, f.Advice}, f.Log...)
	for _, s := range all {
		if !clean(s) || len(s) > 2500 {
			t.Errorf("cannot be shown: %.300q", s)
		}
	}
	if len(f.Log) > 20 {
		t.Errorf("%d lines", len(f.Log))
	}
}

func TestDiagnoseDrawsOnNoTerminal(t *testing.T) {
	for _, s := range []string{"\x1b]0;title\x07error", "\x1b[2J\x1b[1;31merror\x1b[0m", "\u202eerror\u202c", "\x9b31merror", "\u009b31merror", "err\x00or", "\xff\xfe error", "a\rerror", "\x1b", "\x1b]8;;http://x", "\u2066x\u2069"} {
		checkFailure(t, Diagnose([]byte(s), 1))
	}
	if got := printable("\x1b[1mred\x1b[0m\tx\u202e  "); got != "red x" {
		t.Errorf("%q", got)
	}
}

func TestDiagnoseHugeLogs(t *testing.T) {
	for name, log := range map[string][]byte{
		"one line": bytes.Repeat([]byte("error "), 8<<20/6),
		"lines":    bytes.Repeat([]byte("error: x\n"), 8<<20/9),
		"escapes":  bytes.Repeat([]byte("\x1b]0;"), 8<<20/4),
		"spaces":   bytes.Repeat([]byte("Package a required by "), 8<<20/22),
		"empty":    bytes.Repeat([]byte("\n"), 8<<20),
	} {
		one := time.Now()
		checkFailure(t, Diagnose(log, 1))
		if d := time.Since(one); d > 5*time.Second {
			t.Errorf("%s: %s", name, d)
		}
	}
	// What stands at the end is what counts.
	log := append(bytes.Repeat([]byte("all well\n"), 1<<20), "fatal error: a.h: No such file or directory\n"...)
	if f := Diagnose(log, 1); f.Missing != "a.h" || len(f.Log) > 20 {
		t.Errorf("%+v", f)
	}
	// The lines that name an error are shown beside the last ones.
	log = []byte("the error: here\n" + strings.Repeat("chatter\n", 100))
	if f := Diagnose(log, 1); f.Log[0] != "the error: here" || len(f.Log) != 4 {
		t.Errorf("%q", f.Log)
	}
}

func FuzzDiagnose(f *testing.F) {
	f.Add([]byte("fatal error: a\x1b[2J.h: No such file or directory"), 1)
	f.Add([]byte("sh: 1: x: not found\n\u202e"), 127)
	logs, err := filepath.Glob("testdata/logs/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 1)
	}
	f.Fuzz(func(t *testing.T, log []byte, exit int) { checkFailure(t, Diagnose(log, exit)) })
}

func FuzzParseQuery(f *testing.F) {
	f.Add([]byte(`{"requires":["a","b>=1"]}`))
	f.Add([]byte(`{"requires":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		reqs, err := parseQuery(b)
		if err != nil {
			return
		}
		if len(reqs) > maxRequires {
			t.Errorf("%d requirements", len(reqs))
		}
		for i, r := range reqs {
			if i > 0 && reqs[i-1] >= r || strings.TrimSpace(r) != r {
				t.Errorf("not sorted, twice or not trimmed: %q", reqs)
			}
		}
	})
}

func FuzzInferRecipe(f *testing.F) {
	for _, s := range []string{"", "[build-system]\nrequires=['a']\nbuild-backend='b:c'\nbackend-path=['.','x/y']", "[build-system]", "build-system=3", "[build-system]\nrequires=[]\nbackend-path=['\\u0000']"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "pyproject.toml"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := inferRecipe(dir)
		if err != nil {
			if !fault.Is(err, fault.Hostile) {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		for _, p := range r.BackendPath {
			if !filepath.IsLocal(p) || filepath.Clean(p) != p {
				t.Errorf("backend-path %q", p)
			}
		}
		if strings.ContainsAny(r.Backend, " \x00\n/;'\"") || len(r.Requires) > maxRequires || r.Kind != "pep517" {
			t.Errorf("%+v", r)
		}
	})
}

func TestInferRecipeReadsNoLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "pyproject.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := inferRecipe(dir); !fault.Is(err, fault.Hostile) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pyproject.toml"), make([]byte, maxPyproject+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := inferRecipe(dir); !fault.Is(err, fault.Hostile) || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}
