package pypi

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/textproto"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"deps.dev/util/semver"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// Wheel is a built distribution as the binary distribution format has it (PEP 427
// and its successor, the PyPA specification of the same name, version 1.0). All
// that it says was checked: every file's hash, and that the names agree.
type Wheel struct {
	File     string      // base name
	Name     string      // as METADATA has it
	Version  string      // as METADATA has it
	Build    string      // build tag, mostly empty
	Tags     []string    // expanded, "cp311-cp311-linux_x86_64", as WHEEL has them
	Pure     bool        // Root-Is-Purelib
	DistInfo string      // name of the .dist-info folder
	Files    []WheelFile // without folders, in the order of the archive
	Metadata []byte      // METADATA, whole
	Entry    []byte      // entry_points.txt, whole; empty if there is none
}

// WheelFile is one file of a wheel.
type WheelFile struct {
	Path string
	Hash string // as RECORD has it, "sha256=…"; empty for RECORD itself and its signatures
	Size int64  // bytes
	Exec bool   // any execute bit is set
}

// wheelLimits bounds a wheel.
func wheelLimits() archive.Limits {
	lim := archive.DefaultLimits()
	lim.Depth = 32
	return lim
}

// maxWheelText bounds each of METADATA, WHEEL and entry_points.txt, in bytes;
// maxWheelRecord bounds RECORD.
const (
	maxWheelText   = 4 << 20
	maxWheelRecord = 32 << 20
)

// wheelFileName is the form of a wheel's file name: name, version, build tag,
// python tag, abi tag, platform tag.
var wheelFileName = regexp.MustCompile(
	`^([A-Za-z0-9._]+)-([A-Za-z0-9._+!]+)(?:-([0-9][A-Za-z0-9._]*))?-([A-Za-z0-9._]+)-([A-Za-z0-9._]+)-([A-Za-z0-9._]+)\.whl$`)

// OpenWheel reads and checks a wheel. It is refused if a file is missing from
// RECORD or from the archive, if a hash is wrong or weaker than SHA-256, if names,
// versions or tags of file name, folder, METADATA and WHEEL disagree, or if two
// programs could read it in two ways.
func OpenWheel(path string) (*Wheel, error) {
	o, err := openWheel(path)
	if err != nil {
		return nil, err
	}
	o.close()
	return o.wheel, nil
}

// openedWheel is a checked wheel with its archive still open.
type openedWheel struct {
	wheel *Wheel
	zip   *zip.Reader
	file  *os.File
	size  int64
	index map[string]*zip.File
}

func (o *openedWheel) close() { o.file.Close() }

