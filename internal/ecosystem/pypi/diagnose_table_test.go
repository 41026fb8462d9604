package pypi

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hallmark/internal/record"
)

// What the message of a tool means, in words: the sentence names what is missing
// and, where it is known, the library it belongs to.
func TestDiagnoseNamesWhatIsMissing(t *testing.T) {
	for log, want := range map[string]string{
		"src/c/x.c:15:10: fatal error: ffi.h: No such file or directory":                                                                          "the header ffi.h (library libffi, pkg-config libffi), which",
		"a.c:1:10: fatal error: postgresql/libpq-fe.h: No such file or directory":                                                                 "the header postgresql/libpq-fe.h (library PostgreSQL's client, pkg-config libpq), which",
		"a.c:1:10: fatal error: openssl/ssl.h: No such file or directory":                                                                         "(library OpenSSL, pkg-config openssl)",
		"a.c:1:10: fatal error: own/thing.h: No such file or directory":                                                                           "the header own/thing.h, which",
		"a.c:1:10: fatal error: 'yaml.h' file not found":                                                                                          "the header yaml.h (library libyaml, pkg-config yaml-0.1)",
		"a.c:1:10: fatal error: numpy/arrayobject.h: No such file or directory":                                                                   "NumPy's header numpy/arrayobject.h, but none",
		"a.c:1:10: fatal error: longintrepr.h: No such file or directory":                                                                         "an older Python",
		"/usr/bin/ld: cannot find -lpq: No such file or directory":                                                                                "the library pq (PostgreSQL's client, pkg-config libpq)",
		"OSError: libhdf5.so: cannot open shared object file: No such file or directory":                                                          "the library libhdf5 (HDF5, pkg-config hdf5)",
		"Package libxml-2.0 was not found in the pkg-config search path.":                                                                         "the library libxml-2.0 (libxml2, pkg-config libxml-2.0)",
		"Package 'own-thing', required by 'virtual:world', not found":                                                                             "the library own-thing (pkg-config own-thing)",
		`../meson.build:31:12: ERROR: Dependency "cairo" not found, tried pkgconfig`:                                                              "the library cairo (pkg-config cairo)",
		`../scipy/meson.build:216:9: ERROR: Dependency "OpenBLAS" not found, tried pkgconfig and cmake`:                                           "the library OpenBLAS (pkg-config openblas)",
		"../meson.build:3:0: ERROR: Unknown compiler(s): [['ifort'], ['ifx'], ['gfortran'], ['flang']]":                                           "the program gfortran (a Fortran compiler)",
		"../meson.build:3:0: ERROR: Unknown compiler(s): [['rustc']]":                                                                             "the program rustc (the Rust compiler)",
		"../meson.build:12:2: ERROR: Program 'swig' not found or not executable":                                                                  "the program swig (the SWIG interface generator)",
		"../meson.build:12:2: ERROR: C shared or static library 'udunits2' not found":                                                             "the library udunits2, which",
		"../meson.build:1:0: ERROR: Include dir include does not exist.":                                                                          "Meson gave up: Include dir include does not exist.",
		"CMake Error at CMakeLists.txt:3 (find_package):\n  Could NOT find JPEG (missing: JPEG_LIBRARY)":                                          "the library JPEG (libjpeg, pkg-config libjpeg)",
		"CMake Error at F.cmake:230 (message):\n  Could NOT find Python (missing: Python_NumPy_INCLUDE_DIRS NumPy) (found\n  version \"3.11.2\")": "needs of Python: Could NOT find Python (missing: Python_NumPy_INCLUDE_DIRS NumPy) (found.",
		"gmake: Makefile: No such file or directory":                                                                                              "ended with exit code",
		"make: ./nosuch: No such file or directory":                                                                                               "ended with exit code",
		"make: yasm: No such file or directory":                                                                                                   "the program yasm (an assembler)",
		"make[1]: makefile: No such file or directory":                                                                                            "ended with exit code",
		"Traceback (most recent call last):\n  File \"setup.py\", line 3, in <module>\n    open('requirements.txt')\nFileNotFoundError: [Errno 2] No such file or directory: 'requirements.txt'":                                                           "looks for the file requirements.txt, which its source",
		"Traceback (most recent call last):\n  File \"/usr/lib/python3.11/subprocess.py\", line 1917, in _execute_child\n    raise child_exception_type(errno_num, err_msg, err_filename)\nFileNotFoundError: [Errno 2] No such file or directory: 'swig'": "the program swig (the SWIG",
		"CMake Error at x:9 (find_package):\n  Could not find a package configuration file provided by\n  X":                                                                                                                                               "CMake gave up at x:9: Could not find a package configuration file provided by X.",
		"CMake Error at a.cmake:9 (message):\n  This compiler is too old\n-- Configuring incomplete":                                                                                                                                                       "CMake gave up at a.cmake:9: This compiler is too old.",
		"CMake Error: CMake was unable to find a build program corresponding to \"Ninja\".":                                                                                                                                                                "the program Ninja",
		"configure: error: Package requirements (gmp >= 5) were not met:":                                                                                                                                                                                  "the library gmp (pkg-config gmp)",
		"configure: error: libcurl not found":                       "the library libcurl (pkg-config libcurl)",
		"configure: error: no acceptable C compiler found in $PATH": "The configure script gave up: no acceptable C compiler found in $PATH.",
		"Exception: Can not find valid pkg-config name.\nCommand 'pkg-config --exists mariadb' returned non-zero exit status 1.":                                                      "the library mariadb (MySQL's or MariaDB's client, pkg-config mariadb)",
		"Command 'pkg-config --exists mysqlclient' returned non-zero exit status 1.\nTrying\nCommand 'pkg-config --exists mariadb' returned non-zero exit status 1.\nException: none": "the library mysqlclient (MySQL's or MariaDB's client, pkg-config mysqlclient, or mariadb), which",
		"Could not run curl-config: [Errno 2] No such file or directory: 'curl-config'":                                                                                               "the program curl-config (of libcurl, pkg-config libcurl)",
		"Error: Please make sure the libxml2 and libxslt development packages are installed.":                                                                                         "the library libxml2 (pkg-config libxml-2.0)",
		"The headers or library files could not be found for jpeg,":                                                                                                                   "the library jpeg (libjpeg, pkg-config libjpeg)",
		"proj executable not found. Please set the PROJ_DIR variable.":                                                                                                                "the program proj (of PROJ, pkg-config proj)",
		"error: can't find Rust compiler":   "the program rustc (the Rust compiler)",
		"/bin/sh: 1: autoreconf: not found": "the program autoreconf (GNU Autoconf, Automake and Libtool)",
		"a.c:3:5: error: unknown type name 'foo_t'\na.c:9:5: error: expected ';'\nerror: command '/usr/bin/gcc' failed with exit code 1": "The compiler refused a.c, line 3: unknown type name 'foo_t'.",
		"x.c:3: error: 'PyTypeObject' has no member named 'tp_print'":                                                                    "The compiler refused",
		"/usr/bin/ld: a.o: in function `x':\na.c:(.text+0x1): undefined reference to `cblas_dgemm'":                                      "nothing that defines cblas_dgemm",
		"g++: fatal error: Killed signal terminated program cc1plus":                                                                     "ran out of memory",
		"error: could not write to 'x': No space left on device":                                                                         "ran out of disk",
		"RuntimeError: can't start new thread":                                                                                           "could start no more processes",
		"error: failed to get `serde` as a dependency of package `x v0.1.0`":                                                             "Rust's cargo gave up: failed to get `serde`",
	} {
		f := Diagnose([]byte(log), 1)
		if !strings.Contains(f.Message, want) || !strings.HasSuffix(f.Message, ".") || f.Advice == "" || len(f.Log) == 0 {
			t.Errorf("%s\n  said %q (%s, missing %q)\n  want %q", log, f.Message, f.Class, f.Missing, want)
		}
	}
}

