package app

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"hallmark/internal/keys"
)

// keysEvery is how often a server looks whether its keys were changed.
const keysEvery = 2 * time.Second

// KeysChanged waits until the keys of the data directory are not those that were
// opened, and is false if ctx ends before. A server has to be started again then: it
// would go on believing what was revoked.
func (h *Hosted) KeysChanged(ctx context.Context, log *slog.Logger) bool {
	opened := len(h.keys.Ring().Events)
	t := time.NewTicker(keysEvery)
	defer t.Stop()
	complained := false
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
		n, err := keys.Changes(filepath.Join(h.dir, "keys"))
		switch {
		case err == nil && n != opened:
			return true
		case err != nil && !complained:
			complained = true
			log.Error("the ring of keys cannot be read; it is tried again", "error", err)
		}
	}
}
