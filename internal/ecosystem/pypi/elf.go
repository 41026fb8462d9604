package pypi

import (
	"debug/elf"
	"fmt"
	"io"
	"path"
	"sort"
	"strconv"
	"strings"

	"hallmark/internal/archive"
)

// ManylinuxProfile is one published platform profile: which versions of the
// symbols of the C and C++ run-time libraries it promises, and which libraries.
type ManylinuxProfile struct {
	Tag     string            // "manylinux_2_17_x86_64"
	Newest  map[string]string // newest symbol version by prefix: "GLIBC": "2.17"
	Special map[string]bool   // versions that are no numbers: "CXXABI_TM_1"
	Libs    map[string]bool   // libraries that may be linked from outside the wheel
}

// The libraries that every profile promises: PEP 513 (section "The manylinux1
// policy"), without libpanelw and libncursesw, which were taken off the list again
// (PEP 571 and its discussion); libz, libexpat, libatomic and libmvec as PEP 599's
// and PEP 600's maintained profiles have them since. X and GL as in PEP 513.
const manylinuxLibs = "libatomic.so.1 libgcc_s.so.1 libstdc++.so.6 libm.so.6 libanl.so.1 libdl.so.2 librt.so.1 " +
	"libc.so.6 libnsl.so.1 libutil.so.1 libpthread.so.0 libresolv.so.2 libz.so.1 " +
	"libX11.so.6 libXext.so.6 libXrender.so.1 libICE.so.6 libSM.so.6 libGL.so.1 " +
	"libgobject-2.0.so.0 libgthread-2.0.so.0 libglib-2.0.so.0"

// Manylinux is the profiles for x86_64, oldest first. Limits: PEP 513 (2_5), PEP
// 571 (2_12), PEP 599 (2_17); for the later ones PEP 600 asks that a wheel runs on
// all mainstream distributions with that glibc, and the numbers are those of the
// oldest libgcc, libstdc++ and zlib among them, as the profiles' maintainers
// publish them. A profile that is not listed here is never chosen.
func Manylinux() []ManylinuxProfile {
	rows := []struct{ glibc, gcc, glibcxx, cxxabi, zlib, atomic, special, libs string }{
		{"2.5", "4.2.0", "3.4.8", "1.3.1", "", "", "", ""},
		{"2.12", "4.3.0", "3.4.13", "1.3.3", "1.2.2.4", "", "", "libexpat.so.1"},
		{"2.17", "4.8.0", "3.4.19", "1.3.7", "1.2.5.2", "", "CXXABI_TM_1", "libexpat.so.1"},
		{"2.24", "4.8.0", "3.4.22", "1.3.10", "1.2.5.2", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.26", "4.8.0", "3.4.22", "1.3.10", "1.2.5.2", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.27", "7.0.0", "3.4.24", "1.3.11", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.28", "7.0.0", "3.4.24", "1.3.11", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.31", "7.0.0", "3.4.28", "1.3.12", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.34", "7.0.0", "3.4.29", "1.3.13", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.35", "12.0.0", "3.4.30", "1.3.13", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128", "libexpat.so.1 libmvec.so.1"},
		{"2.36", "12.0.0", "3.4.30", "1.3.13", "1.2.9", "1.2", "CXXABI_TM_1 CXXABI_FLOAT128 GLIBC_ABI_DT_RELR", "libexpat.so.1 libmvec.so.1"},
	}
	var out []ManylinuxProfile
	for _, r := range rows {
		p := ManylinuxProfile{
			Tag: "manylinux_" + strings.ReplaceAll(r.glibc, ".", "_") + "_x86_64",
			Newest: map[string]string{"GLIBC": r.glibc, "GCC": r.gcc, "GLIBCXX": r.glibcxx,
				"CXXABI": r.cxxabi, "ZLIB": r.zlib, "LIBATOMIC": r.atomic},
			Special: map[string]bool{}, Libs: map[string]bool{"ld-linux-x86-64.so.2": true},
		}
		for _, s := range strings.Fields(r.special) {
			p.Special[s] = true
		}
		for _, l := range strings.Fields(manylinuxLibs + " " + r.libs) {
			p.Libs[l] = true
		}
		out = append(out, p)
	}
	return out
}

// allows tells whether the profile promises symbol version v, such as
// "GLIBC_2.17" or "CXXABI_TM_1".
func (p ManylinuxProfile) allows(v string) bool {
	if p.Special[v] {
		return true
	}
	prefix, number, ok := strings.Cut(v, "_")
	newest := p.Newest[prefix]
	return ok && newest != "" && dotted(number) && compareDotted(number, newest) <= 0
}

// dotted tells whether s is numbers with dots between them.
func dotted(s string) bool {
	for _, part := range strings.Split(s, ".") {
		if _, err := strconv.ParseUint(part, 10, 31); err != nil {
			return false
		}
	}
	return true
}

// compareDotted compares two dotted numbers.
func compareDotted(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x - y
		}
	}
	return 0
}

