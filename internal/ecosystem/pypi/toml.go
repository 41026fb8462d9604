package pypi

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// Limits for TOML that comes from outside. The reader calls itself for what is
// nested, until the process dies of it, and is quadratic in the parts of a key. It puts the whole
// key together anew for all that stands under it.
const (
	maxTOMLDepth = 64
	maxKeyParts  = 64
	maxKeyWork   = 64 << 20 // bytes of keys that are put together, each as often as something stands under it
)

// parseTOML reads TOML 1.0 into v within limits.
func parseTOML(b []byte, v any) error {
	if err := boundTOML(string(b)); err != nil {
		return err
	}
	return toml.Unmarshal(b, v)
}

// boundTOML goes over a document as far as it takes to tell strings and comments
// from the rest, and refuses deep nesting and long dotted keys. It may take for
// granted that the text is TOML: the reader stops where it is not, and up to
// there both see the same.
func boundTOML(s string) error {
	depth, parts := 0, 0
	var under [maxTOMLDepth + 1]int // bytes of keys up to a depth; at 0: the table's header
	from, key, work := 0, 0, 0      // where a key may begin; bytes of the newest
	header := false
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '#':
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(s)
			}
			continue
		case '"', '\'':
			i = skipTOMLString(s, i)
			continue
		case '[', '{':
			header = header || depth == 0 && c == '[' && strings.TrimLeft(s[from:i], " \t\r") == ""
			if depth, parts = depth+1, 0; depth > maxTOMLDepth {
				return fmt.Errorf("nested deeper than %d", maxTOMLDepth)
			}
			under[depth] = under[depth-1] + key
			work += under[depth]
			key = 0
			if !header {
				from = i + 1
			}
		case ']', '}':
			depth, parts, key = max(depth-1, 0), 0, 0
		case '.':
			if parts++; parts > maxKeyParts {
				return fmt.Errorf("a key of more than %d parts", maxKeyParts)
			}
		case '\n', ',', '=':
			parts = 0
			switch {
			case c == '=':
				key = i - from
				work += under[depth] + key
			case c == '\n' && depth == 0:
				if header {
					under[0], header = i-from, false
				}
				from, key = i+1, 0
			case !header:
				from, key = i+1, 0
			}
		}
		if work > maxKeyWork {
			return fmt.Errorf("keys that are too long for all that stands under them")
		}
		i++
	}
	return nil
}

// skipTOMLString gives the place behind the string that begins at i. One that
// does not end ends with its line, or, if it may have several, with the text.
func skipTOMLString(s string, i int) int {
	quote := s[i : i+1]
	long := strings.HasPrefix(s[i:], strings.Repeat(quote, 3))
	if long {
		i += 3
	} else {
		i++
	}
	for i < len(s) {
		switch {
		case quote == `"` && s[i] == '\\':
			i += 2
			continue
		case !long && (s[i:i+1] == quote || s[i] == '\n'):
			return i + 1
		case long && strings.HasPrefix(s[i:], strings.Repeat(quote, 3)):
			// Up to two quotes more belong to the string.
			for i += 3; i < len(s) && s[i:i+1] == quote; i++ {
			}
			return i
		}
		i++
	}
	return len(s)
}

// ParseTOML reads TOML 1.0 that comes from outside into v, within limits of depth and
// of the length of keys.
func ParseTOML(b []byte, v any) error { return parseTOML(b, v) }
