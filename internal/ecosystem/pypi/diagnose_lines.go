package pypi

import (
	"regexp"
	"strings"
	"sync"
)

// maxShown is how many lines of a log are shown, and maxShownLine how many
// characters of each.
const (
	maxShown     = 20
	maxShownLine = 400
)

// telling are words that make a line of a log worth showing.
var telling = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\berror\b|error:|Error\b|fatal|not found|no such file|failed|cannot|can't|could not|unable to|denied|missing|required|undefined|exception|killed|out of memory|non-zero exit`)
})

// chores are lines that name an error only by the way: what a build copies, and
// the commands that it runs.
var chores = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*(?:copying|creating|adding|writing|reading|hard linking|running|byte-compiling|removing|skipping|installing|including|checking|#|-- (?:Looking|Performing|Found|Detecting|Check)|Looking for|Compiling|Cythonizing) `)
})

// command is a compiler's or a linker's call, as a build shows it.
var command = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*(?:\[[0-9/ %]+\]\s+)?(?:\S*/)?(?:[a-z0-9_]+-linux-gnu-)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|ld|ar|cmake|libtool|ccache)(?:-[0-9]+)? -{0,2}\S`)
})

func isCommand(l string) bool { return command().MatchString(l) && !strings.Contains(l, "rror:") }

func noise(l string) bool { return chores().MatchString(l) || isCommand(l) }

// frame is a place in a Python traceback.
var frame = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ +File "[^"]*", line [0-9]+`) })

// shownLines chooses at most maxShown lines, in their order: those around line at,
// which says why; the last exception with its place; the other lines that name an
// error, latest first; and the end.
func shownLines(lines []string, at int) []string {
	if len(lines) <= maxShown {
		return clipAll(lines)
	}
	chosen, n := make([]bool, len(lines)), 0
	add := func(i int) {
		if i >= 0 && i < len(lines) && !chosen[i] && n < maxShown {
			chosen[i] = true
			n++
		}
	}
	if at >= 0 {
		add(at)
		// What a compiler points at, and the text of a CMake error, stand behind.
		for i := at + 1; i < len(lines) && i <= at+6 && (strings.HasPrefix(lines[i], "  ") || strings.HasPrefix(lines[i], "compilation terminated")); i++ {
			add(i)
		}
		for i := at - 1; i >= 0 && i >= at-2 && !noise(lines[i]); i-- {
			add(i)
		}
	}
	if e := lastException(lines); e >= 0 {
		add(e)
		for i := e - 1; i >= 0 && i > e-12; i-- {
			if frame().MatchString(lines[i]) {
				add(i)
				add(i + 1)
				break
			}
		}
	}
	for i := len(lines) - 1; i >= len(lines)-3; i-- {
		add(i)
	}
	seen := map[string]bool{}
	for i := len(lines) - 1; i >= 0; i-- {
		if chosen[i] {
			seen[lines[i]] = true
		}
	}
	for i := len(lines) - 1; i >= 0 && n < maxShown; i-- {
		if telling().MatchString(lines[i]) && !noise(lines[i]) && !seen[lines[i]] && !frame().MatchString(lines[i]) {
			seen[lines[i]] = true
			add(i)
		}
	}
	var out []string
	for i, l := range lines {
		if chosen[i] {
			out = append(out, l)
		}
	}
	return clipAll(out)
}

func clipAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		most := maxShownLine
		if consequence().MatchString(s) {
			most /= 2 // often a command with all its arguments
		}
		out[i] = clip(s, most)
	}
	return out
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// printable drops control characters and escape sequences, so that a log cannot
// draw on somebody's terminal.
func printable(s string) string {
	s = ansi().ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069):
			return -1
		}
		return r
	}, s)
	return strings.TrimRight(s, " ")
}

var ansi = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("\x1b(?:\\[[0-9;?]*[A-Za-z]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|.)")
})
