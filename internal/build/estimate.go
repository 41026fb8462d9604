package build

import (
	"sync"
	"time"

	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// Times are how long builds of a package took the last time, by purpose.
type Times map[purl.PURL]map[record.Purpose]time.Duration

// Guesses for what was never measured. They order what is ready; people are told
// that the time is unknown.
const (
	guessLayer  = 500 * time.Millisecond
	guessQuery  = time.Second
	guessLeast  = 2 * time.Second
	guessMost   = 10 * time.Minute
	guessPerMiB = 4 * time.Second // of source archive
)

// Guess says about how long one build takes; known tells whether it rests on a
// build of the same package that was measured.
func (t Times) Guess(u purl.PURL, p record.Purpose, src plan.Source) (d time.Duration, known bool) {
	m := t[u]
	if d := m[p]; d > 0 {
		return d, true
	}
	if p == record.Query {
		return guessQuery, false
	}
	for _, q := range []record.Purpose{record.First, record.Rebuild, record.Prebuilt} {
		if d := m[q]; d > 0 {
			return d, true
		}
	}
	return min(guessMost, guessLeast+time.Duration(float64(guessPerMiB)*float64(src.Size)/(1<<20))), false
}

// learnt are times that grow while builds end.
type learnt struct {
	mu    sync.Mutex
	times Times // guarded by mu
}

func (l *learnt) guess(u purl.PURL, p record.Purpose, src plan.Source) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times.Guess(u, p, src)
}

func (l *learnt) learn(u purl.PURL, b *record.Build) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.times[u] == nil {
		l.times[u] = map[record.Purpose]time.Duration{}
	}
	l.times[u][b.Purpose] = b.Usage.Wall
}
