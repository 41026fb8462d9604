package compare

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/archive"
	"hallmark/internal/record"
)

// maxExcerpt is the length of an excerpt, in bytes; maxText is the largest file
// that is looked at as a whole for a hint.
const (
	maxExcerpt = 200
	maxText    = 4 << 20
)

// explain describes where two plain contents differ first, and what it looks like.
func explain(path string, a, b content, offset int64) record.Difference {
	d := record.Difference{Path: path, What: "content", Offset: offset,
		First: excerpt(a, offset), Second: excerpt(b, offset)}
	d.Hint = hint(path, a, b, offset)
	return d
}

// excerpt is what is around offset, printable, from the start of the line if it
// is near.
func excerpt(c content, offset int64) string {
	from := max(0, offset-48)
	b := make([]byte, min(max(c.size-from, 0), 48+100))
	n, _ := c.r.ReadAt(b, from)
	b = b[:n]
	before := int(min(offset-from, int64(len(b))))
	if i := bytes.LastIndexByte(b[:before], '\n'); i >= 0 {
		b, before = b[i+1:], before-i-1
	}
	if i := bytes.IndexByte(b[before:], '\n'); i > 0 && utf8.Valid(b[:before]) {
		b = b[:before+i]
	}
	if len(b) == 0 {
		return "(end)"
	}
	return cut(string(b))
}

// cut makes s printable ASCII of at most maxExcerpt bytes.
func cut(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		var piece string
		switch {
		case r == utf8.RuneError && n == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case r == '\\':
			piece = `\\`
		case r < 0x20 || r == 0x7f || r > 0x7e:
			piece = strings.Trim(fmt.Sprintf("%+q", string(r)), `"`)
		default:
			piece = string(r)
		}
		if out.Len()+len(piece) > maxExcerpt-3 {
			out.WriteString("...")
			break
		}
		out.WriteString(piece)
		i += n
	}
	return out.String()
}

// clean is a member's name as it may stand in a path: relative and printable.
func clean(name string) string {
	if c, err := archive.CleanName(name, 1000); err == nil && !strings.ContainsFunc(c, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return c
	}
	return cut(strings.TrimLeft(name, "/"))
}

// follows tells whether a difference is in a file that lists the hashes of others,
// so that it says nothing by itself.
func follows(d record.Difference) bool { return d.Hint == hintFollows }

const hintFollows = "a list of hashes: follows from the other differences"

// hint says what a difference looks like; empty if nothing is recognised.
func hint(name string, a, b content, offset int64) string {
	if strings.HasSuffix(path.Dir(name), ".dist-info") && path.Base(name) == "RECORD" {
		return hintFollows
	}
	if h := elfHint(a, offset); h != "" {
		if token := tokens(a, b, offset); token != "" {
			return h + ", looks like " + token
		}
		return h
	}
	if a.size <= maxText && b.size <= maxText {
		x, y := whole(a), whole(b)
		if utf8.Valid(x) && utf8.Valid(y) {
			if h := textHint(x, y); h != "" {
				return h
			}
		} else if a.size == b.size && sameBytesSorted(x, y) {
			return "the same bytes in another order"
		}
	}
	if offset >= min(a.size, b.size) {
		return "one is longer than the other"
	}
	return tokens(a, b, offset)
}

func whole(c content) []byte {
	b, _ := io.ReadAll(io.NewSectionReader(c.r, 0, c.size))
	return b
}

// textHint recognises what can be told of texts as a whole: the order of lines,
// of words in one line, of keys of a JSON document.
func textHint(x, y []byte) string {
	var v, w any
	if json.Unmarshal(x, &v) == nil && json.Unmarshal(y, &w) == nil && reflect.DeepEqual(v, w) {
		return "a JSON document with the same values: order of keys, or spacing"
	}
	if len(x) != len(y) {
		return ""
	}
	lines := func(b []byte) []string {
		l := strings.Split(string(b), "\n")
		slices.Sort(l)
		return l
	}
	if slices.Equal(lines(x), lines(y)) {
		return "order of lines"
	}
	words := func(b []byte) []string {
		w := strings.FieldsFunc(string(b), func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`,;:()[]{}'"`, r) })
		slices.Sort(w)
		return w
	}
	if sameBytesSorted(x, y) && slices.Equal(words(x), words(y)) {
		return "order of entries: the same words in another order"
	}
	return ""
}

