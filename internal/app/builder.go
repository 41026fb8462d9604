package app

import (
	"context"
	"slices"

	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/record"
	"hallmark/internal/server"
)

// builderOf is the builder.id of a signer's key: the newest under which it built.
func (a *App) builderOf(key string) string {
	for _, id := range slices.Backward(a.settings.Builders) {
		if signerOf(id) == key && key != a.KeyID() {
			return id
		}
	}
	return a.BuilderID()
}

// revokedSince says since when a key is not believed, and why; nil: it is.
func revokedSince(e keys.Entry) *server.Revoked {
	if e.Revoked == nil {
		return nil
	}
	return &server.Revoked{Since: e.Revoked.Since, Why: e.Revoked.Why}
}

// newestFacts gives what was read off the sandbox of this builder's newest build;
// nil if it has made none.
func (a *App) newestFacts(ctx context.Context, id string) (*record.Facts, error) {
	row, err := a.Store.NewestBuild(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var b record.Build
	if err := a.get(row.Record, &b); err != nil {
		return nil, err
	}
	return &b.Facts, nil
}
