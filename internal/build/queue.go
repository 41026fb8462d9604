package build

import (
	"cmp"
	"container/heap"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
	"hallmark/internal/timeline"
)

// layering is the purpose of a task that lays out what a step made, so that
// others can be built with it; of the empty step: what every build has.
const layering record.Purpose = "layer"

// taskKey names a task: whoever wants the same gets the same.
type taskKey struct {
	step    digest.Digest
	purpose record.Purpose
}

// spec is what somebody wants done.
type spec struct {
	key    taskKey
	name   string        // for people: a purl
	guess  time.Duration // about how long it takes; never 0
	known  bool          // the guess was measured
	after  []taskKey     // begins when these have ended; what is not wanted by anybody has
	fresh  bool          // run it though it has run before
	spare  bool          // nobody waits for it: it is given only workers that would be idle, and never the last one
	beside taskKey       // a worker that would be idle may begin it while this one of those that it waits for runs; run waits for that one's end itself
	run    func(ctx context.Context, t *turn) error
}

// task is one piece of work in the queue. Its fields below mu are guarded by the
// queue's.
type task struct {
	spec
	done chan struct{} // closed when it has ended
	err  error         // the host's; read it after done

	build   *record.Build         // what came of it, if it is a build; read it after done
	result  *record.RebuildResult // of a second build
	answers map[string][]byte     // of a query

	ctx    context.Context
	cancel context.CancelFunc

	rank    time.Duration // how long, at least, until all that waits for it is done
	late    bool          // nothing is won by beginning it before others that are ready
	seq     int           // order of coming
	wanted  int           // by how many, tasks that wait for it among them
	waits   int           // for how many others
	next    []*task       // those who wait for it
	deps    []*task       // those that it waited for when it came; each is wanted by it
	at      int           // place in the heap; -1: not there
	running bool
	ended   bool
	lane    int
	phase   string
	began   time.Time // when it was given a worker

	finished time.Time // when it had ended
}

// queue runs tasks, as many at a time as there are workers, each after those that
// it waits for, and of those that can run the one first that most time hangs on.
// There is one for an engine: whatever wants builds shares its workers, and a task
// that several want is run once. What has ended without an error of the host is
// remembered for as long as the engine lives, so that a failure is not run into
// twice.
type queue struct {
	workers int
	cores   int
	lasted  time.Duration // how long a task has to have run for something to be begun beside it while others are ready
	trace   *timeline.Recorder
	changed func() // told of every change, with mu held; may be nil

	mu      sync.Mutex
	idle    []int // workers without work, sorted
	ready   readyHeap
	tasks   map[taskKey]*task
	running map[*task]bool
	seq     int
	total   int // builds that a plan wants
	done    int // of them, those that have ended
}

func newQueue(workers int, trace *timeline.Recorder, changed func()) *queue {
	q := &queue{workers: workers, cores: runtime.NumCPU(), lasted: worthBeside, trace: trace, changed: changed, tasks: map[taskKey]*task{}, running: map[*task]bool{}}
	for i := range workers {
		q.idle = append(q.idle, i+1)
	}
	return q
}

// over tells whether a task has ended.
func (t *task) over() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// turn is a task's time with a worker.
type turn struct {
	q    *queue
	t    *task
	lane int // of the worker, from 1
	jobs int // how many processes a build that can do several things at once should start
	end  func(map[string]any)
}

// phase says what the task does from now on.
func (t *turn) phase(name string) {
	if t == nil {
		return
	}
	t.close(nil)
	t.end = t.q.trace.Begin(t.lane, name, t.t.name+" "+name, map[string]any{"step": string(t.t.key.step)})
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	t.t.phase = name
	t.q.tell()
}

// share gives how many processes a build should start, and its worker.
func (t *turn) share() (jobs, lane int) {
	if t == nil {
		return 2, 0
	}
	return t.jobs, t.lane
}

// close ends the phase that is on.
func (t *turn) close(args map[string]any) {
	if t.end != nil {
		t.end(args)
		t.end = nil
	}
}

// tell says that something changed; mu is held.
func (q *queue) tell() {
	if q.changed != nil {
		q.changed()
	}
}

// find gives a task that is there; nil if there is none.
func (q *queue) find(k taskKey) *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tasks[k]
}

// ended gives a task that has ended and is remembered; nil if there is none.
func (q *queue) ended(k taskKey) *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.tasks[k]; t != nil && t.ended {
		return t
	}
	return nil
}

// count changes how many builds are wanted and done, which people are told.
func (q *queue) count(total, done int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total += total; total < 0 {
		done = -q.done
	}
	q.done += done
	q.tell()
}

