package debian

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"hallmark/internal/digest"
)

// testTime is the clock of all fixtures.
var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// tarEntry is one entry of a made package.
type tarEntry struct {
	name, body, link string
	kind             byte
	mode             int64
	pax              map[string]string
}

func file(name, body string) tarEntry { return tarEntry{name: name, body: body, mode: 0o644} }
func dir(name string) tarEntry        { return tarEntry{name: name, kind: tar.TypeDir, mode: 0o755} }
func symlink(name, to string) tarEntry {
	return tarEntry{name: name, kind: tar.TypeSymlink, link: to, mode: 0o777}
}

func makeTar(entries ...tarEntry) []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Linkname: e.link, Size: int64(len(e.body)),
			ModTime: time.Unix(1600000000, 0), PAXRecords: e.pax, Uid: 7, Gid: 9, Uname: "someone"}
		if err := t.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(t, e.body)
	}
	t.Close()
	return b.Bytes()
}

func compress(ext string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	default:
		return b
	}
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

type member struct {
	name string
	body []byte
}

func makeAr(members ...member) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 1600000000, 0, 0, "100644", len(m.body))
		b.Write(m.body)
		if len(m.body)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// madeDeb is a package made by a test: its index entry and its bytes.
type madeDeb struct {
	Package
	bytes []byte
	extra string // more fields of its paragraph
}

func makeDeb(name, version, ext string, entries ...tarEntry) madeDeb {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nDescription: made\n by a test\n", name, version)
	b := makeAr(member{"debian-binary", []byte("2.0\n")},
		member{"control.tar" + ext, compress(ext, makeTar(file("./control", control), file("./postinst", "#!/bin/sh\nexit 1\n")))},
		member{"data.tar" + ext, compress(ext, makeTar(entries...))})
	return madeDeb{Package: Package{Name: name, Version: version, Arch: "amd64", Size: int64(len(b)), SHA256: digest.FromBytes(b).Hex(),
		Path: "pool/main/" + name[:1] + "/" + name + "/" + name + "_" + version + "_amd64.deb", Group: "essential"}, bytes: b}
}

func (d madeDeb) stanza() string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n%sFilename: %s\nSize: %d\nSHA256: %s\n\n",
		d.Name, d.Version, d.Arch, d.extra, d.Path, d.Size, d.SHA256)
}

func pinOf(debs ...madeDeb) (Pin, func(Package) (io.ReadCloser, error)) {
	pin := Pin{Schema: PinSchema, Name: "made", Suite: "bookworm", Component: "main", Arch: "amd64", Layout: LayoutVersion,
		Release: ReleaseEvidence{Origin: "Debian", Date: "2026-01-01T00:00:00Z", InRelease: digest.FromBytes(nil), Packages: digest.FromBytes(nil), SignedBy: []string{"AB"}}}
	by := map[string][]byte{}
	for _, d := range debs {
		pin.Packages = append(pin.Packages, d.Package)
		by[d.SHA256] = d.bytes
	}
	return pin, func(p Package) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(by[p.SHA256])), nil }
}

func newKey(t testing.TB, name string) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.invalid", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return testTime.Add(-1000 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func keyringOf(e ...*openpgp.Entity) *Keyring { return &Keyring{keys: e, from: []string{"made"}} }

func sign(t testing.TB, body string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	var priv []*packet.PrivateKey
	for _, k := range keys {
		priv = append(priv, k.PrivateKey)
	}
	w, err := clearsign.EncodeMulti(&b, priv, &packet.Config{Time: func() time.Time { return testTime }})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// releaseBody is an InRelease body that lists index as main's packages.
func releaseBody(index []byte, extra string) string {
	return "Origin: Debian\nLabel: Debian\nSuite: oldstable\nVersion: 12.99\nCodename: bookworm\nDate: Sun, 01 Mar 2026 08:00:00 UTC\n" +
		"Acquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main\n" + extra +
		fmt.Sprintf("SHA256:\n %s %d main/binary-amd64/Packages.xz\n", digest.FromBytes(index).Hex(), len(index))
}

func rootsOf(names ...string) Roots {
	return Roots{Schema: RootsSchema, Name: "made", Suite: "bookworm", Component: "main", Arch: "amd64",
		Groups: []Group{{Name: "essential", Packages: names}}}
}

func indexOf(debs ...madeDeb) []byte {
	var b strings.Builder
	for _, d := range debs {
		b.WriteString(d.stanza())
	}
	return compress(".xz", []byte(b.String()))
}

// memorySink is a blob store in memory.
type memorySink map[digest.Digest][]byte

func (m memorySink) Has(d digest.Digest) bool { _, ok := m[d]; return ok }

func (m memorySink) Put(_ context.Context, r io.Reader, want digest.Digest, limit int64) (int64, error) {
	b, err := io.ReadAll(digest.NewReader(r, want, limit))
	if err != nil {
		return int64(len(b)), err
	}
	m[want] = b
	return int64(len(b)), nil
}