// What stands in the log of a build that goes well, too, explains nothing where
// something stronger stands.
func TestDiagnoseStrongAndWeak(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"a trial, then the cause":      {"/bin/sh: 1: pkg-config: not found\nPackage 'x' not found\na.c:1:1: fatal error: ffi.h: No such file or directory\nerror: command 'gcc' failed with exit code 1", "ffi.h"},
		"a trial, then a mistake":      {"t.c:1:1: fatal error: maybe.h: No such file or directory\nno maybe.h, going on\nTraceback (most recent call last):\nAttributeError: module 'ast' has no attribute 'Str'", "AttributeError: module 'ast'"},
		"a lookup, then a mistake":     {"-- Could NOT find Doxygen (missing: X)\nTraceback (most recent call last):\nKeyError: 'a'", "KeyError: 'a'"},
		"a lookup, then an error":      {"-- Could NOT find Doxygen (missing: X)\nx.cc:5:2: error: no matching function\nninja: build stopped: subcommand failed.", "refused x.cc, line 5"},
		"the last exception":           {"sh: 1: git: not found\nTraceback (most recent call last):\nModuleNotFoundError: No module named 'pkg_resources'", "module pkg_resources"},
		"an exception that was caught": {"ModuleNotFoundError: No module named 'fast'\nnow without\na.c:1:1: fatal error: zmq.h: No such file or directory\nsubprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.", "zmq.h"},
		"only a consequence":           {"Traceback (most recent call last):\nsubprocess.CalledProcessError: Command '['make']' returned non-zero exit status 2.", "CalledProcessError"},
		"a bar drawn over and over":    {"10%\r20%\rerror: the disk is round", "the disk is round"},
		"a command is no error":        {"gcc -Werror=missing-x -c error.c\ncopying a/errors.py -> b", "ended with exit code"},
	} {
		if f := Diagnose([]byte(c.log), 1); !strings.Contains(f.Message, c.want) {
			t.Errorf("%s: %q, want %q", name, f.Message, c.want)
		}
	}
}

