package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// ask sends one request and gives the answer with its body. Headers are
// "Name: value"; Host is taken as the request's host.
func ask(t testing.TB, ts *httptest.Server, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, ts.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
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

// rowOf gives the row of a package.
func rowOf(t testing.TB, f *fake, name string) status.Row {
	t.Helper()
	p, err := f.projects["acme/web"]()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Document.Artifacts {
		if r.PURL.Name() == name {
			return r
		}
	}
	t.Fatalf("no row of %s", name)
	return status.Row{}
}

func TestTranscript(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	flask := rowOf(t, f, "flask")
	hex, file := flask.Digest.Hex(), *flask.File
	other := digest.FromBytes([]byte("other")).Hex()
	simple := "/r/acme/web/pypi/simple/"
	for _, c := range []struct {
		method, path string
		headers      []string
		code         int
		contentType  string
		body         string // part of it
	}{
		{"GET", "/", nil, 200, "text/html; charset=utf-8", "acme/web"},
		{"GET", "/acme/web", nil, 200, "text/html; charset=utf-8", "Package Build Status"},
		{"GET", "/acme/unsolved", nil, 200, "text/html; charset=utf-8", "hallmark builds"},
		{"GET", "/acme/none", nil, 404, "text/html; charset=utf-8", "not stored"},
		{"GET", "/acme/empty", nil, 200, "text/html; charset=utf-8", "hallmark install flask"},
		{"HEAD", "/acme/web", nil, 200, "text/html; charset=utf-8", ""},
		{"GET", "/acme", nil, 404, "text/plain; charset=utf-8", ""},
		{"POST", "/acme/web", nil, 405, "text/plain; charset=utf-8", "hallmark command"},
		{"DELETE", "/api/v1/projects", nil, 405, "application/problem+json", "urn:hallmark:problem:usage"},
		{"OPTIONS", "/acme/web", nil, 405, "text/plain; charset=utf-8", ""},
		{"GET", "/api/v1/projects", nil, 200, "application/json", `{"projects":["acme/empty","acme/started","acme/unsolved","acme/web"]}`},
		{"GET", "/api/v1/projects/acme/web/status", nil, 200, "application/json", `"percent_secure":40`},
		{"GET", "/api/v1/projects/acme/none/status", nil, 404, "application/problem+json", `"status":404`},
		{"GET", "/api/v1/projects/acme/unsolved/status", nil, 409, "application/problem+json", "hallmark builds"},
		{"GET", "/openapi.json", nil, 200, "application/openapi+json", `"/api/v1/projects/{org}/{project}/status"`},
		{"GET", "/healthz", nil, 200, "text/plain; charset=utf-8", "ok"},
		{"GET", "/metrics", nil, 200, "text/plain; version=0.0.4; charset=utf-8", `hallmark_http_requests_total{surface="pages",code="2xx"}`},
		{"GET", "/trusted_root.json", nil, 200, "application/json", "trustedroot"},
		{"GET", "/log/checkpoint", nil, 200, "text/plain; charset=utf-8", "log /checkpoint"},
		{"GET", "/log/tile/0/000", nil, 200, "text/plain; charset=utf-8", "log /tile/0/000"},
		{"GET", "/evidence/" + hex, nil, 200, "application/json", "/evidence/" + hex + "/provenance.sigstore.json"},
		{"GET", "/evidence/" + hex + "/provenance.sigstore.json", nil, 200, "application/vnd.dev.sigstore.bundle.v0.3+json", `{"of":"flask"}`},
		{"GET", "/evidence/" + hex + "/none.json", nil, 404, "text/plain; charset=utf-8", "not stored"},
		{"GET", "/evidence/" + other, nil, 404, "text/plain; charset=utf-8", "no evidence"},
		{"GET", "/evidence/..%2f..%2fetc", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/evidence/" + hex + "/..%2f..%2fkeys", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/builder/" + testKey + "/hermetic", nil, 200, "text/html; charset=utf-8", "Not guaranteed"},
		{"GET", "/builder/" + testKey + "/hermetic", nil, 200, "text/html; charset=utf-8", "limit.memory: no control group, not 4096 (not &lt;root&gt;; limits of the"},
		{"GET", "/builder/" + testKey + "/hermetic", nil, 200, "text/html; charset=utf-8", "<li>limit.time: 1h0m0s</li>\n</ul>"},
		{"GET", "/builder/" + testKey + "/networked", nil, 404, "text/html; charset=utf-8", ""},
		{"GET", "/verifier/" + testKey, nil, 200, "text/html; charset=utf-8", "HALLMARK_SECURE"},
		{"GET", "/verifier/ffff", nil, 404, "text/html; charset=utf-8", ""},
		{"GET", "/static/style.css", nil, 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		{"GET", "/static/..%2fserver.go", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", simple, nil, 200, "text/html; charset=utf-8", `<a href="flask/">flask</a>`},
		{"GET", simple, []string{"Accept: application/vnd.pypi.simple.v1+json"}, 200, simpleJSON, `{"meta":{"api-version":"1.1"},"projects":[{"name":"flask"},{"name":"markupsafe"},{"name":"pydantic"},{"name":"pydantic-core"}]}`},
		{"GET", simple + "?format=application/vnd.pypi.simple.v1%2Bjson", nil, 200, simpleJSON, `"flask"`},
		{"GET", simple + "?format=xml", nil, 406, "text/plain; charset=utf-8", ""},
		{"GET", simple, []string{"Accept: image/png"}, 406, "text/plain; charset=utf-8", ""},
		{"GET", simple + "flask", nil, 307, "", ""},
		{"GET", simple + "Pydantic__Core/", nil, 301, "", ""},
		{"GET", simple + "flask/", nil, 200, "text/html; charset=utf-8", "#sha256=" + hex + `" data-requires-python="&gt;=3.8" data-core-metadata="sha256=`},
		{"GET", simple + "lonely/", nil, 404, "text/plain; charset=utf-8", "no file of lonely"},
		{"GET", simple + "setuptools/", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", simple + "..%2f..%2f/", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/r/acme/unsolved/pypi/simple/", nil, 404, "text/plain; charset=utf-8", "not been solved"},
		{"GET", "/r/acme/none/pypi/simple/flask/", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/r/acme/web/pypi/files/" + hex + "/" + file, nil, 200, "application/octet-stream", "PK"},
		{"GET", "/r/acme/web/pypi/files/" + hex + "/" + file + ".metadata", nil, 200, "text/plain; charset=utf-8", "Name: flask\n"},
		{"GET", "/r/acme/web/pypi/files/" + hex + "/evil.whl", nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/r/acme/web/pypi/files/" + other + "/" + file, nil, 404, "text/plain; charset=utf-8", "no such file"},
		{"GET", "/r/acme/empty/pypi/files/" + hex + "/" + file, nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/r/acme/web/pypi/files/zz/" + file, nil, 404, "text/plain; charset=utf-8", ""},
		{"GET", "/" + strings.Repeat("a", 3000) + "/x", nil, 414, "text/plain; charset=utf-8", ""},
		// DNS rebinding and other sites' pages.
		{"GET", "/acme/web", []string{"Host: evil.example:8420"}, 421, "text/plain; charset=utf-8", ""},
		{"GET", "/acme/web", []string{"Host: localhost.evil.example"}, 421, "text/plain; charset=utf-8", ""},
		{"GET", "/healthz", []string{"Host: 127.0.0.1.evil.example"}, 421, "text/plain; charset=utf-8", ""},
		{"GET", "/acme/web", []string{"Host: localhost"}, 200, "text/html; charset=utf-8", ""},
		{"GET", "/acme/web", []string{"Host: [::1]:8420"}, 200, "text/html; charset=utf-8", ""},
		{"GET", "/api/v1/projects", []string{"Origin: https://evil.example"}, 403, "application/problem+json", ""},
		{"GET", "/api/v1/projects", []string{"Origin: null"}, 403, "application/problem+json", ""},
		{"GET", "/api/v1/projects", []string{"Origin: http://localhost:1"}, 403, "application/problem+json", ""},
		{"GET", "/api/v1/projects", []string{"Origin: " + ts.URL}, 200, "application/json", ""},
	} {
		res, body := ask(t, ts, c.method, c.path, c.headers...)
		if res.StatusCode != c.code || c.contentType != "" && res.Header.Get("Content-Type") != c.contentType || !strings.Contains(body, c.body) {
			t.Errorf("%s %.120s %v: %d %s, want %d %s with %q\n%.600s", c.method, c.path, c.headers, res.StatusCode, res.Header.Get("Content-Type"), c.code, c.contentType, c.body, body)
		}
		for h, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
			if res.Header.Get(h) != want {
				t.Errorf("%s %.80s: %s is %q", c.method, c.path, h, res.Header.Get(h))
			}
		}
		if csp := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s %.80s: policy %q", c.method, c.path, csp)
		}
	}
}

func TestRedirectsToTheNormalName(t *testing.T) {
	ts := serve(t, sample(t))
	for in, want := range map[string]string{
		"Flask/": "flask/", "pydantic_core/?format=json": "pydantic-core/?format=json", "PYDANTIC--.core/": "pydantic-core/"} {
		res, _ := ask(t, ts, "GET", "/r/acme/web/pypi/simple/"+in)
		if got := res.Header.Get("Location"); res.StatusCode != 301 || got != "/r/acme/web/pypi/simple/"+want {
			t.Errorf("%s: %d to %s", in, res.StatusCode, got)
		}
	}
}

func TestStatusOverHTTPIsTheDocument(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	p, _ := f.projects["acme/web"]()
	want, err := json.Marshal(p.Document)
	if err != nil {
		t.Fatal(err)
	}
	_, body := ask(t, ts, "GET", "/api/v1/projects/acme/web/status")
	var a, b any
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(want, &b)
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		t.Errorf("over HTTP:\n%s\nthe document:\n%s", x, y)
	}
}

// TestSimpleJSON holds a project's page to PEP 691, 700 and 714.
func TestSimpleJSON(t *testing.T) {
	f := sample(t)
	ts := serve(t, f)
	flask := rowOf(t, f, "flask")
	_, body := ask(t, ts, "GET", "/r/acme/web/pypi/simple/flask/", "Accept: application/vnd.pypi.simple.v1+json")
	var page struct {
		Meta     map[string]string
		Name     string
		Versions []string
		Files    []struct {
			Filename, URL  string
			Hashes         map[string]string
			Size           int64
			RequiresPython string            `json:"requires-python"`
			Core           map[string]string `json:"core-metadata"`
			Provenance     any
		}
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	if page.Meta["api-version"] != "1.1" || page.Name != "flask" || fmt.Sprint(page.Versions) != "[3.0.3]" || len(page.Files) != 1 {
		t.Fatalf("page is %s", body)
	}
	file := page.Files[0]
	if file.Hashes["sha256"] != flask.Digest.Hex() || file.Size != int64(len(f.blobs[*flask.Digest])) || file.RequiresPython != ">=3.8" || file.Provenance != nil {
		t.Errorf("file is %+v", file)
	}
	res, got := ask(t, ts, "GET", file.URL)
	if digest.FromBytes([]byte(got)) != *flask.Digest || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("bytes or headers differ: %v", res.Header)
	}
	_, meta := ask(t, ts, "GET", file.URL+".metadata")
	if digest.FromBytes([]byte(meta)).Hex() != file.Core["sha256"] {
		t.Error("the metadata has another digest than the page says")
	}
	res, got = ask(t, ts, "GET", file.URL, "Range: bytes=0-1")
	if res.StatusCode != 206 || got != "PK" {
		t.Errorf("range: %d %q", res.StatusCode, got)
	}
	res, _ = ask(t, ts, "GET", file.URL, "If-None-Match: "+`"`+flask.Digest.Hex()+`"`)
	if res.StatusCode != 304 {
		t.Errorf("ETag: %d", res.StatusCode)
	}
}

func TestSimpleFormat(t *testing.T) {
	for accept, want := range map[string]string{
		"":                                    plainHTML,
		"*/*":                                 plainHTML,
		"text/html":                           plainHTML,
		"application/vnd.pypi.simple.v1+html": simpleHTML,
		"application/vnd.pypi.simple.v1+json": simpleJSON,
		"application/vnd.pypi.simple.latest+json;q=0.2, text/html;q=0.1": simpleJSON,
		// pip's and uv's own.
		"application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01": simpleJSON,
		"text/html;q=0.9, application/vnd.pypi.simple.v1+json;q=0":                                           plainHTML,
		"application/vnd.pypi.simple.v2+json":                                                                "",
		"image/*":                                                                                            "",
		"text/html;q=7":                                                                                      "",
		";;;,,,":                                                                                             "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		if got := simpleFormat(r); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	ts := serve(t, sample(t))
	for q, want := range map[string]string{
		"":                               "lonely pydantic-core pydantic flask markupsafe",
		"class=secure":                   "flask markupsafe",
		"class=community":                "lonely pydantic-core pydantic",
		"grade=built":                    "pydantic",
		"reason=no-source":               "lonely",
		"q=CARGO":                        "pydantic-core",
		"q=markup":                       "markupsafe",
		"class=secure&grade=unknown":     "",
		"class=%3Cscript%3E":             "",
		"q=" + strings.Repeat("%ff", 50): "lonely pydantic-core pydantic flask markupsafe",
	} {
		res, body := ask(t, ts, "GET", "/acme/web?"+q)
		var got []string
		for _, m := range regexp.MustCompile(`data-package="pkg:pypi/([a-z-]+)@`).FindAllStringSubmatch(body, -1) {
			got = append(got, m[1])
		}
		if res.StatusCode != 200 || strings.Join(got, " ") != want {
			t.Errorf("%s: %d, %v, want %s", q, res.StatusCode, got, want)
		}
		if strings.Contains(body, "<script>") {
			t.Errorf("%s: markup passes", q)
		}
	}
}

// TestPagesAreWholeHTML parses each page and looks for what its own content
// policy would refuse, and for markup that came in with a name.
func TestPagesAreWholeHTML(t *testing.T) {
	f := sample(t)
	prev := f.projects["acme/web"]
	f.projects["acme/web"] = func() (*Project, error) {
		p, err := prev()
		if err != nil {
			return nil, err
		}
		evil := `"><script>alert(1)</script><b onload=x style=y>`
		p.Message = evil
		p.Document.Artifacts[1].Reasons[0].Message = evil
		name := evil
		p.Document.Artifacts[0].File = &name
		builder := "javascript:alert(1)//"
		p.Document.Artifacts[2].Builder = &builder
		for i := range p.Document.Artifacts {
			if f := p.Document.Artifacts[i].Failure; f != nil {
				f.Log, f.Advice = []string{evil}, evil
			}
		}
		return p, nil
	}
	ts := serve(t, f)
	for _, path := range []string{"/", "/acme/web", "/acme/web?q=%22%3E%3Cscript%3E", "/acme/unsolved", "/acme/none", "/builder/" + testKey + "/hermetic", "/verifier/" + testKey} {
		_, body := ask(t, ts, "GET", path)
		doc, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for n := range doc.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			// The scripts are files of our own; none stands in a page.
			own := n.FirstChild == nil && slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "src" && strings.HasPrefix(a.Val, "/static/") })
			if n.Data == "script" && !own || n.Data == "style" || n.Data == "iframe" || n.Data == "b" {
				t.Errorf("%s has a %s", path, n.Data)
			}
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(strings.ToLower(a.Val), "javascript:") {
					t.Errorf("%s has %s=%q", path, a.Key, a.Val)
				}
				if a.Key == "id" && ids[a.Val] && a.Val != "hatch" {
					t.Errorf("%s has the id %s twice", path, a.Val)
				}
				if a.Key == "id" {
					ids[a.Val] = true
				}
				if (a.Key == "href" || a.Key == "src" || a.Key == "action") && strings.Contains(a.Val, "://") {
					t.Errorf("%s links to another place: %s", path, a.Val)
				}
			}
		}
		if strings.Contains(body, "ZgotmplZ") {
			t.Errorf("%s: a template wrote into a place that it must not", path)
		}
	}
}

