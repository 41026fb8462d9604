package pypi

import (
	"strings"

	"hallmark/internal/fault"
)

// maxVersionBytes limits a version or a specifier that comes from outside.
const maxVersionBytes = 256

// Version is a version by PEP 440. Numbers have no upper limit but the text's.
//
// The package has its own versions because the Go libraries for them get corner
// cases wrong that the resolver meets: local versions of pre- and post-releases
// compare as equal, epochs end at 255, numbers overflow silently, and 1.0 is
// spelt anew as 1.0.0.
type Version struct {
	epoch   number
	release []number
	pre     string // "a", "b", "rc" or empty
	preNum  number
	post    number // empty: none
	dev     number // empty: none
	local   []string
}

// number is a decimal number without leading zeros; empty is "not there".
type number string

func newNumber(digits string) number {
	if t := strings.TrimLeft(digits, "0"); t != "" {
		return number(t)
	}
	return "0"
}

func (a number) cmp(b number) int {
	if len(a) != len(b) {
		if len(a) < len(b) {
			return -1
		}
		return 1
	}
	return strings.Compare(string(a), string(b))
}

// ParseVersion reads a version in any spelling that PEP 440 allows (Appendix B).
func ParseVersion(text string) (Version, error) {
	var v Version
	bad := func() (Version, error) {
		return Version{}, fault.New(fault.Hostile, "version %.80q is not of the form that PEP 440 wants", text)
	}
	if len(text) > maxVersionBytes {
		return bad()
	}
	s := scanner(strings.ToLower(strings.Trim(text, " \t\n\r\f\v")))
	s.any("v")
	v.epoch = "0"
	n, ok := s.number()
	if !ok {
		return bad()
	}
	if s.any("!") {
		v.epoch = n
		if n, ok = s.number(); !ok {
			return bad()
		}
	}
	v.release = append(v.release, n)
	for {
		t := s
		if !t.any(".") {
			break
		}
		if n, ok = t.number(); !ok {
			break
		}
		v.release, s = append(v.release, n), t
	}
	// The longer spelling first where one is the beginning of another.
	if t := s; true {
		t.any(".", "-", "_")
		if w := t.word("alpha", "a", "beta", "b", "preview", "pre", "c", "rc"); w != "" {
			v.pre = map[string]string{"alpha": "a", "a": "a", "beta": "b", "b": "b"}[w]
			if v.pre == "" {
				v.pre = "rc"
			}
			v.preNum, s = t.tail(), t
		}
	}
	if t := s; t.any("-") {
		if n, ok := t.number(); ok {
			v.post, s = n, t
		}
	}
	if v.post == "" {
		t := s
		t.any(".", "-", "_")
		if t.word("post", "rev", "r") != "" {
			v.post, s = t.tail(), t
		}
	}
	if t := s; true {
		t.any(".", "-", "_")
		if t.word("dev") != "" {
			v.dev, s = t.tail(), t
		}
	}
	if s.any("+") {
		for _, seg := range strings.FieldsFunc(string(s), func(r rune) bool { return r == '.' || r == '-' || r == '_' }) {
			if strings.Trim(seg, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
				return bad()
			}
			if isDigits(seg) {
				seg = string(newNumber(seg))
			}
			v.local = append(v.local, seg)
		}
		// As many segments as separators allow: no empty ones.
		if len(v.local) != 1+strings.Count(string(s), ".")+strings.Count(string(s), "-")+strings.Count(string(s), "_") {
			return bad()
		}
		s = ""
	}
	if s != "" {
		return bad()
	}
	return v, nil
}

// scanner is what is left of a text.
type scanner string

// any takes one of the prefixes off.
func (s *scanner) any(prefixes ...string) bool { return s.word(prefixes...) != "" }

// word takes the first of the words off that is there.
func (s *scanner) word(words ...string) string {
	for _, w := range words {
		if r, ok := strings.CutPrefix(string(*s), w); ok {
			*s = scanner(r)
			return w
		}
	}
	return ""
}