func TestLibraries(t *testing.T) {
	for h, want := range map[string]string{"ffi.h": "libffi", "libxml/parser.h": "libxml2", "postgresql/libpq-fe.h": "PostgreSQL's client", "sys/acl.h": "libacl", "stdio.h": "", "sys/none.h": ""} {
		got := ""
		if l := systemLibraries.ofHeader(h); l != nil {
			got = l.Name
		}
		if got != want {
			t.Errorf("header %s is of %q, want %q", h, got, want)
		}
	}
	for n, want := range map[string]string{"libxml-2.0": "libxml2", "JPEG": "libjpeg", "libpq": "PostgreSQL's client", "HDF5": "HDF5", "OpenSSL": "OpenSSL", "nothing": ""} {
		got := ""
		if l := systemLibraries.ofName(n); l != nil {
			got = l.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", n, got, want)
		}
	}
	// Each library can be found by each of its names, and has one.
	for _, l := range systemLibraries.folder {
		if l.Name == "" {
			t.Error("a library without a name")
		}
	}
	if f := Diagnose([]byte("fatal error: ffi.h: No such file or directory"), 1); f.Class != record.FailMissingLib || f.Missing != "ffi.h" {
		t.Errorf("%+v", f)
	}
}

// TestDiagnoseRealLogs reads what real builds wrote, trimmed and without the
// addresses in it. Above the line stands what has to be made of it.
func TestDiagnoseRealLogs(t *testing.T) {
	files, err := filepath.Glob("testdata/logs/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d logs, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, log, ok := bytes.Cut(b, []byte("---\n"))
		if !ok {
			t.Fatalf("%s has no line of dashes", name)
		}
		f := Diagnose(log, 1)
		checkFailure(t, f)
		for _, l := range strings.Split(strings.TrimSpace(string(head)), "\n") {
			what, want, _ := strings.Cut(l, ": ")
			switch {
			case what == "class" && string(f.Class) == want, what == "says" && f.Message == want, what == "shows" && slices.Contains(f.Log, want):
			default:
				t.Errorf("%s: want %s %q, got %s, %q\n  %s", filepath.Base(name), what, want, f.Class, f.Message, strings.Join(f.Log, "\n  "))
			}
		}
	}
}

// TestSignsMissNothing: what look leaves untried has no symptom.
func TestSignsMissNothing(t *testing.T) {
	files, err := filepath.Glob("testdata/logs/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(string(b), "\n") {
			if signed(l) {
				continue
			}
			for _, s := range symptoms() {
				if s.re.MatchString(l) {
					t.Errorf("%s: %q matches %s and carries no sign", filepath.Base(name), l, s.re)
				}
			}
		}
	}
}
