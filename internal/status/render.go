package status

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"hallmark/internal/policy"
)

// ForPeople gives the rows in the order in which people need them: community
// before secure, least known first, and by purl within.
func ForPeople(rows []Row) []Row {
	rank := func(r Row) int {
		if r.Grade == nil {
			return 4
		}
		switch *r.Grade {
		case policy.Unknown:
			return 0
		case policy.PublisherAttested:
			return 1
		case policy.EquivalentGrade:
			return 2
		}
		return 3
	}
	out := append([]Row(nil), rows...)
	sort.SliceStable(out, func(i, j int) bool {
		a, b := rank(out[i]), rank(out[j])
		if a != b {
			return a < b
		}
		return out[i].PURL < out[j].PURL
	})
	return out
}

// Sentence is the summary in words.
func (s Summary) Sentence() string {
	if s.Artifacts == 0 {
		return "There is nothing to count: the project has no packages yet."
	}
	if s.Community == 0 {
		if s.Artifacts == 1 {
			return "The only package was built with a secure build process."
		}
		return fmt.Sprintf("All %d packages were built with a secure build process.", s.Artifacts)
	}
	were, come := "were", "come"
	if s.Secure == 1 {
		were = "was"
	}
	if s.Community == 1 {
		come = "comes"
	}
	return fmt.Sprintf("%d of %d packages %s built with a secure build process, %d %s from a process that can't be verified.",
		s.Secure, s.Artifacts, were, s.Community, come)
}

// Percent is the percentage as people read it; "–" if there is nothing to count.
func (s Summary) Percent() string {
	if s.PercentSecure == nil {
		return "–"
	}
	return fmt.Sprintf("%d %%", *s.PercentSecure)
}

// Bytes writes a count of bytes with a binary unit.
func Bytes(n int64) string {
	f, units := float64(n), []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.0f %s", f, units[i])
}

// Render writes the document as text of at most width columns (0: 100; never
// less than 40): percentage and counts first, then what is not secure, then the
// rest. Colour never says anything that the words do not. Control characters in
// names and messages, which come from outside, are not passed on.
func Render(w io.Writer, doc Document, width int, color bool) error {
	if width <= 0 {
		width = 100
	}
	width = max(width, 40)
	p := &printer{width: width, color: color}
	s := doc.Summary
	hue := green
	if s.Community > 0 {
		hue = yellow
	}
	p.line("%s %s  %s", p.paint(bold+hue, s.Percent()+" secure"), p.bar(s), clean(doc.Project))
	p.wrap("", s.Sentence())
	p.line("")
	p.field("policy", clean(doc.Policy))
	for _, c := range doc.Caveats {
		p.field("", clean(c))
	}
	p.field("seed", Bytes(s.SeedBytesBuild)+" of pinned binaries, at build time only")
	p.field("frontier", s.Frontier()+" not from source in what runs (hallmark why --frontier)")
	p.field("platform", clean(strings.Join(s.Platform, "; "))+" (not counted)")
	p.field("commit", clean(doc.Commit))
	p.line("")
	if len(doc.Artifacts) == 0 {
		p.wrap("", "Ask for a package with hallmark install, then run hallmark builds.")
	}
	name := 12
	for _, r := range doc.Artifacts {
		name = max(name, utf8.RuneCountInString(clean(label(r))))
	}
	name = min(name, width-30)
	for _, r := range ForPeople(doc.Artifacts) {
		mark, hue := "✓ secure   ", green
		if r.Class != policy.Secure {
			mark, hue = "? community", yellow
		}
		p.line("%s  %-*s  %-9s  %s", p.paint(hue, mark), name, clean(label(r)), r.Status, p.paint(dim, clean(detail(r))))
		for _, reason := range reasons(r) {
			p.wrap("    ", clean(reason))
		}
		for _, o := range r.Overrides {
			p.wrap("    ", "built with an override: "+clean(o))
		}
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// reasons gives a row's reasons as lines: those that lie in it each for itself,
// what it rests on together.
func reasons(r Row) []string {
	var out, deps []string
	for _, x := range r.Reasons {
		if x.Code == policy.DependencyCommunity && x.Artifact != "" {
			deps = append(deps, x.Artifact.Label())
			continue
		}
		out = append(out, x.Code+": "+x.Message)
	}
	switch n := len(deps); {
	case n > 5:
		out = append(out, fmt.Sprintf("%s: It depends on %s and %d more, which are not secure.", policy.DependencyCommunity, strings.Join(deps[:4], ", "), n-4))
	case n > 1:
		out = append(out, fmt.Sprintf("%s: It depends on %s and %s, which are not secure.", policy.DependencyCommunity, strings.Join(deps[:n-1], ", "), deps[n-1]))
	case n == 1:
		out = append(out, fmt.Sprintf("%s: It depends on %s, which is not secure.", policy.DependencyCommunity, deps[0]))
	}
	return out
}

// label is how a row is called: name and version, with the type where it is not
// plain from the project's others.
func label(r Row) string {
	if r.PURL.Version() == "" {
		return string(r.PURL)
	}
	return r.PURL.Label()
}

func detail(r Row) string {
	var parts []string
	if r.Grade != nil {
		parts = append(parts, string(*r.Grade))
	}
	if r.Reproduced != nil {
		parts = append(parts, fmt.Sprintf("%d of %d builds identical", r.Reproduced.Identical, r.Reproduced.Builds))
	}
	if r.Digest != nil {
		parts = append(parts, r.Digest.Short())
	} else {
		parts = append(parts, "no file")
	}
	return strings.Join(parts, ", ")
}

// ANSI parameters (ECMA-48, SGR).
const (
	bold, dim, green, yellow = "1;", "2;", "32;", "33;"
)

type printer struct {
	b     strings.Builder
	width int
	color bool
}

func (p *printer) paint(sgr, s string) string {
	if !p.color {
		return s
	}
	return "\x1b[" + strings.TrimSuffix(sgr, ";") + "m" + s + "\x1b[0m"
}

func (p *printer) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	p.b.WriteByte('\n')
}

// bar shows the share as twenty cells; full only if all are secure.
func (p *printer) bar(s Summary) string {
	n := 0
	if s.Artifacts > 0 {
		n = s.Secure * 20 / s.Artifacts
	}
	return p.paint(green, strings.Repeat("█", n)) + p.paint(yellow, strings.Repeat("░", 20-n))
}

func (p *printer) field(name, value string) {
	lines := split(value, p.width-10)
	for i, l := range lines {
		if i > 0 {
			name = ""
		}
		p.line("%-9s %s", name, l)
	}
}

func (p *printer) wrap(indent, s string) {
	for i, l := range split(s, p.width-len(indent)-2) {
		if i > 0 && indent != "" {
			l = "  " + l
		}
		p.line("%s%s", indent, l)
	}
}

// split breaks s at spaces into lines of at most width runes; a longer word
// stands alone.
func split(s string, width int) []string {
	var lines []string
	line, n := "", 0
	for _, word := range strings.Fields(s) {
		l := utf8.RuneCountInString(word)
		if n > 0 && n+1+l > width {
			lines = append(lines, line)
			line, n = "", 0
		}
		if n > 0 {
			line += " "
			n++
		}
		line += word
		n += l
	}
	return append(lines, line)
}

// clean replaces what a terminal would obey and what would turn the direction of
// the text (Unicode bidirectional controls are format characters, Cf).
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return '·'
		}
		return r
	}, s)
}
