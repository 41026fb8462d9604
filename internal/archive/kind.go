package archive

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Kind tells by content whether r is a native or bytecode file, and of which kind:
// "elf", "pe", "dos", "macho", "ar", "wasm", "class", "pyc", "dex", "llvm",
// "coff", "lua", "beam", "ocaml". Empty for everything else. Names say nothing.
//
// Sources: System V gABI chapter 4; Microsoft PE format; Apple <mach-o/loader.h>
// and <mach-o/fat.h>; ar(5); WebAssembly core specification 5.5; JVMS chapter 4;
// CPython's Lib/importlib/_bootstrap_external.py and PEP 552; the Dalvik
// executable format; LLVM's bitcode format.
func Kind(r io.ReaderAt, size int64) string {
	h := readHead(r, size, 512)
	has := func(s string) bool { return bytes.HasPrefix(h, []byte(s)) }
	if len(h) < 4 {
		return ""
	}
	switch {
	case has("\x7fELF"):
		return "elf"
	case has("!<arch>\n"), has("!<thin>\n"), has("<bigaf>\n"):
		return "ar"
	case has("\x00asm"):
		return "wasm"
	case has("\xfe\xed\xfa\xce"), has("\xfe\xed\xfa\xcf"), has("\xce\xfa\xed\xfe"), has("\xcf\xfa\xed\xfe"):
		return "macho"
	case has("\xbe\xba\xfe\xca"), has("\xca\xfe\xba\xbf"), has("\xbf\xba\xfe\xca"):
		return "macho"
	case has("\xca\xfe\xba\xbe"):
		// A fat Mach-O counts its architectures here, a class file gives its version,
		// which begins at 45.
		if len(h) >= 8 && binary.BigEndian.Uint32(h[4:]) < 45 {
			return "macho"
		}
		return "class"
	case has("dex\n0"), has("dey\n0"), has("cdex0"):
		return "dex"
	case has("BC\xc0\xde"), has("\xde\xc0\x17\x0b"):
		return "llvm"
	case has("\x1bLua"), has("\x1bLJ"):
		return "lua"
	case has("FOR1") && len(h) >= 12 && string(h[8:12]) == "BEAM":
		return "beam"
	case has("Caml1999"):
		return "ocaml"
	case has("MZ"), has("ZM"):
		return mz(r, size, h)
	case isPyc(h):
		return "pyc"
	case isCOFF(r, size, h):
		return "coff"
	}
	return ""
}

// mz tells programs for Windows and DOS from text that begins with these letters.
func mz(r io.ReaderAt, size int64, h []byte) string {
	if len(h) >= 64 {
		var sig [4]byte
		at := int64(le32(h[0x3c:]))
		if at+4 <= size {
			if _, err := r.ReadAt(sig[:], at); err == nil || err == io.EOF {
				switch {
				case string(sig[:]) == "PE\x00\x00":
					return "pe"
				case string(sig[:2]) == "NE", string(sig[:2]) == "LE", string(sig[:2]) == "LX":
					return "dos"
				}
			}
		}
	}
	if len(h) < 28 {
		return ""
	}
	// A plain DOS program: its pages and header lie within the file.
	pages, last, header := int64(le16(h[4:])), int64(le16(h[2:])), int64(le16(h[8:]))*16
	if pages > 0 && last < 512 && header >= 28 && header <= size && bytes.IndexByte(h, 0) >= 0 {
		return "dos"
	}
	return ""
}

// isPyc recognises CPython's and PyPy's compiled modules of every version: a
// number, CR LF, then 4 (Python 1 and 2), 8 (3.0 to 3.6) or 12 bytes (PEP 552),
// then a marshalled code object, 'c' with or without the reference flag.
func isPyc(h []byte) bool {
	if len(h) < 9 || h[2] != '\r' || h[3] != '\n' {
		return false
	}
	text := func(b byte) bool { return b >= 0x20 && b < 0x7f || b == '\t' || b == '\n' || b == '\r' }
	if text(h[0]) && text(h[1]) {
		return false
	}
	for _, at := range []int{8, 12, 16} {
		if at < len(h) && (h[at] == 'c' || h[at] == 'c'|0x80) {
			return true
		}
	}
	return false
}

// isCOFF recognises object files for Windows. They have no magic number, so the
// machine must be known and every table must lie within the file.
func isCOFF(r io.ReaderAt, size int64, h []byte) bool {
	if len(h) < 20 {
		return false
	}
	machine := func(m uint16) bool {
		switch m {
		case 0x014c, 0x8664, 0xaa64, 0xa641, 0xa64e, 0x01c0, 0x01c4, 0x0200, 0x0ebc, 0x5032, 0x5064:
			return true
		}
		return false
	}
	if le16(h) == 0 && le16(h[2:]) == 0xffff { // an import object, or a "big" one
		return machine(le16(h[6:])) || le16(h[6:]) == 0 && le16(h[4:]) >= 1 && le16(h[4:]) <= 2
	}
	sections, symbols, count := int64(le16(h[2:])), int64(le32(h[8:])), int64(le32(h[12:]))
	if !machine(le16(h)) || sections == 0 || sections > 4096 || le16(h[16:]) != 0 {
		return false
	}
	if 20+40*sections > size || symbols != 0 && symbols+18*count > size || symbols == 0 && count != 0 {
		return false
	}
	// The first section's name is printable and its data within the file.
	if len(h) < 60 {
		return false
	}
	for _, b := range bytes.TrimRight(h[20:28], "\x00") {
		if b < 0x20 || b >= 0x7f {
			return false
		}
	}
	raw, at := int64(le32(h[36:])), int64(le32(h[40:]))
	return at == 0 || at+raw <= size
}
