package pypi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Where things are in the root of a build.
const (
	EnvPrefix    = "build/env"                                 // of the virtual environment, relative to the root
	SitePackages = EnvPrefix + "/lib/python3.11/site-packages" // where wheels go
	envPython    = "/" + EnvPrefix + "/bin/python3"
	basePython   = "/usr/bin/python3.11"
)

// Scheme says where a wheel's files go in a root (the names of the schemes are those
// of Python's sysconfig).
type Scheme struct {
	Prefix string // relative to the root, such as "usr"
	Lib    string // the folder of the version's own modules in Prefix/lib, such as "python3.11"
	Python string // absolute path of the interpreter that scripts begin with
}

// buildScheme is the virtual environment of a build.
var buildScheme = Scheme{Prefix: EnvPrefix, Lib: "python3.11", Python: envPython}

// RuntimeScheme is the one of a runtime that brings the interpreter of a platform,
// such as "cpython-3.11", in /usr.
func RuntimeScheme(interpreter string) (Scheme, error) {
	version, ok := strings.CutPrefix(interpreter, "cpython-")
	if !ok || !regexp.MustCompile(`^3\.[0-9]{1,2}$`).MatchString(version) {
		return Scheme{}, fault.New(fault.Unsupported, "lay a wheel out for %.80q: want an interpreter such as cpython-3.11", interpreter)
	}
	return Scheme{Prefix: "usr", Lib: "python" + version, Python: "/usr/bin/python" + version}, nil
}

func (s Scheme) site() string { return s.Prefix + "/lib/" + s.Lib + "/site-packages" }

// LayerTime is the modification time of all that is in a layer of this package:
// zip cannot hold earlier ones, in any time zone.
var LayerTime = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

// Layer is a file tree that was made, and its digest.
type Layer struct {
	Digest digest.Digest // of the tree as archive.WriteTar writes it
	Bytes  int64
	Files  int
}

// VenvLayer makes the static layer of the virtual environment itself in dir, which
// is the root of a build: what Python's venv module would make, without pip.
func VenvLayer(dir string) error {
	t, err := newTree(dir)
	if err != nil {
		return fmt.Errorf("make the environment's layer: %w", err)
	}
	defer t.root.Close()
	err = func() error {
		cfg := "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\nexecutable = " + basePython + "\n"
		if err := t.file(EnvPrefix+"/pyvenv.cfg", false, strings.NewReader(cfg)); err != nil {
			return err
		}
		if err := t.mkdir(SitePackages); err != nil {
			return err
		}
		if err := t.mkdir(EnvPrefix + "/include/python3.11"); err != nil {
			return err
		}
		for _, l := range [][2]string{{"bin/python", basePython}, {"bin/python3", "python"}, {"bin/python3.11", "python"}, {"lib64", "lib"}} {
			if err := t.link(EnvPrefix+"/"+l[0], l[1]); err != nil {
				return err
			}
		}
		return t.settle()
	}()
	if err != nil {
		return fmt.Errorf("make the environment's layer: %w", err)
	}
	return nil
}

// UnpackWheel lays a wheel out in dir, the root of a build, as an installer would
// in the virtual environment at EnvPrefix (PyPA specification "Recording installed
// projects"; entry points as in "Entry points specification"): INSTALLER says
// hallmark, RECORD lists what was laid out, nothing is compiled. dir must be
// missing or empty; on error it is as it was. The result depends on the wheel's
// bytes alone.
func UnpackWheel(name, dir string) (Layer, error) { return InstallWheel(name, dir, buildScheme) }

// InstallWheel is UnpackWheel for another place than a build's environment.
func InstallWheel(name, dir string, scheme Scheme) (Layer, error) {
	o, err := openWheel(name)
	if err != nil {
		return Layer{}, err
	}
	defer o.close()
	fail := func(err error) (Layer, error) {
		return Layer{}, fmt.Errorf("unpack wheel %q: %w", o.wheel.File, err)
	}
	dir = filepath.Clean(dir)
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return fail(fault.New(fault.Conflict, "the folder to unpack into is not empty"))
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".wheel-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	if err := o.unpackInto(tmp, scheme); err != nil {
		return fail(err)
	}
	var l Layer
	if l.Digest, l.Bytes, l.Files, err = archive.TreeDigest(tmp); err != nil {
		return fail(err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fail(err)
	}
	return l, nil
}

func (o *openedWheel) unpackInto(dir string, scheme Scheme) error {
	t, err := newTree(dir)
	if err != nil {
		return err
	}
	defer t.root.Close()
	w := o.wheel
	for _, f := range w.Files {
		target, script, skip, err := w.target(f.Path, scheme)
		if err != nil {
			return err
		}
		if skip {
			continue
		}
		rc, err := archive.ReadZipEntry(o.index[f.Path])
		if err != nil {
			return err
		}
		var content io.Reader = rc
		if script {
			content, err = withInterpreter(rc, scheme.Python)
		}
		if err == nil {
			err = t.file(target, f.Exec || script, content)
		}
		rc.Close()
		if err != nil {
			return err
		}
	}
	scripts, err := entryScripts(w.Entry, scheme.Python)
	if err != nil {
		return err
	}
	for _, s := range scripts {
		if err := t.file(scheme.Prefix+"/bin/"+s.name, true, strings.NewReader(s.text)); err != nil {
			return err
		}
	}
	info := scheme.site() + "/" + w.DistInfo
	if err := t.file(info+"/INSTALLER", false, strings.NewReader("hallmark\n")); err != nil {
		return err
	}
	if err := t.file(info+"/RECORD", false, bytes.NewReader(t.record(scheme.site(), info+"/RECORD"))); err != nil {
		return err
	}
	return t.settle()
}

