package pypi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

var platformTag = regexp.MustCompile(`^[a-z0-9_]+$`)

// Retag writes the wheel anew in dir under the platform tag tag, such as
// "manylinux_2_17_x86_64": in its file name, in WHEEL's Tag lines, and in RECORD.
// Python and abi tags stay. Every other byte of the archive stays as it was, so
// that a difference between two builds is one after this too; the two changed
// members are stored without compression, so that the result depends on nothing
// but the wheel, with a digest of how they were packed before. A wheel that has the tag already is copied byte for byte.
func Retag(name, dir, tag string) (newPath string, err error) {
	o, err := openWheel(name)
	if err != nil {
		return "", err
	}
	defer o.close()
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("name wheel %q anew for %q: %w", o.wheel.File, tag, err)
	}
	if !platformTag.MatchString(tag) || len(tag) > 100 {
		return fail(fault.New(fault.Usage, "this is no platform tag"))
	}
	parts := wheelFileName.FindStringSubmatch(o.wheel.File)
	if parts[6] == "any" {
		return fail(fault.New(fault.Usage, "it is for every platform"))
	}
	newName := strings.TrimSuffix(o.wheel.File, "-"+parts[6]+".whl") + "-" + tag + ".whl"
	newPath = filepath.Join(dir, newName)
	layout, err := archive.ReadZipLayout(o.file, o.size)
	if err != nil {
		return fail(err)
	}
	changed, err := o.retagged(tag)
	if err != nil {
		return fail(err)
	}
	out, err := os.OpenFile(newPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fail(err)
	}
	err = rewriteZip(out, o.file, layout, changed)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		_, err = OpenWheel(newPath) // what we name anew must be a right wheel still
	}
	if err != nil {
		os.Remove(newPath)
		return fail(err)
	}
	return newPath, nil
}

// retagged gives the new content of the members that change; none if the wheel
// has the tag already.
func (o *openedWheel) retagged(tag string) (map[string]replacement, error) {
	wheelPath, recordPath := o.wheel.DistInfo+"/WHEEL", o.wheel.DistInfo+"/RECORD"
	old, err := o.text(wheelPath, maxWheelText)
	if err != nil {
		return nil, err
	}
	fresh := retagLines(old, tag)
	if bytes.Equal(old, fresh) {
		return nil, nil
	}
	record, err := o.text(recordPath, maxWheelRecord)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fresh)
	row := fmt.Sprintf("%s,sha256=%s,%d", wheelPath, base64.RawURLEncoding.EncodeToString(sum[:]), len(fresh))
	lines := bytes.SplitAfter(record, []byte("\n"))
	found := 0
	for i, l := range lines {
		text := bytes.TrimRight(l, "\r\n")
		if bytes.HasPrefix(text, []byte(wheelPath+",")) || bytes.HasPrefix(text, []byte(`"`+wheelPath+`",`)) {
			lines[i] = append([]byte(row), l[len(text):]...)
			found++
		}
	}
	if found != 1 {
		return nil, fault.New(fault.Hostile, "RECORD has %d lines for %s", found, wheelPath)
	}
	for _, f := range o.wheel.Files {
		if f.Path == recordPath+".jws" || f.Path == recordPath+".p7s" {
			return nil, fault.New(fault.Unsupported, "it carries a signature of its own, %s, which would not hold any more", f.Path)
		}
	}
	return map[string]replacement{wheelPath: {old, fresh}, recordPath: {record, bytes.Join(lines, nil)}}, nil
}

// retagLines replaces the platform in WHEEL's Tag lines; lines that become equal
// are one.
func retagLines(b []byte, tag string) []byte {
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, l := range bytes.SplitAfter(b, []byte("\n")) {
		text := string(bytes.TrimRight(l, "\r\n"))
		key, value, ok := strings.Cut(text, ":")
		if !ok || !strings.EqualFold(key, "Tag") {
			out.Write(l)
			continue
		}
		p := strings.Split(strings.TrimSpace(value), "-")
		line := key + ": " + strings.Join(append(p[:len(p)-1:len(p)-1], tag), "-")
		if strings.TrimSpace(value) == strings.TrimSpace(line[len(key)+1:]) {
			line = text // as it was, spaces included
		}
		if !seen[strings.TrimSpace(line[len(key)+1:])] {
			out.WriteString(line + string(l[len(text):]))
		}
		seen[strings.TrimSpace(line[len(key)+1:])] = true
	}
	return out.Bytes()
}

