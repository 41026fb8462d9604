package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hallmark/internal/policy"
	"hallmark/internal/status"
)

// probe tries, inside of a build, what a build must not be able to do.
//
//go:embed testdata/probe.py
var probe string

// probed is what the probe says, as it ends up in the wheel.
type probed struct {
	Attempts, Controls, Of int
	Got                    []string
}

// member reads a file of an artifact that is stored.
func (p project) member(t *testing.T, r status.Row, name string) string {
	t.Helper()
	if r.Digest == nil {
		t.Fatalf("there is nothing to read: %s", show(r))
	}
	b, err := os.ReadFile(blobPath(p.data, r.Digest.Hex()))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// secret is a name that nobody else has.
func secret(t *testing.T) string {
	t.Helper()
	b := make([]byte, 12)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// TestProbes: a package that tries everything at once while it is built gets
// nothing, is told so by the wheel that it makes, and stays provable.
func TestProbes(t *testing.T) {
	need(t)
	token := secret(t)
	// What it is after: files of the host that everybody may read, sockets.
	bait := filepath.Join(world.temp, "bait-"+token)
	if err := os.WriteFile(bait, []byte(token), 0o644); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	unix, err := net.Listen("unix", "@"+token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close() })
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HALLMARK_TEST_SECRET", token)
	// The token is in two parts, so that the source does not hold it.
	doc, err := json.Marshal(map[string]any{
		"token": []string{token[:12], token[12:]}, "ports": []int{tcp.Addr().(*net.TCPAddr).Port}, "resource": mayRaiseLimits(t),
		"paths": []string{world.temp, world.bin, world.data, filepath.Join(world.data, "keys"), filepath.Join(world.data, "blobs"),
			filepath.Join(world.data, "hallmark.db"), filepath.Join(world.data, "log"), filepath.Join(world.data, "tmp"), filepath.Join(world.data, "layers"), wd, world.cache},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newProject(t, "acme/probes", index(t, sdist{Name: "e2e-probe", Version: "1.0",
		Embed: "import probe\nvalue = probe.run()", Files: map[string]string{"probe.py": probe, "world.json": string(doc)}}), "e2e-probe")
	p.onUnproven(t, "built")
	keys := fingerprints(t, filepath.Join(p.data, "keys"))
	d := p.status(t, done, "builds")
	r := row(t, d, "e2e-probe")
	if r.Status != status.Succeeded || r.Class != policy.Secure {
		t.Fatalf("the package that tried and got nothing: %s", show(r))
	}
	var got probed
	if err := json.Unmarshal([]byte(p.member(t, r, "e2e_probe/data.txt")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Controls != got.Of || got.Of < 5 {
		t.Errorf("%d of %d controls work: the probes prove nothing", got.Controls, got.Of)
	}
	if got.Attempts < 200 {
		t.Errorf("only %d attempts", got.Attempts)
	}
	for _, name := range got.Got {
		t.Errorf("a build could: %s", name)
	}
	if now := fingerprints(t, filepath.Join(p.data, "keys")); now != keys {
		t.Error("the keys are others than before")
	}
	if b, err := os.ReadFile(bait); err != nil || string(b) != token {
		t.Errorf("the bait was touched: %q %v", b, err)
	}
}

// mayRaiseLimits tells whether this process has CAP_SYS_RESOURCE (capability 24),
// which a container's root may lack.
func mayRaiseLimits(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:")
	caps, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if caps>>24&1 == 0 {
		t.Log("this host's root has no CAP_SYS_RESOURCE: a build can take back that it is the first to go without memory")
		return false
	}
	return true
}

// fingerprints says what is in a folder, by name, mode and content.
func fingerprints(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s %x\n", e.Name(), st.Mode(), b)
	}
	return out.String()
}
