package pypi

import (
	"sort"
	"strings"

	"hallmark/internal/fault"
)

// Limits for requirements that come from outside.
const (
	maxRequirementBytes = 16 << 10
	maxExtras           = 128
)

// Requirement is what a person or a package asks for (PEP 508).
type Requirement struct {
	Name       string     // normalised
	Extras     []string   // normalised, sorted, each once
	Specifiers Specifiers // empty: any version
	Marker     *Marker    // nil: always
}

// ParseRequirement reads a requirement. One that names an address in place of
// versions is refused: what stands there is no package of an index, has no
// digest, and could be another tomorrow.
func ParseRequirement(text string) (Requirement, error) { return parseRequirement(text, false) }

// ParseLegacyRequirement also takes specifiers that PEP 440 forbids and
// published files have all the same; see ParseLegacySpecifiers.
func ParseLegacyRequirement(text string) (Requirement, error) { return parseRequirement(text, true) }

func parseRequirement(text string, legacy bool) (Requirement, error) {
	var r Requirement
	bad := func(kind fault.Kind, why string) (Requirement, error) {
		return Requirement{}, fault.New(kind, "requirement %.160q: %s (PEP 508)", text, why)
	}
	if len(text) > maxRequirementBytes {
		return bad(fault.Hostile, "too long")
	}
	rest := strings.TrimSpace(text)
	n := 0
	for n < len(rest) && (isWordByte(rest[n]) || rest[n] == '-') {
		n++
	}
	name := rest[:n]
	if err := CheckName(name); err != nil {
		return bad(fault.Hostile, "does not start with a name")
	}
	r.Name, rest = NormalizeName(name), strings.TrimLeft(rest[n:], " \t")
	if in, ok := strings.CutPrefix(rest, "["); ok {
		list, after, ok := strings.Cut(in, "]")
		if !ok {
			return bad(fault.Hostile, "no ] behind the extras")
		}
		rest = strings.TrimLeft(after, " \t")
		if strings.TrimSpace(list) != "" {
			for _, x := range strings.Split(list, ",") {
				x = strings.TrimSpace(x)
				if err := CheckName(x); err != nil {
					return bad(fault.Hostile, "an extra is not a name")
				}
				r.Extras = append(r.Extras, NormalizeName(x))
			}
		}
		if len(r.Extras) > maxExtras {
			return bad(fault.Hostile, "too many extras")
		}
		r.Extras = sortedSet(r.Extras)
	}
	if strings.HasPrefix(rest, "@") {
		return bad(fault.Unsupported, "names an address; only packages of an index can be asked for, by name and version")
	}
	spec, marker, hasMarker := strings.Cut(rest, ";")
	if spec = strings.TrimSpace(spec); strings.HasPrefix(spec, "(") {
		var ok bool
		if spec, ok = strings.CutSuffix(spec[1:], ")"); !ok {
			return bad(fault.Hostile, "no ) behind the versions")
		}
	}
	if !legacy && spec != "" {
		clauses := strings.Split(spec, ",")
		for i, c := range clauses { // the last may be missing, no other
			if strings.TrimSpace(c) == "" && (i == 0 || i < len(clauses)-1) {
				return bad(fault.Hostile, "a comma without a version in front of it")
			}
		}
	}
	var err error
	if r.Specifiers, err = parseSpecifiers(spec, legacy); err != nil {
		return bad(fault.Hostile, err.Error())
	}
	if hasMarker {
		if r.Marker, err = ParseMarker(marker); err != nil {
			return bad(fault.Hostile, err.Error())
		}
	}
	return r, nil
}

// String is the requirement in one spelling, which reads as the same again.
func (r Requirement) String() string {
	s := r.key()
	s += r.Specifiers.String()
	if r.Marker != nil {
		s += "; " + r.Marker.String()
	}
	return s
}

// key is the name with its extras, such as "uvicorn[standard]".
func (r Requirement) key() string { return nameKey(r.Name, r.Extras) }

func nameKey(name string, extras []string) string {
	if len(extras) == 0 {
		return name
	}
	return name + "[" + strings.Join(extras, ",") + "]"
}

// splitKey takes a key apart.
func splitKey(key string) (name string, extras []string) {
	name, list, ok := strings.Cut(key, "[")
	if ok {
		extras = strings.Split(strings.TrimSuffix(list, "]"), ",")
	}
	return name, extras
}

// sortedSet sorts s in place and leaves each text once.
func sortedSet(s []string) []string {
	sort.Strings(s)
	out := s[:0]
	for i, x := range s {
		if i == 0 || x != s[i-1] {
			out = append(out, x)
		}
	}
	return out
}

// MarshalText is String.
func (r Requirement) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Requirement) UnmarshalText(b []byte) error {
	x, err := ParseRequirement(string(b))
	if err == nil {
		*r = x
	}
	return err
}
