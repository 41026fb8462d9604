package pypi

import (
	"sort"
	"strings"

	"hallmark/internal/fault"
)

// maxSpecifiers limits how many clauses a specifier set may have.
const maxSpecifiers = 256

// Specifier is one clause such as ">=1.2" (PEP 440, "Version specifiers").
type Specifier struct {
	Op       string // "~=", "==", "!=", "<=", ">=", "<", ">", "==="
	Text     string // what stands behind the operator, in normal form; as written for "==="
	version  Version
	wildcard bool
}

// Specifiers is a set of clauses that all have to hold; empty allows everything.
type Specifiers []Specifier

var operators = []string{"===", "~=", "==", "!=", "<=", ">=", "<", ">"} // longest first

// ParseSpecifiers reads clauses with commas between them.
func ParseSpecifiers(text string) (Specifiers, error) { return parseSpecifiers(text, false) }

// ParseLegacySpecifiers also takes what many published files say although PEP
// 440 forbids it: ">=3.6.*" and the like, where ".*" is then left out.
func ParseLegacySpecifiers(text string) (Specifiers, error) { return parseSpecifiers(text, true) }

func parseSpecifiers(text string, legacy bool) (Specifiers, error) {
	var out Specifiers
	if strings.Count(text, ",") >= maxSpecifiers {
		return nil, fault.New(fault.Hostile, "specifier %.80q…: more than %d clauses", text, maxSpecifiers)
	}
	for _, c := range strings.Split(text, ",") {
		c = strings.Trim(c, " \t\n\r\f\v")
		if c == "" {
			continue
		}
		s, err := parseSpecifier(c, legacy)
		if err != nil {
			return nil, err
		}
		if !out.has(s) {
			out = append(out, s)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out, nil
}

func (ss Specifiers) has(s Specifier) bool {
	for _, x := range ss {
		if x.String() == s.String() {
			return true
		}
	}
	return false
}

func parseSpecifier(text string, legacy bool) (Specifier, error) {
	bad := func(why string) (Specifier, error) {
		return Specifier{}, fault.New(fault.Hostile, "specifier %.80q: %s (PEP 440)", text, why)
	}
	if len(text) > maxVersionBytes {
		return bad("too long")
	}
	var s Specifier
	rest := scanner(text)
	if s.Op = rest.word(operators...); s.Op == "" {
		return bad("does not start with a comparison")
	}
	val := strings.Trim(string(rest), " \t\n\r\f\v")
	if s.Op == "===" {
		for _, r := range val {
			if r <= ' ' || r == 0x7f || r == ';' || r == ')' {
				return bad("arbitrary equality with white space, control characters, ; or )")
			}
		}
		if val == "" {
			return bad("no version")
		}
		s.Text = val
		s.version, _ = ParseVersion(val)
		return s, nil
	}
	if cut, ok := strings.CutSuffix(val, ".*"); ok {
		switch {
		case s.Op == "==" || s.Op == "!=":
			s.wildcard = true
		case !legacy:
			return bad(".* belongs to == and != only")
		}
		val = cut
	}
	v, err := ParseVersion(val)
	if err != nil {
		return bad("not a version")
	}
	switch {
	case s.wildcard && (v.dev != "" || v.local != nil):
		return bad(".* behind a development or local version")
	case s.Op != "==" && s.Op != "!=" && v.local != nil:
		return bad("a local version belongs to == and != only")
	case s.Op == "~=" && len(v.release) < 2:
		return bad("~= needs two numbers or more")
	}
	s.version, s.Text = v, v.String()
	if s.wildcard {
		s.Text += ".*"
	}
	return s, nil
}

// String is the clause without spaces, its version in normal form.
func (s Specifier) String() string { return s.Op + s.Text }

// String is the clauses in sorted order with commas between them.
func (ss Specifiers) String() string {
	t := make([]string, len(ss))
	for i, s := range ss {
		t[i] = s.String()
	}
	sort.Strings(t)
	return strings.Join(t, ",")
}

// Contains tells whether v satisfies the clause. Whether pre-releases are wanted
// at all is not its question; see Specifiers.Filter.
func (s Specifier) Contains(v Version) bool {
	switch s.Op {
	case "===":
		return strings.EqualFold(v.String(), s.Text)
	case "==":
		return s.equal(v)
	case "!=":
		return !s.equal(v)
	case "<=":
		return v.public().Compare(s.version) <= 0
	case ">=":
		return v.public().Compare(s.version) >= 0
	case "~=":
		return v.public().Compare(s.version) >= 0 && hasPrefix(v, s.version.epoch, s.version.release[:len(s.version.release)-1])
	case "<":
		// "The exclusive ordered comparison <V MUST NOT allow a pre-release of
		// the specified version unless the specified version is itself a
		// pre-release." The first of V's pre-releases is V.dev0.
		first := s.version
		if !first.IsPrerelease() {
			first.dev = "0"
		}
		return v.Compare(first) < 0
	case ">":
		// Likewise for post-releases of V, and for local versions of V. 2.post1
		// is a post-release of 2, not of 2a1.
		if v.public().Compare(s.version) <= 0 {
			return false
		}
		w := s.version
		return w.IsPostrelease() || w.dev != "" || !v.IsPostrelease() ||
			v.compareBase(w) != 0 || v.pre != w.pre || v.preNum != w.preNum
	}
	return false
}

func (s Specifier) equal(v Version) bool {
	if !s.wildcard {
		if s.version.local == nil {
			v = v.public()
		}
		return v.Compare(s.version) == 0
	}
	w := s.version
	if w.pre == "" && w.post == "" {
		return hasPrefix(v, w.epoch, w.release)
	}
	return v.compareBase(w) == 0 && v.pre == w.pre && v.preNum == w.preNum && (w.post == "" || v.post == w.post)
}

// hasPrefix tells whether v is of the epoch and its release starts with prefix;
// a shorter release is filled up with zeros.
func hasPrefix(v Version, epoch number, prefix []number) bool {
	if v.epoch.cmp(epoch) != 0 {
		return false
	}
	for i, n := range prefix {
		if at(v.release, i) != n {
			return false
		}
	}
	return true
}

// mentionsPrerelease tells whether the clause names a pre-release in a way that
// asks for such.
func (s Specifier) mentionsPrerelease() bool {
	switch s.Op {
	case "==", ">=", "<=", "~=", "===":
		return s.version.IsPrerelease()
	}
	return false
}

// Contains tells whether v satisfies all clauses, pre-release or not.
func (ss Specifiers) Contains(v Version) bool {
	for _, s := range ss {
		if !s.Contains(v) {
			return false
		}
	}
	return true
}

// MentionsPrerelease tells whether one of the clauses asks for pre-releases by
// naming one.
func (ss Specifiers) MentionsPrerelease() bool {
	for _, s := range ss {
		if s.mentionsPrerelease() {
			return true
		}
	}
	return false
}

// Pinned tells whether a clause names exactly one version, which is when PEP 592
// lets a yanked file be used.
func (ss Specifiers) Pinned() bool {
	for _, s := range ss {
		if s.Op == "===" || s.Op == "==" && !s.wildcard {
			return true
		}
	}
	return false
}

// Filter gives the indexes of the versions that may be used: those that satisfy
// the clauses, pre-releases only if a clause names one, or if there are no
// clauses and nothing else is there. That is pip's reading of PEP 440, "Handling
// of pre-releases".
func (ss Specifiers) Filter(vs []Version) []int {
	var final, pre []int
	for i, v := range vs {
		switch {
		case !ss.Contains(v):
		case v.IsPrerelease():
			pre = append(pre, i)
		default:
			final = append(final, i)
		}
	}
	switch {
	case ss.MentionsPrerelease():
		final = append(final, pre...)
		sort.Ints(final)
		return final
	case len(ss) == 0 && len(final) == 0:
		return pre
	}
	return final
}

// and joins two sets.
func (ss Specifiers) and(other Specifiers) Specifiers {
	out := append(Specifiers(nil), ss...)
	for _, s := range other {
		if !out.has(s) {
			out = append(out, s)
		}
	}
	return out
}
