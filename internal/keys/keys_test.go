package keys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/fault"
)

func TestOpenMakesOnceAndReadsAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, p := range []struct {
		name string
		x, y string
	}{
		{"signer", ID(a.Signer.Public()), ID(b.Signer.Public())},
		{"log", ID(a.Log.Public()), ID(b.Log.Public())},
		{"timestamp", ID(a.Timestamp.Public()), ID(b.Timestamp.Public())},
	} {
		if p.x != p.y || len(p.x) != 16 {
			t.Errorf("%s: key %q became %q", p.name, p.x, p.y)
		}
		ids[p.x] = true
	}
	if len(ids) != 3 {
		t.Errorf("the three keys are not three: %v", ids)
	}
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), fi.Mode())
		}
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".keys-new-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	pub, err := ParsePublicPEM(PublicPEM(a.Signer.Public()))
	if err != nil || ID(pub) != ID(a.Signer.Public()) {
		t.Errorf("public key does not survive PEM: %v", err)
	}
}

// TestReadMakesNothing: who only reads makes no keys, and gets the ones that are
// there.
func TestReadMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Read(dir); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a reader made the folder: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !fault.Is(err, fault.NotFound) {
		t.Errorf("an empty folder: %v", err)
	}
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Read(dir)
	if err != nil || ID(a.Signer.Public()) != ID(b.Signer.Public()) || len(a.Journal()) != 32 || string(a.Journal()) != string(b.Journal()) {
		t.Errorf("read %v, %v", b, err)
	}
	other, err := Open(filepath.Join(t.TempDir(), "keys"))
	if err != nil || string(other.Journal()) == string(a.Journal()) {
		t.Errorf("another installation has the same journal key: %v", err)
	}
}

func TestOpenTakesAnEmptyFolder(t *testing.T) {
	if _, err := Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string) error
		kind  fault.Kind
		says  string
	}{
		"wide folder": {func(_ *testing.T, d string) error { return os.Chmod(d, 0o750) }, fault.Denied, "0750"},
		"wide file":   {func(_ *testing.T, d string) error { return os.Chmod(filepath.Join(d, signerFile), 0o644) }, fault.Denied, "0644"},
		"missing key": {func(_ *testing.T, d string) error { return os.Remove(filepath.Join(d, logFile)) }, fault.Corrupt, logFile},
		"missing chain": {func(_ *testing.T, d string) error { return os.Remove(filepath.Join(d, chainFile)) },
			fault.Corrupt, chainFile},
		"not PEM": {func(_ *testing.T, d string) error {
			return os.WriteFile(filepath.Join(d, signerFile), []byte("hello"), 0o600)
		}, fault.Corrupt, signerFile},
		"another timestamp key": {func(t *testing.T, d string) error {
			other := filepath.Join(t.TempDir(), "k")
			if _, err := Open(other); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, timestampFile), filepath.Join(d, timestampFile))
		}, fault.Corrupt, "does not certify"},
		"link": {func(_ *testing.T, d string) error {
			p := filepath.Join(d, signerFile)
			if err := os.Rename(p, p+".x"); err != nil {
				return err
			}
			return os.Symlink(signerFile+".x", p)
		}, fault.Denied, "not a plain file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if _, err := Open(dir); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(t, dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.kind, c.says)
			}
		})
	}
}

func FuzzParsePublicPEM(f *testing.F) {
	s, err := Open(filepath.Join(f.TempDir(), "keys"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(PublicPEM(s.Signer.Public()))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParsePublicPEM(b); err == nil && ID(k) == "" {
			t.Error("accepted a key that has no id")
		}
	})
}
