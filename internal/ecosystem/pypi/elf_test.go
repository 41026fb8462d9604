package pypi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// elfSpec is an ELF shared library made for a test.
type elfSpec struct {
	libs     []string
	versions []string // "libc.so.6:GLIBC_2.17"
	runpath  string
	symbol   string // an undefined one
	machine  elf.Machine
	kind     elf.Type
	bare     bool // without a section table
}

// elfOf writes a little-endian ELF64 file with the sections that matter.
func elfOf(s elfSpec) []byte {
	le := binary.LittleEndian
	if s.machine == 0 {
		s.machine = elf.EM_X86_64
	}
	if s.kind == 0 {
		s.kind = elf.ET_DYN
	}
	str := []byte{0}
	put := func(v string) uint64 {
		at := len(str)
		str = append(append(str, v...), 0)
		return uint64(at)
	}
	var dyn bytes.Buffer
	tag := func(t elf.DynTag, v uint64) { binary.Write(&dyn, le, []uint64{uint64(t), v}) }
	for _, l := range s.libs {
		tag(elf.DT_NEEDED, put(l))
	}
	if s.runpath != "" {
		tag(elf.DT_RUNPATH, put(s.runpath))
	}
	tag(elf.DT_NULL, 0)
	var need bytes.Buffer
	for i, v := range s.versions {
		lib, version, _ := strings.Cut(v, ":")
		next := uint32(32)
		if i == len(s.versions)-1 {
			next = 0
		}
		binary.Write(&need, le, struct {
			Version, Count  uint16
			File, Aux, Next uint32
			Hash            uint32
			Flags, Other    uint16
			Name, NextAux   uint32
		}{1, 1, uint32(put(lib)), 16, next, 0, 0, uint16(i + 2), uint32(put(version)), 0})
	}
	sym := make([]byte, 24)
	if s.symbol != "" {
		sym = append(sym, make([]byte, 24)...)
		le.PutUint32(sym[24:], uint32(put(s.symbol)))
	}
	versym := make([]byte, len(sym)/12)
	names := []byte{0}
	type section struct {
		kind     elf.SectionType
		link     uint32
		entry    uint64
		body     []byte
		name     uint32
		off, len uint64
	}
	sections := []section{{}, {kind: elf.SHT_STRTAB, body: str}, {kind: elf.SHT_DYNAMIC, link: 1, entry: 16, body: dyn.Bytes()},
		{kind: elf.SHT_DYNSYM, link: 1, entry: 24, body: sym}}
	if len(s.versions) > 0 {
		sections = append(sections, section{kind: elf.SHT_GNU_VERSYM, link: 3, entry: 2, body: versym},
			section{kind: elf.SHT_GNU_VERNEED, link: 1, body: need.Bytes()})
	}
	for i := 1; i < len(sections); i++ {
		sections[i].name = uint32(len(names))
		names = append(append(names, "."+strings.ToLower(strings.TrimPrefix(sections[i].kind.String(), "SHT_"))...), 0)
	}
	sections = append(sections, section{kind: elf.SHT_STRTAB, body: names})
	var body bytes.Buffer
	for i := range sections {
		sections[i].off, sections[i].len = 64+56+uint64(body.Len()), uint64(len(sections[i].body))
		body.Write(sections[i].body)
	}
	h := elf.Header64{Type: uint16(s.kind), Machine: uint16(s.machine), Version: 1, Phoff: 64, Phentsize: 56, Phnum: 1, Ehsize: 64,
		Shoff: 64 + 56 + uint64(body.Len()), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	if s.bare {
		h.Shoff, h.Shnum, h.Shstrndx = 0, 0, 0
	}
	var out bytes.Buffer
	binary.Write(&out, le, h)
	binary.Write(&out, le, elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Off: sections[2].off, Filesz: sections[2].len, Memsz: sections[2].len})
	out.Write(body.Bytes())
	for i, sec := range sections {
		if !s.bare {
			binary.Write(&out, le, elf.Section64{Name: sec.name, Type: uint32(sec.kind), Link: sec.link, Entsize: sec.entry, Off: sections[i].off, Size: sections[i].len})
		}
	}
	return out.Bytes()
}

