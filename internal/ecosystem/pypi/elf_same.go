package pypi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// A library that is put into a wheel is found there by another name, and finds others by
// theirs. Tools that change such names move the tables that hold them, and with these the
// tables beside them, to the end of the file. What else is loaded of the file stays where
// and as it was, and that can be checked without knowing the tool.

// Limits of what is compared of two ELF files.
const (
	maxELFHeaders = 128
	maxELFTable   = 64 << 20 // bytes of one table
	maxELFName    = 4 << 10  // bytes of one name
	maxELFDynamic = 10_000   // entries
)

// elfNames are the names by which a file is found and finds others.
type elfNames struct {
	soname string
	needed []string
	paths  []string // DT_RPATH and DT_RUNPATH, as they stand
}

// elfImage is an ELF file as a loader sees it: by its program headers alone.
type elfImage struct {
	file    *elf.File
	loads   []*elf.Prog
	others  []elf.ProgHeader // that must stay as they are, sorted
	dynamic []elf.Dyn64      // without names and DT_NULL
	strings []byte           // the table of names
	names   elfNames
}

// sameButNames is an error if what a loader sees of one ELF file is not what it sees of
// another, but for names (the generic ABI, "Dynamic Linking"): its own, those of the
// libraries that it asks for, and where it looks for these. Both are for amd64. What no
// loader reads, such as sections with debug information, is not compared.
func sameButNames(was, is io.ReaderAt) (before, after elfNames, err error) {
	a, err := newImage(was)
	if err != nil {
		return before, after, fmt.Errorf("the file it was made of: %w", err)
	}
	b, err := newImage(is)
	if err != nil {
		return before, after, err
	}
	if a.file.Type != b.file.Type || a.file.Entry != b.file.Entry || a.file.OSABI != b.file.OSABI || a.file.ABIVersion != b.file.ABIVersion {
		return before, after, errors.New("its ELF header says something else")
	}
	for _, check := range []func(*elfImage) error{a.sameLoads, a.sameOthers, a.sameDynamic, a.sameSymbols, a.sameVersions} {
		if err := check(b); err != nil {
			return before, after, err
		}
	}
	return a.names, b.names, nil
}

func newImage(r io.ReaderAt) (*elfImage, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("it is a damaged ELF file: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_DYN && f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("it is no library or program for amd64 (%s, %s, %s)", f.Class, f.Machine, f.Type)
	}
	if len(f.Progs) > maxELFHeaders {
		return nil, fmt.Errorf("it has %d program headers: at most %d", len(f.Progs), maxELFHeaders)
	}
	m := &elfImage{file: f}
	var dynamic *elf.Prog
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			if p.Filesz > p.Memsz || p.Vaddr+p.Memsz < p.Vaddr {
				return nil, errors.New("a segment of it is damaged")
			}
			m.loads = append(m.loads, p)
		case elf.PT_DYNAMIC:
			if dynamic != nil {
				return nil, errors.New("it has two dynamic sections")
			}
			dynamic = p
		case elf.PT_PHDR, elf.PT_NOTE, elf.PT_GNU_PROPERTY, elf.PT_NULL:
			// Where the headers are, and notes: nothing that is run.
		default:
			h := p.ProgHeader
			h.Off = 0
			m.others = append(m.others, h)
		}
	}
	if dynamic == nil {
		return nil, errors.New("it is not dynamically linked")
	}
	slices.SortFunc(m.loads, func(a, b *elf.Prog) int { return compareUint(a.Vaddr, b.Vaddr) })
	slices.SortFunc(m.others, func(a, b elf.ProgHeader) int {
		return cmpOr(compareUint(uint64(a.Type), uint64(b.Type)), compareUint(a.Vaddr, b.Vaddr))
	})
	return m, m.readDynamic(dynamic)
}

func compareUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func cmpOr(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// readDynamic reads the dynamic section, and the names that it gives.
func (m *elfImage) readDynamic(p *elf.Prog) error {
	if p.Filesz > maxELFDynamic*16 {
		return fmt.Errorf("its dynamic section has %d bytes: at most %d", p.Filesz, maxELFDynamic*16)
	}
	b, err := m.bytes(p.Vaddr, p.Filesz)
	if err != nil {
		return fmt.Errorf("its dynamic section: %w", err)
	}
	var all []elf.Dyn64
	for ; len(b) >= 16; b = b[16:] {
		d := elf.Dyn64{Tag: int64(binary.LittleEndian.Uint64(b)), Val: binary.LittleEndian.Uint64(b[8:])}
		if elf.DynTag(d.Tag) == elf.DT_NULL {
			break
		}
		all = append(all, d)
	}
	m.dynamic = all
	table, _ := m.value(elf.DT_STRTAB)
	size, _ := m.value(elf.DT_STRSZ)
	if m.strings, err = m.bytes(table, size); err != nil {
		return fmt.Errorf("its table of names: %w", err)
	}
	var rest []elf.Dyn64
	for _, d := range all {
		var into *[]string
		switch elf.DynTag(d.Tag) {
		case elf.DT_NEEDED:
			into = &m.names.needed
		case elf.DT_RPATH, elf.DT_RUNPATH:
			into = &m.names.paths
		case elf.DT_SONAME:
			if m.names.soname, err = m.name(d.Val); err != nil {
				return err
			}
			continue
		default:
			rest = append(rest, d)
			continue
		}
		s, err := m.name(d.Val)
		if err != nil {
			return err
		}
		*into = append(*into, s)
	}
	m.dynamic = rest
	return nil
}

// bytes gives what is loaded at an address from the file.
func (m *elfImage) bytes(addr, n uint64) ([]byte, error) {
	if n > maxELFTable {
		return nil, fmt.Errorf("a table of %d bytes: at most %d", n, maxELFTable)
	}
	for _, p := range m.loads {
		if addr >= p.Vaddr && addr-p.Vaddr <= p.Filesz && n <= p.Filesz-(addr-p.Vaddr) {
			b := make([]byte, n)
			_, err := io.ReadFull(io.NewSectionReader(p.ReaderAt, int64(addr-p.Vaddr), int64(n)), b)
			return b, err
		}
	}
	return nil, fmt.Errorf("nothing of the file is loaded at %#x", addr)
}

// value gives an entry of the dynamic section; false if there is none.
func (m *elfImage) value(t elf.DynTag) (uint64, bool) {
	for _, d := range m.dynamic {
		if elf.DynTag(d.Tag) == t {
			return d.Val, true
		}
	}
	return 0, false
}

// name reads a name of the table of names.
func (m *elfImage) name(at uint64) (string, error) {
	if at >= uint64(len(m.strings)) {
		return "", errors.New("a name of it is outside its table of names")
	}
	b := m.strings[at:]
	b = b[:min(len(b), maxELFName)]
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", errors.New("a name of it has no end")
	}
	return string(b[:i]), nil
}

// movable are the tables that hold names, and those that may be moved with them; each is
// compared for itself.
var movable = map[elf.SectionType]bool{
	elf.SHT_STRTAB: true, elf.SHT_DYNSYM: true, elf.SHT_DYNAMIC: true, elf.SHT_HASH: true, elf.SHT_GNU_HASH: true,
	elf.SHT_GNU_VERSYM: true, elf.SHT_GNU_VERNEED: true, elf.SHT_GNU_VERDEF: true, elf.SHT_NOTE: true,
}

// sameLoads compares what is loaded. Segments that are run must be the same; in others
// headers and movable tables may differ. Segments that came are behind the others, and
// none of them is run.
func (m *elfImage) sameLoads(b *elfImage) error {
	if len(b.loads) < len(m.loads) || len(m.loads) == 0 {
		return fmt.Errorf("it has %d segments, not %d", len(b.loads), len(m.loads))
	}
	var end uint64
	for i, p := range m.loads {
		q := b.loads[i]
		if p.Vaddr != q.Vaddr || p.Memsz != q.Memsz || p.Filesz != q.Filesz || p.Flags != q.Flags || p.Align != q.Align {
			return fmt.Errorf("its segment at %#x is another", p.Vaddr)
		}
		if err := m.sameSegment(p, q, b); err != nil {
			return err
		}
		end = max(end, p.Vaddr+p.Memsz)
	}
	const page = 4096
	end = (end + page - 1) / page * page
	for _, q := range b.loads[len(m.loads):] {
		if q.Vaddr < end || q.Vaddr%page != q.Off%page || q.Vaddr/page*page < end || q.Flags&elf.PF_X != 0 {
			return fmt.Errorf("it has a segment at %#x that the other has not, over others or to be run", q.Vaddr)
		}
	}
	return nil
}