// elfNeeds is what one ELF file asks of the machine.
type elfNeeds struct {
	path     string
	libs     []string            // DT_NEEDED
	versions map[string][]string // symbol versions by library
	runpath  []string            // DT_RUNPATH or DT_RPATH, split
	problem  string              // if it cannot be judged
	fpectl   bool                // uses the symbols of a Python built with fpectl
}

// PlatformTag finds the lowest of profiles (Manylinux) that a wheel keeps to. For
// a pure wheel it is "any". Where no profile fits, or nothing native is in the
// wheel, the wheel's own platform tag is returned, and problems says why, a
// sentence each, sorted.
func PlatformTag(name string, profiles []ManylinuxProfile) (tag string, problems []string, err error) {
	o, err := openWheel(name)
	if err != nil {
		return "", nil, err
	}
	defer o.close()
	own := wheelFileName.FindStringSubmatch(o.wheel.File)[6]
	needs, inside, err := o.elfFiles()
	if err != nil {
		return "", nil, fmt.Errorf("wheel %q: %w", o.wheel.File, err)
	}
	switch {
	case own == "any" && len(needs) == 0:
		return "any", nil, nil
	case own == "any":
		return own, []string{fmt.Sprintf("its tag promises every platform, yet it ships the native file %s", needs[0].path)}, nil
	case len(needs) == 0:
		return own, []string{"its tag names a platform, yet it ships no native file that needs one"}, nil
	case len(profiles) == 0:
		return own, []string{"no platform profile is known"}, nil
	}
	if problems = beyondAll(needs, inside, profiles[len(profiles)-1], nil); len(problems) > 0 {
		return own, problems, nil
	}
	for _, p := range profiles {
		if p.promises(needs, inside) {
			return p.Tag, nil, nil
		}
	}
	return own, []string{"no single platform profile promises all that it needs"}, nil
}

