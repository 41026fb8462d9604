package archive

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// layerRules are the one form of a layer.
func layerRules(at time.Time) TreeRules { return TreeRules{Plain: true, Time: at, Within: true} }

// LayerInfo describes a layer.
type LayerInfo struct {
	Digest  digest.Digest // of the tar: the artifact's digest and its OCI diff_id
	Size    int64         // of the tar, in bytes
	Bytes   int64         // of its files, in bytes
	Files   int           // regular files
	Entries int           // all
}

// LayerEntry is one file, folder or link of a layer.
type LayerEntry struct {
	Path string      // relative, clean, slash-separated; never "."
	Type fs.FileMode // 0, fs.ModeDir or fs.ModeSymlink
	Exec bool        // a file that runs
	Link string      // a link's target, relative
	Size int64       // a file's
	Time time.Time   // whole seconds, UTC

	Offset int64 // where a file's content begins in the tar; ReadLayer says it
}

// Mode is the entry's mode on disk.
func (e LayerEntry) Mode() fs.FileMode {
	if e.Type == fs.ModeSymlink {
		return fs.ModeSymlink | 0o777
	}
	return e.Type | fs.FileMode(plainMode(e.Exec || e.Type == fs.ModeDir))
}

// WriteLayer writes the tree under dir as a layer: a tar (POSIX.1-1988, where a name
// does not fit POSIX.1-2001) of every path below dir in byte order, all with the time
// at (zero: 1970), owner 0, folders and files that run 0755, other files 0644, links
// relative, hard links as files of their own, and nothing else. So the same tree
// gives the same bytes on every machine.
func WriteLayer(dir string, w io.Writer, at time.Time) (LayerInfo, error) {
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	h := sha256.New()
	c := &countingWriter{w: io.MultiWriter(w, h)}
	done, err := WriteTree(dir, c, layerRules(at))
	if err != nil {
		return LayerInfo{}, fmt.Errorf("write a layer: %w", err)
	}
	return LayerInfo{Digest: digest.FromHash(h), Size: c.n, Bytes: done.Bytes, Files: done.Files, Entries: done.Entries}, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// LayerWriter writes a layer entry by entry, for whoever has no tree on disk.
// Entries must come as WriteLayer would write them.
type LayerWriter struct {
	tw   *tar.Writer
	last string
}

// NewLayerWriter begins a layer.
func NewLayerWriter(w io.Writer) *LayerWriter { return &LayerWriter{tw: tar.NewWriter(w)} }

// Add writes an entry; body has the content of a file, and nothing more.
func (w *LayerWriter) Add(e LayerEntry, body io.Reader) error {
	if e.Path <= w.last {
		return fmt.Errorf("entry %s does not come behind %s", quote(e.Path), quote(w.last))
	}
	w.last = e.Path
	if err := w.tw.WriteHeader(e.header()); err != nil {
		return fmt.Errorf("entry %s: %w", quote(e.Path), err)
	}
	if e.Type != 0 {
		return nil
	}
	if _, err := io.Copy(w.tw, body); err != nil {
		return fmt.Errorf("entry %s: %w", quote(e.Path), err)
	}
	return nil
}

// Close ends the layer.
func (w *LayerWriter) Close() error { return w.tw.Close() }

func (e LayerEntry) header() *tar.Header {
	h := &tar.Header{Name: e.Path, ModTime: e.Time, Mode: int64(e.Mode().Perm())}
	switch e.Type {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	}
	return h
}

// ReadLayer reads a layer that somebody hostile may have made, and hands every
// entry to fn, with the content of a file. Only the form that WriteLayer writes is
// a layer: what is written again from the entries must be the same bytes. Whether it
// is, is known at the end alone, so whatever fn makes counts for nothing when there is
// an error. Each folder stands before what is in it. What is no layer, or grows past a
// limit, is fault.Hostile; an error of fn comes back as it is.
func ReadLayer(r io.Reader, lim Limits, fn func(LayerEntry, io.Reader) error) (LayerInfo, error) {
	in, out := sha256.New(), sha256.New()
	size := &countingWriter{w: in}
	tee := io.TeeReader(r, size)
	l := &layerReader{lim: lim, left: lim.Bytes, read: size, tr: tar.NewReader(tee), tw: tar.NewWriter(out), folders: map[string]bool{".": true}, links: map[string]string{}, fn: fn}
	var err error
	for err == nil {
		err = l.next()
	}
	if err != io.EOF {
		return LayerInfo{}, fmt.Errorf("read a layer: %w", err)
	}
	if err := l.tw.Close(); err != nil {
		return LayerInfo{}, fmt.Errorf("read a layer: %w", err)
	}
	more, err := io.ReadFull(tee, make([]byte, 1))
	if more == 0 && err != io.EOF { // as a digest that is not the promised one
		return LayerInfo{}, fmt.Errorf("read a layer: %w", err)
	}
	l.info.Digest, l.info.Size = digest.FromHash(in), size.n
	if more > 0 || digest.FromHash(out) != l.info.Digest {
		return LayerInfo{}, fmt.Errorf("read a layer: %w", fault.New(fault.Hostile, "it is not in the one form that a layer has: something in its headers, its padding or behind its end is other"))
	}
	for name := range l.links {
		if !LinkStays(name, l.links) {
			return LayerInfo{}, fmt.Errorf("read a layer: %w", fault.New(fault.Hostile, "entry %s: its link to %s leaves the layer", quote(name), quote(l.links[name])))
		}
	}
	return l.info, nil
}

// layerReader is one run of ReadLayer.
type layerReader struct {
	lim     Limits
	left    int64 // bytes of files that may still come
	read    *countingWriter
	tr      *tar.Reader
	tw      *tar.Writer
	last    string
	folders map[string]bool
	links   map[string]string
	fn      func(LayerEntry, io.Reader) error
	info    LayerInfo
}

// next reads one entry; io.EOF behind the last.
func (l *layerReader) next() error {
	h, err := l.tr.Next()
	if err == io.EOF {
		return err
	}
	if err != nil {
		return readError(err)
	}
	e, err := l.entry(h)
	if err != nil {
		return fault.New(fault.Hostile, "entry %s: %w", quote(h.Name), err)
	}
	if l.info.Entries++; l.info.Entries > l.lim.Entries {
		return limitFault("it has more than %d entries", l.lim.Entries)
	}
	if e.Size > l.lim.File {
		return limitFault("entry %s has %d bytes, more than %d", quote(e.Path), e.Size, l.lim.File)
	}
	if l.left -= e.Size; l.left < 0 {
		return limitFault("its files have more than %d bytes, at entry %s", l.lim.Bytes, quote(e.Path))
	}
	if err := l.tw.WriteHeader(e.header()); err != nil {
		return fault.New(fault.Hostile, "entry %s: %w", quote(e.Path), err)
	}
	e.Offset = l.read.n // the tar reader takes whole headers, and nothing ahead
	body := io.TeeReader(l.tr, l.tw)
	if err := l.fn(e, body); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return readError(err)
	}
	return nil
}

