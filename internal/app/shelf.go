package app

import (
	"container/list"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/remedy"
	"hallmark/internal/server"
	"hallmark/internal/store"
)

// A server is asked for the same statuses again and again, by many at a time. The
// shelf keeps them in memory, each with all that it rests on, as a memo does for
// commands: the rows about the plan's steps (by the journal's last entry, which is
// read for every answer), the files of the blobs that were read (by their stamps,
// at most filesFor old), the policy, the keys and the builders that are trusted. While
// nothing of that was touched, by this process or another, computing it again would
// give the same. What was touched is computed anew, once for all who ask.
//
// It holds nothing that a computation did not give, and is never written anywhere.

const (
	// filesFor is how old the look at the blobs' files behind an answer may be. It is
	// taken in the background when it is half as old, while somebody asks.
	filesFor = 2 * time.Second
	// shelfFor is how long a status is kept whatever happens.
	shelfFor = time.Hour
	// shelfBytes is about how much memory all statuses may take; one is always kept.
	shelfBytes = 256 << 20
	// dear is from when on a computation is so long that those of a project whose rows
	// change all the time are spaced: what was so at most staleFactor times as long ago,
	// and never longer than filesFor, is shown meanwhile.
	dear        = 250 * time.Millisecond
	staleFactor = 4
)

// shelf keeps statuses by commit.
type shelf struct {
	a      *App
	keys   string // the files of the keys, as they were when the shelf was made
	limit  int64
	said   *Catalog // what summaries say
	dear   time.Duration
	flight singleflight.Group // computations, by commit

	mu    sync.Mutex // guards all below
	all   map[digest.Digest]*list.Element
	order *list.List // of *slot, the one asked for last in front
	bytes int64
}

// slot is the place of one commit.
type slot struct {
	id     digest.Digest
	weight int64 // guarded by shelf.mu

	mu  sync.Mutex // guards now and its fields that change
	now *shelved
}

// shelved is one status with what it rests on.
type shelved struct {
	report *Report
	rests  restsOn
	steps  map[digest.Digest]bool
	blobs  []digest.Digest
	stamps digest.Digest
	made   time.Time     // when the computation began
	took   time.Duration // the computation

	// These change, under slot.mu.
	mark   store.Mark // up to which nothing of steps was touched
	exact  time.Time  // when that was found out
	looked time.Time  // when the look at the files began that found stamps
	ended  bool       // found to be no more so

	project  lazy[*server.Project]
	standing [2]lazy[remedy.Standing] // without and with failed builds to be run again
	faults   faultsFound

	described described
}

// lazy is a value that is made once. What failed is made again by whoever asks next:
// the database may have been away.
type lazy[T any] struct {
	mu   sync.Mutex // guards all, held while it is made
	made bool
	v    T
}

