package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/uptrace/bun/dialect"

	"hallmark/internal/fault"
)

// Snapshot writes the database as it is at this moment to a new file; others may go
// on writing to it. It is fault.Unsupported for a database that is no file.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	if s.db.Dialect().Name() != dialect.SQLite {
		return fault.Advise(fault.Unsupported, "Back the database up with its own tool (pg_dump), and the data directory's other files beside it.",
			"take a snapshot of the database: it is a server's")
	}
	if _, err := s.db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("take a snapshot of the database: %w", kind(err))
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