// readError is what reading the stream gave: what is wrong with the tar itself is
// its maker's doing.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fault.New(fault.Hostile, "tar: %w", err)
	}
	return err
}

// entry reads a header and says what speaks against it. What is not asked here shows
// when the entry is written again.
func (l *layerReader) entry(h *tar.Header) (LayerEntry, error) {
	e := LayerEntry{Link: h.Linkname, Time: h.ModTime.UTC(), Exec: h.Mode&0o111 != 0}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Size = h.Size
		l.info.Files++
		l.info.Bytes += h.Size
	case tar.TypeDir:
		e.Type, e.Exec = fs.ModeDir, false
	case tar.TypeSymlink:
		e.Type, e.Exec = fs.ModeSymlink, false
	case tar.TypeLink:
		return e, errors.New("it is a hard link")
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return e, errors.New("it is a device or a pipe")
	default:
		return e, fmt.Errorf("it has the unknown type %q", h.Typeflag)
	}
	for k := range h.PAXRecords {
		if k != "path" && k != "linkpath" && k != "size" {
			return e, fmt.Errorf("it has the attribute %s", quote(k))
		}
	}
	switch {
	case h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "":
		return e, errors.New("it has an owner")
	case h.Mode&^0o777 != 0:
		return e, errors.New("it sets a user or group id when it is run, or is sticky")
	case h.Size < 0 || e.Type != 0 && h.Size != 0:
		return e, errors.New("its size is none")
	case !e.Time.Equal(seconds(e.Time)):
		return e, errors.New("its time is no whole second from 1970 to 2106")
	case e.Type != fs.ModeSymlink && h.Linkname != "":
		return e, errors.New("it is no link and has a target")
	}
	clean, err := CleanName(h.Name, l.lim.Depth)
	if err != nil {
		return e, err
	}
	if want, folder := strings.CutSuffix(h.Name, "/"); clean != want || folder != (e.Type == fs.ModeDir) || clean == "." {
		return e, errors.New("its name is spelled otherwise than in a layer")
	}
	e.Path = clean
	// An OCI image gives a meaning to these names (image layer specification,
	// "Whiteouts"): they take away what lies below.
	if strings.HasPrefix(path.Base(clean), ".wh.") {
		return e, errors.New("its name takes away files of other layers")
	}
	if clean <= l.last {
		return e, fmt.Errorf("it is there twice, or stands behind %s", quote(l.last))
	}
	l.last = clean
	if !l.folders[path.Dir(clean)] {
		return e, fmt.Errorf("its folder %s has no entry before it", quote(path.Dir(clean)))
	}
	switch e.Type {
	case fs.ModeDir:
		l.folders[clean] = true
	case fs.ModeSymlink:
		if err := checkTarget(e.Link, l.lim.Depth); err != nil {
			return e, err
		}
		l.links[clean] = e.Link
	}
	return e, nil
}

// checkTarget says what speaks against a link's target.
func checkTarget(target string, depth int) error {
	if target == "" || len(target) > 4000 || path.IsAbs(target) {
		return fmt.Errorf("its link to %s leaves the layer", quote(target))
	}
	if _, err := CleanName(strings.ReplaceAll(target, "..", "_"), depth); err != nil {
		return fmt.Errorf("its target: %w", err)
	}
	return nil
}

// LinkStays tells whether a link of a tree stays in it however the kernel follows
// it, through the tree's other links too; links has all of them by path.
func LinkStays(name string, links map[string]string) bool { return staysIn(".", name, links) }
