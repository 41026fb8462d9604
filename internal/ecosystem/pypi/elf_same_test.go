package pypi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
)

// madeLibrary is a shared library made for a test, as a loader sees it: a segment with
// headers and tables, one with code, one with the dynamic section.
type madeLibrary struct {
	soname string
	needed []string
	rpath  string // DT_RPATH
	symbol string // that it gives
	value  uint64
	code   string
	init   uint64
	stack  elf.ProgFlag // of PT_GNU_STACK, beside RW
	moved  bool         // the names and the dynamic section are behind all the rest
	extra  elf.ProgFlag // of that segment, beside RW
	over   bool         // it is laid over the code
}

func (l madeLibrary) bytes() []byte {
	le := binary.LittleEndian
	str := []byte{0}
	put := func(s string) uint64 {
		at := len(str)
		str = append(append(str, s...), 0)
		return uint64(at)
	}
	const page, tables = 0x1000, 0x200
	sym := make([]byte, 48)
	le.PutUint32(sym[24:], uint32(put(l.symbol)))
	sym[28] = 0x12
	le.PutUint16(sym[30:], 1)
	le.PutUint64(sym[32:], l.value)
	le.PutUint64(sym[40:], 4)
	hash := make([]byte, 4*5)
	for i, v := range []uint32{1, 2, 1, 0, 0} {
		le.PutUint32(hash[4*i:], v)
	}
	type entry struct {
		tag elf.DynTag
		val uint64
	}
	var dyn []entry
	for _, n := range l.needed {
		dyn = append(dyn, entry{elf.DT_NEEDED, put(n)})
	}
	if l.soname != "" {
		dyn = append(dyn, entry{elf.DT_SONAME, put(l.soname)})
	}
	if l.rpath != "" {
		dyn = append(dyn, entry{elf.DT_RPATH, put(l.rpath)})
	}
	out := make([]byte, 3*page, 4*page)
	for i := range out {
		out[i] = byte(i % 7) // what is between
	}
	strAt, dynAt := uint64(tables+0x100), uint64(2*page)
	if l.moved {
		strAt, dynAt = 3*page, 3*page+0x400
		out = append(out, make([]byte, page)...)
	}
	dyn = append(dyn, entry{elf.DT_HASH, tables}, entry{elf.DT_STRTAB, strAt}, entry{elf.DT_SYMTAB, tables + 0x40}, entry{elf.DT_STRSZ, uint64(len(str))},
		entry{elf.DT_SYMENT, 24}, entry{elf.DT_INIT, page + l.init}, entry{elf.DT_NULL, 0})
	copy(out[tables:], hash)
	copy(out[tables+0x40:], sym)
	copy(out[strAt:], str)
	var d bytes.Buffer
	for _, e := range dyn {
		binary.Write(&d, le, []uint64{uint64(e.tag), e.val})
	}
	copy(out[dynAt:], d.Bytes())
	copy(out[page:], l.code)
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Filesz: page, Memsz: page, Align: page},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: page, Vaddr: page, Filesz: page, Memsz: page, Align: page},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: 2 * page, Vaddr: 2 * page, Filesz: page, Memsz: page, Align: page},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R | elf.PF_W), Off: dynAt, Vaddr: dynAt, Filesz: uint64(d.Len()), Memsz: uint64(d.Len()), Align: 8},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W | l.stack), Align: 16},
	}
	if l.moved {
		at := uint64(3 * page)
		if l.over {
			at = page
		}
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | l.extra), Off: 3 * page, Vaddr: at, Filesz: page, Memsz: page, Align: page})
	}
	names := "\x00.hash\x00.dynsym\x00.dynstr\x00.dynamic\x00.shstrtab\x00"
	sections := []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_HASH), Flags: uint64(elf.SHF_ALLOC), Addr: tables, Off: tables, Size: uint64(len(hash)), Link: 2, Entsize: 4},
		{Name: 7, Type: uint32(elf.SHT_DYNSYM), Flags: uint64(elf.SHF_ALLOC), Addr: tables + 0x40, Off: tables + 0x40, Size: uint64(len(sym)), Link: 3, Entsize: 24},
		{Name: 15, Type: uint32(elf.SHT_STRTAB), Flags: uint64(elf.SHF_ALLOC), Addr: strAt, Off: strAt, Size: uint64(len(str))},
		{Name: 23, Type: uint32(elf.SHT_DYNAMIC), Flags: uint64(elf.SHF_ALLOC | elf.SHF_WRITE), Addr: dynAt, Off: dynAt, Size: uint64(d.Len()), Link: 3, Entsize: 16},
		{Name: 32, Type: uint32(elf.SHT_STRTAB), Off: uint64(len(out)), Size: uint64(len(names))},
	}
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Phentsize: 56, Phnum: uint16(len(progs)), Ehsize: 64,
		Shoff: uint64(len(out) + len(names)), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var head bytes.Buffer
	binary.Write(&head, le, h)
	binary.Write(&head, le, progs)
	copy(out, head.Bytes())
	tail := bytes.NewBuffer(append(out, names...))
	binary.Write(tail, le, sections)
	return tail.Bytes()
}

