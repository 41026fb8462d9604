package app

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// A backup is a tar of a data directory without what is made anew by itself
// (layers, cache, tmp): settings, keys, database, log, then blobs. The database is a
// snapshot, and it, the keys and the log are taken while no build is at work; blobs
// never change, so they are taken afterwards, beside whatever goes on. A server may
// run all the time.

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	Blobs int   `json:"blobs"`
}

// Backup writes a backup of a data directory to w. It holds the private keys: keep
// it as you keep them. fault.Conflict if a build is at work.
func Backup(ctx context.Context, cfg Config, w io.Writer) (BackupInfo, error) {
	var info BackupInfo
	if _, err := os.Stat(filepath.Join(cfg.Data, databaseFile)); errors.Is(err, fs.ErrNotExist) && cfg.Database == "" {
		return info, fault.New(fault.NotFound, "back up %s: nothing is stored there", cfg.Data)
	}
	a, err := Open(ctx, cfg, true)
	if err != nil {
		return info, err
	}
	t := tar.NewWriter(w)
	b := &backup{ctx: ctx, a: a, tar: t, info: &info}
	err = b.quiet()
	if err = errors.Join(err, a.Close()); err != nil {
		return info, fmt.Errorf("back up %s: %w", a.dir, err)
	}
	if err = b.blobs(); err == nil {
		err = t.Close()
	}
	if err != nil {
		return info, fmt.Errorf("back up %s: %w", a.dir, err)
	}
	return info, nil
}

type backup struct {
	ctx  context.Context
	a    *App
	tar  *tar.Writer
	info *BackupInfo
}

// quiet writes what must not change while it is taken.
func (b *backup) quiet() error {
	b.a.progress.Stage("back up database, keys and log")
	// A server may be writing: its rows are taken at one moment, then what rows point
	// at, which never goes away.
	name, snapshot := databaseFile, b.a.path("tmp", "backup.db")
	take := b.a.Store.Snapshot
	if b.a.cfg.Database != "" {
		name = dumpFile
		take = func(ctx context.Context, path string) error { return store.DumpPostgres(ctx, b.a.cfg.Database, path) }
	}
	defer os.Remove(snapshot)
	if err := take(b.ctx, snapshot); err != nil {
		return err
	}
	if err := b.add("settings.json", b.a.path("settings.json"), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.tree("keys", 0o600); err != nil {
		return err
	}
	if err := b.add(name, snapshot, 0o600); err != nil {
		return err
	}
	for _, e := range b.a.keys.Shards() {
		if err := b.tree(e.Log.Folder, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tree writes the regular files of one of the data directory's folders.
func (b *backup) tree(name string, mode int64) error {
	return filepath.WalkDir(b.a.path(name), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == b.a.path(name) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(b.a.dir, p)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); !backupName.MatchString(rel) {
			return nil // something that passes, such as a lock
		}
		return b.add(rel, p, mode)
	})
}

// blobs writes every blob that is there.
func (b *backup) blobs() error {
	root := b.a.path("blobs", "sha256")
	b.a.progress.Stage("back up blobs")
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		hex := d.Name()
		if _, err := digest.FromHex(hex); err != nil {
			return nil
		}
		b.info.Blobs++
		b.a.progress.Step(b.info.Blobs, 0, hex)
		return b.add(path.Join("blobs", "sha256", hex[:2], hex), p, 0o444)
	})
}

// add writes one file.
func (b *backup) add(name, file string, mode int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Size: st.Size(), Mode: mode, ModTime: st.ModTime().Truncate(time.Second), Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	b.info.Files++
	b.info.Bytes += st.Size()
	if _, err := io.CopyN(b.tar, f, st.Size()); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", name, err)
	}
	return nil
}

// backupName is what the files in a backup are called.
var backupName = regexp.MustCompile(`^(settings\.json|hallmark\.(db|pgdump)|keys/[a-z0-9-]{1,60}(\.[a-z]{1,10})?|log(-[0-9a-f]{16})?/[A-Za-z0-9._/-]{1,200}|blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64})$`)

