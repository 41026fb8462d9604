package platform

import (
	"context"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/api"
	"hallmark/internal/fault"
)

// Operator is what of the data directory itself can be done from a server.
type Operator interface {
	// Fsck checks the data directory, or mends it, as soon as nothing else is at work,
	// and says how far it is: an empty stage is the one before, without any it waits.
	Fsck(ctx context.Context, repair bool, say func(stage string, done, total int)) ([]api.Damage, error)
	// Seed describes the seed.
	Seed() (api.Seed, error)
	// SeedCandidate resolves one from the machine's signed archive; nothing is changed.
	SeedCandidate(ctx context.Context) (api.SeedCandidate, error)
}

// SetOperator lets administrators check the data directory. Call it before anything
// else.
func (s *Service) SetOperator(o Operator) { s.operator = o }

// Limits of a check of the data directory.
const (
	inspectLease = time.Minute // how long one goes on that nobody asks for; a repair goes on
	maxFound     = 5000        // places that are listed
)

// inspections is the newest check of the data directory. The zero value has none.
type inspections struct {
	mu     sync.Mutex // guards all
	now    *api.Inspection
	cancel context.CancelFunc
	asked  time.Time // when somebody last asked

	candidate sync.Mutex // held while a seed is resolved
}

// administers is nil if w may look after the platform and this server can.
func (s *Service) administers(w Who) error {
	if !w.Can(access.Administer, "") {
		return denied(w, access.Administer, "")
	}
	if s.operator == nil {
		return fault.Advise(fault.Unsupported, "Do it on the machine that has the data directory.", "this server cannot work on its data directory")
	}
	return nil
}

// Inspect begins a check of the data directory, or with repair mends what can be had
// again, for administrators. One of the same kind that has not ended is given in its
// place; one of the other kind is fault.Conflict.
func (s *Service) Inspect(ctx context.Context, w Who, repair bool) (api.Inspection, error) {
	if err := s.administers(w); err != nil {
		return api.Inspection{}, err
	}
	v := &s.checking
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = time.Now()
	if v.now != nil && v.now.Ended == nil {
		if v.now.Repair != repair {
			return api.Inspection{}, fault.Advise(fault.Conflict, "Wait for its end.", "%s has begun a check of the data directory already", v.now.Asked)
		}
		return *v.now, nil
	}
	action := "platform.fsck"
	if repair {
		action = "platform.repair"
	}
	id := s.newID()
	if err := s.rows.Note(ctx, s.by(w), action, "", "", id, ""); err != nil {
		return api.Inspection{}, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	v.now = &api.Inspection{ID: id, Repair: repair, State: "waiting", Asked: w.Name, Started: s.now().UTC(), Found: []api.Damage{}}
	v.cancel = cancel
	go s.inspect(running, cancel, repair)
	return *v.now, nil
}

func (s *Service) inspect(ctx context.Context, cancel context.CancelFunc, repair bool) {
	defer cancel()
	v := &s.checking
	if !repair {
		go func() {
			t := time.NewTicker(time.Second)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				v.mu.Lock()
				alone := time.Since(v.asked) > inspectLease
				v.mu.Unlock()
				if alone {
					cancel()
				}
			}
		}()
	}
	found, err := s.operator.Fsck(ctx, repair, func(stage string, done, total int) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if stage != "" {
			v.now.State, v.now.Message, v.now.Stage = "running", "", stage
		} else if v.now.State == "waiting" {
			v.now.Message = "waits for the build that is at work"
		}
		v.now.Done, v.now.Total = done, total
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	end := s.now().UTC()
	v.now.Ended, v.now.State, v.now.Message = &end, "done", ""
	if n := len(found); n > maxFound {
		found, v.now.Left = found[:maxFound], n-maxFound
	}
	v.now.Found = append(v.now.Found, found...)
	if err != nil {
		v.now.State, v.now.Message = "failed", err.Error()
		if fault.KindOf(err) == "" {
			v.now.Message = "it was stopped, or something went wrong here"
		}
	}
}

// Inspection gives the newest check of the data directory, for administrators;
// fault.NotFound if there was none since the server's start.
func (s *Service) Inspection(w Who) (api.Inspection, error) {
	if err := s.administers(w); err != nil {
		return api.Inspection{}, err
	}
	v := &s.checking
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now == nil {
		return api.Inspection{}, fault.New(fault.NotFound, "the data directory was not checked since the server's start")
	}
	v.asked = time.Now()
	return *v.now, nil
}

// EndInspection ends a check that is at work, for administrators. A repair goes on.
func (s *Service) EndInspection(w Who) error {
	if err := s.administers(w); err != nil {
		return err
	}
	v := &s.checking
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.now == nil || v.now.Ended != nil:
		return fault.New(fault.Conflict, "no check of the data directory is at work")
	case v.now.Repair:
		return fault.New(fault.Conflict, "a repair is not broken off")
	}
	v.cancel()
	return nil
}

// Seed describes the seed, for whoever has an account: it is named by everything that
// was built on it.
func (s *Service) Seed(w Who) (api.Seed, error) {
	if !w.SignedIn() {
		return api.Seed{}, fault.Advise(fault.Denied, "Sign in, or send a token.", "seeing the seed needs an account")
	}
	if s.operator == nil {
		return api.Seed{}, fault.New(fault.Unsupported, "this server builds nothing")
	}
	return s.operator.Seed()
}

// SeedCandidate resolves a seed as the server's machine has it now, for
// administrators, one at a time. Nothing is changed by it.
func (s *Service) SeedCandidate(ctx context.Context, w Who) (api.SeedCandidate, error) {
	if err := s.administers(w); err != nil {
		return api.SeedCandidate{}, err
	}
	if !s.checking.candidate.TryLock() {
		return api.SeedCandidate{}, fault.Advise(fault.Unavailable, "Try again in a moment.", "a candidate is being resolved already")
	}
	defer s.checking.candidate.Unlock()
	if err := s.rows.Note(ctx, s.by(w), "platform.seed", "", "", "candidate", ""); err != nil {
		return api.SeedCandidate{}, err
	}
	return s.operator.SeedCandidate(ctx)
}
