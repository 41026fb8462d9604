package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestIndexOffersNoWheelOfARuntime: a wheel that links libraries of its project's own
// runtime is not offered to pip, which would take it on any machine; the page says why.
func TestIndexOffersNoWheelOfARuntime(t *testing.T) {
	f := sample(t)
	flask := rowOf(t, f, "flask")
	file := strings.Replace(*flask.File, "-any.whl", "-linux_x86_64.whl", 1)
	if file == *flask.File {
		t.Fatalf("%s is not a pure wheel", file)
	}
	old := f.projects["acme/web"]
	f.projects["acme/web"] = func() (*Project, error) {
		p, err := old()
		if err != nil {
			return nil, err
		}
		for i := range p.Document.Artifacts {
			if r := &p.Document.Artifacts[i]; r.PURL == flask.PURL {
				r.File = &file
			}
		}
		return p, nil
	}
	ts := serve(t, f)
	if _, index := ask(t, ts, "GET", "/r/acme/web/pypi/simple/"); strings.Contains(index, "flask") || !strings.Contains(index, "/\">") {
		t.Errorf("the index: %s", index)
	}
	res, page := ask(t, ts, "GET", "/r/acme/web/pypi/simple/flask/")
	if res.StatusCode != http.StatusNotFound || !strings.Contains(page, "not offered to pip") || !strings.Contains(page, file) {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	if res, _ := ask(t, ts, "GET", "/r/acme/web/pypi/files/"+flask.Digest.Hex()+"/"+file); res.StatusCode != http.StatusNotFound {
		t.Errorf("its file: %d", res.StatusCode)
	}
}
