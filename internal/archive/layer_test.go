package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// layerTree makes a tree with everything that a layer may have, and what it drops.
func layerTree(t testing.TB, dir string, mode fs.FileMode, at time.Time) {
	t.Helper()
	for _, d := range []string{"usr/bin", "usr/lib", "var/empty", "usr/" + strings.Repeat("long/", 40)} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, m := range map[string]fs.FileMode{"usr/bin/a": 0o700 | mode, "usr/bin-x": 0o600 | mode, "usr/lib/b": 0o400, "usr/" + strings.Repeat("long/", 40) + "x": 0o640} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, m); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"bin": "usr/bin", "usr/bin/abs": "/usr/lib/b", "usr/lib/up": "../bin/a", "usr/lib/none": "nothing", "usr/root": "/"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "usr/bin/a"), filepath.Join(dir, "usr/bin/hard")); err != nil {
		t.Fatal(err)
	}
}

// readLayer reads a layer and lists it.
func readLayer(b []byte, lim archive.Limits) (archive.LayerInfo, []string, error) {
	var list []string
	info, err := archive.ReadLayer(bytes.NewReader(b), lim, func(e archive.LayerEntry, body io.Reader) error {
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if e.Type == 0 && string(b[e.Offset:e.Offset+e.Size]) != string(text) {
			return fmt.Errorf("the content of %s is not where it is said to be", e.Path)
		}
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s%s", e.Mode(), e.Path, e.Link, text)))
		return nil
	})
	return info, list, err
}

// TestLayerRoundTrip: a layer has the same bytes whatever mode, time and umask its tree
// came with, keeps what counts, and is read as what was written.
func TestLayerRoundTrip(t *testing.T) {
	at := time.Unix(1700000000, 0)
	var first []byte
	for i, mode := range []fs.FileMode{0, 0o044, fs.ModeSetuid | 0o044} {
		dir := t.TempDir()
		layerTree(t, dir, mode, noon.Add(time.Duration(i)*time.Hour+time.Millisecond))
		var b bytes.Buffer
		info, err := archive.WriteLayer(dir, &b, at)
		if err != nil {
			t.Fatal(err)
		}
		if info.Digest != digest.FromBytes(b.Bytes()) || info.Size != int64(b.Len()) {
			t.Errorf("%+v for %d bytes", info, b.Len())
		}
		if first == nil {
			first = b.Bytes()
			got, list, err := readLayer(first, archive.DefaultLimits())
			if err != nil || got != info {
				t.Fatalf("%v; read %+v of %+v", err, got, info)
			}
			long := strings.TrimSuffix(strings.Repeat("long/", 40), "/")
			var want []string
			for p := long; p != ""; p, _, _ = cutLast(p) {
				want = append([]string{"drwxr-xr-x usr/" + p}, want...)
			}
			want = append([]string{"Lrwxrwxrwx bin usr/bin", "drwxr-xr-x usr", "drwxr-xr-x usr/bin", "-rw-r--r-- usr/bin-x of usr/bin-x", "-rwxr-xr-x usr/bin/a of usr/bin/a",
				"Lrwxrwxrwx usr/bin/abs ../lib/b", "-rwxr-xr-x usr/bin/hard of usr/bin/a", "drwxr-xr-x usr/lib", "-rw-r--r-- usr/lib/b of usr/lib/b",
				"Lrwxrwxrwx usr/lib/none nothing", "Lrwxrwxrwx usr/lib/up ../bin/a"}, append(want, "-rw-r--r-- usr/"+long+"/x of usr/"+long+"/x", "Lrwxrwxrwx usr/root ..", "drwxr-xr-x var", "drwxr-xr-x var/empty")...)
			if strings.Join(list, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
			}
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Errorf("mode %v: another layer", mode)
		}
	}
}

func cutLast(p string) (string, string, bool) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", p, false
	}
	return p[:i], p[i+1:], true
}

