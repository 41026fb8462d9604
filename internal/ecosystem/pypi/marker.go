package pypi

import (
	"strings"

	"hallmark/internal/fault"
)

// Limits for markers that come from outside.
const (
	maxMarkerBytes = 8 << 10
	maxMarkerDepth = 64
)

// Marker is a condition on the environment (PEP 508, "Environment Markers").
type Marker struct {
	op          string // "and", "or", or a comparison
	left, right *Marker
	lhs, rhs    operand
}

// operand is a variable or a text.
type operand struct {
	variable bool
	text     string
}

// markerVariables maps every spelling of a variable to its name; the ones with
// dots are from before PEP 508, and setuptools still wrote them long after.
var markerVariables = map[string]string{
	"os_name": "os_name", "os.name": "os_name",
	"sys_platform": "sys_platform", "sys.platform": "sys_platform",
	"platform_machine": "platform_machine", "platform.machine": "platform_machine",
	"platform_python_implementation": "platform_python_implementation",
	"platform.python_implementation": "platform_python_implementation",
	"python_implementation":          "platform_python_implementation",
	"platform_release":               "platform_release",
	"platform_system":                "platform_system",
	"platform_version":               "platform_version", "platform.version": "platform_version",
	"python_version":         "python_version",
	"python_full_version":    "python_full_version",
	"implementation_name":    "implementation_name",
	"implementation_version": "implementation_version",
	"extra":                  "extra",
}

// ParseMarker reads a marker.
func ParseMarker(text string) (*Marker, error) {
	if len(text) > maxMarkerBytes {
		return nil, fault.New(fault.Hostile, "marker of %d bytes: at most %d", len(text), maxMarkerBytes)
	}
	p := &markerParser{rest: text, all: text}
	m, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, p.fail("unexpected text behind it")
	}
	return m, nil
}

type markerParser struct{ rest, all string }

func (p *markerParser) fail(why string) error {
	return fault.New(fault.Hostile, "marker %.160q: %s at byte %d (PEP 508)", p.all, why, len(p.all)-len(p.rest))
}

