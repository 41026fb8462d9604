package app

import (
	"context"
	"sync"
	"time"

	"hallmark/internal/keys"
	"hallmark/internal/server"
	"hallmark/internal/store"
)

// buildBounds are the bounds of how long builds of commits take, in seconds.
var buildBounds = []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 43200}

// endedPage is how many runs that have ended are read at a time.
const endedPage = 5000

// counters count what a server's builds came to. Runs that ended before the server
// began are counted too, so that a restart changes nothing.
type counters struct {
	mu    sync.Mutex // guards what follows
	begun bool
	until time.Time       // of the newest run that was counted
	at    map[string]bool // runs that ended at that moment
	stats server.Stats
}

// read counts what has ended since, and gives all numbers as they are now.
func (c *counters) read(ctx context.Context, a *App) (server.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
		c.begun, c.at = true, map[string]bool{}
		c.stats = server.Stats{Ended: map[string]int64{}, BuildSeconds: map[string]float64{}, Durations: server.Histogram{Bounds: buildBounds, Counts: make([]int64, len(buildBounds)+1)}}
		for _, s := range []store.RunState{store.RunSucceeded, store.RunFailed, store.RunCancelled} {
			c.stats.Ended[string(s)] = 0
		}
	}
	for {
		rows, err := a.Store.EndedRuns(ctx, c.until, endedPage)
		if err != nil {
			return server.Stats{}, err
		}
		fresh := 0
		for _, r := range rows {
			if c.at[r.ID] {
				continue
			}
			fresh++
			c.count(r)
		}
		if len(rows) < endedPage || fresh == 0 {
			break
		}
	}
	out := c.stats
	out.Ended, out.BuildSeconds = copyOf(c.stats.Ended), copyOf(c.stats.BuildSeconds)
	out.Durations.Counts = append([]int64(nil), c.stats.Durations.Counts...)
	open, err := a.Store.OpenRuns(ctx)
	if err != nil {
		return out, err
	}
	for _, r := range open {
		if r.State == store.RunRunning {
			out.Running++
		} else {
			out.Queued++
		}
	}
	if out.Stored, out.DatabaseBytes, err = a.Store.Counts(ctx); err != nil {
		return out, err
	}
	if out.LogEntries, err = a.wholeLogSize(); err != nil {
		return out, err
	}
	ts := a.keys.Ring().Active(keys.RoleTimestamp)
	leaf, _, err := ts.Certificates()
	if err == nil {
		out.Keys = map[string]time.Time{string(keys.RoleTimestamp): leaf.NotAfter}
	}
	return out, err
}

// count counts a run; the caller holds mu.
func (c *counters) count(r store.Ended) {
	if !r.Finished.Equal(c.until) {
		c.until = r.Finished
		clear(c.at)
	}
	c.at[r.ID] = true
	c.stats.Ended[string(r.State)]++
	if r.Started.IsZero() || r.State == store.RunCancelled {
		return
	}
	took := max(0, r.Finished.Sub(r.Started).Seconds())
	c.stats.Durations.Add(took)
	tier := r.Tier
	if tier == "" {
		tier = "none"
	}
	c.stats.BuildSeconds[tier] += took
}

func copyOf[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
