package store

import (
	"context"
	"fmt"
	"time"

	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// WallTime is how long a build of a package took, by the clock.
type WallTime struct {
	PURL    purl.PURL
	Purpose record.Purpose
	Wall    time.Duration
}

// WallTimes gives, of each package and purpose, the newest build that succeeded,
// else the newest: what the next one will about take.
func (s *Store) WallTimes(ctx context.Context) ([]WallTime, error) {
	var rows []struct {
		PURL     purl.PURL      `bun:"purl"`
		Purpose  record.Purpose `bun:"purpose"`
		Outcome  record.Outcome `bun:"outcome"`
		Started  time.Time      `bun:"started"`
		Finished time.Time      `bun:"finished"`
	}
	err := s.db.NewSelect().TableExpr("builds AS b").Join("JOIN steps AS s ON s.id = b.step").
		ColumnExpr("s.purl, b.purpose, b.outcome, b.started, b.finished").OrderExpr("b.finished DESC").Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("list times of builds: %w", kind(err))
	}
	type key struct {
		u purl.PURL
		p record.Purpose
	}
	at, good := map[key]int{}, map[key]bool{}
	var out []WallTime
	for _, r := range rows {
		k, w := key{r.PURL, r.Purpose}, r.Finished.Sub(r.Started)
		i, seen := at[k]
		switch {
		case !seen:
			at[k], out = len(out), append(out, WallTime{r.PURL, r.Purpose, w})
		case !good[k] && r.Outcome == record.Succeeded:
			out[i].Wall = w
		}
		good[k] = good[k] || r.Outcome == record.Succeeded
	}
	return out, nil
}