func (p *markerParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n\r\f\v") }

// keyword takes a word off that no letter follows.
func (p *markerParser) keyword(w string) bool {
	p.space()
	r, ok := strings.CutPrefix(p.rest, w)
	if !ok || r != "" && isWordByte(r[0]) {
		return false
	}
	p.rest = r
	return true
}

func isWordByte(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *markerParser) or(depth int) (*Marker, error) {
	return p.chain("or", depth, func() (*Marker, error) {
		return p.chain("and", depth, func() (*Marker, error) { return p.atom(depth) })
	})
}

func (p *markerParser) chain(word string, depth int, next func() (*Marker, error)) (*Marker, error) {
	m, err := next()
	for n := 0; err == nil && p.keyword(word); n++ {
		var r *Marker
		if r, err = next(); err == nil {
			m = &Marker{op: word, left: m, right: r}
		}
	}
	return m, err
}

func (p *markerParser) atom(depth int) (*Marker, error) {
	if depth > maxMarkerDepth {
		return nil, p.fail("too deep")
	}
	p.space()
	if r, ok := strings.CutPrefix(p.rest, "("); ok {
		p.rest = r
		m, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		p.space()
		if p.rest, ok = strings.CutPrefix(p.rest, ")"); !ok {
			return nil, p.fail("no closing bracket")
		}
		return m, nil
	}
	l, err := p.operand()
	if err != nil {
		return nil, err
	}
	op, err := p.operator()
	if err != nil {
		return nil, err
	}
	r, err := p.operand()
	if err != nil {
		return nil, err
	}
	if !l.variable && !r.variable {
		return nil, p.fail("compares two texts")
	}
	return &Marker{op: op, lhs: l, rhs: r}, nil
}

func (p *markerParser) operand() (operand, error) {
	p.space()
	if p.rest == "" {
		return operand{}, p.fail("ends too early")
	}
	if q := p.rest[0]; q == '\'' || q == '"' {
		end := strings.IndexByte(p.rest[1:], q)
		if end < 0 {
			return operand{}, p.fail("no closing quote")
		}
		t := p.rest[1 : end+1]
		if strings.ContainsAny(t, "\n\r\x00") {
			return operand{}, p.fail("control character in a text")
		}
		p.rest = p.rest[end+2:]
		return operand{text: t}, nil
	}
	n := 0
	for n < len(p.rest) && isWordByte(p.rest[n]) {
		n++
	}
	name, ok := markerVariables[p.rest[:n]]
	if !ok {
		return operand{}, p.fail("neither a variable nor a quoted text")
	}
	p.rest = p.rest[n:]
	return operand{variable: true, text: name}, nil
}

func (p *markerParser) operator() (string, error) {
	if p.keyword("in") {
		return "in", nil
	}
	if p.keyword("not") {
		if p.keyword("in") {
			return "not in", nil
		}
		return "", p.fail("not without in")
	}
	for _, o := range operators {
		if r, ok := strings.CutPrefix(p.rest, o); ok {
			p.rest = r
			return o, nil
		}
	}
	return "", p.fail("no comparison")
}

// Evaluate tells whether the marker holds in the environment when the extra is
// asked for; the empty extra means none. A nil marker always holds.
func (m *Marker) Evaluate(e Environment, extra string) bool {
	if m == nil {
		return true
	}
	v := e.variables()
	v["extra"] = NormalizeName(extra)
	return m.eval(v)
}

// EvaluateAny is Evaluate with each of the extras in turn, with none if there
// are no extras: what pip does for name[extra,extra].
func (m *Marker) EvaluateAny(e Environment, extras []string) bool {
	if len(extras) == 0 {
		return m.Evaluate(e, "")
	}
	for _, x := range extras {
		if m.Evaluate(e, x) {
			return true
		}
	}
	return false
}

func (m *Marker) eval(vars map[string]string) bool {
	switch m.op {
	case "and":
		return m.left.eval(vars) && m.right.eval(vars)
	case "or":
		return m.left.eval(vars) || m.right.eval(vars)
	}
	l, r := m.lhs.value(vars), m.rhs.value(vars)
	variable := m.lhs
	if !variable.variable {
		variable = m.rhs
	}
	if variable.text == "extra" {
		l, r = NormalizeName(l), NormalizeName(r) // PEP 685
	}
	return compareMarker(variable.text, l, m.op, r)
}

func (o operand) value(vars map[string]string) string {
	if o.variable {
		return vars[o.text]
	}
	return o.text
}

// versionVariables are those whose values may be versions; all others are texts
// (dependency specifiers specification, "Environment markers").
var versionVariables = map[string]bool{
	"python_version": true, "python_full_version": true, "implementation_version": true,
	"platform_release": true, "platform_version": true,
}

// compareMarker compares the values of versionVariables as versions where both
// sides are such, and texts in all other cases: no text is before another, and
// "<=", ">=", "~=" and "===" of texts ask whether they are equal ("Marker
// comparisons", as clarified in 2026; PEP 508 itself left it to Python).
func compareMarker(variable, l, op, r string) bool {
	switch op {
	case "in":
		return strings.Contains(r, l)
	case "not in":
		return !strings.Contains(r, l)
	}
	if versionVariables[variable] {
		if s, err := parseSpecifier(op+r, false); err == nil {
			if v, err := ParseVersion(l); err == nil {
				return s.Contains(v)
			}
		}
	}
	switch op {
	case "<", ">":
		return false
	case "!=":
		return l != r
	}
	return l == r
}

// String is the marker in one spelling.
func (m *Marker) String() string {
	if m == nil {
		return ""
	}
	switch m.op {
	case "and", "or":
		return m.left.within(m.op, false) + " " + m.op + " " + m.right.within(m.op, true)
	}
	return m.lhs.String() + " " + m.op + " " + m.rhs.String()
}

// within is the marker as a part of another, in brackets where needed so that
// reading it again gives the same tree.
func (m *Marker) within(op string, right bool) string {
	if (m.op == "and" || m.op == "or") && (m.op != op && op == "and" || m.op == op && right) {
		return "(" + m.String() + ")"
	}
	return m.String()
}

// String is a variable's name or the text in quotes.
func (o operand) String() string {
	switch {
	case o.variable:
		return o.text
	case strings.Contains(o.text, `"`):
		return "'" + o.text + "'"
	}
	return `"` + o.text + `"`
}
