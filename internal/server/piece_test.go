package server

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hallmark/internal/record"
)

// An artifact's page is the same packed and not packed, and a browser that has it is
// told so.
func TestPackedArtifactPage(t *testing.T) {
	f := many(t, 300)
	ts := serve(t, f)
	path := "/acme/web/artifact/" + rowOf(t, f, "flask").Digest.Hex()
	for _, at := range []string{path, path + "?open=all", path + "?open=pkg%3Apypi%2Fflask%403.0.3"} {
		_, plain := ask(t, ts, http.MethodGet, at, "Accept-Encoding: "+"identity")
		res, packed := ask(t, ts, http.MethodGet, at, "Accept-Encoding: "+"gzip")
		z, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		b, err := io.ReadAll(z)
		if err != nil || string(b) != plain {
			t.Errorf("%s: unpacked it is another page: %v", at, err)
		}
		for _, part := range []string{"Under what conditions", "Built again", "What it rests on", "Everything that its build could read", "how to check it without us"} {
			if !strings.Contains(plain, part) {
				t.Errorf("%s: it has no %q", at, part)
			}
		}
		if strings.Contains(plain, strings.Fields(pieceMark)[2]) {
			t.Errorf("%s: a mark was left", at)
		}
		if res, _ := ask(t, ts, http.MethodGet, at, "Accept-Encoding: gzip", "If-None-Match: "+res.Header.Get("ETag")); res.StatusCode != http.StatusNotModified {
			t.Errorf("%s: what the browser has comes again: %d", at, res.StatusCode)
		}
	}
	_, page := ask(t, ts, http.MethodGet, path)
	if strings.Index(page, "Under what conditions") > strings.Index(page, "What it rests on") {
		t.Error("the parts are in another order")
	}
}

// A piece is made once for all who ask at a time, again when it is told of another
// artifact, and the ones that nobody asks for give way.
func TestPiecesAreBounded(t *testing.T) {
	c := newPieces()
	c.limit = 40_000
	var made atomic.Int64
	of := &Artifact{First: &record.Build{}}
	data := func(a *Artifact) func() any {
		return func() any {
			made.Add(1)
			return factsView{Artifact: a, Conditions: []condition{{Name: strings.Repeat("x", 3000)}}}
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := c.get(pieceKey{of, "acme/web", "facts"}, "artifact-facts", data(of)); err != nil || !strings.Contains(string(v.html), "xxx") {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("it was made %d times", made.Load())
	}
	for i := range 100 {
		if _, err := c.get(pieceKey{of, "acme/web", fmt.Sprint(i)}, "artifact-facts", data(of)); err != nil {
			t.Fatal(err)
		}
	}
	if c.bytes > c.limit || c.order.Len() < 2 || c.order.Len() != len(c.all) {
		t.Errorf("%d bytes in %d pieces are kept", c.bytes, c.order.Len())
	}
	sum := 0
	for at := c.order.Front(); at != nil; at = at.Next() {
		sum += at.Value.(*keptPiece).weight
	}
	if sum != c.bytes {
		t.Errorf("%d bytes are counted, %d are kept", c.bytes, sum)
	}
	if _, err := c.get(pieceKey{of, "acme/web", "broken"}, "artifact-facts", func() any { return struct{}{} }); err == nil || len(c.all) != c.order.Len() {
		t.Error("a piece that cannot be made is kept")
	}
	made.Store(0)
	if _, err := c.get(pieceKey{&Artifact{First: &record.Build{}}, "acme/web", "99"}, "artifact-facts", data(of)); err != nil || made.Load() != 1 {
		t.Errorf("of another artifact the same is shown: %v", err)
	}
}
