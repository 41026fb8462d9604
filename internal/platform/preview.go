package platform

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
)

// Bounds of what is computed for those who want to see an effect.
const (
	maxPreviews  = 2                // at a time, of all projects; of one project one
	keepPreviews = 100              // that are remembered
	previewFor   = 10 * time.Minute // how long an effect is given again: the index may say something else later
	previewTime  = 15 * time.Minute // for one
	previewLease = 15 * time.Second // how long one goes on that nobody asks for
)

// Preview is how far the effect of a change is known.
type Preview struct {
	Key    string // names it, by its content
	Base   digest.Digest
	Change Change
	Next   project.Commit // what would be committed
	Done   bool
	Said   string // what goes on
	Effect remedy.Effect
	Err    error // the effect cannot be told
}

// preview is one computation.
type preview struct {
	Preview
	org, name string
	done      chan struct{} // closed at the end
	cancel    context.CancelFunc

	// guarded by previews.mu
	waiters int
	asked   time.Time // when somebody last asked
	looked  time.Time // when a page last did
	ended   time.Time
}

// previews are the computations under way and the newest results.
type previews struct {
	mu    sync.Mutex
	all   map[string]*preview
	busy  map[string]chan struct{} // by project; holds one
	using int                      // forecasts that have a turn, or wait for one
	slots chan struct{}
}

func newPreviews() *previews {
	return &previews{all: map[string]*preview{}, busy: map[string]chan struct{}{}, slots: make(chan struct{}, maxPreviews)}
}

// previewKey names a proposal: its base and what it asks for, without who and when.
// run is the project's newest build with its state, after which more may be known.
func previewKey(org, name, branch, run string, base digest.Digest, c project.Commit) (string, error) {
	c.Author, c.Message, c.Created = "", "", ""
	d, _, err := canonical.Digest(map[string]any{"project": org + "/" + name, "branch": branch, "run": run, "base": base, "commit": c})
	return d.Hex(), err
}

// StartPreview begins to find out what a change of a branch would bring, without
// committing it, and gives the key to ask for it with; ChangeProject. It ends by
// itself when nobody asks for a while.
func (s *Service) StartPreview(ctx context.Context, w Who, org, name, branch string, ch Change) (string, error) {
	p, err := s.startPreview(ctx, w, org, name, branch, ch)
	if err != nil {
		return "", err
	}
	return p.Key, nil
}

func (s *Service) startPreview(ctx context.Context, w Who, org, name, branch string, ch Change) (*preview, error) {
	next, base, err := s.Propose(ctx, w, org, name, branch, ch)
	if err != nil {
		return nil, err
	}
	return s.previewOf(ctx, org, name, branch, base, ch, next)
}

func (s *Service) previewOf(ctx context.Context, org, name, branch string, base digest.Digest, ch Change, next project.Commit) (*preview, error) {
	if s.outlook == nil {
		return nil, fault.Advise(fault.Unsupported, "Commit it, and look at its status.", "this server cannot tell effects before they are committed")
	}
	run := ""
	if runs, err := s.rows.Runs(ctx, org, name, 1); err != nil {
		return nil, err
	} else if len(runs) > 0 {
		run = runs[0].ID + " " + string(runs[0].State)
	}
	key, err := previewKey(org, name, branch, run, base, next)
	if err != nil {
		return nil, err
	}
	v := s.previews
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	v.sweep(now)
	if p := v.all[key]; p != nil && (!p.Done || p.Err == nil) {
		p.asked = now
		return p, nil
	}
	if len(v.all) >= keepPreviews {
		return nil, fault.Advise(fault.Unavailable, "Try again in a moment.", "too many effects are being found out at the same time")
	}
	running, cancel := context.WithTimeout(context.WithoutCancel(ctx), previewTime)
	p := &preview{Preview: Preview{Key: key, Base: base, Change: ch, Next: next, Said: "waiting for its turn"}, org: org, name: name,
		done: make(chan struct{}), cancel: cancel, asked: now}
	v.all[key] = p
	if v.busy[org+"/"+name] == nil {
		v.busy[org+"/"+name] = make(chan struct{}, 1)
	}
	go s.runPreview(running, p, v.busy[org+"/"+name])
	go v.watch(p)
	return p, nil
}

