package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hallmark/internal/app"
	"hallmark/internal/fault"
)

type backupCmd struct {
	File string `arg:"" name:"FILE" help:"The backup (tar); it holds the private keys. It must not be there yet; - is standard output."`
}

func (c *backupCmd) Run(e *env) error {
	cfg, err := e.config(true)
	if err != nil {
		return err
	}
	if c.File == "-" {
		_, err := app.Backup(e.ctx, cfg, e.out)
		return err
	}
	if _, err := os.Lstat(c.File); err == nil {
		return fault.New(fault.Conflict, "back up to %s: there is a file of this name", c.File)
	}
	// Under another name until it is whole.
	f, err := os.CreateTemp(filepath.Dir(c.File), ".hallmark-backup-")
	if err != nil {
		return fmt.Errorf("back up to %s: %w", c.File, err)
	}
	defer os.Remove(f.Name())
	info, err := app.Backup(e.ctx, cfg, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.File); err != nil {
		return err
	}
	return e.print(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %d files, %d bytes, %d of them blobs. It holds the private keys: keep it as you keep them.\n", c.File, info.Files, info.Bytes, info.Blobs)
		return err
	})
}

type restoreCmd struct {
	File string `arg:"" name:"FILE" help:"A backup; - is standard input."`
}

func (c *restoreCmd) Run(e *env) error {
	cfg, err := e.config(true)
	if err != nil {
		return err
	}
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		defer f.Close()
		in = f
	}
	info, err := app.Restore(e.ctx, cfg.Data, cfg.Database, in)
	if err != nil {
		return err
	}
	return e.print(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Restored %d files, %d blobs. Next: hallmark fsck\n", info.Files, info.Blobs)
		return err
	})
}
