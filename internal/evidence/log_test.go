package evidence_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/client"

	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EVIDENCE_TEST_ADD"); dir != "" {
		addForever(dir)
	}
	os.Exit(m.Run())
}

// addForever attests until it is killed and prints a line for each batch that
// it was told is in the log.
func addForever(dir string) {
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err == nil {
		var a *evidence.Authority
		if a, err = evidence.Open(context.Background(), evidence.Config{Dir: filepath.Join(dir, "log"), Keys: ks}); err == nil {
			for i := 0; ; i++ {
				var ss []evidence.Statement
				for k := range 40 {
					ss = append(ss, note("f", fmt.Append(nil, i, k)))
				}
				var out []evidence.Signed
				if out, err = a.AttestAll(context.Background(), ss); err != nil {
					break
				}
				fmt.Println(out[len(out)-1].LogIndex)
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledWhileAdding kills a writer at different moments. What it was told
// is in the log stays there, the log is whole, and the next writer goes on.
func TestKilledWhileAdding(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	ks, err := keys.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	promised := int64(-1)
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "EVIDENCE_TEST_ADD="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 2 && lines.Scan(); n++ {
			if _, err := fmt.Sscan(lines.Text(), &promised); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(round*13) * time.Millisecond) // somewhere within the next batch
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &promised); err != nil {
				t.Fatal(err)
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) {
			t.Fatalf("killed process: %v", err)
		}
		size, err := evidence.CheckLog(context.Background(), filepath.Join(dir, "log"), ks.Log.Public())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if int64(size) <= promised {
			t.Fatalf("round %d: size %d, but entry %d was promised", round, size, promised)
		}
		in := &installation{dir: dir}
		in.open(t)
		s := note("after", fmt.Append(nil, round))
		signed := in.attest(t, s)[0]
		if _, err := evidence.Verify(signed.Bundle, in.trust, s.Subject.Digest, s.PredicateType); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if signed.LogIndex < int64(size) {
			t.Fatalf("round %d: entry %d was given again", round, signed.LogIndex)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.CheckLog(context.Background(), in.logDir(), ks.Log.Public()); err != nil {
			t.Fatalf("round %d, after going on: %v", round, err)
		}
		promised = signed.LogIndex
	}
}

// grown is a closed log of n entries.
func grown(t *testing.T, n int) *installation {
	t.Helper()
	in := install(t)
	var ss []evidence.Statement
	for i := range n {
		ss = append(ss, note("f", fmt.Append(nil, i)))
	}
	in.attest(t, ss...)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestCheckLogNamesWhatIsDamaged(t *testing.T) {
	in := grown(t, 520) // two whole tiles and a part of one
	check := func() error {
		_, err := evidence.CheckLog(context.Background(), in.logDir(), in.LogKey())
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"checkpoint", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/8",
		"tile/0/000", "tile/0/001", "tile/0/002.p/8", "tile/1/000.p/2",
	} {
		path := filepath.Join(in.logDir(), name)
		orig, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for what, spoil := range map[string]func() error{
			"a bit": func() error {
				b := bytes.Clone(orig)
				b[len(b)/3] ^= 4
				return os.WriteFile(path, b, 0o644)
			},
			"the end": func() error { return os.WriteFile(path, orig[:len(orig)-33], 0o644) },
			"all":     func() error { return os.Remove(path) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if err := check(); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: %v", name, what, err)
			}
			if err := os.WriteFile(path, orig, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	if n, err := evidence.CheckLog(context.Background(), t.TempDir(), in.LogKey()); n != 0 || err != nil {
		t.Errorf("no log at all: %d, %v", n, err)
	}
	if _, err := evidence.CheckLog(context.Background(), in.logDir(), install(t).LogKey()); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another key: %v", err)
	}
}

// TestCutLog goes back to an older state of the folder, whole in itself: only
// the bundle's own checkpoint shows that it was cut.
// TestLogOfTheFirstVersion: 0.1.0 let superseded partial tiles be taken out and
// left a note of how far that came. Such a log is whole.
func TestLogOfTheFirstVersion(t *testing.T) {
	in := grown(t, 520)
	path := filepath.Join(in.logDir(), ".state", "gcState")
	for text, whole := range map[string]bool{
		`{"fromSize":512}`: true, `{"fromSize":0}`: true,
		`{"fromSize":521}`: false, `{"fromSize": 512}`: false, `{"fromSize":512}x`: false, `{"fromsize":512}`: false, "": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := evidence.CheckLog(context.Background(), in.logDir(), in.LogKey())
		if whole && err != nil || !whole && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "gcState")) {
			t.Errorf("with the note %q: %v", text, err)
		}
	}
}

func TestCutLog(t *testing.T) {
	in := install(t)
	in.attest(t, note("a", []byte("a")))
	old := filepath.Join(in.dir, "old")
	if err := os.CopyFS(old, os.DirFS(in.logDir())); err != nil {
		t.Fatal(err)
	}
	s := note("b", []byte("b"))
	signed := in.attest(t, s)[0]
	v, err := evidence.Verify(signed.Bundle, in.trust, s.Subject.Digest, s.PredicateType)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.CheckLog(context.Background(), old, in.LogKey()); err != nil {
		t.Fatal(err)
	}
	if err := evidence.CheckConsistency(context.Background(), old, in.LogKey(), v); !fault.Is(err, fault.Unverified) {
		t.Errorf("cut log: %v", err)
	}
	// The same size, but with another entry in its place.
	ks, err := keys.Open(filepath.Join(in.dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	fork, err := evidence.Open(context.Background(), evidence.Config{Dir: old, Keys: ks})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fork.AttestAll(context.Background(), []evidence.Statement{note("c", []byte("c")), note("d", nil)}); err != nil {
		t.Fatal(err)
	}
	if err := fork.Close(); err != nil {
		t.Fatal(err)
	}
	if err := evidence.CheckConsistency(context.Background(), old, in.LogKey(), v); !fault.Is(err, fault.Unverified) {
		t.Errorf("rewritten log: %v", err)
	}
}

func TestLogHandler(t *testing.T) {
	in := grown(t, 300)
	srv := httptest.NewServer(http.StripPrefix("/log", evidence.LogHandler(in.logDir())))
	defer srv.Close()
	get := func(path string) (int, []byte) {
		req, err := http.NewRequest(http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path // as it stands, not cleaned
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, b
	}
	for _, path := range []string{"checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"} {
		want, err := os.ReadFile(filepath.Join(in.logDir(), path))
		if err != nil {
			t.Fatal(err)
		}
		if code, b := get("/log/" + path); code != http.StatusOK || !bytes.Equal(b, want) {
			t.Errorf("%s: %d, %d bytes", path, code, len(b))
		}
	}
	// Whatever else is in the folder, or beside it, stays there.
	err := filepath.WalkDir(in.dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(in.logDir(), p)
		if err != nil || !d.IsDir() && (strings.HasPrefix(rel, "tile/") || rel == "checkpoint") {
			return err
		}
		if code, _ := get("/log/" + filepath.ToSlash(rel)); code != http.StatusNotFound {
			t.Errorf("%s is given out: %d", rel, code)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/log/tile/0/000/", "/log/tile/0/999", "/log/tile/64/000", "/log/tile/0/000.p/256", "/log/tile/0/000.p/0",
		"/log/..%2fkeys/signer.pem", "/log/tile/../checkpoint/", "/log/tile/0/x000", "/log/"} {
		if code, _ := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	res, err := http.Post(srv.URL+"/log/checkpoint", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", res.StatusCode)
	}
	// A client that others wrote reads it.
	u, err := url.Parse(srv.URL + "/log/")
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.NewHTTPFetcher(u, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.GetEntryBundle(context.Background(), f.ReadEntryBundle, 1, 300)
	if err != nil || len(b.Entries) != 44 {
		t.Errorf("entries by a tlog-tiles client: %d, %v", len(b.Entries), err)
	}
}

// FuzzLogHandler asks for foreign paths: only what a log has to offer is given.
func FuzzLogHandler(f *testing.F) {
	dir := f.TempDir()
	for name, content := range map[string]string{"checkpoint": "public", "tile/0/000": "public", ".lock": "secret", ".state/treeState": "secret", "tile/secret": "secret"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	h := evidence.LogHandler(dir)
	for _, s := range []string{"/checkpoint", "/tile/0/000", "/.lock", "/../x", "/tile/0/x001/../000", "//checkpoint", "/tile/secret"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound && w.Body.String() != "public" {
			t.Errorf("%q: %d %q", path, w.Code, w.Body)
		}
	})
}