// beyondAll lists what not even the newest profile allows, but for what libraries that
// are given need and have.
func beyondAll(needs []elfNeeds, inside map[string][]string, newest ManylinuxProfile, given func(lib string) bool) []string {
	if given == nil {
		given = func(string) bool { return false }
	}
	set := map[string]bool{}
	for _, n := range needs {
		if n.problem != "" {
			set[n.path+" "+n.problem] = true
			continue
		}
		if n.fpectl {
			set[n.path+" uses a symbol that only a Python with fpectl has (PEP 513)"] = true
		}
		for _, lib := range n.libs {
			switch {
			case n.finds(lib, inside), newest.Libs[lib], given(lib):
			case strings.HasPrefix(lib, "libpython"):
				set[fmt.Sprintf("%s links %s: an extension must take Python's symbols from the running program (PEP 513)", n.path, lib)] = true
			default:
				set[fmt.Sprintf("%s links %s, which the platform does not promise", n.path, lib)] = true
			}
		}
		for lib, versions := range n.versions {
			if n.finds(lib, inside) || !newest.Libs[lib] || given(lib) {
				continue
			}
			for _, v := range versions {
				if !newest.allows(v) {
					set[fmt.Sprintf("%s needs symbol version %s of %s, newer than any known platform promises", n.path, v, lib)] = true
				}
			}
		}
	}
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

// promises tells whether the profile promises all that is needed.
func (p ManylinuxProfile) promises(needs []elfNeeds, inside map[string][]string) bool {
	for _, n := range needs {
		for _, lib := range n.libs {
			if !n.finds(lib, inside) && !p.Libs[lib] {
				return false
			}
		}
		for lib, versions := range n.versions {
			if n.finds(lib, inside) {
				continue
			}
			for _, v := range versions {
				if !p.allows(v) {
					return false
				}
			}
		}
	}
	return true
}

// finds tells whether the loader finds lib inside the wheel, through a path that
// begins at the file's own place ($ORIGIN, ld.so(8)).
func (n elfNeeds) finds(lib string, inside map[string][]string) bool {
	for _, rp := range n.runpath {
		rest, ok := strings.CutPrefix(rp, "$ORIGIN")
		if !ok {
			if rest, ok = strings.CutPrefix(rp, "${ORIGIN}"); !ok {
				continue
			}
		}
		want := path.Join(path.Dir(n.path), rest, lib)
		for _, p := range inside[lib] {
			if p == want {
				return true
			}
		}
	}
	return false
}

// elfFiles reads every ELF member, and lists where in the environment each base
// name is.
func (o *openedWheel) elfFiles() (needs []elfNeeds, inside map[string][]string, err error) {
	inside = map[string][]string{}
	for _, f := range o.wheel.Files {
		target, _, skip, err := o.wheel.target(f.Path, buildScheme)
		if err != nil {
			return nil, nil, err
		}
		if skip {
			continue
		}
		place := strings.TrimPrefix(strings.TrimPrefix(target, SitePackages+"/"), EnvPrefix+"/")
		inside[path.Base(place)] = append(inside[path.Base(place)], place)
		rc, err := archive.ReadZipEntry(o.index[f.Path])
		if err != nil {
			return nil, nil, err
		}
		content, size, done, err := archive.Spool(rc, wheelLimits().File, f.Path)
		rc.Close()
		if err != nil {
			return nil, nil, err
		}
		if archive.Kind(content, size) == "elf" {
			if n := readELF(io.NewSectionReader(content, 0, size), place); n != nil {
				needs = append(needs, *n)
			}
		}
		done()
	}
	return needs, inside, nil
}

// readELF reads what an ELF file needs; nil if it is one that no loader ever
// loads, such as an object file.
func readELF(r io.ReaderAt, place string) (n *elfNeeds) {
	n = &elfNeeds{path: place, versions: map[string][]string{}}
	f, err := elf.NewFile(r)
	if err != nil {
		n.problem = "is a damaged ELF file: " + err.Error()
		return n
	}
	defer f.Close()
	switch {
	case f.Type != elf.ET_DYN && f.Type != elf.ET_EXEC:
		return nil
	case f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64:
		n.problem = fmt.Sprintf("is for another machine (%s, %s)", f.Machine, f.Class)
		return n
	}
	switch dynamic, agree := dynamicSection(f); {
	case !agree:
		n.problem = "has no section table, or another one than the loader sees, so what it links cannot be read"
		return n
	case !dynamic: // static
		return n
	}
	if n.libs, err = f.ImportedLibraries(); err != nil {
		n.problem = "has a damaged dynamic section: " + err.Error()
		return n
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, _ := f.DynString(tag)
		for _, p := range paths {
			n.runpath = append(n.runpath, strings.Split(p, ":")...)
		}
		if len(n.runpath) > 0 {
			break // DT_RUNPATH, where it is, silences DT_RPATH
		}
	}
	if f.SectionByType(elf.SHT_GNU_VERNEED) != nil {
		vs, err := f.DynamicVersionNeeds()
		if err != nil {
			n.problem = "has a damaged table of symbol versions: " + err.Error()
			return n
		}
		for _, v := range vs {
			for _, d := range v.Needs {
				n.versions[v.Name] = append(n.versions[v.Name], d.Dep)
			}
		}
	}
	symbols, err := f.DynamicSymbols()
	if err == nil {
		for _, s := range symbols {
			if s.Section == elf.SHN_UNDEF && s.Name == "PyFPE_jbuf" {
				n.fpectl = true
			}
		}
	}
	return n
}

// dynamicSection tells whether f is dynamically linked, and whether its section
// table, which is read here, and its program headers, which the loader reads, mean
// the same dynamic section.
func dynamicSection(f *elf.File) (dynamic, agree bool) {
	s := f.SectionByType(elf.SHT_DYNAMIC)
	for _, p := range f.Progs {
		if p.Type == elf.PT_DYNAMIC {
			return true, s != nil && s.Offset == p.Off && s.FileSize == p.Filesz
		}
	}
	return false, s == nil
}
