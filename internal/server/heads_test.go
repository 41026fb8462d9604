package server

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// line is a backend whose heads move.
type line struct {
	mu    sync.Mutex
	at    map[string]digest.Digest
	asked int
}

func (l *line) NewestCommit(ctx context.Context, org, name string) (digest.Digest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if b := BranchOf(ctx); b != "" {
		name += " " + b
	}
	if d, ok := l.at[org+"/"+name]; ok {
		return d, nil
	}
	return "", fault.New(fault.NotFound, "there is none")
}

// Everybody who watches is told of another commit, a head is looked at once however
// many watch, and nobody looks when nobody watches.
func TestHeads(t *testing.T) {
	one, two := digest.FromBytes([]byte("one")), digest.FromBytes([]byte("two"))
	web := branchLine{"acme", "web", ""}
	l := &line{at: map[string]digest.Digest{"acme/web": one}}
	h := &heads{of: l, all: map[branchLine]*head{}}
	const watchers = 200
	var ready, told sync.WaitGroup
	ready.Add(watchers)
	for range watchers {
		told.Go(func() {
			defer h.watch(web)()
			known, woken := h.now(web)
			for known == "" {
				<-woken
				known, woken = h.now(web)
			}
			ready.Done()
			for known != two {
				<-woken
				known, woken = h.now(web)
			}
		})
	}
	ready.Wait()
	began := time.Now()
	l.mu.Lock()
	l.at["acme/web"] = two
	before := l.asked
	l.mu.Unlock()
	told.Wait()
	l.mu.Lock()
	asked := l.asked - before
	l.mu.Unlock()
	if took := time.Since(began); asked > 2+int(took/headsEvery)*2 {
		t.Errorf("%d watchers asked %d times in %s", watchers, asked, took)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) != 0 || h.stop != nil {
		t.Error("nobody watches, and it goes on")
	}
	if e := headEvent(two); !strings.HasPrefix(e, "event: head\ndata: {") || !strings.HasSuffix(e, "}\n\n") {
		t.Errorf("%q", e)
	}
	var none *heads
	none.watch(web)()
	if d, c := none.now(web); d != "" || c != nil {
		t.Error("a backend without heads has some")
	}
}

// Who watches a branch is told of that branch's commits, and of no other's.
func TestHeadsOfBranches(t *testing.T) {
	one, two := digest.FromBytes([]byte("one")), digest.FromBytes([]byte("two"))
	l := &line{at: map[string]digest.Digest{"acme/web": one, "acme/web next": one}}
	h := &heads{of: l, all: map[branchLine]*head{}}
	web, next := branchLine{"acme", "web", ""}, branchLine{"acme", "web", "next"}
	defer h.watch(web)()
	defer h.watch(next)()
	wait := func(line branchLine, want digest.Digest) {
		t.Helper()
		end := time.After(time.Minute)
		for known, woken := h.now(line); known != want; known, woken = h.now(line) {
			select {
			case <-woken:
			case <-end:
				t.Fatalf("the head of %v is %q, want %s", line, known, want)
			}
		}
	}
	wait(web, one)
	wait(next, one)
	l.mu.Lock()
	l.at["acme/web next"] = two
	l.mu.Unlock()
	wait(next, two)
	wait(web, one)
}
