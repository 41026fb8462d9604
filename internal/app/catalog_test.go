package app

import (
	"archive/zip"
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/server"
	"hallmark/internal/store"
)

// wheelOf is a wheel with nothing but a METADATA.
func wheelOf(t *testing.T, name, version, licence string) (string, []byte) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name + "-" + version + ".dist-info/METADATA")
	if err == nil {
		_, err = w.Write([]byte("Metadata-Version: 2.4\nName: " + name + "\nVersion: " + version + "\nLicense-Expression: " + licence + "\n"))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return name + "-" + version + "-py3-none-any.whl", b.Bytes()
}

// What was built here is found by a part of its name; nothing is called secure
// whose summary does not verify; the index is asked for the rest.
func TestCatalog(t *testing.T) {
	ctx := t.Context()
	w := mustOpen(t, Config{Data: filepath.Join(t.TempDir(), "data")}, true)
	for i, name := range []string{"demo", "demo", "my-demo", "demo-kit", "other"} {
		version := []string{"1.9", "1.10", "1", "2", "3"}[i]
		file, b := wheelOf(t, strings.ReplaceAll(name, "-", "_"), version, "MIT")
		if _, err := w.Blobs.PutBytes(ctx, b); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(b)
		u := purl.New("pypi", name, version)
		if err := w.Store.PutStep(ctx, store.Step{ID: d, PURL: u, Document: d}); err != nil {
			t.Fatal(err)
		}
		if err := w.Store.AddFile(ctx, store.File{Digest: d, PURL: u, Name: file, Size: int64(len(b)), Kind: store.FileBuilt, Step: d}); err != nil {
			t.Fatal(err)
		}
		// A summary that somebody made up.
		forged := []byte(`{"dsseEnvelope":{"payload":"eyJwcmVkaWNhdGUiOnsidmVyaWZpY2F0aW9uUmVzdWx0IjoiUEFTU0VEIn19"},"n":` + version + `}`)
		if _, err := w.Blobs.PutBytes(ctx, forged); err != nil {
			t.Fatal(err)
		}
		if err := w.Store.AddEvidence(ctx, store.Evidence{Subject: d, Name: vsaFile, PredicateType: evidence.TypeVSA, Blob: digest.FromBytes(forged), Step: d, Created: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	c := w.Catalog()
	asked := 0
	ts := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/simple/demo/" {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		_, _ = rw.Write([]byte(`{"meta":{"api-version":"1.1"},"name":"demo","files":[
			{"filename":"demo-2.0.tar.gz","url":"/f/demo-2.0.tar.gz","hashes":{"sha256":"` + digest.FromBytes(nil).Hex() + `"},"upload-time":"2026-03-01T00:00:00Z"},
			{"filename":"demo-1.10-py3-none-any.whl","url":"/f/x.whl","hashes":{"sha256":"` + digest.FromBytes(nil).Hex() + `"},"yanked":"broken"}]}`))
	}))
	defer ts.Close()
	c.dial = func(context.Context) (*pypi.Client, error) {
		u, err := url.Parse(ts.URL + "/simple/")
		if err != nil {
			return nil, err
		}
		return pypi.NewClient(pypi.Config{Indexes: []pypi.Index{{URL: u}}, Timeout: 5 * time.Second})
	}
	found, err := c.Search(ctx, " Demo ")
	if err != nil || len(found) != 3 || found[0].Name != "demo" || found[1].Name != "demo-kit" || found[2].Name != "my-demo" {
		t.Fatalf("found %+v, %v", found, err)
	}
	if d := found[0]; d.Newest != "1.10" || len(d.Versions) != 2 || d.Secure != 0 || d.Licence != "MIT" || d.Versions[0].Build != server.BuildCommunity {
		t.Errorf("demo is %+v", d)
	}
	if asked != 0 {
		t.Error("searching asks the index")
	}
	for text, kind := range map[string]fault.Kind{"": fault.Usage, "  ": fault.Usage, "a b": fault.Usage, "%": fault.Usage, "a'": fault.Usage, strings.Repeat("a", 200): fault.Usage} {
		if _, err := c.Search(ctx, text); !fault.Is(err, kind) {
			t.Errorf("%q: %v", text, err)
		}
	}
	p, err := c.LookUp(ctx, "pkg:pypi/demo@1")
	if err != nil || !p.Asked || len(p.Versions) != 2 || p.Newest != "2.0" || !p.Versions[0].Source || p.Versions[0].Build != server.BuildNone || !p.Versions[1].Yanked || p.Versions[1].Build != server.BuildCommunity {
		t.Errorf("looked up %+v, %v", p, err)
	}
	if _, err := c.LookUp(ctx, "demo"); err != nil || asked != 1 {
		t.Errorf("%v; the index was asked %d times about one name", err, asked)
	}
	if _, err := c.LookUp(ctx, "nobody-has-this"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a name that no index has: %v", err)
	}
}

// Recipes are found by a part of their name beside packages, and alone when they are
// asked for as such, each with what asks for it.
func TestCatalogFindsRecipes(t *testing.T) {
	w := mustOpen(t, Config{Data: filepath.Join(t.TempDir(), "data")}, true)
	c := w.Catalog()
	for text, want := range map[string]string{"zlib": "zlib", "sys:bz": "bzip2", "pkg:generic/zlib@1": "zlib", "sys:": "bison"} {
		got, err := c.Search(t.Context(), text)
		if err != nil || len(got) == 0 || got[0].Name != want || got[0].Type != "generic" || got[0].Licence == "" || len(got[0].Versions) != 1 {
			t.Errorf("%q: %+v, %v", text, got, err)
			continue
		}
		v := got[0].Versions[0]
		if v.Build != server.BuildNone || got[0].Requirement() != "sys:"+want || got[0].RequirementOf(v.Version) != "sys:"+want+"@"+v.Version {
			t.Errorf("%q: %+v", text, got[0])
		}
		if _, _, err := ParseRequirement(got[0].RequirementOf(v.Version)); err != nil {
			t.Error(err)
		}
	}
}