func (m *elfImage) sameSegment(p, q *elf.Prog, b *elfImage) error {
	type span struct{ from, to uint64 }
	var free []span
	if p.Flags&elf.PF_X == 0 {
		if p.Off == 0 { // the headers are loaded, too
			free = append(free, span{p.Vaddr, p.Vaddr + 64 + 56*uint64(max(len(m.file.Progs), len(b.file.Progs)))})
		}
		for _, s := range m.file.Sections {
			if s.Flags&elf.SHF_ALLOC != 0 && movable[s.Type] {
				free = append(free, span{s.Addr, s.Addr + s.Size})
			}
		}
	}
	const step = 64 << 10
	x, y := make([]byte, step), make([]byte, step)
	for at := uint64(0); at < p.Filesz; at += step {
		n := min(step, p.Filesz-at)
		if _, err := io.ReadFull(io.NewSectionReader(p.ReaderAt, int64(at), int64(n)), x[:n]); err != nil {
			return err
		}
		if _, err := io.ReadFull(io.NewSectionReader(q.ReaderAt, int64(at), int64(n)), y[:n]); err != nil {
			return err
		}
		if bytes.Equal(x[:n], y[:n]) {
			continue
		}
		for i := range n {
			if x[i] == y[i] {
				continue
			}
			addr := p.Vaddr + at + i
			if !slices.ContainsFunc(free, func(s span) bool { return addr >= s.from && addr < s.to }) {
				return fmt.Errorf("what is loaded at %#x is something else", addr)
			}
		}
	}
	return nil
}

// sameOthers compares the other program headers: the interpreter, the stack's rights,
// thread-local storage, what becomes read-only, how stacks are unwound.
func (m *elfImage) sameOthers(b *elfImage) error {
	if !slices.Equal(m.others, b.others) {
		return errors.New("its program headers ask for something else")
	}
	return nil
}

// moved are entries of the dynamic section that say where a movable table is.
var moved = map[elf.DynTag]bool{
	elf.DT_STRTAB: true, elf.DT_STRSZ: true, elf.DT_SYMTAB: true, elf.DT_HASH: true, elf.DT_GNU_HASH: true,
	elf.DT_VERSYM: true, elf.DT_VERNEED: true, elf.DT_VERDEF: true,
}

// sameDynamic compares the dynamic sections, but for names and where tables are.
func (m *elfImage) sameDynamic(b *elfImage) error {
	if len(m.dynamic) != len(b.dynamic) || len(m.names.needed) != len(b.names.needed) {
		return errors.New("its dynamic section asks for more, or for less")
	}
	for i, d := range m.dynamic {
		if e := b.dynamic[i]; d.Tag != e.Tag || d.Val != e.Val && !moved[elf.DynTag(d.Tag)] {
			return fmt.Errorf("its dynamic section has another %s", elf.DynTag(d.Tag))
		}
	}
	return nil
}

// section gives the size of the section that a table is in, where the section table says
// that it is one of a kind at that address.
func (m *elfImage) section(t elf.SectionType, addr uint64) (uint64, error) {
	for _, s := range m.file.Sections {
		if s.Type == t && s.Addr == addr && s.Flags&elf.SHF_ALLOC != 0 {
			return s.Size, nil
		}
	}
	return 0, fmt.Errorf("its section table has no %s at %#x", t, addr)
}

// sameSymbols compares the symbols, by name, and the tables by which they are looked up.
func (m *elfImage) sameSymbols(b *elfImage) error {
	for tag, kind := range map[elf.DynTag]elf.SectionType{elf.DT_HASH: elf.SHT_HASH, elf.DT_GNU_HASH: elf.SHT_GNU_HASH, elf.DT_VERSYM: elf.SHT_GNU_VERSYM} {
		x, ok := m.value(tag)
		if !ok {
			continue
		}
		size, err := m.section(kind, x)
		if err != nil {
			return err
		}
		y, _ := b.value(tag)
		if err := m.sameBytes(b, x, y, size); err != nil {
			return fmt.Errorf("its table %s: %w", tag, err)
		}
	}
	x, ok := m.value(elf.DT_SYMTAB)
	if !ok {
		return errors.New("it has no table of symbols")
	}
	size, err := m.section(elf.SHT_DYNSYM, x)
	if err != nil {
		return err
	}
	y, _ := b.value(elf.DT_SYMTAB)
	was, err := m.bytes(x, size)
	if err != nil {
		return err
	}
	is, err := b.bytes(y, size)
	if err != nil {
		return fmt.Errorf("its symbols: %w", err)
	}
	le := binary.LittleEndian
	for ; len(was) >= elf.Sym64Size; was, is = was[elf.Sym64Size:], is[elf.Sym64Size:] {
		s, err := m.name(uint64(le.Uint32(was)))
		if err != nil {
			return err
		}
		t, err := b.name(uint64(le.Uint32(is)))
		if err != nil {
			return err
		}
		// Sections may be numbered anew; whether a symbol is in one at all stays.
		k, l := elf.SectionIndex(le.Uint16(was[6:])), elf.SectionIndex(le.Uint16(is[6:]))
		own := func(i elf.SectionIndex) bool { return i != elf.SHN_UNDEF && i < elf.SHN_LORESERVE }
		if s != t || was[4] != is[4] || was[5] != is[5] || !bytes.Equal(was[8:elf.Sym64Size], is[8:elf.Sym64Size]) || k != l && (!own(k) || !own(l)) {
			return fmt.Errorf("its symbol %.100q is another", t)
		}
	}
	return nil
}

