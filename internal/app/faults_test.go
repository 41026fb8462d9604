package app_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// memory mounts a file system of some MiB that vanishes with the test.
func memoryFS(t *testing.T, mib int) string {
	t.Helper()
	if testing.Short() {
		t.Skip("mounts a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0755", mib)); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skipf("a small file system can be mounted by root alone: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestDiskFull fills the disk so that less and less is left, and goes on with the
// work each time: it ends in time with an error that says that the disk is full,
// and with space again the same work is done and everything is whole.
func TestDiskFull(t *testing.T) {
	disk := memoryFS(t, 48)
	data := filepath.Join(disk, "data")
	a := open(t, data, true)
	var commits []digest.Digest
	left := []int64{0, 4, 16, 40, 64, 96, 128, 192, 256, 384} // KiB
	for i := range left {
		c, err := apptest.Fill(t.Context(), a, filepath.Join(t.TempDir(), "p"), apptest.Spec{Name: fmt.Sprintf("acme/p%d", i), Packages: 2, Prefix: fmt.Sprintf("p%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, kib := range left {
		free := ballast(t, disk, kib<<10)
		began := time.Now()
		err := buildAndClose(t.Context(), data, commits[i])
		if took := time.Since(began); took > time.Minute {
			t.Errorf("with %d KiB left it took %s", kib, took)
		}
		if err != nil {
			failed++
			if !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "no space left") && !strings.Contains(err.Error(), "is not full") {
				t.Errorf("with %d KiB left it does not say that the disk is full: %v", kib, err)
			}
		}
		t.Logf("%d KiB: %v", kib, err)
		free()
		p := prepared{data: data}
		if found := p.fsck(t); len(found) > 0 {
			t.Errorf("after %d KiB: %v", kib, found)
		}
		if err := buildAndClose(t.Context(), data, commits[i]); err != nil {
			t.Errorf("with space again: %v", err)
		}
		if found := p.fsck(t); len(found) > 0 {
			t.Errorf("after going on: %v", found)
		}
	}
	if failed < 3 {
		t.Errorf("only %d of %d were without space", failed, len(left))
	}
}

// buildAndClose does what hallmark builds does.
func buildAndClose(ctx context.Context, data string, commit digest.Digest) error {
	a, err := app.Open(ctx, app.Config{Data: data}, true)
	if err != nil {
		return err
	}
	_, err = a.Builds(ctx, commit)
	return errors.Join(err, a.Close())
}

// ballast fills a file system but for some bytes, and gives what frees it.
func ballast(t *testing.T, disk string, left int64) func() {
	t.Helper()
	name := filepath.Join(disk, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	if n := int64(st.Bavail)*st.Bsize - left; n > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadOnlyDirectory: where nothing can be written, everything can be read,
// verified and checked, and a writer says why it cannot.
func TestReadOnlyDirectory(t *testing.T) {
	disk := memoryFS(t, 48)
	p := prepare(t)
	if err := os.CopyFS(filepath.Join(disk, "data"), os.DirFS(p.data)); err != nil {
		t.Fatal(err)
	}
	p.data = filepath.Join(disk, "data")
	private(t, p.data)
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	a := open(t, p.data, false)
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := a.VerifyCommit(t.Context(), r); err != nil || !v.OK {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Errorf("fsck: %v", found)
	}
	_, err = app.Open(t.Context(), app.Config{Data: p.data}, true)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "cannot be written") || !strings.Contains(err.Error(), "--data") {
		t.Errorf("a writer: %v", err)
	}
	if _, _, err := app.OpenFsck(t.Context(), app.Config{Data: p.data}, true); !fault.Is(err, fault.Conflict) {
		t.Errorf("repair: %v", err)
	}
}

// private gives a copied data directory's keys the modes that they must have.
func private(t *testing.T, data string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "keys"), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return os.Chmod(p, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDatabaseLocked: another process that holds the database is waited for, and
// then named as the cause; the state is as before.
func TestDatabaseLocked(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the database gives up")
	}
	p := prepare(t)
	a := open(t, p.data, true)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.data, "hallmark.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	_, err = a.Init(t.Context(), t.TempDir(), "acme/locked", time.Now())
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("locked: %v", err)
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Init(t.Context(), t.TempDir(), "acme/locked", time.Now()); err != nil {
		t.Errorf("once it is free: %v", err)
	}
	a.Close()
	if found := p.fsck(t); len(found) > 0 {
		t.Error(found)
	}
}

// TestDatabaseDamaged: a database whose file is damaged, cut or gone is named, with
// what to do; nothing makes a new one over it, and the rest is still checked.
func TestDatabaseDamaged(t *testing.T) {
	p := prepare(t)
	name := filepath.Join(p.data, "hallmark.db")
	orig, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	for what, b := range map[string][]byte{
		"its head":     append([]byte("not a database !"), orig[16:]...),
		"a page of it": append(append(append([]byte{}, orig[:8192]...), noise...), orig[12288:]...),
		"cut":          orig[:len(orig)/2/4096*4096],
		"short":        orig[:100],
	} {
		for _, ext := range []string{"-wal", "-shm"} {
			os.Remove(name + ext)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		found := strings.Join(p.fsck(t), "\n")
		if !strings.Contains(found, "database") {
			t.Errorf("%s: fsck says %q", what, found)
		}
		left, _ := p.repair(t)
		if !strings.Contains(strings.Join(left, "\n"), "backup") {
			t.Errorf("%s: repair does not say what to do: %v", what, left)
		}
		a, err := app.Open(t.Context(), app.Config{Data: p.data}, false)
		if err == nil {
			_, err = a.Status(t.Context(), p.commit)
			a.Close()
		}
		t.Logf("%s: %v", what, err)
	}
	for _, ext := range []string{"", "-wal", "-shm"} {
		os.Remove(name + ext)
	}
	if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, "there is none") {
		t.Errorf("gone: %s", found)
	}
	if err := os.WriteFile(name, orig, 0o644); err != nil {
		t.Fatal(err)
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Errorf("put back: %v", found)
	}
}

// TestKeysLost: a directory that has lost its keys gets no new ones.
func TestKeysLost(t *testing.T) {
	p := prepare(t)
	away := filepath.Join(t.TempDir(), "keys")
	if err := os.Rename(filepath.Join(p.data, "keys"), away); err != nil {
		t.Fatal(err)
	}
	for _, writer := range []bool{true, false} {
		if _, err := app.Open(t.Context(), app.Config{Data: p.data}, writer); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("writer %v: %v", writer, err)
		}
	}
	if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, "there are no keys") {
		t.Errorf("fsck: %s", found)
	}
	if _, err := os.Stat(filepath.Join(p.data, "keys")); !errors.Is(err, os.ErrNotExist) {
		t.Error("new keys were made")
	}
	if err := os.Rename(away, filepath.Join(p.data, "keys")); err != nil {
		t.Fatal(err)
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Errorf("put back: %v", found)
	}
}

// TestRepairTheLog damages and takes out files of the log, one after the other and
// all together: as long as one signed checkpoint and the bundles are left, the log
// is written anew, the same, and the next builds goes on with it.
func TestRepairTheLog(t *testing.T) {
	p := prepare(t)
	log := filepath.Join(p.data, "log")
	before := map[string]string{}
	var names []string
	for _, path := range p.under(t, "log") {
		rel, _ := filepath.Rel(log, path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before[rel] = string(b)
		if len(b) > 0 {
			names = append(names, rel)
		}
	}
	check := func(what string, superseded bool) {
		t.Helper()
		left, mended := p.repair(t)
		if len(left) > 0 || mended == 0 && !superseded {
			t.Errorf("%s: %d mended, left %v", what, mended, left)
		}
		for rel, want := range before {
			b, err := os.ReadFile(filepath.Join(log, rel))
			if err != nil && superseded || err == nil && string(b) == want {
				continue
			}
			t.Errorf("%s: %s is not as it was: %v", what, rel, err)
		}
	}
	for i, rel := range names {
		if i%5 > 0 && !strings.Contains(rel, "checkpoint") && !strings.Contains(rel, "treeState") || testing.Short() && !strings.Contains(rel, "entries") {
			continue // of the many partial ones some will do
		}
		name := filepath.Join(log, rel)
		if err := os.WriteFile(name, []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
		check(rel+" damaged", false)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		check(rel+" taken out", strings.Contains(rel, ".p") || strings.Contains(rel, "version"))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(before[rel]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, "log") {
		t.Errorf("the whole log is gone: %s", found)
	}
	if _, err := app.Open(t.Context(), app.Config{Data: p.data}, true); err != nil {
		t.Errorf("open: %v", err)
	}
}

// TestRepairBlobs: what others hold comes back; what cannot be had again stays
// named and says what to do; a result is taken away, to be built again.
func TestRepairBlobs(t *testing.T) {
	p := prepare(t)
	a := open(t, p.data, false)
	rows, err := a.Store.AllEvidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob := func(name string) digest.Digest {
		for _, r := range rows {
			if r.Name == name {
				return r.Blob
			}
		}
		t.Fatalf("there is no %s", name)
		return ""
	}
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	step, err := a.Store.Step(t.Context(), r.Solved.Plan.Steps[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	rebuilds, err := a.Store.Rebuilds(t.Context(), step.ID)
	if err != nil || len(rebuilds) == 0 {
		t.Fatal(err)
	}
	files, err := a.Store.FilesByPURL(t.Context(), step.PURL)
	if err != nil {
		t.Fatal(err)
	}
	var wheel digest.Digest
	for _, f := range files {
		if f.Kind == store.FileBuilt {
			wheel = f.Digest
		}
	}
	a.Close()
	for what, c := range map[string]struct {
		blob  digest.Digest
		comes bool
		says  string
	}{
		"bare envelope":  {blob("vsa.dsse.json"), true, ""},
		"step":           {step.Document, true, ""},
		"rebuild result": {rebuilds[len(rebuilds)-1].Document, true, ""},
		"bundle":         {blob("vsa.sigstore.json"), false, "backup"},
		"plan":           {r.Solved.ID, false, "backup"},
		"wheel":          {wheel, false, "hallmark builds"},
	} {
		path := filepath.Join(p.data, "blobs", "sha256", c.blob.Hex()[:2], c.blob.Hex())
		orig, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for how, spoil := range map[string]func() error{
			"cut":   func() error { return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, int64(len(orig)/2))) },
			"empty": func() error { return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, 0)) },
			"gone":  func() error { return os.Remove(path) },
		} {
			if how != "cut" && (testing.Short() || what != "step" && what != "bundle") {
				continue
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, c.blob.String()) {
				t.Errorf("%s %s: fsck does not name it: %s", what, how, found)
			}
			left, _ := p.repair(t)
			text := strings.Join(left, "\n")
			if c.comes != (text == "") || !strings.Contains(text, c.says) {
				t.Errorf("%s %s: after repair: %q", what, how, text)
			}
			os.Remove(path)
			if err := os.WriteFile(path, orig, 0o444); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Errorf("all put back: %v", found)
	}
}

// TestRepairRows: rows of evidence that were lost come back from their bundles, in
// the order of the log.
func TestRepairRows(t *testing.T) {
	p := prepare(t)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.data, "hallmark.db"))
	if err != nil {
		t.Fatal(err)
	}
	var trigger string
	if err := db.QueryRow("SELECT sql FROM sqlite_master WHERE name = 'evidence_no_delete'").Scan(&trigger); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DROP TRIGGER evidence_no_delete", "DELETE FROM evidence WHERE id % 3 = 0", trigger} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	if found := strings.Join(p.fsck(t), "\n"); !strings.Contains(found, "without evidence") || !strings.Contains(found, "taken out") {
		t.Errorf("fsck: %s", found)
	}
	left, mended := p.repair(t)
	if len(left) > 0 || mended == 0 {
		t.Errorf("%d mended, left %v", mended, left)
	}
	a := open(t, p.data, false)
	r, err := a.Status(t.Context(), p.commit)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := a.VerifyCommit(t.Context(), r); err != nil || !v.OK {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// TestInterruptedSigning: a batch that was kept, and went into the log in part or
// not at all, is finished by the next writer: each entry is there once.
func TestInterruptedSigning(t *testing.T) {
	p := prepare(t)
	a := open(t, p.data, true)
	commit, err := apptest.Fill(t.Context(), a, t.TempDir(), apptest.Spec{Name: "acme/stopped", Packages: 2, Prefix: "stopped"})
	if err != nil {
		t.Fatal(err)
	}
	size, err := evidence.LogSize(filepath.Join(p.data, "log"), a.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"kept", "logged"} {
		if err := a.StopSigning(t.Context(), commit, at); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if found := p.fsck(t); len(found) > 0 {
			t.Errorf("%s: %v", at, found)
		}
		a = open(t, p.data, true)
	}
	if _, err := a.Builds(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	rows, err := a.Store.AllEvidence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left, err := a.Store.AllPending(t.Context())
	if err != nil || len(left) > 0 {
		t.Errorf("still on their way: %v, %v", left, err)
	}
	seen := map[int64]int{}
	for _, r := range rows {
		if r.LogIndex != nil && r.Name != "vsa.dsse.json" {
			seen[*r.LogIndex]++
		}
	}
	now, err := evidence.LogSize(filepath.Join(p.data, "log"), a.LogKey())
	if err != nil || now <= size {
		t.Fatalf("the log had %d entries, it has %d, %v", size, now, err)
	}
	for i := range int64(now) {
		if seen[i] != 1 {
			t.Errorf("entry %d has %d rows", i, seen[i])
		}
	}
	a.Close()
	if found := p.fsck(t); len(found) > 0 {
		t.Error(found)
	}
}

// TestLeftovers: what interrupted writers left is taken away by the next one.
func TestLeftovers(t *testing.T) {
	p := prepare(t)
	var left []string
	for _, name := range []string{"tmp/build-1/out/x", "tmp/sandbox/run/y", "blobs/tmp/put-1", ".keys-new-1/signer.pem", "settings.json.new",
		"log/checkpoint12345", "log/tile/0/000.p/71234567", "log/tile/entries/000.p/255", "log/.state/treeState99"} {
		path := filepath.Join(p.data, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
		left = append(left, path)
	}
	if found := p.fsck(t); len(found) > 0 {
		t.Errorf("leftovers are no damage: %v", found)
	}
	a := open(t, p.data, true)
	if _, err := a.Authority(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
}