// enlist puts what is wanted into the queue, all at once, so that what is urgent
// is seen before anything starts. A task that is there already is shared. Whoever
// enlists must drop the tasks in the end.
func (q *queue) enlist(ctx context.Context, specs []spec) ([]*task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]*task, len(specs))
	var fresh []*task
	for i, s := range specs {
		if t := q.tasks[s.key]; t != nil && !(s.fresh && t.ended) {
			t.wanted++
			if t.spare && !s.spare {
				t.spare = false
				if t.at >= 0 {
					heap.Fix(&q.ready, t.at)
				}
			}
			out[i] = t
			continue
		}
		t := &task{spec: s, done: make(chan struct{}), wanted: 1, at: -1, seq: q.seq, phase: "waiting"}
		// A single worker ends at the same time whatever the order. So it makes second
		// builds, which nobody is built with, when there is no first one to make: what
		// fails is known, and can be mended, sooner.
		t.late = q.workers == 1 && s.key.purpose == record.Rebuild
		// A task lives for as long as somebody wants it, whoever wanted it first.
		t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
		q.seq++
		q.tasks[s.key] = t
		out[i] = t
		fresh = append(fresh, t)
	}
	for _, t := range fresh {
		for _, k := range t.after {
			if d := q.tasks[k]; d != nil && !d.ended {
				t.waits++
				d.next, t.deps = append(d.next, t), append(t.deps, d)
				d.wanted++
			}
		}
	}
	if !q.order(fresh) {
		for _, t := range fresh {
			q.end(t, fault.New(fault.Corrupt, "the steps wait for one another in a ring"))
		}
		return nil, fault.New(fault.Corrupt, "the steps to build wait for one another in a ring")
	}
	for _, t := range fresh {
		for _, k := range t.after { // what was there already may have become more urgent
			if d := q.tasks[k]; d != nil && d.rank < d.guess+t.rank {
				if d.rank = d.guess + t.rank; d.at >= 0 {
					heap.Fix(&q.ready, d.at)
				}
			}
		}
	}
	for _, t := range fresh {
		if t.waits == 0 && !t.ended {
			heap.Push(&q.ready, t)
		}
	}
	q.dispatch()
	return out, nil
}

// order gives new tasks their ranks, the last first; false if there is a ring. mu
// is held.
func (q *queue) order(fresh []*task) bool {
	waits := make(map[*task]int, len(fresh))
	var free []*task
	for _, t := range fresh {
		waits[t] = 0
	}
	for _, t := range fresh {
		for _, n := range t.next {
			if _, in := waits[n]; in {
				waits[n]++
			}
		}
	}
	for _, t := range fresh {
		if waits[t] == 0 {
			free = append(free, t)
		}
	}
	var sorted []*task
	for len(free) > 0 {
		t := free[len(free)-1]
		free = free[:len(free)-1]
		sorted = append(sorted, t)
		for _, n := range t.next {
			if _, in := waits[n]; in {
				if waits[n]--; waits[n] == 0 {
					free = append(free, n)
				}
			}
		}
	}
	for _, t := range slices.Backward(sorted) {
		for _, n := range t.next {
			t.rank = max(t.rank, n.rank)
		}
		t.rank += t.guess
	}
	return len(sorted) == len(fresh)
}

// dispatch gives idle workers something to do; mu is held.
func (q *queue) dispatch() {
	for len(q.idle) > 0 {
		if t := q.besides(); t != nil {
			q.start(t)
			continue
		}
		if q.ready.Len() == 0 || q.ready[0].spare && len(q.idle) == 1 {
			break // whatever comes next that somebody waits for finds a worker
		}
		q.start(heap.Pop(&q.ready).(*task))
	}
	q.trace.Count(q.waiting(), len(q.running))
	q.tell()
}

// start gives a task a worker; mu is held and there is an idle one.
func (q *queue) start(t *task) {
	t.lane, q.idle = q.idle[0], q.idle[1:]
	t.running, t.began, t.phase = true, time.Now(), "starting"
	q.running[t] = true
	go q.execute(t, &turn{q: q, t: t, lane: t.lane, jobs: q.jobs()})
}

// worthBeside is how long a task has to take for it to be begun beside the one that
// it waits for. Little is won by short ones, and what fails at once is not begun a
// second time for nothing.
const worthBeside = 5 * time.Second

// besides gives the most urgent task that waits for nothing but one that runs, and
// can be begun beside it; nil if there is none, or if what is ready is as urgent.
// While something else is ready, only what waits for a task that has lasted is
// begun so: most that fails does so at once. mu is held.
func (q *queue) besides() *task {
	other := q.waiting() > 0
	var best *task
	for d := range q.running {
		if other && time.Since(d.began) < q.lasted {
			continue
		}
		for _, t := range d.next {
			if t.beside == d.key && t.guess >= worthBeside && t.waits == 1 && !t.running && !t.ended && (best == nil || t.rank > best.rank || t.rank == best.rank && t.seq < best.seq) {
				best = t
			}
		}
	}
	if best != nil && other && q.ready[0].rank >= best.rank {
		return nil
	}
	return best
}

// waiting is how many tasks could run and that somebody waits for. mu is held.
func (q *queue) waiting() int {
	n := 0
	for _, t := range q.ready {
		if !t.spare {
			n++
		}
	}
	return n
}

// jobs is how many processes a build that begins now should start: its share of
// the processors among what runs and what could run, so that a single build uses
// the whole machine and many do not crowd it out. At least two, since the second
// build has one: parallelism is an axis that is varied. mu is held.
func (q *queue) jobs() int {
	n := len(q.running) + q.ready.Len()
	return max(2, (q.cores+n-1)/max(n, 1))
}

