package server

import (
	"context"
	"slices"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
	"hallmark/internal/remedy"
)

// waysOutView is what can be done about what keeps one artifact from being secure.
type waysOutView struct {
	projectHead
	Faults   []remedy.Fault
	CanWaive bool
	Today    string
	Left     int // how many faults more there are
}

// maxFaults is how many faults an artifact's page shows with their ways out; the
// page of all ways out has the rest.
const maxFaults = 8

// waysOf gives the ways out of what keeps an artifact from being secure: its own
// faults first, then those of what it rests on. Nil if nothing is known to be at
// fault.
func (s *Server) waysOf(ctx context.Context, org, name string, u purl.PURL) (*waysOutView, error) {
	who := asks(ctx).Who
	all, _, err := s.opts.Platform.Faults(ctx, who, org, name, BranchOf(ctx))
	switch {
	case fault.Is(err, fault.Conflict), fault.Is(err, fault.Unsupported):
		return nil, nil // not solved, or nothing is told here
	case err != nil:
		return nil, err
	}
	v := &waysOutView{projectHead: s.projectHead(ctx, org, name, "builds"), CanWaive: who.Can(access.WaiveProject, org), Today: time.Now().UTC().Format(time.DateOnly)}
	for _, f := range all {
		switch {
		case f.PURL == u:
			v.Faults = slices.Insert(v.Faults, 0, f)
		case slices.Contains(f.Holds, u):
			v.Faults = append(v.Faults, f)
		}
	}
	if len(v.Faults) == 0 {
		return nil, nil
	}
	if len(v.Faults) > maxFaults {
		v.Faults, v.Left = v.Faults[:maxFaults], len(v.Faults)-maxFaults
	}
	return v, nil
}
