package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/ecosystem/pypi"
)

// sdist is a source archive that a test writes. Without a pyproject.toml among
// its files it has a backend of its own, in the tree, that makes a wheel with
// nothing but the standard library: Files of the package, and what Embed says.
type sdist struct {
	Name, Version string
	Requires      []string // of the result, at run time
	// Embed is Python that computes the content of NAME/data.txt into value while
	// the wheel is built; the source's folder is the current one.
	Embed string
	// Wheel is Python that may change names and contents: files (a dict of the
	// wheel's members), name, version, and the list also of further files to leave.
	Wheel string
	Build []string          // requirements of its build
	Hooks string            // Python behind the backend's own
	Files map[string]string // further files of the source
	// Raw is the archive instead; Suffix is what its name ends in, .tar.gz if empty.
	Raw    []byte
	Suffix string
	// Size and SHA256 are what the index says of it instead of the truth.
	Size   int
	SHA256 string
	// Upload is when the index says it came, 2026-01-01 if empty.
	Upload string
}

// module is the name that the package is imported by.
func (s sdist) module() string { return strings.ReplaceAll(s.Name, "-", "_") }

// file is the archive's name (PEP 625).
func (s sdist) file() string { return s.module() + "-" + s.Version + cmp.Or(s.Suffix, ".tar.gz") }

// backend is the build backend in the tree of an sdist.
const backend = `
import os, zipfile

def build_wheel(folder, settings=None, metadata=None):
    name, version, module, requires = %q, %q, %q, %s
    value = "nothing"
    also = []
%s
    files = {module + "/__init__.py": "", module + "/data.txt": str(value) + "\n"}
%s
    info = "%%s-%%s.dist-info" %% (name.replace("-", "_"), version)
    files[info + "/METADATA"] = "Metadata-Version: 2.2\nName: %%s\nVersion: %%s\n" %% (name, version) + "".join("Requires-Dist: %%s\n" %% r for r in requires)
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\nGenerator: e2e\nRoot-Is-Purelib: true\nTag: %%s\n" %% tag()
    files[info + "/RECORD"] = record(files, info)
    wheel = "%%s-%%s-%%s.whl" %% (name.replace("-", "_"), version, tag())
    for w in [wheel] + also:
        with zipfile.ZipFile(os.path.join(folder, w), "w") as z:
            for path in sorted(files):
                data = files[path]
                z.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    return wheel

def tag():
    return "py3-none-any"

def record(files, info):
    import base64, hashlib
    lines = []
    for path in sorted(files):
        data = files[path]
        data = data.encode() if isinstance(data, str) else data
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append("%%s,sha256=%%s,%%d\n" %% (path, digest, len(data)))
    return "".join(lines) + info + "/RECORD,,\n"
`

// archive writes the source archive.
func (s sdist) archive(t *testing.T) []byte {
	t.Helper()
	if s.Raw != nil {
		return s.Raw
	}
	files := map[string]string{}
	for p, b := range s.Files {
		files[p] = b
	}
	if _, ok := files["PKG-INFO"]; !ok {
		info := fmt.Sprintf("Metadata-Version: 2.2\nName: %s\nVersion: %s\n", s.Name, s.Version)
		for _, r := range s.Requires {
			info += "Requires-Dist: " + r + "\n"
		}
		files["PKG-INFO"] = info
	}
	if _, legacy := files["setup.py"]; files["pyproject.toml"] == "" && !legacy {
		requires, err := json.Marshal(append([]string{}, s.Requires...))
		if err != nil {
			t.Fatal(err)
		}
		build, err := json.Marshal(append([]string{}, s.Build...))
		if err != nil {
			t.Fatal(err)
		}
		files["pyproject.toml"] = "[build-system]\nrequires = " + string(build) + "\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n"
		files["backend.py"] = fmt.Sprintf(backend, s.Name, s.Version, s.module(), requires, indent(s.Embed), indent(s.Wheel)) + s.Hooks
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, p := range slices.Sorted(mapKeys(files)) {
		h := &tar.Header{Name: s.module() + "-" + s.Version + "/" + p, Mode: 0o644, Size: int64(len(files[p])), ModTime: time.Unix(1700000000, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[p])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// indent puts Python into a function's body.
func indent(code string) string {
	var out []string
	for _, l := range strings.Split(strings.Trim(code, "\n"), "\n") {
		out = append(out, "    "+l)
	}
	return strings.Join(out, "\n")
}

// index serves source archives as a simple index on loopback and gives the
// environment that puts it in front of the machine's own: pip's own settings,
// where the first index that owns a name wins.
func index(t *testing.T, all ...sdist) []string {
	t.Helper()
	type file struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
		Size     int               `json:"size"`
		Upload   string            `json:"upload-time"`
	}
	pages, bytes := map[string][]file{}, map[string][]byte{}
	for _, s := range all {
		b := s.archive(t)
		sum := sha256.Sum256(b)
		bytes[s.file()] = b
		pages[s.Name] = append(pages[s.Name], file{s.file(), "/files/" + s.file(),
			map[string]string{"sha256": cmp.Or(s.SHA256, hex.EncodeToString(sum[:]))}, cmp.Or(s.Size, len(b)), cmp.Or(s.Upload, "2026-01-01T00:00:00Z")})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simple/{name}/", func(w http.ResponseWriter, r *http.Request) {
		files, ok := pages[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		_ = json.NewEncoder(w).Encode(map[string]any{"meta": map[string]string{"api-version": "1.1"}, "name": r.PathValue("name"), "files": files})
	})
	mux.HandleFunc("GET /files/{name}", func(w http.ResponseWriter, r *http.Request) {
		b, ok := bytes[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	machine, err := pypi.MachineConfig(context.Background())
	if err != nil {
		t.Fatalf("the machine's pip cannot be asked for its index: %v", err)
	}
	var others []string
	for _, ix := range machine.Indexes {
		others = append(others, ix.URL.String())
	}
	return []string{"PIP_INDEX_URL=" + ts.URL + "/simple/", "PIP_EXTRA_INDEX_URL=" + strings.Join(others, " ")}
}
