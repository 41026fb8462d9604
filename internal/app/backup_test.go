package app_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/fault"
)

// A backup of a data directory with signed builds is, restored, the same and whole.
func TestBackupAndRestore(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	w := open(t, data, true)
	commit, err := apptest.Fill(t.Context(), w, filepath.Join(t.TempDir(), "p"), apptest.Spec{Name: "acme/web", Packages: 3})
	if err == nil {
		_, err = w.Builds(t.Context(), commit) // signs
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	info, err := app.Backup(t.Context(), app.Config{Data: data}, &b)
	if err != nil {
		t.Fatal(err)
	}
	if info.Blobs == 0 || info.Files <= info.Blobs {
		t.Errorf("backed up %+v", info)
	}
	for _, r := range []io.Reader{bytes.NewReader(b.Bytes()[:b.Len()/2]), strings.NewReader("no backup"), bytes.NewReader(nil)} {
		to := filepath.Join(t.TempDir(), "data")
		if _, err := app.Restore(t.Context(), to, "", r); err == nil {
			t.Error("half a backup was restored")
		}
		if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 0 {
			t.Errorf("what is left behind: %v", left)
		}
	}
	to := filepath.Join(t.TempDir(), "data")
	got, err := app.Restore(t.Context(), to, "", bytes.NewReader(b.Bytes()))
	if err != nil || got != info {
		t.Fatalf("restored %+v, %v, of %+v", got, err, info)
	}
	if _, err := app.Restore(t.Context(), to, "", bytes.NewReader(b.Bytes())); !fault.Is(err, fault.Conflict) {
		t.Errorf("restored over what is there: %v", err)
	}
	if st, err := os.Stat(filepath.Join(to, "keys", "signer.pem")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", st, err)
	}
	a, err := app.Open(t.Context(), app.Config{Data: to}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	damage, err := a.Fsck(t.Context())
	if err != nil || len(damage) > 0 {
		t.Errorf("fsck of what was restored: %+v, %v", damage, err)
	}
}

// What is not a backup's is refused whole: names that lead elsewhere, links, blobs
// that are not what they are called.
func TestHostileBackups(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	db := tar.Header{Name: "hallmark.db", Typeflag: tar.TypeReg, Mode: 0o600}
	for name, hs := range map[string][]tar.Header{
		"a parent":           {db, {Name: "log/../../evil", Typeflag: tar.TypeReg}},
		"an absolute name":   {db, {Name: "/etc/evil", Typeflag: tar.TypeReg}},
		"another name":       {db, {Name: "evil", Typeflag: tar.TypeReg}},
		"a link":             {db, {Name: "log/checkpoint", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"a hard link":        {db, {Name: "log/checkpoint", Typeflag: tar.TypeLink, Linkname: "keys/signer.pem"}},
		"a name twice":       {db, db},
		"no database":        {{Name: "settings.json", Typeflag: tar.TypeReg}},
		"a blob elsewhere":   {db, {Name: "blobs/sha256/00/" + hex, Typeflag: tar.TypeReg}},
		"a blob that is not": {db, {Name: "blobs/sha256/ab/" + hex, Typeflag: tar.TypeReg}},
		"a folder":           {db, {Name: "log/", Typeflag: tar.TypeDir}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "data")
		_, err := app.Restore(t.Context(), to, "", &b)
		if !fault.Is(err, fault.Hostile) && !fault.Is(err, fault.Unverified) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was restored", name)
		}
	}
}
