package server

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/policy"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
)

// memoryLayer is an open layer.
type memoryLayer struct{ *bytes.Reader }

func (memoryLayer) Close() error { return nil }

// withRuntime gives the sample project a layer in its status, and what it installs.
func withRuntime(t *testing.T, f *fake) (*Project, []byte) {
	t.Helper()
	var b bytes.Buffer
	if _, err := archive.WriteLayer(t.TempDir(), &b, time.Now()); err != nil {
		t.Fatal(err)
	}
	d, file := digest.FromBytes(b.Bytes()), "zlib-1.3.1.layer.tar"
	was, err := f.Project(t.Context(), "acme", "web")
	if err != nil {
		t.Fatal(err)
	}
	p := *was
	p.Document.Artifacts = nil
	for _, row := range was.Document.Artifacts {
		if row.Digest != nil {
			p.Document.Artifacts = append(p.Document.Artifacts, row)
		}
	}
	p.Document.Artifacts = append(p.Document.Artifacts, status.Row{PURL: "pkg:generic/zlib@1.3.1", Digest: &d, File: &file, Class: policy.Secure, Status: status.Succeeded})
	f.projects["acme/web"] = func() (*Project, error) { return &p, nil }
	f.blobs[d] = b.Bytes()
	f.runtime = &runtime.Spec{Platform: plan.Platform{OS: "linux", Arch: "amd64"}, Created: time.Now(), Name: "acme/web", Commit: d, Plan: d,
		Layers: []runtime.Layer{{PURL: "pkg:generic/zlib@1.3.1", File: file, Artifact: d, Digest: d, Size: int64(b.Len()),
			Open: func() (runtime.File, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				return memoryLayer{bytes.NewReader(f.blobs[d])}, nil
			}}}}
	return &p, b.Bytes()
}

// TestRuntimeFiles: the runtime of a project is there as an image and as a tar, and is
// linked on its page; where a layer is not what it was, nothing is sent.
func TestRuntimeFiles(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	if res, body := ask(t, ts, "GET", "/acme/web"); res.StatusCode != http.StatusOK || strings.Contains(body, "runtime.oci.tar") {
		t.Errorf("a project without a root: %d", res.StatusCode)
	}
	if res, body := ask(t, ts, "GET", "/acme/web/runtime.oci.tar"); res.StatusCode != http.StatusConflict || !strings.Contains(body, "Add a root") {
		t.Errorf("a project without a root: %d %s", res.StatusCode, body)
	}
	_, layer := withRuntime(t, f)
	_, body := ask(t, ts, "GET", "/acme/web")
	for _, want := range []string{`href="/acme/web/runtime.oci.tar"`, `href="/acme/web/runtime.tar"`, "1 system layer"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	res, body := ask(t, ts, "GET", "/acme/web/runtime.oci.tar")
	if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Content-Disposition"), ".oci.tar") || !strings.HasPrefix(res.Header.Get("Docker-Content-Digest"), "sha256:") {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	found := false
	for r := tar.NewReader(strings.NewReader(body)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found = found || h.Name == "blobs/sha256/"+digest.FromBytes(layer).Hex() && bytes.Equal(b, layer)
	}
	if !found {
		t.Error("the image has not the layer as it is")
	}
	if res, body := ask(t, ts, "GET", "/acme/web/runtime.tar"); res.StatusCode != http.StatusOK || body != string(layer) {
		t.Errorf("the tar of one layer: %d, %d bytes", res.StatusCode, len(body))
	}
	if res, body := ask(t, ts, "HEAD", "/acme/web/runtime.tar"); res.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD: %d %q", res.StatusCode, body)
	}
	f.mu.Lock()
	f.blobs[digest.FromBytes(layer)] = append(bytes.Clone(layer), 0)
	f.mu.Unlock()
	if res, body := ask(t, ts, "GET", "/acme/web/runtime.oci.tar"); res.StatusCode < 400 || strings.Contains(body, "ustar") {
		t.Errorf("a changed layer: %d", res.StatusCode)
	}
}

// TestRuntimeOf: where the gate refuses one artifact there is no runtime, and the page
// says why.
func TestRuntimeOf(t *testing.T) {
	p, _ := withRuntime(t, sample(t))
	if v := runtimeOf(p.Document, takes{}, "?branch=b"); v == nil || v.OCI != "/acme/web/runtime.oci.tar?branch=b" || v.Tar != "/acme/web/runtime.tar?branch=b" || v.Layers != 1 || len(v.Why) != 0 {
		t.Errorf("%+v", v)
	}
	no := takes{policy.Secure: {"pkg:generic/zlib@1.3.1", fault.New(fault.Denied, "secure artifacts are for the tiers team and enterprise")}}
	if v := runtimeOf(p.Document, no, ""); v == nil || v.OCI != "" || v.Tar != "" || len(v.Why) != 1 {
		t.Errorf("%+v", v)
	}
	p.Document.Artifacts[0].Digest = nil
	if v := runtimeOf(p.Document, takes{}, ""); v != nil {
		t.Errorf("a file is missing: %+v", v)
	}
}

// TestTooManyRuntimes: who asks for many at a time is told to wait.
func TestTooManyRuntimes(t *testing.T) {
	h := newRuntimes()
	for range runtimesEach {
		if _, err := h.begin("user a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.begin("user a"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := h.begin("user b"); err != nil {
		t.Error(err)
	}
}

var _ Runtimes = (*fake)(nil)