// plainLayer is a layer of a few entries.
func plainLayer(t testing.TB, entries ...archive.LayerEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := archive.NewLayerWriter(&b)
	for _, e := range entries {
		if e.Time.IsZero() {
			e.Time = noon
		}
		if err := w.Add(e, strings.NewReader(strings.Repeat("x", int(e.Size)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadLayerRefuses(t *testing.T) {
	dir, f := func(p string) entry { e := folder(p + "/"); e.Mode = 0o755; return e }, file
	good := tarOf(t, dir("a"), f("a/b", "1"), link("a/l", "b"))
	if _, _, err := readLayer(good, archive.DefaultLimits()); err != nil {
		t.Fatalf("a plain one: %v", err)
	}
	with := func(e entry, change func(*tar.Header)) entry { change(&e.Header); return e }
	small := archive.Limits{Bytes: 100, File: 60, Entries: 3, Depth: 5}
	for name, c := range map[string]struct {
		b    []byte
		lim  archive.Limits
		want string
	}{
		"nothing":           {nil, small, "not in the one form"},
		"no tar":            {bytes.Repeat([]byte("x"), 2000), small, "tar"},
		"cut off":           {good[:700], small, ""},
		"no end":            {good[:len(good)-1024], small, "not in the one form"},
		"one block at end":  {good[:len(good)-512], small, "not in the one form"},
		"more at the end":   {append(append([]byte{}, good...), 0), small, "not in the one form"},
		"zeros at the end":  {append(append([]byte{}, good...), make([]byte, 10240)...), small, "not in the one form"},
		"padding":           {flip(good, 512+512+10), small, "not in the one form"},
		"header's rest":     {recalc(flip(good, 505)), small, ""},
		"device's numbers":  {tarOf(t, with(f("b", "1"), func(h *tar.Header) { h.Devmajor = 1 })), small, "not in the one form"},
		"up":                {tarOf(t, f("../x", "1")), small, "leaves"},
		"absolute":          {tarOf(t, f("/x", "1")), small, "absolute"},
		"dot":               {tarOf(t, f("./x", "1")), small, "spelled"},
		"root":              {tarOf(t, dir(".")), small, "spelled"},
		"twice":             {tarOf(t, f("x", "1"), f("x", "1")), small, "twice"},
		"order":             {tarOf(t, f("y", "1"), f("x", "1")), small, "stands behind"},
		"no folder":         {tarOf(t, f("d/x", "1")), small, "has no entry before it"},
		"below a file":      {tarOf(t, f("d", "1"), f("d/x", "1")), small, "has no entry before it"},
		"below a link":      {tarOf(t, link("d", "e"), f("d/x", "1"), dir("e")), small, "has no entry before it"},
		"link out":          {tarOf(t, link("x", "../y")), small, "leaves the layer"},
		"link over link":    {tarOf(t, dir("a"), link("a/up", ".."), link("x", "a/up/../y")), small, "leaves the layer"},
		"absolute link":     {tarOf(t, link("x", "/etc/passwd")), small, "leaves the layer"},
		"link to nothing":   {tarOf(t, link("x", "")), small, ""},
		"control in target": {tarOf(t, link("x", "a\x1bb")), small, "control"},
		"hard link":         {tarOf(t, f("a", "1"), hard("b", "a")), small, "hard link"},
		"device":            {tarOf(t, kind(tar.TypeChar, "x", 0o644)), small, "device"},
		"pipe":              {tarOf(t, kind(tar.TypeFifo, "x", 0o644)), small, "device or a pipe"},
		"unknown type":      {tarOf(t, kind('V', "x", 0o644)), small, "unknown type"},
		"set-user-id":       {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.Mode = 0o4755 })), small, "sets a user"},
		"sticky":            {tarOf(t, with(dir("x"), func(h *tar.Header) { h.Mode = 0o1755 })), small, "sticky"},
		"odd mode":          {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.Mode = 0o664 })), small, "not in the one form"},
		"owner":             {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.Uid = 7 })), small, "owner"},
		"owner's name":      {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.Uname = "root" })), small, "owner"},
		"attribute": {tarOf(t, with(f("x", "1"), func(h *tar.Header) {
			h.PAXRecords, h.Format = map[string]string{"SCHILY.xattr.security.capability": "x"}, tar.FormatPAX
		})), small, "attribute"},
		"time with a part": {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.ModTime, h.Format = noon.Add(1), tar.FormatPAX })), small, ""},
		"pax for nothing":  {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.PAXRecords, h.Format = map[string]string{"path": "x"}, tar.FormatPAX })), small, ""},
		"gnu":              {tarOf(t, with(f("x", "1"), func(h *tar.Header) { h.Format = tar.FormatGNU })), small, "not in the one form"},
		"global header":    {tarOf(t, entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}), small, "unknown type"},
		"takes away":       {tarOf(t, f(".wh.etc", "")), small, "takes away"},
		"control":          {tarOf(t, f("a\nb", "1")), small, "control"},
		"not UTF-8":        {tarOf(t, f("a\xff", "1")), small, ""},
		"too many":         {tarOf(t, f("a", ""), f("b", ""), f("c", ""), f("d", "")), small, "more than 3 entries"},
		"too large":        {tarOf(t, f("a", strings.Repeat("1", 61))), small, "more than 60"},
		"too much":         {tarOf(t, f("a", strings.Repeat("1", 60)), f("b", strings.Repeat("1", 41))), small, "more than 100 bytes"},
		"too deep":         {tarOf(t, dir("a"), dir("a/b"), dir("a/b/c"), dir("a/b/c/d"), dir("a/b/c/d/e"), dir("a/b/c/d/e/f")), archive.Limits{Bytes: 1, File: 1, Entries: 9, Depth: 5}, "folders deep"},
	} {
		_, _, err := readLayer(c.b, c.lim)
		if !fault.Is(err, fault.Hostile) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
	}
}