func (s *scanner) number() (number, bool) {
	r := strings.TrimLeft(string(*s), "0123456789")
	d := string(*s)[:len(*s)-len(r)]
	if d == "" {
		return "", false
	}
	*s = scanner(r)
	return newNumber(d), true
}

// tail takes the number of a pre-, post- or development release off: a
// separator and digits, either of which may be missing; then it is 0.
func (s *scanner) tail() number {
	s.any(".", "-", "_")
	if n, ok := s.number(); ok {
		return n
	}
	return "0"
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// String is the version in its normal form (PEP 440, "Normalization").
func (v Version) String() string {
	s := v.Public()
	if len(v.local) > 0 {
		s += "+" + strings.Join(v.local, ".")
	}
	return s
}

// Public is the version without its local part, in normal form.
func (v Version) Public() string {
	s := joinNumbers(v.release)
	if v.epoch != "0" && v.epoch != "" {
		s = string(v.epoch) + "!" + s
	}
	if v.pre != "" {
		s += v.pre + string(v.preNum)
	}
	if v.post != "" {
		s += ".post" + string(v.post)
	}
	if v.dev != "" {
		s += ".dev" + string(v.dev)
	}
	return s
}

func joinNumbers(n []number) string {
	t := make([]string, len(n))
	for i, x := range n {
		t[i] = string(x)
	}
	return strings.Join(t, ".")
}

// key is the same text for two versions exactly if they compare as equal.
func (v Version) key() string {
	r := v.release
	for len(r) > 1 && r[len(r)-1] == "0" {
		r = r[:len(r)-1]
	}
	v.release = r
	return v.String()
}

// IsPrerelease tells whether v is a pre-release or a development release.
func (v Version) IsPrerelease() bool { return v.pre != "" || v.dev != "" }

// IsPostrelease tells whether v is a post-release.
func (v Version) IsPostrelease() bool { return v.post != "" }

// IsZero tells whether v is no version at all.
func (v Version) IsZero() bool { return len(v.release) == 0 }

func (v Version) public() Version { v.local = nil; return v }

// Compare orders versions: negative if v is before w, 0 if they are equal
// (PEP 440, "Summary of permitted suffixes and relative ordering").
func (v Version) Compare(w Version) int {
	if c := v.compareBase(w); c != 0 {
		return c
	}
	if c := cmpInt(v.preRank(), w.preRank()); c != 0 {
		return c
	}
	if v.pre != "" {
		if c := strings.Compare(v.pre, w.pre); c != 0 {
			return c
		}
		if c := v.preNum.cmp(w.preNum); c != 0 {
			return c
		}
	}
	if c := v.post.cmp(w.post); c != 0 { // none is before any
		return c
	}
	switch { // a development release is before what it develops
	case v.dev == "" && w.dev != "":
		return 1
	case v.dev != "" && w.dev == "":
		return -1
	}
	if c := v.dev.cmp(w.dev); c != 0 {
		return c
	}
	for i := 0; i < len(v.local) && i < len(w.local); i++ {
		if c := compareLocal(v.local[i], w.local[i]); c != 0 {
			return c
		}
	}
	return cmpInt(len(v.local), len(w.local))
}

// compareBase compares epoch and release, the shorter filled up with zeros.
func (v Version) compareBase(w Version) int {
	if c := v.epoch.cmp(w.epoch); c != 0 {
		return c
	}
	for i := 0; i < len(v.release) || i < len(w.release); i++ {
		if c := at(v.release, i).cmp(at(w.release, i)); c != 0 {
			return c
		}
	}
	return 0
}

func at(n []number, i int) number {
	if i < len(n) {
		return n[i]
	}
	return "0"
}

// preRank: a bare development release is before all pre-releases, and those are
// before the rest.
func (v Version) preRank() int {
	switch {
	case v.pre != "":
		return 1
	case v.post == "" && v.dev != "":
		return 0
	}
	return 2
}

func compareLocal(a, b string) int {
	switch an, bn := isDigits(a), isDigits(b); {
	case an && bn:
		return number(a).cmp(number(b))
	case an:
		return 1
	case bn:
		return -1
	}
	return strings.Compare(a, b)
}

func cmpInt(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