// sweep forgets results that are too old, the oldest first if there are too many;
// v.mu is held.
func (v *previews) sweep(now time.Time) {
	var ended []*preview
	for _, p := range v.all {
		if p.Done {
			ended = append(ended, p)
		}
	}
	slices.SortFunc(ended, func(a, b *preview) int { return cmp.Compare(a.ended.UnixNano(), b.ended.UnixNano()) })
	over := len(v.all) - keepPreviews + 1
	for i, p := range ended {
		if i < over || now.Sub(p.ended) > previewFor {
			delete(v.all, p.Key)
		}
	}
	if len(v.all) == 0 && v.using == 0 {
		clear(v.busy)
	}
}

// turn waits for the turn of one more computation of a project, and gives what ends
// it.
func (v *previews) turn(ctx context.Context, name string) (end func(), err error) {
	v.mu.Lock()
	if v.using >= keepPreviews {
		v.mu.Unlock()
		return nil, fault.Advise(fault.Unavailable, "Try again in a moment.", "too many effects are being found out at the same time")
	}
	v.using++
	if v.busy[name] == nil {
		v.busy[name] = make(chan struct{}, 1)
	}
	own := v.busy[name]
	v.mu.Unlock()
	var has []chan struct{}
	end = func() {
		for _, c := range has {
			<-c
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.using--
	}
	for _, c := range []chan struct{}{own, v.slots} {
		select {
		case c <- struct{}{}:
			has = append(has, c)
		case <-ctx.Done():
			end()
			return nil, ctx.Err()
		}
	}
	return end, nil
}

// watch ends a computation that nobody asks for any more.
func (v *previews) watch(p *preview) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return
		case now := <-t.C:
			v.mu.Lock()
			alone := p.waiters == 0 && now.Sub(p.asked) > previewLease
			v.mu.Unlock()
			if alone {
				p.cancel()
			}
		}
	}
}

func (s *Service) runPreview(ctx context.Context, p *preview, turn chan struct{}) {
	defer p.cancel()
	v := s.previews
	e, err := func() (remedy.Effect, error) {
		for _, c := range []chan struct{}{turn, v.slots} {
			select {
			case c <- struct{}{}:
				defer func() { <-c }()
			case <-ctx.Done():
				return remedy.Effect{}, ctx.Err()
			}
		}
		return s.outlook.Effect(ctx, p.Base, p.Next, func(what string) {
			v.mu.Lock()
			defer v.mu.Unlock()
			p.Said = what
		})
	}()
	if err != nil && ctx.Err() != nil {
		err = fault.Advise(fault.Unavailable, "Ask for it again.", "finding out the effect was stopped: it took too long, or nobody waited for it")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p.Done, p.Effect, p.Err, p.Said, p.ended = true, e, err, "", time.Now()
	close(p.done)
}

// LookPreview gives how far a preview of the project is, after waiting for its end
// for as long as patience says; ChangeProject. One that is not there any more is
// fault.NotFound.
func (s *Service) LookPreview(ctx context.Context, w Who, org, name, key string, patience time.Duration) (Preview, error) {
	if err := s.may(ctx, w, access.ChangeProject, org, name); err != nil {
		return Preview{}, err
	}
	v := s.previews
	v.mu.Lock()
	p := v.all[key]
	if p == nil || p.org != org || p.name != name {
		v.mu.Unlock()
		return Preview{}, fault.Advise(fault.NotFound, "Propose the change again.", "this effect is not known any more")
	}
	p.asked, p.looked = time.Now(), time.Now()
	v.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	case <-ctx.Done():
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p.asked, p.looked = time.Now(), time.Now()
	return p.Preview, nil
}

// wait waits for a preview's end for as long as the asker's context lasts.
func (s *Service) wait(ctx context.Context, p *preview) (Preview, error) {
	v := s.previews
	v.mu.Lock()
	p.waiters++
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		// Whoever waited went away: nobody is served by going on, unless a page looks.
		if p.waiters--; p.waiters == 0 && ctx.Err() != nil && time.Since(p.looked) > previewLease {
			p.asked = time.Time{}
		}
	}()
	select {
	case <-p.done:
	case <-ctx.Done():
		return Preview{}, ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return p.Preview, p.Err
}

// Preview gives what a change of a branch would bring, without committing it;
// ChangeProject. It takes as long as planning takes, ends with ctx, and is
// remembered for a while.
func (s *Service) Preview(ctx context.Context, w Who, org, name, branch string, ch Change) (remedy.Effect, error) {
	p, err := s.startPreview(ctx, w, org, name, branch, ch)
	if err != nil {
		return remedy.Effect{}, err
	}
	got, err := s.wait(ctx, p)
	return got.Effect, err
}
