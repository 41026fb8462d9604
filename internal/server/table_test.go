package server

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// many is the sample with n packages that are as flask is.
func many(t testing.TB, n int) *fake {
	f := sample(t)
	p, err := f.projects["acme/web"]()
	if err != nil {
		t.Fatal(err)
	}
	flask := rowOf(t, f, "flask")
	for i := range n {
		r := flask
		r.PURL = purl.New("pypi", fmt.Sprintf("many-%04d", i), "1.0")
		p.Document.Artifacts = append(p.Document.Artifacts, r)
		p.Document.Summary.Artifacts++
		p.Document.Summary.Secure++
	}
	f.projects["acme/web"] = func() (*Project, error) { return p, nil }
	return f
}

// A page is the same packed and not packed; what is a viewer's own is not packed.
func TestPackedPage(t *testing.T) {
	ts := serve(t, many(t, 800))
	for _, path := range []string{"/acme/web", "/acme/web?page=2", "/acme/web?page=all", "/acme/web?q=nothing-is-called-so", "/acme/web?q=many-0001"} {
		_, plain := ask(t, ts, http.MethodGet, path, "Accept-Encoding: "+"identity")
		res, packed := ask(t, ts, http.MethodGet, path, "Accept-Encoding: "+"br, gzip;q=0.8")
		if strings.Contains(path, "nothing") {
			if res.Header.Get("Content-Encoding") != "" || plain != packed {
				t.Errorf("%s: without rows it is packed", path)
			}
			continue
		}
		z, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		z.Multistream(false)
		b, err := io.ReadAll(z)
		if err != nil || string(b) != plain {
			t.Errorf("%s: unpacked it is another page: %v", path, err)
		}
		if len(packed) > len(plain)/2 && len(plain) > 200_000 {
			t.Errorf("%s: %d bytes are packed to %d", path, len(plain), len(packed))
		}
		if strings.Contains(plain, strings.Fields(pieceMark)[2]) {
			t.Errorf("%s: the mark is on the page", path)
		}
		if !strings.Contains(packed, `id="percent"`) || strings.Contains(path, "many") && !strings.Contains(packed, `value="many-0001"`) {
			t.Errorf("%s: what was asked for, or the percentage, is packed", path)
		}
	}
	if res, _ := ask(t, ts, http.MethodGet, "/acme/web", "Accept-Encoding: "+"gzip;q=0"); res.Header.Get("Content-Encoding") != "" {
		t.Error("packed for a client that does not take it")
	}
}

func TestUnchangedPage(t *testing.T) {
	f := sample(t)
	p, err := f.projects["acme/web"]()
	if err != nil {
		t.Fatal(err)
	}
	f.projects["acme/web"] = func() (*Project, error) { return p, nil }
	ts := serve(t, f)
	for _, encoding := range []string{"identity", "gzip"} {
		res, _ := ask(t, ts, http.MethodGet, "/acme/web", "Accept-Encoding: "+encoding)
		tag := res.Header.Get("ETag")
		if tag == "" || res.Header.Get("Cache-Control") != "private, no-cache" {
			t.Fatalf("tag %q, %q", tag, res.Header.Get("Cache-Control"))
		}
		res, body := ask(t, ts, http.MethodGet, "/acme/web", "Accept-Encoding: "+encoding, "If-None-Match: "+`W/"x", `+tag)
		if res.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("an unchanged page: %d with %d bytes", res.StatusCode, len(body))
		}
		if res, _ := ask(t, ts, http.MethodGet, "/acme/web?class=secure", "Accept-Encoding: "+encoding, "If-None-Match: "+tag); res.StatusCode != http.StatusOK {
			t.Errorf("another page: %d", res.StatusCode)
		}
		// A row that changed is another page, and another percentage is.
		q := *p
		q.Document.Artifacts = append([]status.Row(nil), p.Document.Artifacts...)
		q.Document.Artifacts[0].Reasons = append(q.Document.Artifacts[0].Reasons, q.Document.Artifacts[0].Reasons...)
		q.Document.Artifacts[0].PURL = purl.New("pypi", "renamed", "1.0")
		f.projects["acme/web"] = func() (*Project, error) { return &q, nil }
		if res, body := ask(t, ts, http.MethodGet, "/acme/web", "Accept-Encoding: "+"identity", "If-None-Match: "+tag); res.StatusCode != http.StatusOK || !strings.Contains(body, "renamed") {
			t.Errorf("a changed page: %d", res.StatusCode)
		}
		f.projects["acme/web"] = func() (*Project, error) { return p, nil }
	}
}

