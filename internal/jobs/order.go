package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"hallmark/internal/store"
)

// Order gives the runs that wait in the order in which they come. Those that an
// administrator raised come first, those he lowered last; among the rest the
// organizations take turns, beginning with the one whose last turn is the longest
// ago, and within an organization its own priorities count, then who asked first. So
// one organization's fifty runs hold another's up by one run at most. last is when
// each organization had its last turn. Order changes nothing that it is given.
func Order(waiting []store.Run, ranks map[string]store.Priority, last map[string]time.Time) []store.Run {
	out := make([]store.Run, 0, len(waiting))
	turn := map[string]int64{} // when an organization had its last turn; what comes now is later than all
	latest := int64(math.MinInt64)
	for org, at := range last {
		turn[org] = at.UnixNano()
		latest = max(latest, turn[org])
	}
	for _, over := range []int{1, 0, -1} {
		byOrg := map[string][]store.Run{}
		for _, r := range waiting {
			if ranks[r.ID].Over == over {
				byOrg[r.Org] = append(byOrg[r.Org], r)
			}
		}
		for _, rs := range byOrg {
			slices.SortFunc(rs, func(a, b store.Run) int {
				return cmp.Or(cmp.Compare(ranks[b.ID].Level, ranks[a.ID].Level), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
			})
		}
		for len(byOrg) > 0 {
			best, at := "", int64(0)
			for org, rs := range byOrg {
				t, had := turn[org]
				if !had {
					t = math.MinInt64
				}
				first := func(o string) store.Run { return byOrg[o][0] }
				if best == "" || cmp.Or(cmp.Compare(t, at), rs[0].Created.Compare(first(best).Created), cmp.Compare(org, best)) < 0 {
					best, at = org, t
				}
			}
			out = append(out, byOrg[best][0])
			latest++
			turn[best] = latest
			if byOrg[best] = byOrg[best][1:]; len(byOrg[best]) == 0 {
				delete(byOrg, best)
			}
		}
	}
	return out
}

// Waiting gives the runs that wait, in the order in which they come.
func (q *Queue) Waiting(ctx context.Context) ([]store.Run, error) {
	open, err := q.cfg.Rows.OpenRuns(ctx)
	if err != nil {
		return nil, err
	}
	open = slices.DeleteFunc(open, func(r store.Run) bool { return r.State != store.RunQueued })
	return q.inOrder(ctx, open)
}

func (q *Queue) inOrder(ctx context.Context, waiting []store.Run) ([]store.Run, error) {
	ranks, err := q.cfg.Rows.Priorities(ctx)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	last := make(map[string]time.Time, len(q.turns))
	for org, at := range q.turns {
		last[org] = at
	}
	q.mu.Unlock()
	return Order(waiting, ranks, last), nil
}

// mostPassed is how often a run is called before the one that came in its place is
// taken after all.
const mostPassed = 3

// before gives the run that comes before r, whose job has come: River gives jobs in
// the order of their coming, which is not the order that runs have. Empty: it is r's
// turn. The job of the run that comes first is put in front of all.
func (q *Queue) before(ctx context.Context, r store.Run) (string, error) {
	// Only what can begin now counts: a run that waits to be tried again does not.
	params := river.NewJobListParams().Queues(queueName).States(rivertype.JobStateAvailable).First(10000)
	list, err := q.client.JobList(ctx, params)
	if err != nil {
		return "", fmt.Errorf("look who waits: %w", err)
	}
	job := map[string]int64{}
	soon := time.Now().Add(50 * time.Millisecond)
	for _, j := range list.Jobs {
		var a args
		if json.Unmarshal(j.EncodedArgs, &a) == nil && job[a.Run] == 0 && !j.ScheduledAt.After(soon) {
			job[a.Run] = j.ID
		}
	}
	open, err := q.cfg.Rows.OpenRuns(ctx)
	if err != nil {
		return "", err
	}
	open = slices.DeleteFunc(open, func(o store.Run) bool {
		return o.ID != r.ID && (job[o.ID] == 0 || o.State != store.RunQueued)
	})
	sorted, err := q.inOrder(ctx, open)
	if err != nil || len(sorted) == 0 || sorted[0].ID == r.ID {
		return "", err
	}
	first := sorted[0].ID
	q.mu.Lock()
	q.passed[first]++
	often := q.passed[first] > mostPassed
	q.mu.Unlock()
	if often {
		return "", nil // its job does not come: nobody waits for it for ever
	}
	// The smallest number is first; $1 is a parameter in both databases.
	if _, err := q.cfg.DB.ExecContext(ctx, "UPDATE river_job SET priority = 1 WHERE id = $1 AND state = 'available'", job[first]); err != nil {
		return "", fmt.Errorf("call run %s: %w", first, err)
	}
	return first, nil
}

// took notes that an organization has its turn.
func (q *Queue) took(r store.Run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turns[r.Org] = q.cfg.Now()
	delete(q.passed, r.ID)
}