func (l *lazy[T]) get(make func() (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made {
		return l.v, nil
	}
	v, err := make()
	if err == nil {
		l.v, l.made = v, true
	}
	return v, err
}

func newShelf(a *App) *shelf {
	return &shelf{a: a, keys: keyFiles(a.path("keys")), limit: shelfBytes, said: a.Catalog(), dear: dear, all: map[digest.Digest]*list.Element{}, order: list.New()}
}

// kept is the shelf of a data directory that is served.
func (a *App) kept() *shelf {
	a.shelving.Do(func() { a.shelf = newShelf(a) })
	return a.shelf
}

// get gives the status of a commit: what Status would give now. Unless it is deep,
// what the report rests on (Solved, Verdicts and Input) may be missing from it.
func (s *shelf) get(ctx context.Context, id digest.Digest, deep bool) (*shelved, error) {
	arrived := time.Now()
	e := s.slot(id)
	e.mu.Lock()
	now := e.now
	e.mu.Unlock()
	if now != nil && (!deep || now.report.Solved != nil) {
		ok, err := s.holds(ctx, e, now, arrived)
		if err != nil {
			return nil, err
		}
		if ok {
			return now, nil
		}
	}
	for {
		c := s.flight.DoChan(flightKey(id, deep), func() (any, error) {
			// Whoever asked first may go away; the others wait for it as well.
			return s.compute(context.WithoutCancel(ctx), e, deep)
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-c:
			if r.Err != nil {
				return nil, r.Err
			}
			// One that had begun before may have missed what was written in between.
			if v := r.Val.(*shelved); !v.made.Before(arrived) {
				return v, nil
			}
		}
	}
}

func flightKey(id digest.Digest, deep bool) string {
	if deep {
		return "deep " + string(id)
	}
	return string(id)
}

// holds tells whether what was computed may still be shown.
func (s *shelf) holds(ctx context.Context, e *slot, v *shelved, at time.Time) (bool, error) {
	if at.Sub(v.made) > shelfFor {
		return false, nil
	}
	mark, err := s.a.Store.Mark(ctx)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	known, looked, exact, ended := v.mark, v.looked, v.exact, v.ended
	e.mu.Unlock()
	if ended {
		return false, nil
	}
	if mark != known {
		since, ok, err := s.a.Store.Since(ctx, known)
		if err != nil {
			return false, err
		}
		if !ok || since.Touch(v.steps) {
			return s.late(ctx, e, v, at, exact), nil
		}
		mark = since.Mark
	}
	e.mu.Lock()
	if v.mark.Seq <= mark.Seq {
		v.mark = mark
	}
	if v.exact.Before(at) {
		v.exact = at
	}
	e.mu.Unlock()
	switch age := at.Sub(looked); {
	case age < filesFor/2:
		return true, nil
	case age < filesFor:
		s.flight.DoChan("look "+string(e.id), func() (any, error) { return s.look(context.WithoutCancel(ctx), e, v) })
		return true, nil
	}
	ok, err, _ := s.flight.Do("look "+string(e.id), func() (any, error) { return s.look(context.WithoutCancel(ctx), e, v) })
	if err != nil {
		return false, err
	}
	return ok.(bool), nil
}

// late tells whether a status whose rows have changed may be shown once more while
// the next is computed: only one that is dear, and was so a moment ago.
func (s *shelf) late(ctx context.Context, e *slot, v *shelved, at, exact time.Time) bool {
	if v.took < s.dear || at.Sub(exact) > min(staleFactor*v.took, filesFor) || exact.Before(server.Fresh(ctx)) {
		return false
	}
	if at.Sub(v.made) > staleFactor*v.took {
		s.flight.DoChan(flightKey(e.id, v.report.Solved != nil), func() (any, error) {
			return s.compute(context.WithoutCancel(ctx), e, v.report.Solved != nil)
		})
	}
	return true
}

// look tells whether keys, builders and the blobs' files are as they were when v was
// computed.
func (s *shelf) look(ctx context.Context, e *slot, v *shelved) (bool, error) {
	began := time.Now()
	if keyFiles(s.a.path("keys")) != s.keys {
		return false, fault.Advise(fault.Unavailable, "Try again in a moment: the server is about to go by the new ones. If it stays so, start it anew.",
			"the keys of this data directory were changed by another command")
	}
	rests, err := s.a.rests(ctx, e.id, v.report.Commit)
	if err != nil {
		return false, err
	}
	same := sameRests(rests, v.rests) && s.a.Blobs.Stamps(v.blobs) == v.stamps
	e.mu.Lock()
	defer e.mu.Unlock()
	v.ended = v.ended || !same
	if same && v.looked.Before(began) {
		v.looked = began
	}
	return !v.ended, nil
}

// settling is how old a file's last change must be when a computation begins, so
// that its stamp would have changed with another: clocks of file systems tick in
// hundredths of a second.
const settling = 50 * time.Millisecond

// compute computes a status and keeps it.
func (s *shelf) compute(ctx context.Context, e *slot, deep bool) (*shelved, error) {
	v := &shelved{made: time.Now(), steps: map[digest.Digest]bool{}}
	mark, err := s.a.Store.Mark(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.a.Commit(ctx, e.id)
	if err != nil {
		return nil, err
	}
	var steps []digest.Digest
	if !deep {
		if v.report, v.blobs, steps, err = s.a.settledReport(ctx, e.id, c); err != nil {
			return nil, err
		}
	}
	if v.report == nil {
		if v.report, err = s.a.Status(ctx, e.id); err != nil {
			return nil, err
		}
		if v.blobs, steps, err = s.a.lookedAt(ctx, v.report); err != nil {
			return nil, err
		}
	}
	v.report.check = nil // what it verified is long, and nobody asks it again
	for _, d := range steps {
		v.steps[d] = true
	}
	rests, err := s.a.rests(ctx, e.id, c)
	if err != nil {
		// What it rests on cannot be told, so it is no more than this answer.
		return v, nil //nolint:nilerr // the report itself is whole
	}
	v.rests, v.mark = rests, mark
	// A file that was changed while it was read may have the stamp of what came after.
	v.stamps = s.a.Blobs.Stamps(v.blobs)
	if s.changedSince(v.blobs, v.made.Add(-settling)) {
		v.stamps = ""
	}
	v.looked, v.exact, v.took = v.made, v.made, time.Since(v.made)
	e.mu.Lock()
	e.now = v
	e.mu.Unlock()
	s.weigh(e, weight(v))
	return v, nil
}

// changedSince tells whether one of the blobs' files was changed after a time.
func (s *shelf) changedSince(blobs []digest.Digest, t time.Time) bool {
	for _, d := range blobs {
		if s.a.Blobs.Stamp(d).Status >= t.UnixNano() {
			return true
		}
	}
	return false
}

// slot finds or makes the place of a commit.
func (s *shelf) slot(id digest.Digest) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.all[id]; ok {
		s.order.MoveToFront(at)
		return at.Value.(*slot)
	}
	e := &slot{id: id}
	s.all[id] = s.order.PushFront(e)
	s.weighLocked(e, slotBytes)
	return e
}

// deep is get for whoever needs all that the report rests on.
func (s *shelf) deep(ctx context.Context, id digest.Digest) (*Report, error) {
	v, err := s.get(ctx, id, true)
	if err != nil {
		return nil, err
	}
	return v.report, nil
}

// weigh says what a place takes, and makes room.
func (s *shelf) weigh(e *slot, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weighLocked(e, bytes)
}

// grow counts what was made of a status beside it.
func (s *shelf) grow(v *shelved, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.all[v.report.CommitID]
	if !ok {
		return
	}
	e := at.Value.(*slot)
	e.mu.Lock()
	kept := e.now == v
	e.mu.Unlock()
	if kept {
		s.weighLocked(e, e.weight+bytes)
	}
}

func (s *shelf) weighLocked(e *slot, bytes int64) {
	if _, ok := s.all[e.id]; !ok {
		return // it was taken off meanwhile
	}
	s.bytes += bytes - e.weight
	e.weight = bytes
	for s.bytes > s.limit && s.order.Len() > 1 {
		last := s.order.Remove(s.order.Back()).(*slot)
		s.bytes -= last.weight
		delete(s.all, last.id)
	}
}

// slotBytes is what an empty place takes.
const slotBytes = 1 << 10

// weight is about what a status takes in memory, with what is made of it for pages.
func weight(v *shelved) int64 {
	const row, name = 6 << 10, 120
	n := int64(slotBytes) + int64(len(v.report.Document.Artifacts))*row + int64(len(v.blobs)+len(v.steps))*name
	for _, st := range v.report.Input.Steps {
		for _, b := range st.Builds {
			n += 2<<10 + 200*int64(len(b.Facts.Facts)+len(b.Inputs)+len(b.Measured))
			for _, list := range [][]string{b.SeedFiles, b.Ships} {
				for _, text := range list {
					n += 16 + int64(len(text))
				}
			}
		}
		for _, r := range st.Rebuilds {
			n += 2<<10 + 200*int64(len(r.Axes)+len(r.Differences))
		}
	}
	return n
}

// settledReport is what Settled gives, as a report, with what it rests on; nil if
// there is none.
func (a *App) settledReport(ctx context.Context, id digest.Digest, c project.Commit) (*Report, []digest.Digest, []digest.Digest, error) {
	m := a.readMemo(id)
	if m == nil {
		return nil, nil, nil, nil
	}
	doc, ok := a.Settled(ctx, id, c, "")
	if !ok {
		return nil, nil, nil, nil
	}
	r := &Report{Document: doc, Commit: c, CommitID: id}
	var err error
	r.Policy, r.PolicyID, err = Policy(c.Policy)
	return r, m.blobs, m.steps, err
}

// faultsFor is how long the ways out of one status are shown without looking again
// at the files behind what other versions' summaries say.
const faultsFor = 10 * time.Second

// faultsFound are the ways out of one status. They speak of other versions, too, so
// they rest on more rows than the status does.
type faultsFound struct {
	mu    sync.Mutex // guards all, held while they are found
	found []remedy.Fault
	mark  store.Mark
	made  time.Time // zero: never
}

// get gives what find gave, while nothing was written that it may rest on.
func (f *faultsFound) get(ctx context.Context, rows *store.Store, find func() ([]remedy.Fault, error)) ([]remedy.Fault, error) {
	mark, err := rows.Mark(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.made.IsZero() && time.Since(f.made) < faultsFor {
		if f.mark.Seq >= mark.Seq {
			return f.found, nil
		}
		since, ok, err := rows.Since(ctx, f.mark)
		if err != nil {
			return nil, err
		}
		touched := false
		for _, t := range []string{"files", "evidence", "steps", "builds", "rebuilds"} {
			touched = touched || since.Tables[t]
		}
		if ok && !touched {
			f.mark = since.Mark
			return f.found, nil
		}
	}
	made := time.Now()
	found, err := find()
	if err != nil {
		return nil, err
	}
	f.found, f.mark, f.made = found, mark, made
	return found, nil
}
