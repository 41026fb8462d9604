package platform_test

import (
	"context"
	"testing"

	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/store"
)

// inLine is a queue that has its runs in the order of their coming.
type inLine struct {
	*queue
	rows *store.Store
}

func (q inLine) Waiting(ctx context.Context) ([]store.Run, error) { return q.rows.OpenRuns(ctx) }

// Who may change the order of builds, and of which; who may not read the project
// gets what he gets for one that is not there, and an administrator learns whose a
// run is and no more.
func TestRanks(t *testing.T) {
	w := newTown(t)
	w.Requeue(inLine{w.queue, w.rows})
	ctx := t.Context()
	r, err := w.Build(ctx, w.users["member"], "team", "web", "", false)
	w.must(err)
	for who, want := range map[string]fault.Kind{"owner": "", "maintainer": "", "member": fault.Denied, "auditor": fault.Denied, "stranger": fault.NotFound, "root": fault.NotFound, "nobody": fault.NotFound} {
		err := w.SetLevel(ctx, w.users[who], "team", "web", r.ID, 1)
		if fault.KindOf(err) != want {
			t.Errorf("%s: %v, want %q", who, err, want)
		}
		if other := w.SetLevel(ctx, w.users[who], "none", "web", r.ID, 1); want == fault.NotFound && other.Error() == "" {
			t.Errorf("%s: %v and %v", who, err, other)
		}
		if _, _, err := w.Follow(ctx, w.users[who], "team", "web", r.ID); (err == nil) != (want != fault.NotFound) {
			t.Errorf("%s follows: %v", who, err)
		}
		_, err = w.Line(ctx, w.users[who])
		over := w.SetOver(ctx, w.users[who], r.ID, -1)
		if admin := who == "root"; (err == nil) != admin || (over == nil) != admin {
			t.Errorf("%s and the whole line: %v, %v", who, err, over)
		}
	}
	// A run of one project is none of another, whoever asks.
	if err := w.SetLevel(ctx, w.users["owner"], "team", "site", r.ID, 1); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's run: %v", err)
	}
	if _, _, err := w.Follow(ctx, w.users["owner"], "team", "site", r.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another project's run: %v", err)
	}
	ranks, err := w.Ranks(ctx, r)
	if want := (platform.Rank{Place: 1, Waiting: 1, Level: 1, Over: -1}); err != nil || ranks[r.ID] != want {
		t.Errorf("ranks: %+v, %v", ranks, err)
	}
	line, err := w.Line(ctx, w.users["root"])
	if err != nil || len(line) != 1 || line[0].Org != "team" || line[0].Over != -1 {
		t.Errorf("line: %+v, %v", line, err)
	}
	if _, err := platform.LevelOf("urgent"); !fault.Is(err, fault.Usage) {
		t.Errorf("urgent: %v", err)
	}
	for name, n := range platform.LevelNames {
		if got, err := platform.LevelOf(name); err != nil || got != n || platform.LevelName(n) != name {
			t.Errorf("%s: %d, %v, %s", name, got, err, platform.LevelName(n))
		}
	}
}