// rewriteZip copies a zip byte for byte, but for the content of the members in
// changed.
func rewriteZip(w io.Writer, r io.ReaderAt, z *archive.ZipLayout, changed map[string]replacement) error {
	out := &counting{w: w}
	copyRange := func(from, to int64) error {
		_, err := io.Copy(out, io.NewSectionReader(r, from, to-from))
		return err
	}
	if err := copyRange(0, z.Start); err != nil {
		return err
	}
	order := make([]int, len(z.Records))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return z.Records[order[a]].Offset < z.Records[order[b]].Offset })
	central := make([][]byte, len(z.Records))
	le := binary.LittleEndian
	for _, i := range order {
		rec := z.Records[i]
		c := bytes.Clone(rec.Central)
		le.PutUint32(c[42:], uint32(out.n))
		central[i] = c
		content, ok := changed[rec.Name]
		if !ok {
			if err := copyRange(rec.Offset, rec.End); err != nil {
				return err
			}
			continue
		}
		local, fresh, err := replaced(r, rec, content)
		if err != nil {
			return err
		}
		le.PutUint32(fresh[42:], uint32(out.n))
		central[i] = fresh
		if _, err := out.Write(local); err != nil {
			return err
		}
		if _, err := out.Write(content.fresh); err != nil {
			return err
		}
	}
	start := out.n
	for _, c := range central {
		if _, err := out.Write(c); err != nil {
			return err
		}
	}
	if out.n > 1<<32-1 {
		return fault.New(fault.Unsupported, "it would need zip64")
	}
	end := bytes.Clone(z.End)
	le.PutUint32(end[12:], uint32(out.n-start))
	le.PutUint32(end[16:], uint32(start))
	_, err := out.Write(end)
	return err
}

// replacement is the content of a member that changes.
type replacement struct{ old, fresh []byte }

// extraWas is the id of an extra field (APPNOTE 4.5.1) that holds the SHA-256 of
// how a member was packed before it was stored anew, so that a difference that lay
// in nothing else is a difference still.
const extraWas = archive.ExtraPacked

// replaced gives the local and the central header of a record with new content.
// The record gets an extraWas field, unless it was stored in just this way already
// and so nothing is lost.
func replaced(r io.ReaderAt, rec archive.ZipRecord, c replacement) (local, central []byte, err error) {
	le := binary.LittleEndian
	was := make([]byte, rec.End-rec.Offset)
	if _, err := r.ReadAt(was, rec.Offset); err != nil {
		return nil, nil, err
	}
	local, central = stored(rec.Local, rec.Central, c.old)
	if bytes.Equal(was, append(local[:len(local):len(local)], c.old...)) && bytes.Equal(central, rec.Central) {
		local, central = stored(rec.Local, rec.Central, c.fresh)
		return local, central, nil
	}
	h := sha256.New()
	for _, lost := range [][]byte{rec.Local[6:10], rec.Local[14:26], was[rec.Header:], rec.Central[8:12], rec.Central[16:28]} {
		h.Write(lost) // flags and method, checksum and sizes, data and what follows it
	}
	extra := le.AppendUint16(le.AppendUint16(nil, extraWas), sha256.Size)
	extra = h.Sum(extra)
	local, central = stored(rec.Local, rec.Central, c.fresh)
	if int(le.Uint16(local[28:]))+len(extra) > 0xffff || int(le.Uint16(central[30:]))+len(extra) > 0xffff {
		return nil, nil, fault.New(fault.Hostile, "entry %q has too many extra fields", rec.Name)
	}
	le.PutUint16(local[28:], le.Uint16(local[28:])+uint16(len(extra)))
	le.PutUint16(central[30:], le.Uint16(central[30:])+uint16(len(extra)))
	comment := len(central) - int(le.Uint16(central[32:]))
	central = slices.Concat(central[:comment], extra, central[comment:])
	return append(local, extra...), central, nil
}

// stored gives copies of a record's headers that say that content is stored
// without compression, sizes in the header and no descriptor after the data
// (APPNOTE 4.4.4, bit 3).
func stored(local, central, content []byte) (l, c []byte) {
	le := binary.LittleEndian
	l, c = bytes.Clone(local), bytes.Clone(central)
	flags := le.Uint16(l[6:]) &^ 8
	for _, h := range []struct {
		b               []byte
		flags, method   int
		crc, size, full int
	}{{l, 6, 8, 14, 18, 22}, {c, 8, 10, 16, 20, 24}} {
		le.PutUint16(h.b[h.flags:], flags)
		le.PutUint16(h.b[h.method:], 0)
		le.PutUint32(h.b[h.crc:], crc32.ChecksumIEEE(content))
		le.PutUint32(h.b[h.size:], uint32(len(content)))
		le.PutUint32(h.b[h.full:], uint32(len(content)))
	}
	return l, c
}

// counting counts what is written.
type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
