package app_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
)

// prepared is a data directory with two projects, signed, whose log has grown in
// several steps.
type prepared struct {
	data, dir string
	commit    digest.Digest
}

func prepare(t *testing.T) prepared {
	t.Helper()
	p := prepared{data: filepath.Join(t.TempDir(), "data"), dir: t.TempDir()}
	a := open(t, p.data, true)
	defer a.Close()
	for i, name := range []string{"acme/other", "acme/web"} {
		var err error
		if p.commit, err = apptest.Fill(t.Context(), a, filepath.Join(p.dir, name), apptest.Spec{Name: name, Packages: 2 + i, FailEvery: 3, Prefix: strings.ReplaceAll(name, "/", "-")}); err != nil {
			t.Fatal(err)
		}
		r, err := a.Builds(t.Context(), p.commit)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.SaveLock(p.dir, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Fatalf("before anything was changed: %v", found)
	}
	return p
}

// fsck gives what is found, a line each.
func (p prepared) fsck(t *testing.T) []string {
	t.Helper()
	a, damage, err := app.OpenFsck(t.Context(), app.Config{Data: p.data}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	return lines(t, a, damage)
}

func lines(t *testing.T, a *app.App, damage []app.Damage) []string {
	t.Helper()
	more, err := a.Check(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range append(damage, more...) {
		out = append(out, d.Where+": "+d.Message)
	}
	return out
}

// repair mends and gives what is left, and how much was mended.
func (p prepared) repair(t *testing.T) (left []string, mended int) {
	t.Helper()
	a, damage, err := app.OpenFsck(t.Context(), app.Config{Data: p.data}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	more, err := a.Repair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(damage, more...) {
		if d.Repaired {
			mended++
		} else {
			left = append(left, d.Where+": "+d.Message+" | "+d.Advice)
			if d.Advice == "" {
				t.Errorf("it does not say what to do: %s: %s", d.Where, d.Message)
			}
		}
	}
	return left, mended
}

// under lists the files in a folder of the data directory.
func (p prepared) under(t *testing.T, folder string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Join(p.data, folder), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			out = append(out, path)
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%s: %v files, %v", folder, len(out), err)
	}
	return out
}

// flips calls check with a file's content changed at each byte in turn, and puts
// the file back. It takes some bytes alone under -short, and of a file for which
// most would take minutes, unless HALLMARK_EVERY_BYTE is set.
func flips(t *testing.T, path string, most int, check func(i int)) int {
	t.Helper()
	orig, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	step, n := 1, 0
	switch {
	case testing.Short():
		step = max(1, len(orig)/5)
	case os.Getenv("HALLMARK_EVERY_BYTE") == "":
		step = max(1, len(orig)/most)
	}
	for i := 0; i < len(orig); i += step {
		bit := byte(1) << (i % 7)
		if _, err := f.WriteAt([]byte{orig[i] ^ bit}, int64(i)); err != nil {
			t.Fatal(err)
		}
		check(i)
		if _, err := f.WriteAt(orig[i:i+1], int64(i)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestFlipEveryByteOfEveryBlob: bundles, plans, commits, records, summaries,
// envelopes, batches, wheels: whatever byte is changed, the blob is damaged and
// named, by fsck with what it was for.
func TestFlipEveryByteOfEveryBlob(t *testing.T) {
	p := prepare(t)
	a, _, err := app.OpenFsck(t.Context(), app.Config{Data: p.data}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	n := 0
	for k, path := range p.under(t, "blobs") {
		d, err := digest.FromHex(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		n += flips(t, path, 500, func(i int) {
			if err := a.Blobs.Check(d); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("blob %s, byte %d: %v", d.Short(), i, err)
			}
			if i == 0 && k%8 == 0 {
				if found := strings.Join(lines(t, a, nil), "\n"); !strings.Contains(found, "blob "+d.String()) {
					t.Errorf("blob %s: fsck says %s", d.Short(), found)
				}
			}
		})
	}
	t.Logf("%d bytes", n)
}

// TestFlipEveryByteOfTheLog: tiles, partial ones that were superseded too, entries,
// checkpoint and state: whatever byte is changed or file is missing, the log is
// damaged and the file is named.
func TestFlipEveryByteOfTheLog(t *testing.T) {
	p := prepare(t)
	a := open(t, p.data, false)
	pub := a.LogKey()
	log := filepath.Join(p.data, "log")
	n, partial := 0, 0
	for _, path := range p.under(t, "log") {
		rel, _ := filepath.Rel(log, path)
		if strings.Contains(rel, ".p/") {
			partial++
		}
		n += flips(t, path, 2000, func(i int) {
			_, err := evidence.CheckLog(context.Background(), log, pub)
			if err == nil {
				t.Errorf("%s, byte %d: not found", rel, i)
				return
			}
			if name := filepath.ToSlash(rel); !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "checkpoint") {
				t.Errorf("%s, byte %d: not named in %v", rel, i, err)
			}
		})
		if filepath.Base(path) == ".lock" || strings.HasSuffix(path, ".lock") || strings.Contains(rel, "version") {
			continue // made anew when they are missing, and nothing is in them
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		_, err = evidence.CheckLog(context.Background(), log, pub)
		if superseded := err == nil; superseded && !strings.Contains(rel, ".p/") {
			t.Errorf("%s taken out: not found", rel)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if partial < 4 {
		t.Errorf("only %d partial tiles were there", partial)
	}
	t.Logf("%d bytes", n)
	stray := filepath.Join(log, "tile", "0", "more")
	if err := os.WriteFile(stray, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.CheckLog(context.Background(), log, pub); err == nil || !strings.Contains(err.Error(), "tile/0/more") {
		t.Errorf("a stray file: %v", err)
	}
}

// TestFlipEveryByteOfTheSettings: so is what the directory keeps about itself.
func TestFlipEveryByteOfTheSettings(t *testing.T) {
	p := prepare(t)
	flips(t, filepath.Join(p.data, "settings.json"), 40, func(i int) {
		if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, "settings.json") {
			t.Errorf("byte %d: found %q", i, found)
		}
	})
}

// TestFlipEveryByteOfAnExport: whatever byte of whatever file of an export is
// changed, of the lock or of an exported plan, hallmark verify refuses it and names
// the file.
func TestFlipEveryByteOfAnExport(t *testing.T) {
	p := prepare(t)
	a := open(t, p.data, false)
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Find(string(r.Solved.Plan.Artifacts[0].PURL))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names, err := a.ExportEvidence(t.Context(), r, f, dir, false)
	if err != nil || len(names) != 8 {
		t.Fatalf("%v, %v", names, err)
	}
	_, plan, err := r.Solved.Plan.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plan.json"), plan, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := a.VerifyFile(t.Context(), r, dir); err != nil || !v.OK {
		b, _ := json.Marshal(v)
		t.Fatalf("as exported: %v\n%s", err, b)
	}
	n := 0
	for _, name := range append(names, "plan.json") {
		path := filepath.Join(dir, name)
		n += flips(t, path, 300, func(i int) {
			v, err := a.VerifyFile(t.Context(), r, path)
			if err != nil || v.OK {
				t.Errorf("%s, byte %d: %v, accepted", name, i, err)
				return
			}
			if last := v.Checks[len(v.Checks)-1]; !strings.Contains(last.What, name) || last.Detail == "" {
				t.Errorf("%s, byte %d: %+v does not name it", name, i, last)
			}
		})
	}
	n += flips(t, filepath.Join(p.dir, "hallmark.lock"), 2000, func(i int) {
		v := &api.Verification{OK: true}
		if err := a.VerifyLock(t.Context(), p.dir, v); err != nil || v.OK {
			t.Errorf("hallmark.lock, byte %d: %v, accepted", i, err)
		}
	})
	t.Logf("%d bytes", n)
}
