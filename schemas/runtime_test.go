package schemas_test

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/runtime"
)

// opened is a layer in memory.
type opened struct{ *bytes.Reader }

func (opened) Close() error { return nil }

// TestRuntime: what an installed runtime says of itself is as the schema says.
func TestRuntime(t *testing.T) {
	var b bytes.Buffer
	if _, err := archive.WriteLayer(t.TempDir(), &b, time.Now()); err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(b.Bytes())
	s := runtime.Spec{Platform: plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}, Env: []string{"A="}, Created: time.Now(), Name: "acme/web", Commit: d, Plan: d,
		Layers: []runtime.Layer{{PURL: "pkg:generic/zlib@1.3.1", File: "zlib-1.3.1.layer.tar", Artifact: d, Digest: d, Size: int64(b.Len()), Open: func() (runtime.File, error) { return opened{bytes.NewReader(b.Bytes())}, nil }}}}
	ix, err := s.Index(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	doc, _, err := s.Document(ix)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	check(t, "runtime.v1", v)
}
