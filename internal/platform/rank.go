package platform

import (
	"context"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// line is a queue that knows in which order runs come; internal/jobs is it.
type line interface {
	Waiting(ctx context.Context) ([]store.Run, error)
}

// Rank is where a run stands in the queue.
type Rank struct {
	Place   int // 1: the next one; 0: it does not wait
	Waiting int // how many wait in all
	Level   int // among the runs of its organization: 1 raised, -1 lowered
	Over    int // among all, as an administrator has it
}

// LevelNames are the priorities that a run can have, by what they are called.
var LevelNames = map[string]int{"high": 1, "normal": 0, "low": -1}

// LevelOf gives the level of a priority; fault.Usage if it is none.
func LevelOf(s string) (int, error) {
	if n, ok := LevelNames[strings.TrimSpace(s)]; ok {
		return n, nil
	}
	return 0, fault.New(fault.Usage, "priority %.40q: want high, normal or low", s)
}

// LevelName is what a priority is called.
func LevelName(n int) string {
	for name, v := range LevelNames {
		if v == n {
			return name
		}
	}
	return "normal"
}

// Ranks gives where runs stand in the queue, by run; those that have ended are
// missing. Whoever asks may read the runs: ask for no others. Places say how many
// come before, not whose they are.
func (s *Service) Ranks(ctx context.Context, runs ...store.Run) (map[string]Rank, error) {
	out := map[string]Rank{}
	open := false
	for _, r := range runs {
		open = open || !r.State.Done()
	}
	q, queued := s.queue.(line)
	if !open || !queued {
		return out, nil
	}
	levels, err := s.rows.Priorities(ctx)
	if err != nil {
		return nil, err
	}
	waiting, err := q.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	place := map[string]int{}
	for i, r := range waiting {
		place[r.ID] = i + 1
	}
	for _, r := range runs {
		if !r.State.Done() {
			out[r.ID] = Rank{Place: place[r.ID], Waiting: len(waiting), Level: levels[r.ID].Level, Over: levels[r.ID].Over}
		}
	}
	return out, nil
}

// SetLevel raises or lowers a run of the project among the runs of its organization,
// for those who may order its builds. It takes no turn from another organization. A
// run that has ended is fault.Conflict.
func (s *Service) SetLevel(ctx context.Context, w Who, org, name, id string, level int) error {
	if err := s.may(ctx, w, access.RankBuild, org, name); err != nil {
		return err
	}
	r, err := s.Run(ctx, w, org, name, id)
	if err != nil {
		return err
	}
	return s.rank(ctx, w, r.ID, func(p *store.Priority) { p.Level = level })
}

func (s *Service) rank(ctx context.Context, w Who, run string, set func(p *store.Priority)) error {
	// One at a time: each keeps what another has set.
	s.ranking.Lock()
	defer s.ranking.Unlock()
	have, err := s.rows.Priorities(ctx)
	if err != nil {
		return err
	}
	p := have[run]
	p.Run = run
	set(&p)
	return s.rows.SetPriority(ctx, p, s.by(w))
}

// Queued is a run that waits or works, as an administrator sees it: whose it is, and
// nothing of what it builds.
type Queued struct {
	ID      string
	Org     string
	State   store.RunState
	Created time.Time
	Rank
}

// Line gives all runs that wait or work, in their order, to administrators.
func (s *Service) Line(ctx context.Context, w Who) ([]Queued, error) {
	if !w.Can(access.Administer, "") {
		return nil, denied(w, access.Administer, "")
	}
	q, queued := s.queue.(line)
	out := []Queued{}
	if !queued {
		return out, nil
	}
	open, err := s.rows.OpenRuns(ctx)
	if err != nil {
		return nil, err
	}
	ranks, err := s.Ranks(ctx, open...)
	if err != nil {
		return nil, err
	}
	waiting, err := q.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	add := func(r store.Run) {
		out = append(out, Queued{ID: r.ID, Org: r.Org, State: r.State, Created: r.Created, Rank: ranks[r.ID]})
	}
	for _, r := range open {
		if r.State == store.RunRunning {
			add(r)
		}
	}
	for _, r := range waiting {
		add(r)
	}
	return out, nil
}

// SetOver raises or lowers a run among all, for administrators.
func (s *Service) SetOver(ctx context.Context, w Who, id string, over int) error {
	if !w.Can(access.Administer, "") {
		return denied(w, access.Administer, "")
	}
	if _, err := s.rows.Run(ctx, id); err != nil {
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "there is no run %.40q", id)
		}
		return err
	}
	return s.rank(ctx, w, id, func(p *store.Priority) { p.Over = over })
}
