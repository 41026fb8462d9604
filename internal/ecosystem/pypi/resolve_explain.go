package pypi

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"hallmark/internal/fault"
)

// maxReasons limits how many lines an explanation has.
const maxReasons = 12

// explain turns a clash into an error for people: who asks for what, and what
// versions there are. err is what ended the search before it began, if it did.
func (r *resolution) explain(err error, causes []reason) error {
	if err != nil {
		var cl clash
		if !errors.As(err, &cl) {
			return err
		}
		causes = cl.criterion.reasons
	}
	byKey := map[string][]reason{}
	var keys []string
	for _, x := range causes {
		if byKey[x.want.key] == nil {
			keys = append(keys, x.want.key)
		}
		byKey[x.want.key] = append(byKey[x.want.key], x)
	}
	sort.Strings(keys)
	// A package that does not exist, asked for directly, is its own kind.
	if len(causes) == 1 && causes[0].parent == nil {
		if p := r.projects[causes[0].want.name]; p != nil && p.missing != nil {
			return p.missing
		}
	}
	var lines []string
	// Why those who ask are in the versions they are: the project's own words.
	for _, x := range causes {
		for _, root := range r.roots {
			if x.parent != nil && root.name == x.parent.Name && len(root.specs) > 0 {
				lines = append(lines, fmt.Sprintf("the project asks for %s", root))
			}
		}
	}
	for _, k := range keys {
		lines = append(lines, r.explainKey(k, byKey[k])...)
	}
	if lines = uniqueInOrder(lines); len(lines) > maxReasons {
		lines = append(lines[:maxReasons], fmt.Sprintf("and %d more", len(lines)-maxReasons))
	}
	return fault.Advise(fault.Conflict, "Change or remove one of these requirements.",
		"no set of versions satisfies all requirements:\n  %s", strings.Join(lines, "\n  "))
}

func (r *resolution) explainKey(key string, reasons []reason) []string {
	var lines []string
	w := reasons[0].want
	// Of one asker in many versions, the newest few say enough.
	perAsker := map[string]int{}
	for _, x := range reasons {
		if x.want.exact != nil && x.parent != nil && x.parent.Name == x.want.name {
			continue // name[extra] asks for its own name: nothing a person could change
		}
		asker := ""
		if x.parent != nil {
			asker = x.parent.key
		}
		if perAsker[asker]++; perAsker[asker] > 3 {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s asks for %s", x.asker(), x.want))
	}
	if key == pythonKey {
		return append(lines, "the interpreter is Python "+r.env.PythonFullVersion)
	}
	p := r.projects[w.name]
	switch {
	case p == nil:
	case p.missing != nil:
		lines = append(lines, "there is no package "+p.name)
	case len(p.versions) == 0:
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("no version of %s can be used: %s", p.name, strings.Join(p.skipped, "; ")), ": "))
	default:
		line := fmt.Sprintf("%s has versions up to %s", p.name, p.versions[0].Version)
		if len(p.skipped) > 0 {
			line += "; " + strings.Join(p.skipped, "; ")
		}
		for _, c := range p.versions {
			if c.bad != nil {
				line += fmt.Sprintf("; %s was passed over: %v", c.Version, c.bad)
				break
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// asker is who asks, for people.
func (x reason) asker() string {
	if x.parent == nil {
		return "the project"
	}
	return x.parent.key + " " + x.parent.Version
}
