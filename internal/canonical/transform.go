package canonical

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
)

// Transform gives a JSON text, which must be an object or an array, in its
// canonical form (RFC 8785). What it gives is what the library gives, byte for
// byte: it writes what documents consist of as a rule by itself, in one pass, and
// leaves everything else to the library, errors included.
func Transform(text []byte) ([]byte, error) {
	if out, ok := transform(text); ok {
		return out, nil
	}
	out, err := jsoncanonicalizer.Transform(text)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}

// maxDepth is how deep what is written without the library may be nested.
const maxDepth = 200

// transform writes text if it is a plain one: keys in ASCII without escapes, no
// surrogates in escapes. ok is false if it is not, or no JSON.
func transform(text []byte) (out []byte, ok bool) {
	w := writer{in: text, out: make([]byte, 0, len(text))}
	w.space()
	if w.at >= len(text) || text[w.at] != '{' && text[w.at] != '[' || !w.value(0) {
		return nil, false
	}
	w.space()
	return w.out, w.at == len(text)
}

// writer reads a text and writes its canonical form.
type writer struct {
	in      []byte
	at      int // of the next byte in in
	out     []byte
	members []member // of the objects that are being written, the inner ones last
	scratch []byte
}

// member is a key with its value, as places in what was written.
type member struct {
	from, to       int // the whole, from the key's quote on
	keyFrom, keyTo int // the key without its quotes
}

func (w *writer) space() {
	for w.at < len(w.in) {
		switch w.in[w.at] {
		case ' ', '\n', '\r', '\t':
			w.at++
		default:
			return
		}
	}
}

// next passes over white space and takes c if it comes next.
func (w *writer) next(c byte) bool {
	w.space()
	if w.at < len(w.in) && w.in[w.at] == c {
		w.at++
		return true
	}
	return false
}

func (w *writer) value(depth int) bool {
	w.space()
	if w.at >= len(w.in) || depth > maxDepth {
		return false
	}
	switch c := w.in[w.at]; c {
	case '{':
		return w.object(depth)
	case '[':
		return w.array(depth)
	case '"':
		return w.text()
	case 't':
		return w.word("true")
	case 'f':
		return w.word("false")
	case 'n':
		return w.word("null")
	default:
		return w.number()
	}
}

func (w *writer) word(s string) bool {
	if !bytes.HasPrefix(w.in[w.at:], []byte(s)) {
		return false
	}
	w.at += len(s)
	w.out = append(w.out, s...)
	return true
}

func (w *writer) array(depth int) bool {
	w.at++
	w.out = append(w.out, '[')
	for n := 0; !w.next(']'); n++ {
		if n > 0 {
			if !w.next(',') {
				return false
			}
			w.out = append(w.out, ',')
		}
		if !w.value(depth + 1) {
			return false
		}
	}
	w.out = append(w.out, ']')
	return true
}

func (w *writer) object(depth int) bool {
	w.at++
	w.out = append(w.out, '{')
	begin, first := len(w.out), len(w.members)
	sorted := true
	for n := 0; !w.next('}'); n++ {
		if n > 0 {
			if !w.next(',') {
				return false
			}
			w.out = append(w.out, ',')
		}
		m := member{from: len(w.out)}
		w.space()
		if !w.key() {
			return false
		}
		m.keyFrom, m.keyTo = m.from+1, len(w.out)-1
		if !w.next(':') {
			return false
		}
		w.out = append(w.out, ':')
		if !w.value(depth + 1) {
			return false
		}
		m.to = len(w.out)
		if n > 0 {
			last := w.members[len(w.members)-1]
			sorted = sorted && bytes.Compare(w.out[last.keyFrom:last.keyTo], w.out[m.keyFrom:m.keyTo]) < 0
		}
		w.members = append(w.members, m)
	}
	if !sorted && !w.sort(begin, w.members[first:]) {
		return false
	}
	w.members = w.members[:first]
	w.out = append(w.out, '}')
	return true
}

