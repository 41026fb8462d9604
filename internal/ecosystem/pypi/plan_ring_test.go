package pypi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hallmark/internal/fault"
)

// TestMetadataRing: a package whose metadata can only be had by building what
// needs its metadata is passed over, and nothing runs for ever.
func TestMetadataRing(t *testing.T) {
	p := &Planner{}
	f := File{Name: "a-1.tar.gz"}
	ctx := context.WithValue(t.Context(), chainKey{}, []string{"b@1", "a@1"})
	if _, err := p.queryMetadata(ctx, Candidate{Name: "a", Version: "1", Sdist: &f}); !fault.Is(err, fault.Hostile) {
		t.Errorf("a ring: %v", err)
	}
	long := make([]string, maxChain)
	ctx = context.WithValue(t.Context(), chainKey{}, long)
	if _, err := p.queryMetadata(ctx, Candidate{Name: "a", Version: "1", Sdist: &f}); !fault.Is(err, fault.Hostile) {
		t.Errorf("a chain without end: %v", err)
	}
}

// What a ring made impossible further up is planned where it is not in the way.
func TestRingIsForgottenElsewhere(t *testing.T) {
	inTree := map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"}
	y := newYard(t)
	y.sdist("bb", "1", built("zz", "zz"))
	y.sdist("zz", "2", built("bb", "bb"))
	y.sdist("zz", "1", inTree)
	y.want(y.plan("bb", "zz"), "zz=1() bb=1(zz=1) zz=2(bb=1)")
	// Also what was refused because nothing opens its ring there.
	y = newYard(t)
	y.sdist("aa", "1", built("bb", "bb", "cc<2"))
	y.sdist("bb", "1", built("cc", "cc"))
	y.sdist("cc", "2", built("aa", "aa"))
	y.sdist("cc", "1", inTree)
	p := y.plan("aa", "bb", "cc")
	y.want(p, "cc=1() bb=1(cc=1) aa=1(bb=1 cc=1) cc=2(aa=1)")
	if len(p.Unplanned) != 0 {
		t.Errorf("%+v", p.Unplanned)
	}
}

// In random worlds full of rings planning ends, soon, with a plan that is whole,
// comes out the same again, and leaves out nothing that an older version opens.
func TestRandomRings(t *testing.T) {
	worlds := 60
	if testing.Short() {
		worlds = 15
	}
	for seed := range worlds {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		y := newYard(t)
		names := []string{"aa", "bb", "cc", "dd", "ee", "ff"}
		open := rng.IntN(2) == 0
		for _, n := range names {
			for v := range 1 + rng.IntN(3) {
				if v == 0 && open {
					y.sdist(n, "0", map[string]string{"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"b\"\nbackend-path = [\".\"]\n"})
					continue
				}
				var reqs []string
				for range 1 + rng.IntN(2) {
					reqs = append(reqs, names[rng.IntN(len(names))])
				}
				y.sdist(n, fmt.Sprint(v), built("b", reqs...))
			}
		}
		began := time.Now()
		a := y.plan(names...)
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("world %d: planned for %s", seed, d)
		}
		b := y.plan(names...)
		if one, two := stepsOf(a), stepsOf(b); one != two {
			t.Errorf("world %d: %s, and then %s", seed, one, two)
		}
		if open && len(a.Unplanned) > 0 {
			t.Errorf("world %d: each package has a version that needs nothing, and yet %+v", seed, a.Unplanned)
		}
	}
}