// TestFailureIsReadable: a row shows the lines of the log that matter, what to do
// next, and where the rest is.
func TestFailureIsReadable(t *testing.T) {
	f := sample(t)
	step := rowOf(t, f, "pydantic-core").Failure.Step
	_, body := ask(t, serve(t, f), "GET", "/acme/web")
	for _, want := range []string{"<pre tabindex=\"0\"><code>error: no cargo", "Do without Rust.", "hallmark export log sha256:" + step.Short()} {
		if strings.Count(body, want) != 1 {
			t.Errorf("the page has %d times %q", strings.Count(body, want), want)
		}
	}
}

// TestManyReasonsAreFolded: nothing is left out, but a row stays a row.
func TestManyReasonsAreFolded(t *testing.T) {
	f := sample(t)
	prev := f.projects["acme/web"]
	f.projects["acme/web"] = func() (*Project, error) {
		p, err := prev()
		if err != nil {
			return nil, err
		}
		for i := range 20 {
			p.Document.Artifacts[1].Reasons = append(p.Document.Artifacts[1].Reasons,
				policy.Reason{Code: policy.DependencyCommunity, Message: fmt.Sprintf("It depends on number %d.", i), Artifact: "pkg:pypi/flask@3.0.3"})
		}
		return p, nil
	}
	_, body := ask(t, serve(t, f), "GET", "/acme/web")
	if !strings.Contains(body, "and 16 more reasons") || !strings.Contains(body, "number 19.") {
		t.Error("reasons are lost")
	}
}

