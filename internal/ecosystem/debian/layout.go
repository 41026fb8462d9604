package debian

import (
	_ "embed"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LayoutVersion names the rules by which a set of packages becomes a tree. Any
// change of the rules, or of layout.json, that can change a byte of the tree
// needs a new one, since the pin's digest covers the name and not the rules.
const LayoutVersion = "hallmark-seed-layout/2"

//go:embed layout.json
var layoutJSON []byte

// layout is what takes the place of the maintainer scripts, as data.
type layout struct {
	Version string   `json:"version"`
	Time    int64    `json:"time"`    // seconds since the epoch: the time of all that we make ourselves
	Exclude []string `json:"exclude"` // folders whose contents are left out, with a slash at the end
	Keep    []string `json:"keep"`    // names of files that stay in them all the same
	// Objects are the names of the object files and archives that stay. Whatever a
	// linker copies out of the tree into a result comes from one of these.
	Objects []string `json:"objects"`
	Folders []struct {
		Path string `json:"path"`
		Mode string `json:"mode"` // octal
	} `json:"folders"`
	Links []struct {
		Path    string   `json:"path"`
		Targets []string `json:"targets"` // the first that is there
		Always  bool     `json:"always"`  // even if the target is not there
	} `json:"links"` // made only where no package has the path
	Files []struct {
		Path  string   `json:"path"`
		Mode  string   `json:"mode"`
		Lines []string `json:"lines"`
	} `json:"files"`
	Loader []string `json:"loader"` // folders of the loader's cache, in order
}

// rules are those of layout.json. They are part of the program, so that a fault
// in them is one of the program.
var rules = sync.OnceValue(func() layout {
	var l layout
	if err := strictJSON(layoutJSON, 1<<20, &l); err != nil {
		panic("debian: layout.json: " + err.Error())
	}
	if l.Version != LayoutVersion {
		panic("debian: layout.json is of version " + l.Version)
	}
	return l
})

// excluded tells whether the rules leave out a path. A link directly below an
// excluded folder stays: Debian's doc folders of one source are links to one
// another, and the copyright file is reached through them.
func (l layout) excluded(p string, isLink bool) bool {
	for _, x := range l.Exclude {
		rest, ok := strings.CutPrefix(p, x)
		if !ok {
			if p+"/" == x {
				return false // the folder itself stays, empty
			}
			continue
		}
		if isLink && x == "usr/share/doc/" && !strings.Contains(rest, "/") {
			return false
		}
		for _, k := range l.Keep {
			if path.Base(p) == k {
				return false
			}
		}
		return true
	}
	return false
}

// unlinkable tells whether a path is an object file or an archive that the rules
// leave out. size is that of a regular file: an archive of emptyArchive bytes has
// no members, and stays because linkers ask for it by name.
func (l layout) unlinkable(p string, size int64) bool {
	if !strings.HasSuffix(p, ".o") && !strings.HasSuffix(p, ".a") {
		return false
	}
	return size != emptyArchive && !slices.Contains(l.Objects, path.Base(p))
}

// emptyArchive is the size of an ar archive without members: its magic alone.
const emptyArchive = int64(len("!<arch>\n"))

func (l layout) time() time.Time { return time.Unix(l.Time, 0).UTC() }

func octal(s string) uint32 {
	n, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		panic("debian: layout.json: mode " + s)
	}
	return uint32(n)
}
