package debian

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Limits of a control file (deb822). The largest field of an index today is
// some ten kilobytes.
const (
	maxLine    = 1 << 20 // bytes of one line
	maxFields  = 200     // fields of one stanza
	maxStanza  = 8 << 20 // bytes of one stanza: InRelease is one, 150 kB today
	maxStanzas = 400000
)

// Stanza is one paragraph of a control file: field names in lower case (they
// are compared without case) to values, whose continuation lines are joined by
// newlines, each without its first blank.
type Stanza map[string]string

// Get gives the value of a field, "" if it is not there.
func (s Stanza) Get(field string) string { return s[strings.ToLower(field)] }

// Lines gives the non-empty lines of a value of many lines.
func (s Stanza) Lines(field string) []string {
	var out []string
	for l := range strings.SplitSeq(s.Get(field), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// parseStanzas reads a control file (deb822(5), Debian policy 5.1) and gives
// each paragraph to f. Comment lines ("#") are dropped. A field named twice in a
// paragraph, a line that is no field, or more than the limits is an error.
func parseStanzas(r io.Reader, f func(Stanza) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	var (
		cur   Stanza
		last  string
		val   []byte
		size  int
		count int
		line  int
	)
	endField := func() {
		if last != "" {
			cur[last] = string(val)
			last, val = "", val[:0]
		}
	}
	flush := func() error {
		endField()
		if cur == nil {
			return nil
		}
		if count++; count > maxStanzas {
			return fmt.Errorf("more than %d paragraphs", maxStanzas)
		}
		s := cur
		cur, size = nil, 0
		return f(s)
	}
	for sc.Scan() {
		line++
		b := bytes.TrimRight(sc.Bytes(), "\r")
		if bytes.IndexByte(b, 0) >= 0 {
			return fmt.Errorf("line %d: a NUL byte", line)
		}
		if len(bytes.TrimSpace(b)) == 0 {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if b[0] == '#' {
			continue
		}
		if size += len(b) + 1; size > maxStanza {
			return fmt.Errorf("line %d: a paragraph of more than %d bytes", line, maxStanza)
		}
		if b[0] == ' ' || b[0] == '\t' {
			if last == "" {
				return fmt.Errorf("line %d: a continuation line with nothing to continue", line)
			}
			val = append(val, '\n')
			val = append(val, b[1:]...)
			continue
		}
		name, v, ok := bytes.Cut(b, []byte(":"))
		if !ok || len(name) == 0 || len(name) > 128 || bytes.ContainsAny(name, " \t") {
			return fmt.Errorf("line %d: %.80q is no field", line, b)
		}
		endField()
		if cur == nil {
			cur = Stanza{}
		}
		last = strings.ToLower(string(name))
		if _, dup := cur[last]; dup {
			return fmt.Errorf("line %d: field %.80q is there twice", line, name)
		}
		if len(cur) >= maxFields {
			return fmt.Errorf("line %d: more than %d fields in a paragraph", line, maxFields)
		}
		cur[last] = "" // counted and reserved until its value is complete
		val = append(val[:0], bytes.TrimSpace(v)...)
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line+1, err)
	}
	return flush()
}

// ParseStanzas gives all paragraphs of a control file.
func ParseStanzas(r io.Reader) ([]Stanza, error) {
	var out []Stanza
	err := parseStanzas(r, func(s Stanza) error { out = append(out, s); return nil })
	return out, err
}