// sort writes the members of an object, which begin at begin, in the order of
// their keys; false if two have the same key.
func (w *writer) sort(begin int, ms []member) bool {
	key := func(m member) []byte { return w.out[m.keyFrom:m.keyTo] }
	slices.SortFunc(ms, func(a, b member) int { return bytes.Compare(key(a), key(b)) })
	w.scratch = w.scratch[:0]
	for i, m := range ms {
		if i > 0 {
			if bytes.Equal(key(ms[i-1]), key(m)) {
				return false
			}
			w.scratch = append(w.scratch, ',')
		}
		w.scratch = append(w.scratch, w.out[m.from:m.to]...)
	}
	copy(w.out[begin:], w.scratch)
	return true
}

// plain are the bytes that a string may hold as they are, in ASCII.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// key copies a key that is ASCII without escapes: there the order of bytes is
// that of UTF-16 code units (RFC 8785 section 3.2.3).
func (w *writer) key() bool {
	if w.at >= len(w.in) || w.in[w.at] != '"' {
		return false
	}
	end := w.at + 1
	for end < len(w.in) && plain[w.in[end]] {
		end++
	}
	if end >= len(w.in) || w.in[end] != '"' {
		return false
	}
	w.out = append(w.out, w.in[w.at:end+1]...)
	w.at = end + 1
	return true
}

// text writes a string (RFC 8785 section 3.2.2.2).
func (w *writer) text() bool {
	w.out = append(w.out, '"')
	w.at++
	for {
		end := w.at
		for end < len(w.in) && (plain[w.in[end]] || w.in[end] >= 0x80) {
			end++
		}
		w.out = append(w.out, w.in[w.at:end]...)
		if end >= len(w.in) {
			return false
		}
		w.at = end + 1
		switch w.in[end] {
		case '"':
			w.out = append(w.out, '"')
			return true
		case '\\':
			if !w.escape() {
				return false
			}
		default: // a control character
			return false
		}
	}
}

// escape writes what stands behind a backslash.
func (w *writer) escape() bool {
	if w.at >= len(w.in) {
		return false
	}
	c := w.in[w.at]
	w.at++
	switch c {
	case '\\', '"', 'b', 'f', 'n', 'r', 't':
		w.out = append(w.out, '\\', c)
		return true
	case '/':
		w.out = append(w.out, '/')
		return true
	case 'u':
	default:
		return false
	}
	if w.at+4 > len(w.in) {
		return false
	}
	var r rune
	for _, h := range w.in[w.at : w.at+4] {
		switch {
		case h >= '0' && h <= '9':
			h -= '0'
		case h >= 'a' && h <= 'f':
			h -= 'a' - 10
		case h >= 'A' && h <= 'F':
			h -= 'A' - 10
		default:
			return false
		}
		r = r<<4 | rune(h)
	}
	w.at += 4
	switch {
	case r >= 0xd800 && r < 0xe000: // half of a pair
		return false
	case r >= 0x20 && r != '"' && r != '\\':
		w.out = utf8.AppendRune(w.out, r)
	default:
		short := byte(0)
		switch r {
		case '"', '\\':
			short = byte(r)
		case '\b':
			short = 'b'
		case '\f':
			short = 'f'
		case '\n':
			short = 'n'
		case '\r':
			short = 'r'
		case '\t':
			short = 't'
		}
		if short != 0 {
			w.out = append(w.out, '\\', short)
		} else {
			const hex = "0123456789abcdef"
			w.out = append(w.out, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		}
	}
	return true
}

// number writes a number as ECMAScript does (RFC 8785 section 3.2.2.3).
func (w *writer) number() bool {
	from, whole := w.at, true
loop:
	for w.at < len(w.in) {
		switch c := w.in[w.at]; {
		case c >= '0' && c <= '9', c == '-' && w.at == from:
		case c == '-', c == '+', c == '.', c == 'e', c == 'E':
			whole = false
		default:
			break loop
		}
		w.at++
	}
	t := w.in[from:w.at]
	digits := bytes.TrimPrefix(t, []byte("-"))
	// A whole number that a double holds exactly is written as it is.
	if whole && len(digits) > 0 && len(digits) <= 15 && (digits[0] != '0' || len(t) == 1) {
		w.out = append(w.out, t...)
		return true
	}
	f, err := strconv.ParseFloat(string(t), 64)
	if err != nil {
		return false
	}
	s, err := jsoncanonicalizer.NumberToJSON(f)
	if err != nil {
		return false
	}
	w.out = append(w.out, s...)
	return true
}