// someLibrary is one that the changes of tests begin at.
func someLibrary() madeLibrary {
	return madeLibrary{soname: "liby.so.0", needed: []string{"libc.so.6", "libz.so.1"}, symbol: "yes", value: 0x1004, code: "\xc3\xc3\xc3\xc3what it does"}
}

// TestSameButNames: names may change, and tables that hold them may move. Whatever else a
// loader sees of the file may not.
func TestSameButNames(t *testing.T) {
	was := someLibrary().bytes()
	for _, c := range []struct {
		name   string
		change func(*madeLibrary)
		bad    string
	}{
		{"nothing", func(*madeLibrary) {}, ""},
		{"names", func(l *madeLibrary) {
			l.soname, l.needed[1], l.rpath, l.moved = "liby-12345678.so.0", "libz-87654321.so.1", "$ORIGIN", true
		}, ""},
		{"code", func(l *madeLibrary) { l.code = "\xc3\xc3\xc3\xc3what it did" }, "what is loaded at 0x100d"},
		{"one more", func(l *madeLibrary) { l.needed, l.moved = append(l.needed, "libw.so"), true }, "asks for more"},
		{"one less", func(l *madeLibrary) { l.needed = l.needed[:1] }, "asks for more, or for less"},
		{"a symbol's name", func(l *madeLibrary) { l.symbol, l.moved = "no!", true }, `symbol "no!"`},
		{"a symbol's place", func(l *madeLibrary) { l.value, l.moved = 0x1008, true }, `symbol "yes"`},
		{"where it begins", func(l *madeLibrary) { l.init, l.moved = 8, true }, "DT_INIT"},
		{"the stack", func(l *madeLibrary) { l.stack, l.moved = elf.PF_X, true }, "program headers"},
		{"code behind", func(l *madeLibrary) { l.moved, l.extra = true, elf.PF_X }, "has a segment"},
		{"code over code", func(l *madeLibrary) { l.moved, l.over = true, true }, ""},
	} {
		l := someLibrary()
		c.change(&l)
		before, after, err := sameButNames(bytes.NewReader(was), bytes.NewReader(l.bytes()))
		switch {
		case c.name == "code over code":
			if err == nil {
				t.Errorf("%s: it is taken for the same", c.name)
			}
		case c.bad == "":
			if err != nil || before.soname != "liby.so.0" || after.soname != l.soname || after.needed[1] != l.needed[1] || strings.Join(after.paths, ":") != l.rpath {
				t.Errorf("%s: %+v, %+v, %v", c.name, before, after, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.bad):
			t.Errorf("%s: %v, want %q", c.name, err, c.bad)
		}
	}
	for _, b := range [][]byte{nil, []byte("\x7fELF"), was[:0x1800], elfOf(elfSpec{machine: elf.EM_AARCH64})} {
		if _, _, err := sameButNames(bytes.NewReader(was), bytes.NewReader(b)); err == nil {
			t.Errorf("%d bytes are taken for the same", len(b))
		}
	}
}

// FuzzSameButNames: whatever a file says of itself, reading it ends, and a file is itself.
func FuzzSameButNames(f *testing.F) {
	l := someLibrary()
	f.Add(l.bytes())
	l.moved = true
	f.Add(l.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		was := someLibrary().bytes()
		sameButNames(bytes.NewReader(was), bytes.NewReader(b))
		if x, y, err := sameButNames(bytes.NewReader(b), bytes.NewReader(b)); err == nil && x.soname != y.soname {
			t.Errorf("%q is not %q", x.soname, y.soname)
		}
	})
}
