package app

import (
	"strings"
	"testing"

	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// TestPrebuilt: what a throw-away build with the native files in place tells. One
// whose result was refused proves nothing, so it counts against the artifact: a
// library shipped in a wheel for every platform is refused, and came out secure.
func TestPrebuilt(t *testing.T) {
	ok := func(p record.Purpose, ships ...string) record.Build {
		return record.Build{Purpose: p, Outcome: record.Succeeded, Output: &record.Output{}, Ships: ships}
	}
	bad := func(p record.Purpose, says string) record.Build {
		return record.Build{Purpose: p, Outcome: record.Failed, Failure: &record.Failure{Message: says}}
	}
	cases := []struct {
		name    string
		builds  []record.Build
		checked bool
		found   string // part of it
	}{
		{"not looked", []record.Build{ok(record.First)}, false, ""},
		{"gone and not missed", []record.Build{ok(record.First), ok(record.Prebuilt)}, true, ""},
		{"shipped", []record.Build{ok(record.First), ok(record.Prebuilt, "elf m.so")}, true, "elf m.so"},
		{"built all the same", []record.Build{ok(record.First, "elf m.so"), ok(record.Prebuilt, "elf m.so")}, true, ""},
		{"shipped for another system", []record.Build{ok(record.First), ok(record.Prebuilt, "pe m.exe")}, true, ""},
		{"needed", []record.Build{bad(record.First, "x."), ok(record.Prebuilt)}, true, "without a.so"},
		{"fails either way", []record.Build{bad(record.First, "x."), bad(record.Prebuilt, "x.")}, true, ""},
		{"refused for what it would ship", []record.Build{ok(record.First), bad(record.Prebuilt, "It ships m.so.")}, true, "It ships m.so"},
	}
	src := plan.Source{Removed: []plan.Removed{{Path: "a.so", Kind: "elf"}}}
	for _, c := range cases {
		checked, found := prebuilt(src, c.builds)
		if checked != c.checked || (found == "") != (c.found == "") || !strings.Contains(found, c.found) {
			t.Errorf("%s: %v %q, want %v %q", c.name, checked, found, c.checked, c.found)
		}
	}
}
