package archive

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"testing"
)

// TestNativesBehindAnotherFormat: what some reader would take out of a file is
// found, whichever format its first bytes name.
func TestNativesBehindAnotherFormat(t *testing.T) {
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 200)...)
	var gz, zipped bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write([]byte("harmless"))
	g.Close()
	z := zip.NewWriter(&zipped)
	z.SetOffset(int64(gz.Len()))
	f, err := z.Create("x.so")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(elf)
	z.Close()
	behind := append(append([]byte{}, gz.Bytes()...), zipped.Bytes()...)

	// A gzip whose header's checksum is wrong: Go refuses it, other readers do not look.
	var plain bytes.Buffer
	g = gzip.NewWriter(&plain)
	g.Write(elf)
	g.Close()
	odd := append([]byte{}, plain.Bytes()[:10]...)
	odd[3] |= 2 // FHCRC (RFC 1952, 2.3.1)
	odd = append(append(odd, 0xde, 0xad), plain.Bytes()[10:]...)

	for name, b := range map[string][]byte{"a zip behind a gzip": behind, "a gzip with a wrong header checksum": odd} {
		if FindNative(bytes.NewReader(b), int64(len(b)), "data.bin", DefaultLimits()) == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
