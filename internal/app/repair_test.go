package app

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/store"
)

// TestRepairFetchesAgain: a source archive that is damaged or gone comes back from
// the index, and only with its own digest.
func TestRepairFetchesAgain(t *testing.T) {
	file := []byte("a source archive")
	d := digest.FromBytes(file)
	served := map[string][]byte{}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/simple/") {
			w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		}
		_, _ = w.Write(b)
	}))
	defer ts.Close()
	page := func(sha string) []byte {
		return fmt.Appendf(nil, `{"meta":{"api-version":"1.1"},"name":"app","files":[{"filename":"app-1.tar.gz","url":"/f/app-1.tar.gz","hashes":{"sha256":%q}}]}`, sha)
	}
	data := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(data, "blobs", "sha256", d.Hex()[:2], d.Hex())
	a := mustOpen(t, Config{Data: data}, true)
	if _, err := a.Blobs.PutBytes(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if err := a.Store.AddFile(t.Context(), store.File{Digest: d, PURL: "pkg:pypi/app@1", Name: "app-1.tar.gz", Size: int64(len(file)), Kind: store.FileSource}); err != nil {
		t.Fatal(err)
	}
	a.Close()
	cut := func() error { return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, 3)) }
	gone := func() error { return os.Remove(path) }
	for _, c := range []struct {
		name  string
		spoil func() error
		page  []byte
		file  []byte
		says  string // empty: it comes back
	}{
		{"other bytes", cut, page(d.Hex()), []byte("a source archivE"), "promised digest"},
		{"another digest on the page", cut, page(digest.FromBytes(nil).Hex()), file, "another digest"},
		{"not there any more", cut, page(d.Hex()), nil, "404"},
		{"no such package", cut, nil, nil, "no index has a package named app"},
		{"cut short", cut, page(d.Hex()), file, ""},
		{"gone", gone, page(d.Hex()), file, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			clear(served)
			for p, b := range map[string][]byte{"/simple/app/": c.page, "/f/app-1.tar.gz": c.file} {
				if b != nil {
					served[p] = b
				}
			}
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			a, damage, err := OpenFsck(t.Context(), Config{Data: data}, true)
			if err != nil || len(damage) > 0 {
				t.Fatal(damage, err)
			}
			defer a.Close()
			u, err := url.Parse(ts.URL + "/simple/")
			if err != nil {
				t.Fatal(err)
			}
			if a.client, err = pypi.NewClient(pypi.Config{Indexes: []pypi.Index{{URL: u}}, Timeout: 5 * time.Second}); err != nil {
				t.Fatal(err)
			}
			found, err := a.Repair(t.Context())
			if err != nil || len(found) == 0 {
				t.Fatal(found, err)
			}
			for _, x := range found {
				if x.Repaired != (c.says == "") || !strings.Contains(x.Where+x.Message, d.Hex()[:8]) || !strings.Contains(x.Advice, c.says) {
					t.Errorf("%+v", x)
				}
			}
			got, err := a.Blobs.ReadAll(d, maxSource)
			if (err == nil) != (c.says == "") || err == nil && string(got) != string(file) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
