package pypi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// librariesJSON says which library a header, a linker's option, a name of
// pkg-config or of CMake, or a program belongs to. It is knowledge about system
// libraries, for sentences; it decides nothing.
//
//go:embed libraries.json
var librariesJSON []byte

// library is a system library that builds look for.
type library struct {
	Name      string   `json:"name"`
	PkgConfig []string `json:"pkgconfig"` // the first is named to people
	Headers   []string `json:"headers"`   // as included; with a slash at the end: all in that folder
	Link      []string `json:"link"`      // behind -l
	Programs  []string `json:"programs"`
	Names     []string `json:"names"` // as CMake, Meson and messages call it, in lower case
}

// libraries finds a library, or what a program is, by each of its names.
type libraries struct {
	header, folder, pkgconfig, link, named, program map[string]*library
	kinds                                           map[string]string // program to what it is
}

var systemLibraries = readLibraries(librariesJSON)

func readLibraries(b []byte) libraries {
	var doc struct {
		Libraries []library `json:"libraries"`
		Programs  []struct {
			Name     string   `json:"name"`
			Programs []string `json:"programs"`
		} `json:"programs"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		panic(fmt.Sprintf("the embedded libraries.json: %v", err)) // a test reads it
	}
	k := libraries{kinds: map[string]string{}}
	for _, m := range []*map[string]*library{&k.header, &k.folder, &k.pkgconfig, &k.link, &k.named, &k.program} {
		*m = map[string]*library{}
	}
	fill := func(to map[string]*library, l *library, names []string) {
		for _, n := range names {
			if to[n] == nil {
				to[n] = l
			}
		}
	}
	for i := range doc.Libraries {
		l := &doc.Libraries[i]
		for _, h := range l.Headers {
			if dir, ok := strings.CutSuffix(h, "/"); ok {
				fill(k.folder, l, []string{dir})
			} else {
				fill(k.header, l, []string{h})
			}
		}
		fill(k.pkgconfig, l, l.PkgConfig)
		fill(k.link, l, l.Link)
		fill(k.program, l, l.Programs)
		fill(k.named, l, l.Names)
		fill(k.named, l, []string{strings.ToLower(l.Name)})
	}
	for _, p := range doc.Programs {
		for _, n := range p.Programs {
			k.kinds[n] = p.Name
		}
	}
	return k
}

// ofHeader finds the library whose header h, as it is included, is; nil if it is
// in no table.
func (k libraries) ofHeader(h string) *library {
	if l := k.header[h]; l != nil {
		return l
	}
	dir, rest, ok := strings.Cut(h, "/")
	if !ok {
		return nil
	}
	if l := k.folder[dir]; l != nil {
		return l
	}
	// A header included through a folder of another's: "postgresql/libpq-fe.h".
	return k.ofHeader(rest)
}

// ofName finds a library by a name in a message: that of pkg-config, of CMake or
// of Meson, or of its file.
func (k libraries) ofName(n string) *library {
	low := strings.ToLower(n)
	for _, m := range []map[string]*library{k.pkgconfig, k.named, k.link} {
		for _, s := range []string{n, low, strings.TrimPrefix(low, "lib")} {
			if l := m[s]; l != nil {
				return l
			}
		}
	}
	return nil
}

// pkgConfigOf is "pkg-config NAME" of a library, "" if it has none.
func pkgConfigOf(l *library) string {
	if l == nil || len(l.PkgConfig) == 0 {
		return ""
	}
	return "pkg-config " + l.PkgConfig[0]
}

// describe adds in parentheses what is known of a missing thing beside its name.
func describe(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, ", ") + ")"
}
