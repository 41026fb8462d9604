package plan

import (
	"fmt"
	"reflect"
	"slices"
)

// Changes says in words which inputs of a step are others than those of an earlier
// step of the same package, and what else of it changed: why it is another step.
func Changes(old, s Step) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	type input struct{ tag, name string }
	was := map[input][]Input{}
	for _, in := range old.Inputs {
		k := input{in.Tag, in.PURL.Name()}
		was[k] = append(was[k], in)
	}
	for _, in := range s.Inputs {
		k := input{in.Tag, in.PURL.Name()}
		if len(was[k]) == 0 {
			say("new input %s", in.PURL)
			continue
		}
		before := was[k][0]
		was[k] = was[k][1:]
		switch {
		case before.PURL != in.PURL:
			say("input %s instead of %s", in.PURL, before.PURL)
		case before.Digest != in.Digest:
			say("input %s has other bytes", in.PURL)
		case before.Step != in.Step:
			say("input %s is built by another step", in.PURL)
		case before.File != in.File:
			say("input %s is the file %s instead of %s", in.PURL, in.File, before.File)
		}
	}
	for _, in := range old.Inputs {
		if left := was[input{in.Tag, in.PURL.Name()}]; slices.Contains(left, in) {
			say("input %s is gone", in.PURL)
		}
	}
	if !reflect.DeepEqual(old.Recipe, s.Recipe) {
		say("the recipe changed")
	}
	if old.Env.Profile != s.Env.Profile {
		say("the sandbox profile changed")
	}
	if old.Env.Builder != s.Env.Builder {
		say("the builder changed from %s to %s", old.Env.Builder, s.Env.Builder)
	}
	if old.Env.SourceDateEpoch != s.Env.SourceDateEpoch || !reflect.DeepEqual(old.Env.Variables, s.Env.Variables) {
		say("the declared environment changed")
	}
	return out
}