// dumpFile has the rows in a backup, if they are in PostgreSQL.
const dumpFile = "hallmark.pgdump"

// Limits of a backup that is restored.
const (
	maxBackupFiles = 50_000_000
	maxBackupFile  = 64 << 30
)

// Restore makes the data directory dir, which must not be there or be empty, of a
// backup. Every blob is held against its name. Whatever is wrong with the backup,
// dir is as before: fault.Hostile or fault.Unverified.
//
// A backup of rows in PostgreSQL needs database, the URL of one in which they are not
// yet, and any other must not have it: fault.Usage. They go in all or none, last.
func Restore(ctx context.Context, dir, database string, r io.Reader) (BackupInfo, error) {
	var info BackupInfo
	dir, err := filepath.Abs(dir)
	if err != nil {
		return info, err
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return info, fault.Advise(fault.Conflict, "Name a folder that is not there yet: --data DIR", "restore into %s: there is something in it", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return info, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".restoring-")
	if err != nil {
		return info, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return info, err
	}
	if err := unpackBackup(ctx, tmp, r, &info); err != nil {
		return info, fmt.Errorf("restore into %s: %w", dir, err)
	}
	dump := filepath.Join(tmp, dumpFile)
	_, err = os.Lstat(dump)
	switch dumped := err == nil; {
	case dumped && database == "":
		return info, fault.Advise(fault.Usage, "Name an empty one: --database postgres://…", "restore into %s: the backup's rows are of a PostgreSQL database", dir)
	case !dumped && database != "":
		return info, fault.Advise(fault.Usage, "Leave out --database and HALLMARK_DATABASE.", "restore into %s: the backup's rows are in a file, and stay in one", dir)
	case dumped:
		if err := store.LoadPostgres(ctx, database, dump); err != nil {
			return info, fmt.Errorf("restore into %s: %w", dir, err)
		}
		if err := os.Remove(dump); err != nil {
			return info, err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return info, err
	}
	return info, os.Rename(tmp, dir)
}

// unpackBackup writes a backup's files into dir.
func unpackBackup(ctx context.Context, dir string, r io.Reader, info *BackupInfo) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	seen := map[string]bool{}
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.New(fault.Hostile, "it is no backup, or it is cut short: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !backupName.MatchString(h.Name) || path.Clean(h.Name) != h.Name || strings.Contains(h.Name, "..") || seen[h.Name] || h.Size > maxBackupFile || len(seen) >= maxBackupFiles {
			return fault.New(fault.Hostile, "%.200q does not belong into a backup", h.Name)
		}
		if hex := path.Base(h.Name); strings.HasPrefix(h.Name, "blobs/") && path.Base(path.Dir(h.Name)) != hex[:2] {
			return fault.New(fault.Hostile, "%.200q is not where this blob belongs", h.Name)
		}
		seen[h.Name] = true
		if err := unpackOne(root, h, t); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		info.Files++
		info.Bytes += h.Size
		if strings.HasPrefix(h.Name, "blobs/") {
			info.Blobs++
		}
	}
	if seen[databaseFile] == seen[dumpFile] {
		return fault.New(fault.Hostile, "it holds no database: it is no backup, or it is cut short")
	}
	return nil
}

func unpackOne(root *os.Root, h *tar.Header, r io.Reader) error {
	mode, folder := fs.FileMode(0o644), fs.FileMode(0o755)
	switch {
	case strings.HasPrefix(h.Name, "keys/"):
		mode, folder = 0o600, 0o700
	case h.Name == databaseFile || h.Name == dumpFile:
		mode = 0o600
	case strings.HasPrefix(h.Name, "blobs/"):
		mode = 0o444
		d, err := digest.FromHex(path.Base(h.Name))
		if err != nil {
			return err
		}
		r = digest.NewReader(r, d, h.Size)
	}
	if err := root.MkdirAll(path.Dir(h.Name), folder); err != nil {
		return err
	}
	f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync(), f.Close()); errors.Is(err, digest.ErrMismatch) {
		return fault.New(fault.Unverified, "%w", err)
	}
	return err
}
