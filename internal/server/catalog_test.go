package server

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/status"
)

// The archive of a project's files has each of them once, as its digest says, with
// its evidence; and it is refused whole where a stored file is not what it was.
func TestFilesZip(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	get := func() ([]byte, *http.Response, error) {
		res, err := http.Get(ts.URL + "/acme/web/files.zip")
		if err != nil {
			return nil, nil, err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return b, res, err
	}
	b, res, err := get()
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/zip" {
		t.Fatalf("%v %v", res, err)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, m := range z.File {
		r, err := m.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || have[m.Name] != "" || strings.Contains(m.Name, "..") {
			t.Fatalf("%s: %v", m.Name, err)
		}
		have[m.Name] = string(text)
	}
	var doc status.Document
	if err := json.Unmarshal([]byte(have["status.json"]), &doc); err != nil {
		t.Fatal(err)
	}
	var some digest.Digest
	for _, row := range doc.Artifacts {
		if row.Digest == nil {
			if !strings.Contains(have["README.txt"], string(row.PURL)) {
				t.Errorf("the README does not say that %s is missing:\n%s", row.PURL, have["README.txt"])
			}
			continue
		}
		some = *row.Digest
		if digest.FromBytes([]byte(have["files/"+*row.File])) != *row.Digest || have["evidence/"+*row.File+"/vsa.dsse.json"] == "" {
			t.Errorf("%s is not in the archive, or has no evidence", *row.File)
		}
		if !strings.Contains(have["SHA256SUMS"], row.Digest.Hex()+"  files/"+*row.File) {
			t.Errorf("%s is not among the sums", *row.File)
		}
	}
	f.blobs[some] = append(bytes.Clone(f.blobs[some]), 'x')
	if b, _, err := get(); err == nil {
		if _, err := zip.NewReader(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Error("an archive with a changed file is whole")
		}
	}
	for _, path := range []string{"/acme/none/files.zip", "/acme/unsolved/files.zip"} {
		if code, body := ask(t, ts, "GET", path); code.StatusCode < 400 || strings.Contains(body, "PK") {
			t.Errorf("%s: %d", path, code.StatusCode)
		}
	}
}

func TestArtifactPage(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	p, err := f.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range p.Document.Artifacts {
		if row.Digest == nil {
			continue
		}
		res, body := ask(t, ts, "GET", "/acme/web/artifact/"+row.Digest.Hex())
		for _, want := range []string{row.Digest.String(), *row.File, string(row.PURL), "/evidence/" + row.Digest.Hex() + "/vsa.dsse.json", "slsa-verifier verify-vsa", "sha256sum --check"} {
			if res.StatusCode != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("the page of %s, %d, does not say %q", row.PURL, res.StatusCode, want)
			}
		}
		if secure(row) != strings.Contains(body, "--verified-level HALLMARK_SECURE") || secure(row) == strings.Contains(body, "The way to what is missing") {
			t.Errorf("the page of %s, %s, says otherwise", row.PURL, row.Class)
		}
	}
	for path, want := range map[string]int{"/acme/web/artifact/" + digest.FromBytes([]byte("other")).Hex(): 404, "/acme/web/artifact/..%2f": 404, "/acme/web/artifact/abc": 404,
		"/acme/none/artifact/" + digest.FromBytes(nil).Hex(): 404, "/verifier/" + testKey + "/key.pub": 200, "/verifier/ffff/key.pub": 404} {
		if res, body := ask(t, ts, "GET", path); res.StatusCode != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

// Names that come from elsewhere stand in commands as one word, or there is no
// command.
func TestCommandsQuote(t *testing.T) {
	s := &Server{opts: Options{ExternalURL: "http://localhost:8420"}}
	a := Artifact{PURL: "pkg:pypi/a@1", File: "a'; rm -rf ~; '.whl", Digest: digest.FromBytes(nil), KeyID: testKey, Verifier: "http://localhost:8420/verifier/" + testKey}
	files := []EvidenceFile{{Name: "provenance.sigstore.json"}}
	for _, c := range s.commands(&a, files) {
		if strings.Contains(c.Text, "a'; rm") && !strings.Contains(c.Text, `a'\''; rm -rf ~; '\''.whl'`) {
			t.Errorf("%s", c.Text)
		}
	}
	for _, evil := range []string{"a\n.whl", "-rf", "", "a\x1b[0m"} {
		a.File = evil
		if c := s.commands(&a, files); c != nil {
			t.Errorf("%q gives %v", evil, c)
		}
	}
}

// fakeCatalog knows one package, and asks an index that has another.
type fakeCatalog struct{}

func (fakeCatalog) Search(_ context.Context, text string) ([]Package, error) {
	if strings.ContainsAny(text, "<") {
		return nil, fault.New(fault.Usage, "search for %q: no", text)
	}
	p := Package{Name: "flask", PURL: "pkg:pypi/flask", Type: "pypi", Versions: []PackageVersion{{Version: "3.0", Build: BuildSecure}, {Version: "2.0", Build: BuildTried}}}
	p.Count()
	if strings.Contains(p.Name, text) {
		return []Package{p}, nil
	}
	return nil, nil
}

func (fakeCatalog) LookUp(_ context.Context, name string) (Package, error) {
	if name != "six" {
		return Package{}, fault.Advise(fault.NotFound, "Look for another.", "no index has a package named %s", name)
	}
	return Package{Name: "six", PURL: "pkg:pypi/six", Type: "pypi", Asked: true, Versions: []PackageVersion{{Version: "1.17", Build: BuildNone}}}, nil
}

func TestSearch(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	s, err := New(sample(t), Options{SingleUser: true, Platform: &platform.Service{}, Catalog: fakeCatalog{}, ExternalURL: "http://" + ts.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ts.Config.Handler = s
	ts.Start()
	t.Cleanup(ts.Close)
	for _, c := range []struct {
		query string
		code  int
		want  string
	}{
		{"q=fla", 200, `"packages":[{"name":"flask","purl":"pkg:pypi/flask","type":"pypi","secure":1,"newest":"3.0"`},
		{"q=flask", 200, `"exact":true`},
		{"q=zzz", 200, `"packages":[]`},
		{"q=", 200, `"has_query":false`},
		{"q=%3Cb%3E", 400, `"problem":"search for`},
		{"q=six&lookup=1", 200, `"name":"six"`},
		{"q=seven&lookup=1", 404, `"advice":"Look for another."`},
		{"q=" + strings.Repeat("a", 300), 400, "at most 200"},
	} {
		res, body := ask(t, ts, "GET", "/search?"+c.query)
		if res.StatusCode != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.query, res.StatusCode, body)
		}
	}
}
