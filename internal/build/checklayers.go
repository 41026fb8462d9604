package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
)

// sumFile holds the digest of a layer's tree, as it was made.
const sumFile = "tree.sum"

// noteFile holds what its maker said of a layer.
const noteFile = "layer.json"

// sumTree writes the digest of the tree in a layer's folder beside it.
func sumTree(folder string) error {
	d, _, _, err := archive.TreeDigest(filepath.Join(folder, "tree"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, sumFile), []byte(d.String()+"\n"), 0o644)
}

// finished tells whether a layer was made to its end: its note is there, and so is
// the digest that it can be held against. What is not is made anew before anything
// reads it; a layer of a version that wrote no digest is, too.
func finished(folder string) bool {
	for _, name := range []string{noteFile, sumFile} {
		if _, err := os.Lstat(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// CheckLayers compares each finished layer in dir with what it was when it was
// made, and gives what is wrong by the layer's key. The seed has a check of its own.
func CheckLayers(ctx context.Context, dir string) (map[string]string, error) {
	es, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("check layers: %w", err)
	}
	bad := map[string]string{}
	for _, e := range es {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key := e.Name()
		if strings.HasPrefix(key, "seed-") || strings.HasPrefix(key, ".making-") {
			continue
		}
		if folder := filepath.Join(dir, key); finished(folder) {
			if why := checkLayer(folder); why != "" {
				bad[key] = why
			}
		}
	}
	return bad, nil
}

// RemoveLayer takes a layer away so that whoever looks finds it whole or not at
// all, and what is left after a crash is swept by the next writer.
func RemoveLayer(dir, key string) error {
	gone, err := os.MkdirTemp(dir, ".making-")
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", key, err)
	}
	if err := os.Rename(filepath.Join(dir, key), filepath.Join(gone, "gone")); err != nil {
		return errors.Join(fmt.Errorf("remove layer %s: %w", key, err), os.Remove(gone))
	}
	return os.RemoveAll(gone)
}

func checkLayer(folder string) string {
	if b, err := os.ReadFile(filepath.Join(folder, noteFile)); err != nil || !json.Valid(b) {
		return "its note cannot be read"
	}
	b, err := os.ReadFile(filepath.Join(folder, sumFile))
	if err != nil {
		return "its digest cannot be read: " + err.Error()
	}
	want, err := digest.Parse(strings.TrimSuffix(string(b), "\n"))
	if err != nil {
		return "its digest cannot be read: " + err.Error()
	}
	got, _, _, err := archive.TreeDigest(filepath.Join(folder, "tree"))
	switch {
	case err != nil:
		return "its tree cannot be read: " + err.Error()
	case got != want:
		return fmt.Sprintf("its tree has digest %s, it was made with %s: files were changed or taken out", got.Short(), want.Short())
	}
	return ""
}
