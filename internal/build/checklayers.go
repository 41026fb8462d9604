package build

import (
	"context"
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

// sumTree writes the digest of the tree in a layer's folder beside it.
func sumTree(folder string) error {
	d, _, _, err := archive.TreeDigest(filepath.Join(folder, "tree"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, sumFile), []byte(d.String()+"\n"), 0o644)
}

// CheckLayers compares each layer in dir with what it was when it was made, and
// gives what is wrong by the layer's key. The seed has a check of its own.
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
		if why := checkLayer(filepath.Join(dir, key)); why != "" {
			bad[key] = why
		}
	}
	return bad, nil
}

func checkLayer(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, "layer.json")); err != nil {
		return "it has no note, so it was never finished or somebody took it out"
	}
	b, err := os.ReadFile(filepath.Join(folder, sumFile))
	if err != nil {
		return "it has no digest to compare with"
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