// sameBytesSorted tells whether two contents hold the same bytes, each as often.
func sameBytesSorted(x, y []byte) bool {
	var counts [256]int
	for _, c := range x {
		counts[c]++
	}
	for _, c := range y {
		counts[c]--
	}
	return counts == [256]int{}
}

// looks is what a token may look like, the most telling first. A hint is given if
// both sides match.
var looks = sync.OnceValue(func() []look {
	return []look{
		{"a path of the build", regexp.MustCompile(`(?:^|[^\w])/(?:build|out|tmp|home|root|var/tmp)\b[^\s"':;,]*`)},
		{"a date or time", regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}\b|\b\d{2}:\d{2}:\d{2}\b|\b\d{4}/\d{2}/\d{2}\b|\b\d{1,2}/\d{1,2}/\d{4}\b|\b20\d{6}(?:T?\d{4,6}Z?)?\b`)},
		{"a date or time", regexp.MustCompile(`(?i)\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? +\d{1,2}\b|\b\d{1,2}[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b|\b(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|\d)`)},
		{"a random identifier (UUID)", regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)},
		{"a kernel release or version", regexp.MustCompile(`\b\d+\.\d+\.\d+[-+.\w]*\b`)},
		{"a time (seconds since 1970)", regexp.MustCompile(`\b1[4-9]\d{8}(?:\.\d+|\d{3}|\d{6}|\d{9})?\b`)},
		{"a memory address", regexp.MustCompile(`\b0x[0-9a-f]{6,16}\b`)},
		{"a fraction: a time, an uptime or a random number", regexp.MustCompile(`^-?\d+\.\d+(?:[eE]-?\d+)?$`)},
		{"a number: a process id, a count of processors, a random number", regexp.MustCompile(`^-?\d{1,20}$`)},
		{"a hash or a random number in hex", regexp.MustCompile(`(?i)^[0-9a-f]{8,128}$`)},
		{"a hash or a random number in base64", regexp.MustCompile(`^[A-Za-z0-9+/_-]{22,}={0,2}$`)},
	}
})

// look is one thing that a token may look like.
type look struct {
	what string
	re   *regexp.Regexp
}

// differ tells whether both texts have such tokens, and other ones.
func (l look) differ(x, y string) bool {
	xs, ys := l.re.FindAllString(x, 20), l.re.FindAllString(y, 20)
	return len(xs) > 0 && len(ys) > 0 && !slices.Equal(xs, ys)
}

// tokens says what the two sides look like at the place where they differ: the
// words there, and the line around them.
func tokens(a, b content, offset int64) string {
	x, xl := around(a, offset)
	y, yl := around(b, offset)
	if x == "" || y == "" {
		return ""
	}
	for _, l := range looks() {
		if l.differ(x, y) {
			return l.what
		}
	}
	for _, l := range looks() {
		if strings.HasPrefix(l.re.String(), "^") || strings.HasPrefix(l.re.String(), "(?i)^") {
			continue // whole words only
		}
		if l.differ(xl, yl) {
			return l.what
		}
	}
	return ""
}

// around is the word and the line at offset, as far as they are printable; at most
// 200 bytes to each side.
func around(c content, offset int64) (word, line string) {
	from := max(0, offset-200)
	b := make([]byte, min(max(c.size-from, 0), 400))
	n, _ := c.r.ReadAt(b, from)
	b = b[:n]
	at := int(min(offset-from, int64(len(b))))
	stretch := func(in func(byte) bool) string {
		i, j := at, at
		for i > 0 && in(b[i-1]) {
			i--
		}
		for j < len(b) && in(b[j]) {
			j++
		}
		return string(b[i:j])
	}
	line = stretch(func(c byte) bool { return c >= 0x20 && c < 0x7f })
	word = stretch(func(c byte) bool {
		return c > 0x20 && c < 0x7f && !strings.ContainsRune(`"'()[]{}<>,;=`, rune(c))
	})
	return word, line
}

// elfHint names the section of an ELF file in which offset lies.
func elfHint(c content, offset int64) string {
	if archive.Kind(c.r, c.size) != "elf" {
		return ""
	}
	f, err := elf.NewFile(io.NewSectionReader(c.r, 0, c.size))
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
			continue
		}
		if uint64(offset) >= s.Offset && uint64(offset)-s.Offset < s.FileSize {
			return "in section " + cut(s.Name)
		}
	}
	return "in the headers of an ELF file"
}