func (m *elfImage) sameBytes(b *elfImage, x, y, size uint64) error {
	was, err := m.bytes(x, size)
	if err != nil {
		return err
	}
	is, err := b.bytes(y, size)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		return errors.New("it is another")
	}
	return nil
}

// sameVersions compares the versions of symbols that are asked for and given, but for
// the names of the libraries that are asked.
func (m *elfImage) sameVersions(b *elfImage) error {
	for _, t := range []struct {
		at, count elf.DynTag
		read      func(*elfImage, uint64, uint64) ([]string, error)
	}{{elf.DT_VERNEED, elf.DT_VERNEEDNUM, (*elfImage).versionNeeds}, {elf.DT_VERDEF, elf.DT_VERDEFNUM, (*elfImage).versionDefs}} {
		x, ok := m.value(t.at)
		if !ok {
			continue
		}
		n, _ := m.value(t.count)
		y, _ := b.value(t.at)
		was, err := t.read(m, x, n)
		if err != nil {
			return err
		}
		is, err := t.read(b, y, n)
		if err != nil {
			return fmt.Errorf("its versions: %w", err)
		}
		if !slices.Equal(was, is) {
			return fmt.Errorf("its table %s is another", t.at)
		}
	}
	return nil
}

// maxVersions bounds the versions of one file.
const maxVersions = 10_000

// versionNeeds lists what is asked for (Elf64_Verneed and Elf64_Vernaux), each file by its
// place.
func (m *elfImage) versionNeeds(at, count uint64) ([]string, error) {
	return m.versions(at, count, 16, func(rec []byte) (n, aux, next uint32, say string) {
		le := binary.LittleEndian
		return uint32(le.Uint16(rec[2:])), le.Uint32(rec[8:]), le.Uint32(rec[12:]), fmt.Sprint("file ", le.Uint16(rec))
	}, 16, func(rec []byte) (name, next uint32, say string) {
		le := binary.LittleEndian
		return le.Uint32(rec[8:]), le.Uint32(rec[12:]), fmt.Sprint(le.Uint32(rec), le.Uint16(rec[4:]), le.Uint16(rec[6:]))
	})
}

// versionDefs lists what is given (Elf64_Verdef and Elf64_Verdaux). The first is the
// library's own name, as it was when it was linked.
func (m *elfImage) versionDefs(at, count uint64) ([]string, error) {
	return m.versions(at, count, 20, func(rec []byte) (n, aux, next uint32, say string) {
		le := binary.LittleEndian
		return uint32(le.Uint16(rec[6:])), le.Uint32(rec[12:]), le.Uint32(rec[16:]), fmt.Sprint(le.Uint16(rec), le.Uint16(rec[2:]), le.Uint16(rec[4:]), le.Uint32(rec[8:]))
	}, 8, func(rec []byte) (name, next uint32, say string) {
		le := binary.LittleEndian
		return le.Uint32(rec), le.Uint32(rec[4:]), ""
	})
}

// versions walks a table of versions: records, and after each, at an offset, its own
// further ones.
func (m *elfImage) versions(at, count, size uint64, head func([]byte) (n, aux, next uint32, say string),
	auxSize uint64, aux func([]byte) (name, next uint32, say string)) ([]string, error) {
	var out []string
	for range min(count, maxVersions) {
		rec, err := m.bytes(at, size)
		if err != nil {
			return nil, err
		}
		n, first, next, say := head(rec)
		out = append(out, say)
		for a := at + uint64(first); n > 0; n-- {
			if len(out) > maxVersions || a < at || a > math.MaxUint32 {
				return nil, errors.New("more versions than any file has")
			}
			rec, err := m.bytes(a, auxSize)
			if err != nil {
				return nil, err
			}
			name, step, say := aux(rec)
			s, err := m.name(uint64(name))
			if err != nil {
				return nil, err
			}
			out = append(out, say+" "+s)
			if step == 0 {
				break
			}
			a += uint64(step)
		}
		if next == 0 {
			break
		}
		at += uint64(next)
	}
	return out, nil
}
