package store

import (
	"context"
	"fmt"
	"time"
)

// Ended is a run that has ended, for counting.
type Ended struct {
	ID       string    `bun:"id"`
	State    RunState  `bun:"state"`
	Tier     string    `bun:"tier"` // of its organization now
	Started  time.Time `bun:"started,nullzero"`
	Finished time.Time `bun:"finished,nullzero"`
}

// EndedRuns lists the runs that ended at since or later, in the order in which they
// ended, at most limit.
func (s *Store) EndedRuns(ctx context.Context, since time.Time, limit int) ([]Ended, error) {
	var rows []Ended
	err := s.db.NewRaw(`SELECT runs.id AS id, runs.state AS state, COALESCE(orgs.tier, '') AS tier, runs.started AS started, runs.finished AS finished
		FROM runs LEFT JOIN orgs ON orgs.name = runs.org WHERE runs.finished >= ? ORDER BY runs.finished, runs.id LIMIT ?`, utc(since), limit).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("list the runs that have ended: %w", kind(err))
	}
	return rows, nil
}

// counted are the tables whose rows Counts counts.
var counted = []string{"projects", "commits", "steps", "builds", "rebuilds", "evidence", "files", "users", "orgs"}

// Counts gives how many rows of each kind there are, and how many bytes the database
// has.
func (s *Store) Counts(ctx context.Context) (map[string]int64, int64, error) {
	out := map[string]int64{}
	for _, t := range counted {
		var n int64
		if err := s.db.NewRaw("SELECT COUNT(*) FROM "+t).Scan(ctx, &n); err != nil {
			return nil, 0, fmt.Errorf("count %s: %w", t, kind(err))
		}
		out[t] = n
	}
	q := "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	if s.Postgres() {
		q = "SELECT pg_database_size(current_database())"
	}
	var size int64
	if err := s.db.NewRaw(q).Scan(ctx, &size); err != nil {
		return nil, 0, fmt.Errorf("size of the database: %w", kind(err))
	}
	return out, size, nil
}
