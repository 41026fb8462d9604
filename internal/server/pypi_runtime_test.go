package server

import (
	"net/http"
	"strings"
	"testing"

	"hallmark/internal/policy"
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

// TestIndexOffersThePortableWheel: where a package has a portable wheel beside that of the
// runtime, pip is offered it and nothing else, and while it is not there, nothing.
func TestIndexOffersThePortableWheel(t *testing.T) {
	f := sample(t)
	flask := rowOf(t, f, "flask")
	portable := flask
	portable.PURL += "?wheel=portable"
	manylinux := strings.Replace(*flask.File, "-any.whl", "-manylinux_2_17_x86_64.whl", 1)
	var there bool
	old := f.projects["acme/web"]
	f.projects["acme/web"] = func() (*Project, error) {
		p, err := old()
		if err != nil {
			return nil, err
		}
		row := portable
		row.File, row.Digest = nil, nil
		row.Reasons = []policy.Reason{{Code: policy.BuildFailed, Message: "It is broken."}}
		if there {
			row.File, row.Digest, row.Reasons = &manylinux, flask.Digest, nil
		}
		plain := strings.Replace(*flask.File, "-any.whl", "-linux_x86_64.whl", 1)
		for i := range p.Document.Artifacts {
			if r := &p.Document.Artifacts[i]; r.PURL == flask.PURL && !there {
				r.File = &plain
			}
		}
		p.Document.Artifacts = append(p.Document.Artifacts, row)
		return p, nil
	}
	ts := serve(t, f)
	res, page := ask(t, ts, "GET", "/r/acme/web/pypi/simple/flask/")
	if res.StatusCode != http.StatusNotFound || !strings.Contains(page, "Its portable wheel is not there: It is broken.") {
		t.Errorf("while it is not there: %d %s", res.StatusCode, page)
	}
	there = true
	ts = serve(t, f)
	res, page = ask(t, ts, "GET", "/r/acme/web/pypi/simple/flask/")
	if res.StatusCode != http.StatusOK || !strings.Contains(page, ">"+manylinux+"<") || strings.Contains(page, *flask.File) {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	if res, _ := ask(t, ts, "GET", "/r/acme/web/pypi/files/"+flask.Digest.Hex()+"/"+manylinux); res.StatusCode != http.StatusOK {
		t.Errorf("its file: %d", res.StatusCode)
	}
}
