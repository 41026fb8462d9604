package archive

import (
	"debug/elf"
	"io"
	"path"
	"slices"
)

// Linkage is what a native file asks its loader for, and what it can be asked for as.
type Linkage struct {
	Needs []string // names of libraries (DT_NEEDED) and of its loader (PT_INTERP), without folders, sorted
	Name  string   // DT_SONAME; empty: none
}

// Limits of what is read of one file's linkage.
const (
	maxNeeds      = 1000 // names
	maxLinkedName = 255  // bytes of one
)

// ReadLinkage reads the linkage of an ELF file (System V ABI, "Dynamic Section"). ok is
// false where it cannot be read: then nothing is known of it. A file that is not linked
// dynamically needs nothing.
func ReadLinkage(r io.ReaderAt) (l Linkage, ok bool) {
	// What debug/elf makes of hostile bytes is an error; a panic of it is taken for one.
	defer func() {
		if recover() != nil {
			l, ok = Linkage{}, false
		}
	}()
	f, err := elf.NewFile(r)
	if err != nil {
		return Linkage{}, false
	}
	dynamic := false
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_DYNAMIC:
			dynamic = true
		case elf.PT_INTERP:
			b := make([]byte, min(p.Filesz, 4096))
			if _, err := p.ReadAt(b, 0); err != nil && err != io.EOF {
				return Linkage{}, false
			}
			if i := slices.Index(b, 0); i >= 0 {
				b = b[:i]
			}
			l.Needs = append(l.Needs, path.Base(string(b)))
		}
	}
	if !dynamic {
		return l, f.Type == elf.ET_EXEC || f.Type == elf.ET_REL || f.Type == elf.ET_DYN
	}
	libs, err := f.DynString(elf.DT_NEEDED)
	if err != nil || len(libs) > maxNeeds {
		return Linkage{}, false
	}
	for _, s := range libs {
		l.Needs = append(l.Needs, path.Base(s))
	}
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) == 1 {
		l.Name = names[0]
	}
	for _, s := range append(slices.Clone(l.Needs), l.Name) {
		if len(s) > maxLinkedName {
			return Linkage{}, false
		}
	}
	slices.Sort(l.Needs)
	l.Needs = slices.Compact(l.Needs)
	return l, true
}
