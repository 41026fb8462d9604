package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/jobs"
	"hallmark/internal/store"
)

func TestOrder(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	runs := func(names string) (out []store.Run) {
		for i, n := range strings.Fields(names) {
			out = append(out, store.Run{ID: n, Org: n[:1], Created: at.Add(time.Duration(i) * time.Second)})
		}
		return out
	}
	for _, c := range []struct {
		what, waiting string
		ranks         map[string]store.Priority
		last          map[string]time.Time
		want          string
	}{
		{"nobody waits", "", nil, nil, ""},
		{"one organization", "a1 a2 a3", nil, nil, "a1 a2 a3"},
		{"turns", "a1 a2 a3 b1 b2 c1", nil, nil, "a1 b1 c1 a2 b2 a3"},
		{"whose turn was longest ago", "a1 a2 b1 c1", nil, map[string]time.Time{"a": at, "b": at.Add(-time.Hour), "c": at.Add(-time.Minute)}, "b1 c1 a1 a2"},
		{"who never had one", "a1 b1 c1", nil, map[string]time.Time{"a": at, "b": at}, "c1 a1 b1"},
		{"an organization's own order", "a1 a2 a3 b1", map[string]store.Priority{"a3": {Level: 1}, "a1": {Level: -1}}, nil, "a3 b1 a2 a1"},
		{"its own order holds up nobody else", "a1 a2 b1 b2", map[string]store.Priority{"a1": {Level: 1}, "a2": {Level: 1}}, map[string]time.Time{"a": at, "b": at.Add(-1)}, "b1 a1 b2 a2"},
		{"over all", "a1 a2 b1 c1", map[string]store.Priority{"c1": {Over: 1}, "b1": {Over: -1}, "a2": {Level: 1}}, nil, "c1 a2 a1 b1"},
	} {
		var got []string
		for _, r := range jobs.Order(runs(c.waiting), c.ranks, c.last) {
			got = append(got, r.ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.what, got, c.want)
		}
	}
}

// Whatever waits: each run comes once, whoever asks in another order sees the same,
// and no organization waits for more than one run of each other between its own.
func TestOrderIsFair(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var waiting []store.Run
		left := map[string]int{}
		for i := range r.IntN(40) {
			org := string(rune('a' + r.IntN(5)))
			left[org]++
			waiting = append(waiting, store.Run{ID: fmt.Sprint(org, i), Org: org, Created: time.Unix(int64(r.IntN(20)), 0)})
		}
		ranks := map[string]store.Priority{}
		for _, w := range waiting {
			ranks[w.ID] = store.Priority{Level: r.IntN(3) - 1}
		}
		got := jobs.Order(waiting, ranks, nil)
		r.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
		if !slices.EqualFunc(got, jobs.Order(waiting, ranks, nil), func(a, b store.Run) bool { return a.ID == b.ID }) || len(got) != len(waiting) {
			t.Fatalf("seed %d: the order depends on who lists it", seed)
		}
		since := map[string]map[string]int{} // by organization, turns of others since its own
		for _, g := range got {
			since[g.Org] = map[string]int{}
			left[g.Org]--
			for org, n := range left {
				if n > 0 && org != g.Org && since[org] != nil {
					if since[org][g.Org]++; since[org][g.Org] > 1 {
						t.Fatalf("seed %d: %s waits for two runs of %s", seed, org, g.Org)
					}
				}
			}
		}
	}
}

func TestOrganizationsTakeTurns(t *testing.T) { onTurns(newYard(t, file(t))) }

func onTurns(y *yard) {
	t := y.t
	ctx := t.Context()
	if _, err := y.rows.CreateProject(ctx, "beta", "web", time.Now()); err != nil {
		t.Fatal(err)
	}
	c := y.blobs.Add("beta's commit")
	if err := y.rows.AddCommit(ctx, store.Commit{ID: c, Org: "beta", Name: "web", Document: c, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	begun := make(chan string, 100)
	var mu sync.Mutex
	var order []string
	y.start(func(ctx context.Context, r store.Run, _ *jobs.Progress) error {
		begun <- r.ID
		mu.Lock()
		order = append(order, r.ID)
		mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	var ids []string
	for range 30 {
		ids = append(ids, y.add())
	}
	if first := <-begun; first != ids[0] {
		t.Fatalf("%s began", first)
	}
	other := func(id string) {
		if err := y.rows.AddRun(ctx, store.Run{ID: id, Org: "beta", Name: "web", Commit: c, Asked: "bob", Created: time.Now()}, y.by, y.queue.Add(id)); err != nil {
			t.Fatal(err)
		}
	}
	other("beta1")
	other("beta2")
	for id, p := range map[string]store.Priority{ids[20]: {Level: 1}, ids[1]: {Level: -1}, ids[25]: {Over: 1}} {
		p.Run = id
		if err := y.rows.SetPriority(ctx, p, y.by); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{ids[25], "beta1", ids[20], "beta2", ids[2], ids[3]}
	waiting, err := y.queue.Waiting(ctx)
	if err != nil || len(waiting) != 31 {
		t.Fatalf("%d wait, %v", len(waiting), err)
	}
	for i, id := range want {
		if waiting[i].ID != id {
			t.Errorf("place %d is %s's, want %s", i+1, waiting[i].ID, id)
		}
	}
	close(gate)
	for _, id := range append(slices.Clone(ids), "beta1", "beta2") {
		y.await(id, store.RunSucceeded)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 32 || !slices.Equal(order[1:7], want) || order[31] != ids[1] {
		t.Errorf("built in the order %v", order)
	}
}
