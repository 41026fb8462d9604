package debian

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"hallmark/internal/fault"
)

// Limits of one binary package.
const (
	maxMembers  = 16       // members of the ar file
	maxControl  = 16 << 20 // bytes of control.tar, unpacked
	maxData     = 2 << 30  // bytes of data.tar, unpacked
	maxEntries  = 200000   // entries of data.tar
	maxPathLen  = 1024     // bytes of a path
	maxDepth    = 64       // folders above a file
	arHeaderLen = 60       // ar(5)
	arMagic     = "!<arch>\n"
)

// arReader reads the members of an ar file one after the other (ar(5), the
// common subset that deb(5) allows: no symbol table, no long names).
type arReader struct {
	r    *bufio.Reader
	left int64 // bytes of the present member not read yet
	odd  bool
	n    int
}

func newArReader(r io.Reader) (*arReader, error) {
	a := &arReader{r: bufio.NewReaderSize(r, 64<<10)}
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(a.r, magic); err != nil {
		return nil, fmt.Errorf("ar: %w", err)
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("ar: it begins with %q", magic)
	}
	return a, nil
}

// next skips what is left of the present member and gives name and size of the
// next one; io.EOF behind the last.
func (a *arReader) next() (string, int64, error) {
	skip := a.left
	if a.odd {
		skip++
	}
	if n, err := io.CopyN(io.Discard, a.r, skip); err != nil && (err != io.EOF || n < a.left) {
		return "", 0, fmt.Errorf("ar: the file ends inside of a member: %w", io.ErrUnexpectedEOF)
	}
	a.left, a.odd = 0, false
	var h [arHeaderLen]byte
	if _, err := io.ReadFull(a.r, h[:]); err != nil {
		if err == io.EOF {
			return "", 0, io.EOF
		}
		return "", 0, fmt.Errorf("ar: the file ends inside of a header: %w", err)
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("ar: a header without its end mark")
	}
	if a.n++; a.n > maxMembers {
		return "", 0, fmt.Errorf("ar: more than %d members", maxMembers)
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 40)
	if err != nil {
		return "", 0, fmt.Errorf("ar: member %q: size %q", name, h[48:58])
	}
	a.left, a.odd = int64(size), size%2 == 1
	return name, int64(size), nil
}

// Read reads the present member.
func (a *arReader) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > a.left {
		p = p[:a.left]
	}
	n, err := a.r.Read(p)
	a.left -= int64(n)
	if err == io.EOF && a.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readDeb reads a .deb file (deb(5)): it gives the control file to control, then
// each entry of the data archive to entry, whose reader is the entry's content.
func readDeb(r io.Reader, control func(Stanza) error, entry func(*tar.Header, io.Reader) error) error {
	a, err := newArReader(r)
	if err != nil {
		return err
	}
	for step := 0; ; {
		name, size, err := a.next()
		if err == io.EOF {
			return fmt.Errorf("the package ends before its data archive")
		}
		if err != nil {
			return err
		}
		switch {
		case step == 0:
			b, err := io.ReadAll(io.LimitReader(a, 64))
			if name != "debian-binary" || err != nil || !strings.HasPrefix(string(b), "2.") || size > 64 {
				return fmt.Errorf("the first member is %q, %q: not a package of format 2", name, b)
			}
		case strings.HasPrefix(name, "_"):
			continue // to be ignored, says deb(5)
		case step == 1:
			ext, ok := strings.CutPrefix(name, "control.tar")
			if !ok {
				return fmt.Errorf("member %q where control.tar is expected", name)
			}
			if err := readControl(ext, a, control); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			ext, ok := strings.CutPrefix(name, "data.tar")
			if !ok {
				return fmt.Errorf("member %q where data.tar is expected", name)
			}
			z, err := decompress(ext, a)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if c, ok := z.(io.Closer); ok {
				defer c.Close()
			}
			if err := readTar(&limitedReader{r: z, left: maxData, what: name}, entry); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
		step++
	}
}

func readTar(r io.Reader, entry func(*tar.Header, io.Reader) error) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if err := entry(h, t); err != nil {
			return err
		}
	}
}

func readControl(ext string, r io.Reader, control func(Stanza) error) error {
	z, err := decompress(ext, r)
	if err != nil {
		return err
	}
	if c, ok := z.(io.Closer); ok {
		defer c.Close()
	}
	found := false
	err = readTar(&limitedReader{r: z, left: maxControl, what: "control.tar"}, func(h *tar.Header, r io.Reader) error {
		if path.Clean(h.Name) != "control" || h.Typeflag != tar.TypeReg {
			return nil // maintainer scripts: never run, not even looked at
		}
		if found {
			return errors.New("two control files")
		}
		found = true
		st, err := ParseStanzas(r)
		if err != nil {
			return err
		}
		if len(st) != 1 {
			return fmt.Errorf("control file of %d paragraphs", len(st))
		}
		return control(st[0])
	})
	if err == nil && !found {
		err = errors.New("no control file")
	}
	return err
}

// treePath turns the name of an entry into a path below the tree's root, with
// /bin, /sbin, /lib and /lib64 moved to /usr. The root itself is ".".
func treePath(name string) (string, error) {
	if len(name) > maxPathLen {
		return "", fault.New(fault.Hostile, "a path of %d bytes: %.80q…", len(name), name)
	}
	if strings.ContainsAny(name, "\x00\n\\") {
		return "", fault.New(fault.Hostile, "path %.200q has characters that are not allowed", name)
	}
	rel := strings.TrimPrefix(name, "./")
	rel = strings.TrimSuffix(rel, "/")
	if rel == "" || rel == "." {
		return ".", nil
	}
	if rel[0] == '/' || path.Clean(rel) != rel || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fault.New(fault.Hostile, "path %.200q is not a clean path below the root", name)
	}
	if strings.Count(rel, "/") > maxDepth {
		return "", fault.New(fault.Hostile, "path %.200q is deeper than %d folders", name, maxDepth)
	}
	top, _, _ := strings.Cut(rel, "/")
	for _, m := range merged {
		if top == m {
			return "usr/" + rel, nil
		}
	}
	return rel, nil
}

// merged are the folders that lie in /usr and have a link in the root (Debian's
// merged /usr; a package may still ship them in the root).
var merged = []string{"bin", "lib", "lib64", "sbin"}