func (q *queue) execute(t *task, turn *turn) {
	err := t.ctx.Err()
	if err == nil {
		err = t.run(t.ctx, turn)
	}
	args := map[string]any{}
	switch {
	case err != nil:
		args["outcome"] = "error"
	case t.build != nil:
		args["outcome"] = string(t.build.Outcome)
	}
	turn.close(args)
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, t)
	q.idle = append(q.idle, t.lane)
	slices.Sort(q.idle)
	q.end(t, err)
	q.dispatch()
}

// end marks a task as ended and frees those that wait for it; what needs it does
// not run if the host made it fail. mu is held.
func (q *queue) end(t *task, err error) {
	if t.ended {
		return
	}
	t.err, t.ended, t.running, t.finished = err, true, false, time.Now()
	t.cancel()
	if t.at >= 0 {
		heap.Remove(&q.ready, t.at)
	}
	if err != nil && q.tasks[t.key] == t {
		delete(q.tasks, t.key) // an error of the host says nothing about the next time
	}
	close(t.done)
	for _, n := range t.next {
		switch {
		case n.ended:
		case n.running: // it was begun beside t, and looks at what came of it by itself
			n.waits--
		case err != nil:
			q.end(n, err)
		default:
			if n.waits--; n.waits == 0 {
				heap.Push(&q.ready, n)
			}
		}
	}
	deps := t.deps
	t.next, t.deps = nil, nil
	for _, d := range deps {
		q.release(d)
	}
}

// release says that a task is not wanted any more by one of those who wanted it.
// mu is held.
func (q *queue) release(t *task) {
	if t.wanted--; t.wanted > 0 || t.ended {
		return
	}
	if q.tasks[t.key] == t {
		delete(q.tasks, t.key) // whoever comes now begins anew
	}
	if t.running {
		t.cancel()
		return
	}
	q.end(t, context.Canceled)
}

// drop says that tasks are not wanted any more by one of those who wanted them.
// What nobody wants is not begun, or is cancelled; drop waits for that.
func (q *queue) drop(ts []*task) {
	q.mu.Lock()
	var ending []*task
	for _, t := range ts {
		q.release(t)
	}
	for _, t := range ts {
		if t.running && t.wanted <= 0 {
			ending = append(ending, t)
		}
	}
	q.trace.Count(q.waiting(), len(q.running))
	q.tell()
	q.mu.Unlock()
	for _, t := range ending {
		<-t.done
	}
}

// each tells about every task when it has ended, in that order, until all have or
// one ended by an error of the host or ctx is done; then it gives that error.
func (q *queue) each(ctx context.Context, ts []*task, ended func(*task)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ends := make(chan *task)
	for _, t := range ts {
		go func() {
			select {
			case <-t.done:
				select {
				case ends <- t:
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
		}()
	}
	for range ts {
		select {
		case t := <-ends:
			if t.err != nil {
				return t.err
			}
			if ended != nil {
				ended(t)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Running is one task that runs.
type Running struct {
	Name  string    // purl
	Phase string    // "prepare", "first build", …
	Lane  int       // of its worker, from 1
	Began time.Time // when it was given the worker
}

// now gives what runs, by worker, and how many wait. mu is held.
func (q *queue) now() (running []Running, ready int) {
	for t := range q.running {
		running = append(running, Running{Name: t.name, Phase: t.phase, Lane: t.lane, Began: t.began})
	}
	slices.SortFunc(running, func(a, b Running) int { return cmp.Compare(a.Lane, b.Lane) })
	return running, q.waiting()
}

// rest says about how long what is wanted will take; known tells whether most of
// that was measured. mu is held.
func (q *queue) rest() (d time.Duration, known bool) {
	at := time.Now()
	var sum, longest, measured time.Duration
	for _, t := range q.tasks {
		if t.ended || t.spare {
			continue
		}
		left, chain := t.guess, t.rank
		if t.running {
			gone := at.Sub(t.began)
			left, chain = max(0, left-gone), max(0, chain-min(gone, t.guess))
		}
		sum += left
		longest = max(longest, chain)
		if t.known {
			measured += left
		}
	}
	return max(longest, sum/time.Duration(q.workers)), measured*2 >= sum
}

// readyHeap has the task first that most time hangs on; those that are late come
// behind these, and those that nobody waits for last.
type readyHeap []*task

func (h readyHeap) Len() int { return len(h) }
func (h readyHeap) Less(i, j int) bool {
	if h[i].spare != h[j].spare {
		return h[j].spare
	}
	if h[i].late != h[j].late {
		return h[j].late
	}
	if h[i].rank != h[j].rank {
		return h[i].rank > h[j].rank
	}
	return h[i].seq < h[j].seq
}
func (h readyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

// Push is container/heap's.
func (h *readyHeap) Push(x any) {
	t := x.(*task)
	t.at = len(*h)
	*h = append(*h, t)
}

// Pop is container/heap's.
func (h *readyHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	t.at = -1
	return t
}