// Every row is on one page, links between rows lead to the page that has the row, and
// filters stay in the links.
func TestPagesOfTheTable(t *testing.T) {
	f := many(t, 1200)
	ts := serve(t, f)
	p, err := f.projects["acme/web"]()
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`<tbody id="([^"]+)"`)
	seen := map[string]int{}
	for n := 1; n <= 3; n++ {
		_, body := ask(t, ts, http.MethodGet, fmt.Sprintf("/acme/web?page=%d", n))
		for _, m := range rows.FindAllStringSubmatch(body, -1) {
			seen[m[1]]++
		}
		if strings.Count(body, `aria-current="page">`+fmt.Sprint(n)+"<") != 1 {
			t.Errorf("page %d does not say which it is", n)
		}
	}
	if len(seen) != len(p.Document.Artifacts) {
		t.Errorf("%d of %d rows are on a page", len(seen), len(p.Document.Artifacts))
	}
	for a, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", a, n)
		}
	}
	_, all := ask(t, ts, http.MethodGet, "/acme/web?page=all")
	if n := len(rows.FindAllString(all, -1)); n != len(p.Document.Artifacts) {
		t.Errorf("all: %d rows", n)
	}
	_, body := ask(t, ts, http.MethodGet, "/acme/web?class=secure&q=many")
	if !strings.Contains(body, `/acme/web?class=secure&amp;page=2&amp;q=many#builds`) {
		t.Error("the link to the next page drops the filter")
	}
	for _, page := range []string{"0", "-1", "999999", "x", "99999999999999999999"} {
		if res, body := ask(t, ts, http.MethodGet, "/acme/web?page="+page); res.StatusCode != http.StatusOK || len(rows.FindAllString(body, -1)) == 0 {
			t.Errorf("page %s: %d", page, res.StatusCode)
		}
	}
	// Each link to a row leads to a page that has it.
	s, err := New(f, Options{SingleUser: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []status.Row{p.Document.Artifacts[0], p.Document.Artifacts[700], p.Document.Artifacts[len(p.Document.Artifacts)-1]} {
		to, a, _ := strings.Cut(s.rowLink(p, row.PURL), "#")
		if _, body := ask(t, ts, http.MethodGet, to); !strings.Contains(body, `<tbody id="`+a+`"`) {
			t.Errorf("%s leads to %s, which has no such row", row.PURL, to)
		}
	}
}

// A table is made once for all who may see the same, and never for others.
func TestTableIsMadeOnce(t *testing.T) {
	p, err := sample(t).projects["acme/web"]()
	if err != nil {
		t.Fatal(err)
	}
	made := newTables(p)
	var mu sync.Mutex
	count := map[tableKey]int{}
	var wg sync.WaitGroup
	keys := []tableKey{{Page: 1}, {Page: 1, Secure: "no"}, {Page: 1, Community: "no"}, {Page: 2}, {Page: 1, Hosted: true}, {Page: 1, Filter: filter{Text: "x"}}}
	for i := range 200 {
		k := keys[i%len(keys)]
		wg.Go(func() {
			v, err := made.table(k, func(v *table) error {
				mu.Lock()
				defer mu.Unlock()
				count[k]++
				v.html = []byte(fmt.Sprint(k))
				return nil
			})
			if err != nil || !bytes.Equal(v.html, []byte(fmt.Sprint(k))) {
				t.Errorf("%v got %s, %v", k, v.html, err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if count[k] != 1 {
			t.Errorf("%v was made %d times", k, count[k])
		}
	}
	// There is an end to how many are kept, and one that could not be made is tried again.
	for i := range 10 * maxTables {
		if _, err := made.table(tableKey{Page: 100 + i}, func(v *table) error { v.html = make([]byte, 1000); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(made.all) > maxTables || len(made.order) != len(made.all) || made.bytes > maxTables*1000 {
		t.Errorf("%d tables, %d in order, %d bytes", len(made.all), len(made.order), made.bytes)
	}
	failed := tableKey{Page: 7000}
	if _, err := made.table(failed, func(*table) error { return io.ErrUnexpectedEOF }); err == nil {
		t.Error("no error")
	}
	if _, err := made.table(failed, func(*table) error { return nil }); err != nil {
		t.Error(err)
	}
}

// A table that gives way to others while it is still being made is counted neither
// before nor after.
func TestTableGivesWayWhileItIsMade(t *testing.T) {
	made := newTables(&Project{})
	begun, finish, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, err := made.table(tableKey{Page: 1}, func(v *table) error {
			v.html = make([]byte, 1000)
			close(begun)
			<-finish
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-begun
	for n := range maxTables {
		if _, err := made.table(tableKey{Page: n + 2}, func(v *table) error { v.html = make([]byte, 10); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	close(finish)
	<-done
	made.mu.Lock()
	defer made.mu.Unlock()
	if made.bytes != maxTables*10 || len(made.all) != maxTables {
		t.Errorf("%d bytes of %d tables", made.bytes, len(made.all))
	}
}

// A table whose making panicked is an error, and never a page without rows.
func TestTableWhoseMakingPanics(t *testing.T) {
	made := newTables(&Project{})
	func() {
		defer func() { _ = recover() }()
		_, _ = made.table(tableKey{}, func(*table) error { panic("a fault of ours") })
	}()
	if v, err := made.table(tableKey{}, func(*table) error { return nil }); err == nil && len(v.html) == 0 {
		t.Error("a table without rows is shown")
	}
}

// What was made of other projects goes when there is too much of it.
func TestMadeIsBounded(t *testing.T) {
	c := newCache()
	c.limit = 100_000
	for i := range 50 {
		p := &Project{Document: status.Document{Project: fmt.Sprintf("acme/p%d", i)}}
		made := c.tables(p)
		if _, err := made.table(tableKey{}, func(v *table) error { v.html = make([]byte, 30_000); return nil }); err != nil {
			t.Fatal(err)
		}
		c.weigh(p, made)
		if c.bytes > c.limit {
			t.Fatalf("%d bytes are kept", c.bytes)
		}
		if c.tables(p) != made {
			t.Fatal("the newest was thrown away")
		}
		if q := *p; i == 49 && c.tables(&q) == made {
			t.Fatal("another status has the tables of the one before")
		}
	}
	if len(c.all) > 5 || len(c.all) != c.order.Len() {
		t.Errorf("%d projects are kept", len(c.all))
	}
}

func FuzzTakesGzip(f *testing.F) {
	for _, s := range []string{"", "gzip", "gzip;q=0", "br;q=1.0, gzip;q=0.8, *;q=0.1", "identity", "gzip;q=x", ";;,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r, err := http.NewRequest(http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Accept-Encoding"] = []string{accept}
		if takesGzip(r) && !strings.Contains(strings.ToLower(accept), "gzip") {
			t.Errorf("%q does not name gzip", accept)
		}
	})
}

// FuzzGzipAround checks that what gzipAround makes is unpacked to what went in.
func FuzzGzipAround(f *testing.F) {
	f.Add([]byte("head"), []byte("text"), []byte("tail"), uint16(1))
	f.Add([]byte{}, []byte{}, []byte{}, uint16(40000))
	f.Fuzz(func(t *testing.T, head, text, tail []byte, times uint16) {
		head = bytes.Repeat(head, int(times)%3000)
		v := &piece{html: text}
		if err := v.pack(); err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(bytes.Join(gzipAround([][]byte{head, tail, head}, []*piece{v, v}), nil)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, bytes.Join([][]byte{head, text, tail, text, head}, nil)) {
			t.Errorf("%d bytes came out, %v", len(got), err)
		}
	})
}