func openWheel(name string) (_ *openedWheel, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open wheel: %w", err)
	}
	o := &openedWheel{file: f, wheel: &Wheel{File: filepath.Base(name)}}
	defer func() {
		if err != nil {
			f.Close()
			err = fmt.Errorf("wheel %q: %w", o.wheel.File, err)
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	o.size = st.Size()
	if err := o.read(f); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *openedWheel) read(r io.ReaderAt) error {
	w := o.wheel
	parts := wheelFileName.FindStringSubmatch(w.File)
	if parts == nil {
		return fault.New(fault.Hostile, "its file name is not name-version-python-abi-platform.whl")
	}
	var err error
	if o.zip, err = archive.OpenZip(r, o.size, wheelLimits()); err != nil {
		return err
	}
	if err := o.list(); err != nil {
		return err
	}
	if err := o.distInfo(); err != nil {
		return err
	}
	meta, err := o.text(w.DistInfo+"/METADATA", maxWheelText)
	if err != nil {
		return err
	}
	w.Metadata = meta
	if err := o.checkNames(parts); err != nil {
		return err
	}
	if err := o.checkWheelFile(parts); err != nil {
		return err
	}
	if _, ok := o.index[w.DistInfo+"/entry_points.txt"]; ok {
		if w.Entry, err = o.text(w.DistInfo+"/entry_points.txt", maxWheelText); err != nil {
			return err
		}
	}
	return o.checkRecord()
}

// list checks the members' names and kinds.
func (o *openedWheel) list() error {
	o.index = map[string]*zip.File{}
	dirs := map[string]bool{}
	for _, f := range o.zip.File {
		clean, err := archive.CleanName(f.Name, wheelLimits().Depth)
		if err != nil {
			return err
		}
		folder := strings.HasSuffix(f.Name, "/")
		switch {
		case clean != strings.TrimSuffix(f.Name, "/") || clean == ".":
			return fault.New(fault.Hostile, "entry %q: its name is not in its plain form", f.Name)
		case strings.Contains(clean, `\`):
			return fault.New(fault.Hostile, "entry %q: its name has a backslash", f.Name)
		case f.NonUTF8 && !isASCII(f.Name):
			return fault.New(fault.Hostile, "entry %q: its name is not declared as UTF-8", f.Name)
		case o.index[clean] != nil:
			return fault.New(fault.Hostile, "entry %q is there twice", f.Name)
		case folder && f.UncompressedSize64 != 0:
			return fault.New(fault.Hostile, "entry %q is a folder with content", f.Name)
		case folder:
			dirs[clean] = true
			continue
		case f.Mode()&(fs.ModeType|fs.ModeSetuid|fs.ModeSetgid) != 0:
			return fault.New(fault.Hostile, "entry %q is no ordinary file", f.Name)
		}
		o.index[clean] = f
		for p := path.Dir(clean); p != "."; p = path.Dir(p) {
			dirs[p] = true
		}
		o.wheel.Files = append(o.wheel.Files, WheelFile{
			Path: clean, Size: int64(f.UncompressedSize64), Exec: f.Mode()&0o111 != 0})
	}
	for d := range dirs {
		if o.index[d] != nil {
			return fault.New(fault.Hostile, "entry %q is a file and a folder", d)
		}
	}
	return nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// distInfo finds the one .dist-info folder.
func (o *openedWheel) distInfo() error {
	for _, f := range o.wheel.Files {
		top, _, nested := strings.Cut(f.Path, "/")
		if !nested || !strings.HasSuffix(top, ".dist-info") || top == o.wheel.DistInfo {
			continue
		}
		if o.wheel.DistInfo != "" {
			return fault.New(fault.Hostile, "it has two .dist-info folders, %q and %q", o.wheel.DistInfo, top)
		}
		o.wheel.DistInfo = top
	}
	if o.wheel.DistInfo == "" {
		return fault.New(fault.Hostile, "it has no .dist-info folder")
	}
	return nil
}

// text reads one whole member of at most limit bytes.
func (o *openedWheel) text(name string, limit int64) ([]byte, error) {
	f := o.index[name]
	if f == nil {
		return nil, fault.New(fault.Hostile, "it has no %s", name)
	}
	if f.UncompressedSize64 > uint64(limit) {
		return nil, fault.New(fault.Hostile, "%s is larger than %d bytes", name, limit)
	}
	rc, err := archive.ReadZipEntry(f)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return nil, fault.New(fault.Hostile, "%s: %w", name, err)
	}
	return b, nil
}

// readOfWheel are the fields that are read here; nobody continues one on another
// line, and readers differ in what that would mean.
var readOfWheel = map[string]bool{"name": true, "version": true, "wheel-version": true, "root-is-purelib": true, "tag": true}

// wheelHeader reads the fields of an RFC 822 style header (METADATA, WHEEL).
func wheelHeader(b []byte) (textproto.MIMEHeader, error) {
	h := textproto.MIMEHeader{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxWheelText)
	last := ""
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" {
			break // the body
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last == "" || readOfWheel[strings.ToLower(last)] {
				return nil, fmt.Errorf("line %.80q continues %q", line, last)
			}
			continue
		}
		if strings.ContainsRune(line, '\r') { // ends a line for Python's reader
			return nil, fmt.Errorf("line %.80q has a carriage return in it", line)
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %.80q is no field", line)
		}
		last = key
		h.Add(key, strings.TrimSpace(value))
	}
	return h, lines.Err()
}

// checkNames holds file name, folder and METADATA against one another.
func (o *openedWheel) checkNames(parts []string) error {
	w := o.wheel
	h, err := wheelHeader(w.Metadata)
	if err != nil {
		return fault.New(fault.Hostile, "METADATA: %w", err)
	}
	if len(h.Values("Name")) != 1 || len(h.Values("Version")) != 1 {
		return fault.New(fault.Hostile, "METADATA should have one Name and one Version")
	}
	w.Name, w.Version, w.Build = h.Get("Name"), h.Get("Version"), parts[3]
	folder, version, ok := strings.Cut(strings.TrimSuffix(w.DistInfo, ".dist-info"), "-")
	if !ok {
		return fault.New(fault.Hostile, "folder %q is not name-version.dist-info", w.DistInfo)
	}
	for _, c := range []struct{ what, a, b string }{
		{"file name and METADATA disagree on the name", foldName(parts[1]), foldName(w.Name)},
		{"folder and METADATA disagree on the name", foldName(folder), foldName(w.Name)},
		{"file name and METADATA disagree on the version", foldVersion(parts[2]), foldVersion(w.Version)},
		{"folder and METADATA disagree on the version", foldVersion(version), foldVersion(w.Version)},
	} {
		if c.a != c.b {
			return fault.New(fault.Hostile, "%s: %q and %q", c.what, c.a, c.b)
		}
	}
	return nil
}

var nameRun = regexp.MustCompile(`[-_.]+`)

// foldName is the name as PEP 503 compares it.
func foldName(s string) string { return strings.ToLower(nameRun.ReplaceAllString(s, "-")) }

// foldVersion is the version as PEP 440 compares it, and with the underscores that
// stand for hyphens in file names.
func foldVersion(s string) string {
	s = strings.ReplaceAll(s, "_", "-")
	if v, err := semver.PyPI.Parse(s); err == nil {
		return v.Canon(true)
	}
	return strings.ToLower(s)
}

// checkWheelFile reads WHEEL and holds its tags against the file name's.
func (o *openedWheel) checkWheelFile(parts []string) error {
	w := o.wheel
	b, err := o.text(w.DistInfo+"/WHEEL", maxWheelText)
	if err != nil {
		return err
	}
	h, err := wheelHeader(b)
	if err != nil {
		return fault.New(fault.Hostile, "WHEEL: %w", err)
	}
	if v := h.Get("Wheel-Version"); !strings.HasPrefix(v, "1.") {
		return fault.New(fault.Unsupported, "WHEEL: version %.20q of the format is not known here", v)
	}
	switch strings.ToLower(h.Get("Root-Is-Purelib")) {
	case "true":
		w.Pure = true
	case "false":
	default:
		return fault.New(fault.Hostile, "WHEEL: Root-Is-Purelib is %.20q", h.Get("Root-Is-Purelib"))
	}
	for _, t := range h.Values("Tag") {
		p := strings.Split(t, "-")
		if len(p) != 3 {
			return fault.New(fault.Hostile, "WHEEL: tag %.80q is not python-abi-platform", t)
		}
		w.Tags = append(w.Tags, expandTags(p[0], p[1], p[2])...)
	}
	sort.Strings(w.Tags)
	want := expandTags(parts[4], parts[5], parts[6])
	sort.Strings(want)
	if !sameTags(w.Tags, want) {
		return fault.New(fault.Hostile, "WHEEL and file name disagree on the tags: %.300q and %.300q", w.Tags, want)
	}
	w.Tags = want
	return nil
}

// expandTags writes out a compressed tag set (PEP 425); at most 1000 tags.
func expandTags(python, abi, platform string) []string {
	var out []string
	for _, p := range strings.Split(python, ".") {
		for _, a := range strings.Split(abi, ".") {
			for _, f := range strings.Split(platform, ".") {
				if len(out) < 1000 {
					out = append(out, p+"-"+a+"-"+f)
				}
			}
		}
	}
	return out
}

// sameTags compares two sorted lists as sets.
func sameTags(a, b []string) bool {
	set := map[string]int{}
	for _, s := range a {
		set[s] |= 1
	}
	for _, s := range b {
		set[s] |= 2
	}
	for _, v := range set {
		if v != 3 {
			return false
		}
	}
	return true
}

// checkRecord reads every file and holds it against RECORD.
func (o *openedWheel) checkRecord() error {
	w := o.wheel
	recordPath := w.DistInfo + "/RECORD"
	b, err := o.text(recordPath, maxWheelRecord)
	if err != nil {
		return err
	}
	rows, err := parseRecord(b)
	if err != nil {
		return fault.New(fault.Hostile, "RECORD: %w", err)
	}
	for p := range rows {
		if o.index[p] == nil {
			return fault.New(fault.Hostile, "RECORD lists %q, which is not in the wheel", p)
		}
	}
	for i := range w.Files {
		f := &w.Files[i]
		row, listed := rows[f.Path]
		exempt := f.Path == recordPath || f.Path == recordPath+".jws" || f.Path == recordPath+".p7s"
		if exempt {
			if row.hash != "" && f.Path == recordPath {
				return fault.New(fault.Hostile, "RECORD gives a hash of itself")
			}
			continue
		}
		if !listed {
			return fault.New(fault.Hostile, "RECORD does not list %q", f.Path)
		}
		if err := o.checkHash(f.Path, row); err != nil {
			return err
		}
		f.Hash = row.hash
	}
	return nil
}

func (o *openedWheel) checkHash(name string, row recordRow) error {
	algorithm, want, _ := strings.Cut(row.hash, "=")
	var h hash.Hash
	switch algorithm {
	case "sha256":
		h = sha256.New()
	case "sha384":
		h = sha512.New384()
	case "sha512":
		h = sha512.New()
	default:
		return fault.New(fault.Hostile, "RECORD gives no hash of %q that counts (%.20q)", name, algorithm)
	}
	rc, err := archive.ReadZipEntry(o.index[name])
	if err != nil {
		return err
	}
	defer rc.Close()
	n, err := io.Copy(h, rc)
	if err != nil {
		return fault.New(fault.Hostile, "%q: %w", name, err)
	}
	if got := base64.RawURLEncoding.EncodeToString(h.Sum(nil)); got != strings.TrimRight(want, "=") {
		return fault.New(fault.Hostile, "%q is not the file that RECORD lists: want %s=%.90s, got %s", name, algorithm, want, got)
	}
	if row.size >= 0 && row.size != n {
		return fault.New(fault.Hostile, "%q has %d bytes, RECORD says %d", name, n, row.size)
	}
	return nil
}

// recordRow is a line of RECORD; size is -1 if it is not given.
type recordRow struct {
	hash string
	size int64
}

// parseRecord reads RECORD: path, hash, size, as CSV. Paths are checked, and may
// not come twice.
func parseRecord(b []byte) (map[string]recordRow, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord = 3
	r.ReuseRecord = true
	rows := map[string]recordRow{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		p, err := archive.CleanName(strings.Clone(row[0]), wheelLimits().Depth)
		if err != nil {
			return nil, err
		}
		if p != row[0] {
			return nil, fmt.Errorf("path %.80q is not in its plain form", row[0])
		}
		if _, ok := rows[p]; ok {
			return nil, fmt.Errorf("path %.80q is there twice", p)
		}
		size := int64(-1)
		if row[2] != "" {
			if size, err = strconv.ParseInt(row[2], 10, 64); err != nil || size < 0 {
				return nil, fmt.Errorf("path %.80q: size %.20q is no number", p, row[2])
			}
		}
		rows[p] = recordRow{hash: strings.Clone(row[1]), size: size}
	}
}
