package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"hallmark/internal/status"
)

// serve starts the server on a free port and gives its address; it is stopped at
// the test's end and must then end well.
func (p project) serve(t *testing.T) string {
	t.Helper()
	cmd := p.command(context.Background(), "serve", "--single-user", "--listen", "127.0.0.1:0", "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("the server was gone: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v: %s", err, stderr.String())
		}
	})
	var said struct{ URL string }
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&said); err != nil || said.URL == "" {
		t.Fatalf("the server does not say where it is: %v", err)
	}
	return said.URL
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	client := http.Client{Timeout: time.Minute}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v %.300s", url, res.Status, err, b)
	}
	return b
}

// TestPage: the page of the project says the numbers and rows of the document.
func TestPage(t *testing.T) {
	p, d := sample(t)
	url := p.serve(t)
	page := string(get(t, url+"/acme/web"))
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	texts, rows := map[string]string{}, map[string]string{}
	for n := range doc.Descendants() {
		if id := attr(n, "id"); id != "" {
			texts[id] = text(n)
		}
		if u := attr(n, "data-package"); u != "" {
			rows[u] = attr(n, "class")
		}
	}
	for id, want := range map[string]string{"percent": d.Summary.Percent(), "count-secure": strconv.Itoa(d.Summary.Secure),
		"count-community": strconv.Itoa(d.Summary.Community), "count-all": strconv.Itoa(d.Summary.Artifacts)} {
		if texts[id] != want {
			t.Errorf("the page's #%s says %q, the document %q", id, texts[id], want)
		}
	}
	if len(rows) != len(d.Artifacts) {
		t.Errorf("the page has %d rows, the document %d", len(rows), len(d.Artifacts))
	}
	for _, r := range d.Artifacts {
		if rows[string(r.PURL)] != string(r.Class) {
			t.Errorf("the page calls %s %q, the document %q", r.PURL, rows[string(r.PURL)], r.Class)
		}
		for _, x := range r.Reasons {
			if !strings.Contains(page, x.Code) {
				t.Errorf("the page does not have the reason %s of %s", x.Code, r.PURL)
			}
		}
	}
	api := get(t, url+"/api/v1/projects/acme/web/status")
	valid(t, "status.v1", string(api))
	var same status.Document
	if err := json.Unmarshal(api, &same); err != nil {
		t.Fatal(err)
	}
	for i, r := range same.Artifacts {
		if show(r) != show(d.Artifacts[i]) {
			t.Errorf("the API has\n%s\nthe command\n%s", show(r), show(d.Artifacts[i]))
		}
	}
	// The evidence is there, and builder.id answers.
	f := row(t, d, "flask")
	for _, name := range []string{"provenance.sigstore.json", "rebuild.sigstore.json", "vsa.sigstore.json", "vsa.dsse.json"} {
		get(t, url+"/evidence/"+f.Digest.Hex()+"/"+name)
	}
	get(t, url+"/trusted_root.json")
	get(t, url+"/log/checkpoint")
	_, builder, _ := strings.Cut(*f.Builder, "/builder/")
	if b := get(t, url+"/builder/"+builder); !bytes.Contains(b, []byte("hermetic")) {
		t.Errorf("the builder's page: %.300s", b)
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// venv makes a virtual environment and gives its folder of programs.
func venv(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "venv")
	if err := run("python3", "-m", "venv", dir); err != nil {
		t.Fatalf("the test needs python3 with venv: %v", err)
	}
	return filepath.Join(dir, "bin")
}

// client runs a package manager with nothing of the machine's settings for it.
func client(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PIP_") && !strings.HasPrefix(e, "UV_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "PIP_CONFIG_FILE="+os.DevNull, "PIP_DISABLE_PIP_VERSION_CHECK=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// webApp is a small application; it prints what a request to it gives.
const webApp = `
import flask, markupsafe, markupsafe._speedups
app = flask.Flask("app")
@app.get("/<name>")
def hello(name):
    return flask.render_template_string("hello {{ name }}", name=name)
print(app.test_client().get("/<b>").text)
`

// flaskNeeds are the packages that flask runs with.
var flaskNeeds = []string{"blinker", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "werkzeug"}

// TestPipInstalls: plain pip gets exactly the plan's files, and an application
// runs on them.
func TestPipInstalls(t *testing.T) {
	p, d := sample(t)
	url := p.serve(t)
	bin := venv(t)
	report := filepath.Join(t.TempDir(), "report.json")
	client(t, filepath.Join(bin, "pip"), "install", "--no-cache-dir", "--index-url", url+"/r/acme/web/pypi/simple/", "--report", report, "flask")
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Install []struct {
			Download struct {
				Archive struct{ Hashes map[string]string } `json:"archive_info"`
			} `json:"download_info"`
			Metadata struct{ Name, Version string }
		}
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range r.Install {
		name := strings.ToLower(i.Metadata.Name)
		names = append(names, name)
		want := row(t, d, name)
		if i.Metadata.Version != want.PURL.Version() || i.Download.Archive.Hashes["sha256"] != want.Digest.Hex() {
			t.Errorf("pip installed %s %s with %v, the plan has %s", name, i.Metadata.Version, i.Download.Archive.Hashes, show(want))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, flaskNeeds) {
		t.Errorf("pip installed %v, want %v", names, flaskNeeds)
	}
	if got := client(t, filepath.Join(bin, "python"), "-c", webApp); got != "hello &lt;b&gt;\n" {
		t.Errorf("the application says %q", got)
	}
}

// TestUvInstalls: the same with uv, which comes from the machine's own index.
func TestUvInstalls(t *testing.T) {
	p, d := sample(t)
	home := filepath.Join(world.cache, "uv")
	uv := filepath.Join(home, "bin", "uv")
	if _, err := os.Stat(uv); err != nil {
		cmd := exec.Command("python3", "-m", "pip", "install", "--quiet", "--target", home, "--upgrade", "uv")
		cmd.Env = clean(os.Environ(), "PIP_FIND_LINKS")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the test needs uv from the machine's Python index: %v\n%s", err, out)
		}
	}
	url := p.serve(t)
	bin := venv(t)
	python := filepath.Join(bin, "python")
	client(t, uv, "pip", "install", "--no-config", "--no-cache", "--python", python, "--default-index", url+"/r/acme/web/pypi/simple/", "flask")
	if got := client(t, python, "-c", webApp); got != "hello &lt;b&gt;\n" {
		t.Errorf("the application says %q", got)
	}
	var have []struct{ Name, Version string }
	if err := json.Unmarshal([]byte(client(t, uv, "pip", "list", "--no-config", "--python", python, "--format", "json")), &have); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range have {
		if h.Name == "pip" || h.Name == "setuptools" {
			continue
		}
		names = append(names, h.Name)
		if want := row(t, d, h.Name); want.PURL.Version() != h.Version {
			t.Errorf("uv installed %s %s, the plan has %s", h.Name, h.Version, want.PURL)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, flaskNeeds) {
		t.Errorf("uv installed %v, want %v", names, flaskNeeds)
	}
}