// target is where a member of the wheel goes, and whether it is a script. Members
// that the installer makes itself are skipped.
func (w *Wheel) target(p string, scheme Scheme) (target string, script, skip bool, err error) {
	switch p {
	case w.DistInfo + "/RECORD", w.DistInfo + "/RECORD.jws", w.DistInfo + "/RECORD.p7s", w.DistInfo + "/INSTALLER":
		return "", false, true, nil
	}
	data := strings.TrimSuffix(w.DistInfo, ".dist-info") + ".data/"
	rest, ok := strings.CutPrefix(p, data)
	if !ok {
		return scheme.site() + "/" + p, false, false, nil
	}
	kind, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return "", false, false, fault.New(fault.Hostile, "member %q lies beside the schemes of its .data folder", p)
	}
	switch kind {
	case "purelib", "platlib":
		return scheme.site() + "/" + rest, false, false, nil
	case "scripts":
		return scheme.Prefix + "/bin/" + rest, true, false, nil
	case "data":
		return scheme.Prefix + "/" + rest, false, false, nil
	case "headers":
		return scheme.Prefix + "/include/site/" + scheme.Lib + "/" + w.Name + "/" + rest, false, false, nil
	}
	return "", false, false, fault.New(fault.Hostile, "member %q has the unknown scheme %q", p, kind)
}

// withInterpreter replaces a first line of "#!python" or "#!pythonw…".
func withInterpreter(r io.Reader, python string) (io.Reader, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte("#!python")) {
		_, rest, _ := bytes.Cut(b, []byte("\n"))
		b = append([]byte("#!"+python+"\n"), rest...)
	}
	return bytes.NewReader(b), nil
}

// entryScript is a program that an entry point asks for.
type entryScript struct{ name, text string }

var (
	entryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	entryRef  = regexp.MustCompile(`^([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*:\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*(?:\[.*\])?$`)
)

// entryScripts writes the programs for console_scripts and gui_scripts, sorted by
// name.
func entryScripts(ini []byte, python string) ([]entryScript, error) {
	var out []entryScript
	seen := map[string]bool{}
	section := ""
	for n, line := range strings.Split(strings.ReplaceAll(string(ini), "\r\n", "\n"), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#', line[0] == ';':
			continue
		case line[0] == '[':
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			continue
		case section != "console_scripts" && section != "gui_scripts":
			continue
		}
		name, ref, ok := strings.Cut(line, "=")
		name, ref = strings.TrimSpace(name), strings.TrimSpace(ref)
		m := entryRef.FindStringSubmatch(ref)
		if !ok || m == nil || !entryName.MatchString(name) || len(name) > 200 {
			return nil, fault.New(fault.Hostile, "entry_points.txt, line %d: %.120q is no entry point", n+1, line)
		}
		if seen[name] {
			return nil, fault.New(fault.Hostile, "entry_points.txt names the program %q twice", name)
		}
		seen[name] = true
		top, _, _ := strings.Cut(m[2], ".")
		out = append(out, entryScript{name, "#!" + python + "\n" +
			"import sys\n\nfrom " + m[1] + " import " + top + "\n\n" +
			"if __name__ == \"__main__\":\n    sys.exit(" + m[2] + "())\n"})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// tree writes a layer's files, each once.
type tree struct {
	root  *os.Root
	files map[string]recordRow // by path relative to the root
}

func newTree(dir string) (*tree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root, files: map[string]recordRow{}}, nil
}

func (t *tree) mkdir(p string) error { return t.root.MkdirAll(p, 0o755) }

func (t *tree) link(p, target string) error {
	if err := t.mkdir(path.Dir(p)); err != nil {
		return err
	}
	return t.root.Symlink(target, p)
}

// file writes one file; one that is there already is an error, since two members
// then went to one place.
func (t *tree) file(p string, exec bool, r io.Reader) error {
	if _, ok := t.files[p]; ok {
		return fault.New(fault.Hostile, "two members would both become %q", p)
	}
	if err := t.mkdir(path.Dir(p)); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	f, err := t.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), r)
	if err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	t.files[p] = recordRow{hash: "sha256=" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)), size: n}
	return nil
}

// record is RECORD of all that was written, relative to site, with self as its own
// line.
func (t *tree) record(site, self string) []byte {
	var paths []string
	for p := range t.files {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, p := range append(paths, self) {
		rel, err := filepath.Rel(site, p)
		if err != nil {
			rel = p
		}
		row := []string{rel, "", ""}
		if f, ok := t.files[p]; ok {
			row[1], row[2] = f.hash, strconv.FormatInt(f.size, 10)
		}
		_ = w.Write(row) // to memory: cannot fail
	}
	w.Flush()
	return b.Bytes()
}

// settle gives everything its one time and folders their mode.
func (t *tree) settle() error {
	return fs.WalkDir(t.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return archive.SetLinkTime(filepath.Join(t.root.Name(), p), LayerTime)
		}
		if d.IsDir() {
			if err := t.root.Chmod(p, 0o755); err != nil {
				return err
			}
		}
		return t.root.Chtimes(p, LayerTime, LayerTime)
	})
}
