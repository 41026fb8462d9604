package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// What needs a reader says of itself that no cache may have it that others share: a
// session's cookie, unlike a token, does not keep one from storing an answer.
func TestNoSharedCacheHasWhatNeedsAReader(t *testing.T) {
	ts := serve(t, sample(t))
	_, index := get(t, ts, "/r/acme/web/pypi/simple/flask/")
	file := between(t, index, `href="`, `#`)
	for _, at := range []string{"/", "/acme/web", "/acme/web/files.zip", "/acme/web/runtime.tar", "/acme/web/runtime.oci.tar", "/r/acme/web/pypi/simple/", "/r/acme/web/pypi/simple/flask/", file, file + ".metadata",
		"/api/v1/projects/acme/web/status", "/api/v1/whoami", "/acme/nothing"} {
		res, body := get(t, ts, at)
		c := res.Header.Get("Cache-Control")
		if !strings.Contains(c, "private") && !strings.Contains(c, "no-store") {
			t.Errorf("%s (%d, %.40q): Cache-Control is %q", at, res.StatusCode, body, c)
		}
	}
}

func get(t *testing.T, ts *httptest.Server, at string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(ts.URL + at)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func between(t *testing.T, s, from, to string) string {
	t.Helper()
	_, s, ok := strings.Cut(s, from)
	s, _, ok2 := strings.Cut(s, to)
	if !ok || !ok2 {
		t.Fatalf("nothing between %q and %q", from, to)
	}
	return s
}

// What is remembered of wheels is bounded by bytes, and a wheel's name is part of it:
// under another name it has no METADATA of its own.
func TestMetadataCacheIsBounded(t *testing.T) {
	f, c := sample(t), newMetadataCache()
	name, b := wheel(t, "long", "1.0", "six\n\n"+strings.Repeat("x", 1<<20))
	d := digest.FromBytes(b)
	f.blobs[d] = b
	if m, err := c.of(t.Context(), f, d, "other-1.0-py3-none-any.whl"); err != nil || m.digest != "" {
		t.Errorf("under another name: %q, %v", m.digest, err)
	}
	m, err := c.of(t.Context(), f, d, name)
	if err != nil || m.requiresPython != ">=3.8" {
		t.Fatalf("under its own name: %q, %v", m.requiresPython, err)
	}
	for i := range 2 * maxMetaBytes / len(m.metadata) {
		_, b := wheel(t, "long", "1.0", "six\n\n"+strings.Repeat("x", 1<<20)+strings.Repeat("y", i))
		d := digest.FromBytes(b)
		f.blobs[d] = b
		if _, err := c.of(t.Context(), f, d, name); err != nil {
			t.Fatal(err)
		}
		delete(f.blobs, d)
		if c.bytes > maxMetaBytes {
			t.Fatalf("after %d wheels it holds %d bytes", i, c.bytes)
		}
	}
}

// counted counts what is read of a body without end.
type counted struct{ n int }

func (c *counted) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "[1,"[min(c.n, 1)+c.n%2]
		c.n++
	}
	return len(p), nil
}

// A stranger's large body is not read, and the answer does not tell whether the
// project is there.
func TestStrangersSendNothingLarge(t *testing.T) {
	w := newTown(t, nil)
	ctx, by := t.Context(), store.By{Actor: "test", Via: "test", At: time.Now()}
	ann, err := w.rows.UserByName(ctx, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.rows.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: time.Now()}, ann.ID, by); err != nil {
		t.Fatal(err)
	}
	if _, err := w.rows.CreateProject(ctx, "acme", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, name := range []string{"web", "nil"} {
		body := &counted{}
		r := httptest.NewRequest(http.MethodPost, w.URL+"/api/v1/projects/acme/"+name+"/imports", io.LimitReader(body, maxImport))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.Config.Handler.ServeHTTP(rec, r)
		if rec.Code != http.StatusNotFound || body.n > 0 {
			t.Errorf("acme/%s: %d, and %d bytes were read", name, rec.Code, body.n)
		}
		said[name] = strings.ReplaceAll(rec.Body.String(), "acme/"+name, "acme/NAME")
	}
	if said["web"] != said["nil"] {
		t.Errorf("a private project says\n%s\none that is not there\n%s", said["web"], said["nil"])
	}
}

// Of one person there are few large requests at a time, and of all not many.
func TestHeavyRequestsAreFew(t *testing.T) {
	h := newHeavies()
	var ends []func()
	for i := range heavyAll {
		user := string(rune('a' + i/heavyEach))
		end, err := h.begin(user)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
		if i%heavyEach == heavyEach-1 {
			if _, err := h.begin(user); !fault.Is(err, fault.Unavailable) {
				t.Errorf("one more of %s: %v", user, err)
			}
		}
	}
	if _, err := h.begin("zoe"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("one more of somebody else's: %v", err)
	}
	for _, end := range ends {
		end()
	}
	if h.all != 0 || len(h.of) != 0 {
		t.Errorf("left are %d, %v", h.all, h.of)
	}
}

// A commit's id that is none is the asker's mistake, and nothing for the server's log.
func TestNoCommitsID(t *testing.T) {
	for _, text := range []string{"x", "commit:x", "sha256:", "commit:sha256:" + strings.Repeat("g", 64), strings.Repeat("commit:", 9), "commit:sha256:\x00"} {
		if _, err := commitID(text); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What is no text in an address is refused before anything is asked about it.
func TestAddressesThatAreNoText(t *testing.T) {
	ts := serve(t, sample(t))
	for _, at := range []string{"/acme/w%00eb", "/acme%ff/web", "/acme/web?branch=%00", "/api/v1/projects/acme/web/runs/%00", "/r/acme/%00/pypi/simple/", "/evidence/%c3%28"} {
		if res, body := get(t, ts, at); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %.80q", at, res.StatusCode, body)
		}
	}
}

// Nobody watches without end: not one user, nor one address of strangers.
func TestWatchersAreBounded(t *testing.T) {
	sc := newScript()
	w := newWorks(t, sc.build)
	id := w.run()
	<-sc.begun
	h := w.Config.Handler.(*Server).watchers
	h.most = 0
	for _, at := range []string{"/acme/web/events", "/acme/web/builds/" + id + "/events", "/api/v1/projects/acme/web/events", "/api/v1/projects/acme/web/runs/" + id + "/events"} {
		if res, body := get(t, w.Server, at); res.StatusCode != http.StatusBadGateway || !strings.Contains(body, "too many watch") {
			t.Errorf("%s: %d %.200q", at, res.StatusCode, body)
		}
	}
	h = newWatchers()
	strangers := func(address string) error {
		var a asker
		a.Address = address
		_, err := h.begin(watching(a))
		return err
	}
	for range watchEach {
		if err := strangers("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := strangers("192.0.2.1"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("one more: %v", err)
	}
	if err := strangers("192.0.2.2"); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}
