package runtime

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runStock runs a stock tool, and gives what it printed.
func runStock(t *testing.T, name string, args ...string) string {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s%s", name, strings.Join(args, " "), err, said.String(), out)
	}
	return string(out)
}

func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		lacking(t, "%s is not here", name)
	}
}

// writeImage writes the sample's image both ways.
func writeImage(t *testing.T, s Spec) (file, dir string, im *Image) {
	t.Helper()
	ctx := context.Background()
	ix, err := s.Index(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if im, err = s.Image(ix); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := im.WriteArchive(ctx, &b); err != nil {
		t.Fatal(err)
	}
	file, dir = filepath.Join(t.TempDir(), "image.tar"), filepath.Join(t.TempDir(), "layout")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := im.WriteLayout(ctx, dir); err != nil {
		t.Fatal(err)
	}
	return file, dir, im
}

// TestSkopeo: Debian's skopeo reads the image as an archive and as a layout, copies it,
// and the digest stays ours; and reads the archive as what docker load takes.
func TestSkopeo(t *testing.T) {
	needTool(t, "skopeo")
	file, dir, im := writeImage(t, sample(t))
	for _, at := range []string{"oci-archive:" + file, "oci:" + dir} {
		if got := strings.TrimSpace(runStock(t, "skopeo", "inspect", "--format", "{{.Digest}}", at)); got != im.Digest.String() {
			t.Errorf("%s has the digest %s, not %s", at, got, im.Digest)
		}
		raw := runStock(t, "skopeo", "inspect", "--raw", at)
		copied := filepath.Join(t.TempDir(), "copy")
		runStock(t, "skopeo", "copy", "--insecure-policy", "--preserve-digests", at, "dir:"+copied)
		if b, err := os.ReadFile(filepath.Join(copied, "manifest.json")); err != nil || string(b) != raw {
			t.Errorf("%s: the copy has another manifest: %v", at, err)
		}
		for _, l := range im.spec.Layers {
			if _, err := os.Stat(filepath.Join(copied, l.Digest.Hex())); err != nil {
				t.Errorf("%s: the copy has not the layer as it is: %v", at, err)
			}
		}
	}
	if got := runStock(t, "skopeo", "inspect", "--config", "docker-archive:"+file); !strings.Contains(got, im.spec.Layers[0].Digest.String()) {
		t.Errorf("as docker load takes it: %s", got)
	}
}

// TestUmociAndRunc: Debian's umoci unpacks the image to the tree that a checkout has, and
// runc runs it.
func TestUmociAndRunc(t *testing.T) {
	needTool(t, "umoci")
	needTool(t, "runc")
	if os.Getuid() != 0 {
		t.Skip("unpacking as an image says, with its owners, is root's")
	}
	l := probeLayer(t, t.TempDir())
	b, err := os.ReadFile(l)
	if err != nil {
		t.Fatal(err)
	}
	s := sample(t)
	s.Layers = append(s.Layers[1:], layer("probe", b))
	_, dir, im := writeImage(t, s)
	bundle := filepath.Join(t.TempDir(), "bundle")
	runStock(t, "umoci", "unpack", "--image", dir+":"+strings.Split(im.Ref, ":")[1], bundle)
	ix, err := s.Index(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := Compare(context.Background(), filepath.Join(bundle, "rootfs"), ix); err != nil || len(diff) > 0 {
		t.Errorf("%v %v", diff, err)
	}
	config := filepath.Join(bundle, "config.json")
	doc, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	// What the image begins with is a shell, which this one has not; and there is no
	// terminal here.
	text := strings.Replace(string(doc), `"terminal": true`, `"terminal": false`, 1)
	text = strings.Replace(text, `"terminal":true`, `"terminal":false`, 1)
	text = strings.Replace(strings.Replace(text, `"args":null`, `"args":["/usr/bin/probe","exit","7"]`, 1), `"args": null`, `"args":["/usr/bin/probe","exit","7"]`, 1)
	for _, was := range []string{`"args":["sh"]`, `"args": ["sh"]`, `"args": [
			"sh"
		]`} {
		text = strings.Replace(text, was, `"args":["/usr/bin/probe","exit","7"]`, 1)
	}
	if !strings.Contains(text, "/usr/bin/probe") {
		i := strings.Index(text, `"cwd"`)
		if i < 0 {
			t.Fatalf("a bundle of another form: %s", text)
		}
		text = text[:i] + `"args":["/usr/bin/probe","exit","7"],` + text[i:]
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("runc", "run", "--bundle", bundle, "hallmark-image-test").CombinedOutput()
	if err == nil || err.Error() != "exit status 7" {
		t.Errorf("runc: %v: %s", err, out)
	}
}
