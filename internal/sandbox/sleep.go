package sandbox

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
	"time"
)

// sleepPath is where the library that sleepLibrary writes is in a root.
const sleepPath = "/usr/lib/hallmark/sleep.so"

// sleepLibrary writes a shared library of one function, clock_nanosleep, to be
// loaded in front of libfaketime; nil for a processor that it has no code for.
//
// libfaketime up to 0.9.10 takes the moved wall clock off a wait until a moment
// of the monotonic clock even if it was told to leave that clock alone. The moment
// is then before the clock's beginning and the kernel says EINVAL. CPython's
// time.sleep, from 3.11 on, is such a wait, and multiprocessing.Pool hangs when
// its sleep fails. This function passes a wait on to the kernel as it is, and
// takes the shift off one until a moment of the wall clock.
func sleepLibrary(shift time.Duration) []byte {
	seconds := int64(shift / time.Second)
	if runtime.GOARCH != "amd64" || seconds != int64(int32(seconds)) {
		return nil
	}
	call := []byte{0xb8, 0xe6, 0, 0, 0, 0x0f, 0x05} // mov eax, 230 (clock_nanosleep); syscall
	shifted := bytes.Join([][]byte{
		{0x48, 0x83, 0xec, 0x10}, // sub rsp, 16
		{0x48, 0x8b, 0x02},       // mov rax, [rdx]
		binary.LittleEndian.AppendUint32([]byte{0x48, 0x2d}, uint32(int32(seconds))), // sub rax, seconds
		{0x48, 0x89, 0x04, 0x24},       // mov [rsp], rax
		{0x48, 0x8b, 0x42, 0x08},       // mov rax, [rdx+8]
		{0x48, 0x89, 0x44, 0x24, 0x08}, // mov [rsp+8], rax
		{0x48, 0x89, 0xe2},             // mov rdx, rsp
		{0x45, 0x31, 0xd2},             // xor r10d, r10d: such a wait has no rest
		call,
		{0x48, 0x83, 0xc4, 0x10, 0xf7, 0xd8, 0xc3}, // add rsp, 16; neg eax; ret
	}, nil)
	plain := append([]byte{0x49, 0x89, 0xca}, append(bytes.Clone(call), 0xf7, 0xd8, 0xc3)...) // mov r10, rcx; call; neg eax; ret
	code := bytes.Join([][]byte{
		{0x85, 0xff, 0x75, byte(6 + len(shifted))},         // test edi, edi; jnz plain: not CLOCK_REALTIME
		{0x40, 0xf6, 0xc6, 0x01, 0x74, byte(len(shifted))}, // test sil, TIMER_ABSTIME; jz plain
		shifted, plain,
	}, nil)
	return sharedLibrary("clock_nanosleep", code)
}

// sharedLibrary writes an ELF file that a loader takes as a library with one
// function: two segments, no sections (System V ABI, chapters 4 and 5).
func sharedLibrary(name string, code []byte) []byte {
	const (
		header, program, symbol = 64, 56, 24 // sizes
		segments                = 4
		hashAt                  = header + segments*program
		symbolsAt               = hashAt + 24 // 20, and up to 8
		namesAt                 = symbolsAt + 2*symbol
		dynamicAt               = 0x1000 // its own page, which the loader writes to
	)
	names := append(append([]byte{0}, name...), 0)
	codeAt := (namesAt + len(names) + 15) &^ 15
	dynamic := []elf.Dyn64{
		{Tag: int64(elf.DT_HASH), Val: hashAt}, {Tag: int64(elf.DT_SYMTAB), Val: symbolsAt}, {Tag: int64(elf.DT_SYMENT), Val: symbol},
		{Tag: int64(elf.DT_STRTAB), Val: namesAt}, {Tag: int64(elf.DT_STRSZ), Val: uint64(len(names))}, {Tag: int64(elf.DT_NULL)},
	}
	length := uint64(binary.Size(dynamic))
	var b bytes.Buffer
	put := func(at int, v any) {
		b.Write(make([]byte, at-b.Len()))
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory, of fixed size: cannot fail
	}
	put(0, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: header, Ehsize: header, Phentsize: program, Phnum: segments,
	})
	text := uint64(codeAt + len(code))
	put(header, []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: text, Memsz: text, Align: 0x1000},
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: dynamicAt, Vaddr: dynamicAt, Paddr: dynamicAt, Filesz: length, Memsz: length, Align: 0x1000},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R | elf.PF_W), Off: dynamicAt, Vaddr: dynamicAt, Paddr: dynamicAt, Filesz: length, Memsz: length, Align: 8},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
	})
	put(hashAt, []uint32{1, 2, 1, 0, 0}) // one bucket, two symbols: the empty one and ours
	put(symbolsAt, []elf.Sym64{{}, {Name: 1, Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), Shndx: 1, Value: uint64(codeAt), Size: uint64(len(code))}})
	put(namesAt, names)
	put(codeAt, code)
	put(dynamicAt, dynamic)
	return b.Bytes()
}