// flip changes one byte.
func flip(b []byte, at int) []byte {
	b = append([]byte{}, b...)
	b[at] ^= 1
	return b
}

// recalc mends the checksum of a tar's first header.
func recalc(b []byte) []byte {
	sum := 0
	for i, c := range b[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// TestWriteLayerRefuses: what has no place in a layer is an error, not left out.
func TestWriteLayerRefuses(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"link out": func(d string) error { return os.Symlink("../../x", filepath.Join(d, "l")) },
		"a pipe":   func(d string) error { return mkfifo(filepath.Join(d, "p")) },
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.WriteLayer(dir, io.Discard, noon); !fault.Is(err, fault.Hostile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadLayerKeepsErrors: what reading or the caller gives comes back, and is not
// blamed on the layer.
func TestReadLayerKeepsErrors(t *testing.T) {
	b := plainLayer(t, archive.LayerEntry{Path: "a", Size: 3})
	r := digest.NewReader(bytes.NewReader(b), digest.FromBytes([]byte("other")), int64(len(b)))
	if _, err := archive.ReadLayer(r, archive.DefaultLimits(), func(archive.LayerEntry, io.Reader) error { return nil }); err == nil || fault.Is(err, fault.Hostile) || !strings.Contains(err.Error(), "promised digest") {
		t.Errorf("another digest: %v", err)
	}
	if _, err := archive.ReadLayer(bytes.NewReader(b), archive.DefaultLimits(), func(archive.LayerEntry, io.Reader) error { return os.ErrClosed }); err == nil || fault.KindOf(err) != "" {
		t.Errorf("the caller's: %v", err)
	}
}

// FuzzReadLayer: whatever ReadLayer takes is, written again by LayerWriter, the same
// bytes; and nothing but fault.Hostile comes of bytes in memory.
func FuzzReadLayer(f *testing.F) {
	f.Add(plainLayer(f, archive.LayerEntry{Path: "a", Type: fs.ModeDir}, archive.LayerEntry{Path: "a/b", Size: 3, Exec: true}, archive.LayerEntry{Path: "l", Type: fs.ModeSymlink, Link: "a/b"}))
	f.Add(plainLayer(f, archive.LayerEntry{Path: strings.Repeat("a", 200), Size: 1}))
	f.Add(tarOf(f, file("../x", "1")))
	f.Add(plainLayer(f))
	lim := archive.Limits{Bytes: 1 << 20, File: 1 << 20, Entries: 100, Depth: 10}
	f.Fuzz(func(t *testing.T, b []byte) {
		var again bytes.Buffer
		w := archive.NewLayerWriter(&again)
		info, err := archive.ReadLayer(bytes.NewReader(b), lim, func(e archive.LayerEntry, body io.Reader) error {
			if strings.HasPrefix(e.Path, "/") || strings.Contains("/"+e.Path+"/", "/../") {
				t.Errorf("path %q", e.Path)
			}
			return w.Add(e, body)
		})
		if err != nil {
			if !fault.Is(err, fault.Hostile) {
				t.Fatalf("%v is of the kind %q", err, fault.KindOf(err))
			}
			return
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), b) || info.Digest != digest.FromBytes(b) {
			t.Errorf("%q is not what it was read as", b)
		}
	})
}