func TestPlatformTag(t *testing.T) {
	libc := []string{"libc.so.6"}
	tests := []struct {
		name     string
		spec     elfSpec
		more     []wheelMember
		tag      string
		problems []string
	}{
		{"no symbols", elfSpec{libs: libc}, nil, "manylinux_2_5_x86_64", nil},
		{"old", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_2.2.5", "libc.so.6:GLIBC_2.4"}}, nil, "manylinux_2_5_x86_64", nil},
		{"2.14", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_2.14"}}, nil, "manylinux_2_17_x86_64", nil},
		{"2.34", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_2.34", "libc.so.6:GLIBC_2.2.5"}}, nil, "manylinux_2_34_x86_64", nil},
		{"2.36", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_2.36", "libc.so.6:GLIBC_ABI_DT_RELR"}}, nil, "manylinux_2_36_x86_64", nil},
		{"c++", elfSpec{libs: []string{"libstdc++.so.6"}, versions: []string{"libstdc++.so.6:GLIBCXX_3.4.29", "libstdc++.so.6:CXXABI_1.3"}}, nil, "manylinux_2_34_x86_64", nil},
		{"c++ abi", elfSpec{libs: []string{"libstdc++.so.6"}, versions: []string{"libstdc++.so.6:CXXABI_TM_1"}}, nil, "manylinux_2_17_x86_64", nil},
		{"gcc", elfSpec{libs: []string{"libgcc_s.so.1"}, versions: []string{"libgcc_s.so.1:GCC_12.0.0"}}, nil, "manylinux_2_35_x86_64", nil},
		{"expat", elfSpec{libs: []string{"libexpat.so.1"}}, nil, "manylinux_2_12_x86_64", nil},
		{"too new", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_2.99"}}, nil, "linux_x86_64",
			[]string{"demo/x.so needs symbol version GLIBC_2.99 of libc.so.6, newer than any known platform promises"}},
		{"private", elfSpec{libs: libc, versions: []string{"libc.so.6:GLIBC_PRIVATE"}}, nil, "linux_x86_64",
			[]string{"demo/x.so needs symbol version GLIBC_PRIVATE of libc.so.6, newer than any known platform promises"}},
		{"outside", elfSpec{libs: []string{"libyaml-0.so.2", "libc.so.6"}, versions: []string{"libyaml-0.so.2:X_1"}}, nil, "linux_x86_64",
			[]string{"demo/x.so links libyaml-0.so.2, which the platform does not promise"}},
		{"libpython", elfSpec{libs: []string{"libpython3.11.so.1.0"}}, nil, "linux_x86_64",
			[]string{"demo/x.so links libpython3.11.so.1.0: an extension must take Python's symbols from the running program (PEP 513)"}},
		{"in the wheel", elfSpec{libs: []string{"libq.so"}, runpath: "/usr/lib:$ORIGIN/../libs"}, []wheelMember{{name: "libs/libq.so", body: string(elfOf(elfSpec{}))}}, "manylinux_2_5_x86_64", nil},
		{"in the wheel, not found", elfSpec{libs: []string{"libq.so"}}, []wheelMember{{name: "libs/libq.so", body: string(elfOf(elfSpec{}))}}, "linux_x86_64",
			[]string{"demo/x.so links libq.so, which the platform does not promise"}},
		{"other machine", elfSpec{machine: elf.EM_AARCH64}, nil, "linux_x86_64", []string{"demo/x.so is for another machine (EM_AARCH64, ELFCLASS64)"}},
		{"object file", elfSpec{kind: elf.ET_REL}, nil, "linux_x86_64", []string{"its tag names a platform, yet it ships no native file that needs one"}},
		{"no sections", elfSpec{bare: true, libs: []string{"libyaml-0.so.2"}}, nil, "linux_x86_64",
			[]string{"demo/x.so has no section table, or another one than the loader sees, so what it links cannot be read"}},
		{"fpectl", elfSpec{libs: libc, symbol: "PyFPE_jbuf"}, nil, "linux_x86_64", []string{"demo/x.so uses a symbol that only a Python with fpectl has (PEP 513)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := demo(append(tt.more, wheelMember{name: "demo/x.so", body: string(elfOf(tt.spec))})...)
			tag, problems, err := PlatformTag(p.write(t), Manylinux())
			if err != nil || tag != tt.tag || !slices.Equal(problems, tt.problems) {
				t.Errorf("got %s %q %v", tag, problems, err)
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		tag, problems, err := PlatformTag(demo(wheelMember{name: "x.so", body: "\x7fELF\x02\x01\x01 and then nothing"}).write(t), Manylinux())
		if err != nil || tag != "linux_x86_64" || len(problems) != 1 || !strings.Contains(problems[0], "damaged") {
			t.Errorf("got %s %q %v", tag, problems, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		tag, problems, err := PlatformTag(demo().write(t), Manylinux())
		if err != nil || tag != "linux_x86_64" || len(problems) != 1 {
			t.Errorf("got %s %q %v", tag, problems, err)
		}
	})
}

// A profile promises whatever an older one promises.
func TestManylinuxOnlyGrows(t *testing.T) {
	all := Manylinux()
	for i := 1; i < len(all); i++ {
		for prefix, v := range all[i-1].Newest {
			if v != "" && !all[i].allows(prefix+"_"+v) {
				t.Errorf("%s does not promise %s_%s", all[i].Tag, prefix, v)
			}
		}
		for lib := range all[i-1].Libs {
			if !all[i].Libs[lib] {
				t.Errorf("%s does not promise %s", all[i].Tag, lib)
			}
		}
		for s := range all[i-1].Special {
			if !all[i].Special[s] {
				t.Errorf("%s does not promise %s", all[i].Tag, s)
			}
		}
	}
}
