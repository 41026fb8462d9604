package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReproducible: the same sources compiled in another folder, by the same
// script, give the same bytes, and no path of this machine is in them.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the program twice")
	}
	base := root(t)
	var got [2][]byte
	for i := range got {
		dir := filepath.Join(t.TempDir(), strings.Repeat("elsewhere/", i)+"checkout")
		for _, name := range files(t) {
			top, _, _ := strings.Cut(name, "/")
			switch top {
			case "go.mod", "go.sum", "VERSION", "cmd", "internal", "policies", "recipes", "schemas", "seed", "scripts":
			default:
				continue
			}
			copyFile(t, filepath.Join(base, name), filepath.Join(dir, name))
		}
		cmd := exec.Command(filepath.Join(dir, "scripts", "build"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(dir, "bin", "hallmark"))
		if err != nil {
			t.Fatal(err)
		}
		got[i] = b
		if bytes.Contains(b, []byte(dir)) || bytes.Contains(b, []byte(base+"/")) {
			t.Errorf("the program has the folder that it was compiled in")
		}
	}
	if !bytes.Equal(got[0], got[1]) {
		t.Errorf("two folders gave two programs, of %d and %d bytes", len(got[0]), len(got[1]))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, st.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}
