package debian_test

import (
	"maps"
	"slices"
	"testing"

	"hallmark/internal/ecosystem/debian"
	"hallmark/seed"
)

// What the committed seed says of its programs; TestSeedWorks asks the programs
// themselves.
func TestPrograms(t *testing.T) {
	pin, err := debian.ParsePin(seed.Bookworm)
	if err != nil {
		t.Fatal(err)
	}
	got := pin.Programs()
	want := map[string]string{"cmake": "3.25.1", "ninja": "1.11.1", "patchelf": "0.14.3", "pkg-config": "1.8.1", "pkgconf": "1.8.1"}
	if !maps.Equal(got, want) {
		t.Errorf("programs of the seed: %v", got)
	}
	if names := debian.ProgramNames(); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		t.Errorf("names of programs: %v", names)
	}
}

func TestProgramsOfOtherPins(t *testing.T) {
	for version, want := range map[string]string{
		"3.25.1-1":             "3.25.1",
		"1:2.0+dfsg-3":         "2.0",
		"3.31.6-2~bpo12+1":     "3.31.6",
		"4.0~rc1-1":            "4.0",
		"2:1.9+really1.8-1+b2": "1.9",
		"20240101-1":           "20240101",
	} {
		p := debian.Pin{Packages: []debian.Package{{Name: "cmake", Version: version}}}
		if got := p.Programs(); len(got) != 1 || got["cmake"] != want {
			t.Errorf("%s: %v, want cmake %s and nothing else", version, got, want)
		}
	}
	if got := (debian.Pin{}).Programs(); len(got) != 0 {
		t.Errorf("an empty pin has programs: %v", got)
	}
}
