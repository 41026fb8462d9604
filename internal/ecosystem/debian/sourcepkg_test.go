package debian

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// sourceArchive makes an archive whose Sources index is the text given, and a client
// of it.
func sourceArchive(t *testing.T, index string, files map[string][]byte) (*archive, *Client) {
	t.Helper()
	key := newKey(t, "archive")
	packed := compress(".xz", []byte(index))
	body := releaseBody(nil, "") + fmt.Sprintf(" %s %d main/source/Sources.xz\n", digest.FromBytes(packed).Hex(), len(packed))
	a := &archive{fail: map[string]int{}, files: map[string][]byte{"dists/bookworm/InRelease": sign(t, body, key), "dists/bookworm/main/source/Sources.xz": packed}}
	for p, b := range files {
		a.files[p] = b
	}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL + "/debian")
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "ring.gpg")
	var pub bytes.Buffer
	if err := key.Serialize(&pub); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ring, pub.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return a, clientOf(t, Source{URI: u, Suite: "bookworm", Components: []string{"main"}, SignedBy: []string{ring}})
}

// sourceStanza is a package's paragraph in a Sources index.
func sourceStanza(name, file string, content []byte) string {
	return fmt.Sprintf("Package: %s\nBinary: x\nVersion: 1-1\nDirectory: pool/main/%s\nChecksums-Sha256:\n %s %d %s_1-1.dsc\n %s %d %s\n\n",
		name, name, strings.Repeat("0", 64), 5, name, digest.FromBytes(content).Hex(), len(content), file)
}

// TestFetchSource shows that a source is taken if the signed index lists it with the
// digest that is wanted, and not otherwise.
func TestFetchSource(t *testing.T) {
	content := []byte("an archive")
	a, c := sourceArchive(t, sourceStanza("other", "o.orig.tar.gz", nil)+sourceStanza("thing", "thing_1.orig.tar.gz", content),
		map[string][]byte{"pool/main/thing/thing_1.orig.tar.gz": content})
	ctx, sink := context.Background(), memorySink{}
	want := SourceFile{Package: "thing", File: "thing_1.orig.tar.gz", Digest: digest.FromBytes(content), Size: int64(len(content))}
	fetch := func(f SourceFile) error { return c.FetchSource(ctx, "bookworm", "main", f, sink) }
	if err := fetch(want); err != nil || !bytes.Equal(sink[want.Digest], content) {
		t.Fatal(err, sink)
	}
	asked := len(a.asked)
	if err := fetch(want); err != nil || len(a.asked) != asked {
		t.Error("what is stored was asked for", err)
	}
	for name, x := range map[string]struct {
		f    SourceFile
		kind fault.Kind
	}{
		"another digest":  {SourceFile{"thing", "thing_1.orig.tar.gz", digest.FromBytes([]byte("x")), want.Size}, fault.Unverified},
		"another size":    {SourceFile{"thing", "thing_1.orig.tar.gz", want.Digest, 3}, fault.Unverified},
		"another file":    {SourceFile{"thing", "thing_2.orig.tar.gz", want.Digest, want.Size}, fault.NotFound},
		"another package": {SourceFile{"nothing", "thing_1.orig.tar.gz", want.Digest, want.Size}, fault.NotFound},
	} {
		delete(sink, want.Digest)
		if err := fetch(x.f); !fault.Is(err, x.kind) || len(sink) != 0 {
			t.Errorf("%s: %v, %d files kept", name, err, len(sink))
		}
	}
	a.files["pool/main/thing/thing_1.orig.tar.gz"] = []byte("an archivf")
	if err := fetch(want); !fault.Is(err, fault.Unverified) || len(sink) != 0 {
		t.Error("other bytes than the index says:", err)
	}
}

// TestSourceIndexIsSigned shows that an index that InRelease does not list, and one
// that is not in order, are refused.
func TestSourceIndexIsSigned(t *testing.T) {
	content := []byte("x")
	f := SourceFile{Package: "thing", File: "thing_1.orig.tar.gz", Digest: digest.FromBytes(content), Size: 1}
	a, c := sourceArchive(t, sourceStanza("thing", f.File, content), nil)
	a.files["dists/bookworm/main/source/Sources.xz"] = compress(".xz", []byte(sourceStanza("thing", f.File, []byte("y"))))
	if err := c.FetchSource(context.Background(), "bookworm", "main", f, memorySink{}); !fault.Is(err, fault.Unverified) && !fault.Is(err, fault.Hostile) {
		t.Error(err)
	}
	for _, index := range []string{
		"Package: thing\nDirectory: ../..\nChecksums-Sha256:\n",
		"Package: th ing\nDirectory: pool\n",
		"Package: thing\nDirectory: pool\nChecksums-Sha256:\n zz 1 a.orig.tar.gz\n",
		"Package: thing\nDirectory: pool\nChecksums-Sha256:\n " + strings.Repeat("0", 64) + " -1 a.orig.tar.gz\n",
		"Package: thing\nDirectory: pool\nChecksums-Sha256:\n " + strings.Repeat("0", 64) + " 1 ../a.orig.tar.gz\n",
	} {
		_, c := sourceArchive(t, index, nil)
		if err := c.FetchSource(context.Background(), "bookworm", "main", f, memorySink{}); !fault.Is(err, fault.Hostile) {
			t.Errorf("%q: %v", index, err)
		}
	}
}

func FuzzSourceIndex(f *testing.F) {
	f.Add([]byte(sourceStanza("thing", "thing_1.orig.tar.gz", []byte("x"))))
	f.Add([]byte("Package: a\nDirectory: b\nChecksums-Sha256:\n x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ix, err := parseSourceIndex(bytes.NewReader(b))
		if err != nil {
			return
		}
		for name, files := range ix {
			for _, l := range files {
				if !goodPoolPath(l.folder) || strings.Contains(l.file, "/") || l.size < 0 || !digest.Digest(digest.Prefix+l.sha256).Valid() {
					t.Errorf("%s: %+v", name, l)
				}
			}
		}
	})
}
