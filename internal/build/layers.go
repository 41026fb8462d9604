package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"hallmark/internal/fault"
)

// layers is a folder of unpacked read-only trees, each under a key that names
// its content and the version of the rules that unpacked it. It is a cache: a
// missing layer is made anew. Only this process writes it; nothing in a sandbox
// can.
type layers struct {
	dir string

	mu   sync.Mutex
	busy map[string]*sync.Mutex // one maker at a time for a key; guarded by mu
}

func openLayers(dir string) (*layers, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	return &layers{dir: dir, busy: map[string]*sync.Mutex{}}, nil
}

func (l *layers) lock(key string) func() {
	l.mu.Lock()
	m := l.busy[key]
	if m == nil {
		m = &sync.Mutex{}
		l.busy[key] = m
	}
	l.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// has tells whether a layer was made.
func (l *layers) has(key string) bool {
	return finished(filepath.Join(l.dir, key))
}

// get gives the folder of a layer, made by make if it is not there, and reads
// into note what make returned when it was made. make is given a path at which
// there is nothing yet.
func (l *layers) get(key string, note any, make func(dir string) (any, error)) (string, error) {
	defer l.lock(key)()
	final := filepath.Join(l.dir, key)
	tree := filepath.Join(final, "tree")
	b, err := os.ReadFile(filepath.Join(final, noteFile))
	if err == nil && finished(final) {
		if note != nil {
			if err := json.Unmarshal(b, note); err != nil {
				return "", fault.New(fault.Corrupt, "layer %s: its note is damaged: %w; remove the folder, it is a cache", key, err)
			}
		}
		return tree, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("layer %s: %w", key, err)
	}
	tmp, err := os.MkdirTemp(l.dir, ".making-")
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", key, err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	t := filepath.Join(tmp, "tree")
	v, err := make(t)
	if err != nil {
		return "", err
	}
	if b, err = json.Marshal(v); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(tmp, noteFile), b, 0o644); err != nil {
		return "", err
	}
	if err := sumTree(tmp); err != nil {
		return "", fmt.Errorf("layer %s: %w", key, err)
	}
	// What was not finished nothing can have mounted.
	if err := os.RemoveAll(final); err != nil {
		return "", fmt.Errorf("layer %s: %w", key, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return "", fmt.Errorf("layer %s: %w", key, err)
	}
	if note != nil {
		if err := json.Unmarshal(b, note); err != nil {
			return "", err
		}
	}
	return tree, nil
}

// sweep removes what an interrupted maker left.
func (l *layers) sweep() error {
	left, err := filepath.Glob(filepath.Join(l.dir, ".making-*"))
	for _, d := range left {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}
