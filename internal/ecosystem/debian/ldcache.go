package debian

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
)

// loaderCache makes the content of /etc/ld.so.cache for the libraries in the
// given folders, in glibc's present format alone (sysdeps/generic/dl-cache.h,
// "glibc-ld.so.cache" version 1.1): what ldconfig would write, without running
// it. Folders that are not there are left out.
func loaderCache(root *os.Root, folders []string) ([]byte, error) {
	type lib struct{ name, path string }
	var libs []lib
	seen := map[string]bool{}
	for _, dir := range folders {
		d, err := root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return nil, err
		}
		sort.Strings(names)
		for _, n := range names {
			if !(strings.HasPrefix(n, "lib") || strings.HasPrefix(n, "ld-")) || !strings.Contains(n, ".so") || seen[n] {
				continue
			}
			st, err := root.Lstat(path.Join(dir, n))
			if err != nil {
				return nil, err
			}
			soname, ok := sharedObject(root, path.Join(dir, n))
			if !ok {
				continue
			}
			// A name is listed if it is the library's soname, or if it is the link
			// that the linker looks for ("libz.so"); ldconfig lists the same.
			devLink := !st.Mode().IsRegular() && strings.HasSuffix(n, ".so")
			if soname != "" && soname != n && !devLink {
				continue
			}
			seen[n] = true
			libs = append(libs, lib{n, "/" + strings.TrimPrefix(dir, "usr/") + "/" + n})
		}
	}
	sort.Slice(libs, func(i, j int) bool { return libcmp(libs[i].name, libs[j].name) > 0 })

	const (
		magic     = "glibc-ld.so.cache1.1"
		headerLen = 48
		entryLen  = 24
		flags     = 0x0303 // FLAG_ELF_LIBC6 | FLAG_X8664_LIB64
		little    = 2      // cache_file_new_flags_endian_little
	)
	var table, strs bytes.Buffer
	base := headerLen + entryLen*len(libs) // offsets count from the file's start
	le := binary.LittleEndian
	for _, l := range libs {
		var e [entryLen]byte
		le.PutUint32(e[0:], flags)
		le.PutUint32(e[4:], uint32(base+strs.Len()))
		strs.WriteString(l.name + "\x00")
		le.PutUint32(e[8:], uint32(base+strs.Len()))
		strs.WriteString(l.path + "\x00")
		table.Write(e[:]) // os version and hardware capabilities stay 0
	}
	var h [headerLen]byte
	copy(h[:], magic)
	le.PutUint32(h[20:], uint32(len(libs)))
	le.PutUint32(h[24:], uint32(strs.Len()))
	h[28] = little
	return append(append(h[:], table.Bytes()...), strs.Bytes()...), nil
}

// sharedObject tells whether a path is, or leads inside the tree to, a shared
// object for amd64, and gives its soname, "" if it has none.
func sharedObject(root *os.Root, name string) (string, bool) {
	// Links with an absolute target mean the tree's root, which os.Root does not
	// follow; so they are followed by hand. It refuses all that leaves the tree.
	for hops := 0; ; hops++ {
		target, err := root.Readlink(name)
		if err != nil {
			break // no link, or nothing there
		}
		if hops == 40 {
			return "", false
		}
		if strings.HasPrefix(target, "/") {
			name = strings.TrimPrefix(path.Clean(target), "/")
		} else {
			name = path.Join(path.Dir(name), target)
		}
	}
	f, err := root.Open(name)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", false
	}
	e, err := elf.NewFile(f)
	if err != nil || e.Class != elf.ELFCLASS64 || e.Machine != elf.EM_X86_64 || e.Type != elf.ET_DYN {
		return "", false // linker scripts have such names, too
	}
	s, err := e.DynString(elf.DT_SONAME)
	if err != nil || len(s) == 0 {
		return "", err == nil
	}
	return s[0], true
}

// libcmp orders names as glibc's _dl_cache_libcmp: numbers by their value. The
// loader searches the table by halving, from the greatest to the least.
func libcmp(a, b string) int {
	digit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
	number := func(s string) (n int, rest string) {
		for digit(s) {
			n, s = n*10+int(s[0]-'0'), s[1:]
		}
		return n, s
	}
	for a != "" {
		switch {
		case digit(a) && digit(b):
			var x, y int
			x, a = number(a)
			y, b = number(b)
			if x != y {
				return x - y
			}
		case digit(a):
			return 1
		case digit(b):
			return -1
		case b == "":
			return 1
		case a[0] != b[0]:
			return int(a[0]) - int(b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	if b == "" {
		return 0
	}
	return -1
}
