package server

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"hallmark/internal/digest"
)

// run runs a client with nothing of the machine's pip and uv settings but what
// is given.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PIP_") && !strings.HasPrefix(e, "UV_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

func venv(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs package managers")
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("the test needs python3 with venv (Debian packages python3, python3-venv)")
	}
	dir := filepath.Join(t.TempDir(), "venv")
	run(t, nil, python, "-m", "venv", dir)
	return dir
}

// TestPip: pip in a new environment gets exactly the plan's files, by digest,
// what a package runs with included, and they run.
func TestPip(t *testing.T) {
	dir := venv(t)
	f := sample(t)
	ts := serve(t, f)
	pip := filepath.Join(dir, "bin", "pip")
	report := filepath.Join(t.TempDir(), "report.json")
	env := []string{"PIP_CONFIG_FILE=" + os.DevNull, "PIP_DISABLE_PIP_VERSION_CHECK=1"}
	run(t, env, pip, "install", "--no-cache-dir", "--index-url", ts.URL+"/r/acme/web/pypi/simple/", "--report", report, "Flask", "pydantic")
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Install []struct {
			Download struct {
				ArchiveInfo struct{ Hashes map[string]string } `json:"archive_info"`
			} `json:"download_info"`
			Metadata struct{ Name string }
		}
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range r.Install {
		names = append(names, i.Metadata.Name)
		if want := rowOf(t, f, i.Metadata.Name).Digest.Hex(); i.Download.ArchiveInfo.Hashes["sha256"] != want {
			t.Errorf("pip has %s by %v, the plan by %s", i.Metadata.Name, i.Download.ArchiveInfo.Hashes, want)
		}
	}
	sort.Strings(names)
	if got := strings.Join(names, " "); got != "flask markupsafe pydantic pydantic-core" {
		t.Errorf("pip installed %s", got)
	}
	out := run(t, nil, filepath.Join(dir, "bin", "python"), "-c", "import flask, markupsafe, pydantic; print(flask.NAME, markupsafe.NAME)")
	if out != "flask markupsafe\n" {
		t.Errorf("it says %q", out)
	}
}

// TestPipRefusesOtherBytes: what is stored under a digest and is not its content
// does not get past pip, since the address carries the digest.
func TestPipRefusesOtherBytes(t *testing.T) {
	dir := venv(t)
	f := sample(t)
	ts := serve(t, f)
	_, evil := wheel(t, "markupsafe", "2.1.5", "evil")
	f.blobs[*rowOf(t, f, "markupsafe").Digest] = evil
	cmd := exec.Command(filepath.Join(dir, "bin", "pip"), "install", "--isolated", "--no-cache-dir", "--no-deps", "--index-url", ts.URL+"/r/acme/web/pypi/simple/", "markupsafe")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "HASH") {
		t.Errorf("pip took it: %v\n%s", err, out)
	}
}

// TestUV: the same with uv, which comes from the index that the machine's pip is
// configured for and is kept between runs.
func TestUV(t *testing.T) {
	dir := venv(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(cache, "hallmark-test", "uv")
	uv := filepath.Join(home, "bin", "uv")
	if _, err := os.Stat(uv); err != nil {
		out, err := exec.Command("pip3", "install", "--quiet", "--disable-pip-version-check", "--target", home, "--upgrade", "uv").CombinedOutput()
		if err != nil {
			t.Fatalf("the test needs uv from the machine's Python index: %v\n%s", err, out)
		}
	}
	f := sample(t)
	ts := serve(t, f)
	python := filepath.Join(dir, "bin", "python")
	run(t, nil, uv, "pip", "install", "--no-config", "--no-cache", "--python", python,
		"--default-index", ts.URL+"/r/acme/web/pypi/simple/", "flask", "pydantic")
	out := run(t, nil, python, "-c", "import flask, markupsafe, pydantic, pydantic_core; print(flask.NAME)")
	if out != "flask\n" {
		t.Errorf("it says %q", out)
	}
	// What it would write down are the plan's digests.
	in := filepath.Join(t.TempDir(), "requirements.in")
	if err := os.WriteFile(in, []byte("flask\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out = run(t, nil, uv, "pip", "compile", "--no-config", "--no-cache", "--python", python, "--generate-hashes",
		"--default-index", ts.URL+"/r/acme/web/pypi/simple/", in)
	for _, n := range []string{"flask", "markupsafe"} {
		if !strings.Contains(out, "--hash="+digest.Prefix+rowOf(t, f, n).Digest.Hex()) {
			t.Errorf("no digest of %s in\n%s", n, out)
		}
	}
}