func TestErrorsOfTheHouseStayInIt(t *testing.T) {
	f := sample(t)
	for _, fail := range []error{
		errors.New("secret path /var/lib/hallmark"),
		fault.Advise(fault.Unavailable, "See that the secret server runs.", "%w: dial secret.example", store.ErrAway),
	} {
		f.fail = fail
		var log bytes.Buffer
		ts := serveLog(t, f, &log)
		for _, path := range []string{"/", "/acme/web", "/api/v1/projects", "/api/v1/projects/acme/web/status", "/r/acme/web/pypi/simple/flask/", "/healthz"} {
			res, body := ask(t, ts, "GET", path)
			if res.StatusCode < 500 || strings.Contains(body, "secret") {
				t.Errorf("%s: %d %s", path, res.StatusCode, body)
			}
		}
		if !strings.Contains(log.String(), "secret") {
			t.Error("the log does not say it")
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	f := sample(t)
	f.projects["acme/web"] = func() (*Project, error) { panic("secret") }
	ts := serveLog(t, f, io.Discard)
	if res, body := ask(t, ts, "GET", "/acme/web"); res.StatusCode != 500 || strings.Contains(body, "secret") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	// And the project is not locked for ever.
	if res, _ := ask(t, ts, "GET", "/acme/web"); res.StatusCode != 500 {
		t.Errorf("%d", res.StatusCode)
	}
}

func TestNew(t *testing.T) {
	if _, err := New(sample(t), Options{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("without accounts: %v", err)
	}
	for _, u := range []string{"localhost:8420", "ftp://localhost", "http://localhost/x", "http://u:p@localhost", "http://localhost?x"} {
		if _, err := New(sample(t), Options{SingleUser: true, ExternalURL: u}); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestListen(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:0"} {
		if l, err := Listen(a); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "--behind-proxy") {
			if l != nil {
				l.Close()
			}
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := Listen("8420"); !fault.Is(err, fault.Usage) {
		t.Errorf("no host: %v", err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(l.Addr().String()); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("a busy port: %v", err)
	}
}

func TestServeStops(t *testing.T) {
	s, err := New(sample(t), Options{SingleUser: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it did not stop")
	}
}

// TestRequestWithABody: a GET that announces a body is answered before it comes.
func TestRequestWithABody(t *testing.T) {
	ts := serve(t, sample(t))
	u, _ := url.Parse(ts.URL)
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /acme/web HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\nx")
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil || !strings.Contains(string(b[:n]), " 413 ") {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func FuzzWheelMetadata(f *testing.F) {
	name, b := wheel(f, "six", "1.17.0")
	f.Add(name, b)
	f.Add("six-1.0-py3-none-any.whl", []byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		m, err := wheelMetadata(bytes.NewReader(b), int64(len(b)), name)
		if err == nil && len(m) > maxMetadata {
			t.Errorf("%d bytes", len(m))
		}
	})
}

func FuzzSimpleFormat(f *testing.F) {
	f.Add("text/html;q=0.1, */*", "json")
	f.Fuzz(func(t *testing.T, accept, format string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		r.URL.RawQuery = url.Values{"format": {format}}.Encode()
		switch simpleFormat(r) {
		case "", simpleJSON, simpleHTML, plainHTML:
		default:
			t.Errorf("%q", simpleFormat(r))
		}
	})
}
