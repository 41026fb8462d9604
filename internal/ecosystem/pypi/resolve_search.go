package pypi

import (
	"context"
	"errors"
	"math"
	"sort"
	"strings"

	"hallmark/internal/fault"
)

// The search is the one that pip has used since version 20.3: pin one package a
// round, the most constrained first; when none of its candidates fits, jump back
// to the last pin that has to do with the clash, and never try the same again.
// It is written to make the same choices in the same order, so that its results
// are pip's.

// reason is one requirement and who asks for it.
type reason struct {
	want   *want
	parent *candidate // nil: the solve's own requirement
}

// criterion is what is known about one key.
type criterion struct {
	candidates   []*candidate // that fit, the preferred first
	reasons      []reason
	incompatible []*candidate // known not to work
}

// criteria keeps insertion order, which decides between equals.
type criteria struct {
	keys []string
	m    map[string]*criterion
}

func (c criteria) clone() criteria {
	m := make(map[string]*criterion, len(c.m)+8)
	for k, v := range c.m {
		m[k] = v
	}
	return criteria{keys: append([]string(nil), c.keys...), m: m}
}

func (c *criteria) set(k string, v *criterion) {
	if _, has := c.m[k]; !has {
		c.keys = append(c.keys, k)
	}
	c.m[k] = v
}

// state is the search after a round.
type state struct {
	pinned   []*candidate // in order of pinning
	criteria criteria
	causes   []reason // of the last backtracking
}

func (s *state) pin(key string) *candidate {
	for _, c := range s.pinned {
		if c.key == key {
			return c
		}
	}
	return nil
}

// resolution is one run of the search.
type resolution struct {
	universe
	asked  map[string]int     // key to place among the solve's requirements
	depths map[string]float64 // key to distance from them
	states []*state
	roots  []*want // the solve's requirements
	python *candidate
	busy   string
	// careful makes backjump undo one pin at a time in place of jumping over
	// those that seem to have nothing to do with a clash.
	careful bool
	jumped  bool // a pin was jumped over
}

func newResolution(ctx context.Context, p Provider, env Environment, opts Options) *resolution {
	return &resolution{
		universe: universe{ctx: ctx, provider: p, env: env, opts: opts, projects: map[string]*project{}, notices: map[string]bool{}},
		asked:    map[string]int{}, depths: map[string]float64{},
		python: &candidate{key: pythonKey, loaded: true, Candidate: Candidate{Name: pythonKey, Version: env.PythonFullVersion}, version: env.version},
	}
}

func (r *resolution) busyWith() string {
	if r.busy == "" {
		return "the first requirement"
	}
	return r.busy
}

// clash is a conflict that backtracking may get around.
type clash struct{ criterion *criterion }

func (clash) Error() string { return "requirements clash" }

// matches lists the candidates for a key that fit all wants, without those known
// not to work. others gives the wants on another key.
func (r *resolution) matches(key string, wants []*want, others func(key string) []*want, not []*candidate) ([]*candidate, error) {
	if key == pythonKey {
		for _, w := range wants {
			if !r.env.allowsPython(w.python) {
				return nil, nil
			}
		}
		return without([]*candidate{r.python}, not), nil
	}
	name, extras := splitKey(key)
	// Whoever asks for name[extra] also asks for exactly the same name.
	var exact []*candidate
	for _, w := range wants {
		if w.exact != nil {
			exact = append(exact, w.exact)
		}
	}
	if len(extras) > 0 {
		for _, w := range others(name) {
			if w.exact != nil {
				exact = append(exact, w.exact.extra(extras))
			}
		}
	}
	if len(exact) > 0 {
		var out []*candidate
		for _, c := range without(uniqueCandidates(exact), not) {
			if fitsAll(c, wants) {
				out = append(out, c)
			}
		}
		return out, nil
	}
	if len(wants) == 0 {
		return nil, nil // whoever asked for it is unpinned by now
	}
	p, err := r.project(name)
	if err != nil {
		return nil, err
	}
	var specs Specifiers
	for _, w := range wants {
		specs = specs.and(w.specs)
	}
	var found []*candidate
	allYanked := true
	for _, i := range specs.Filter(p.parsed) {
		c := p.versions[i]
		found = append(found, c)
		allYanked = allYanked && c.Yanked
	}
	var out []*candidate
	for _, c := range found {
		if c.Yanked && !(allYanked && specs.Pinned()) {
			continue // PEP 592
		}
		if c.bad == nil || r.lastResort {
			out = append(out, c.extra(extras))
		}
	}
	return without(out, not), nil
}

func fitsAll(c *candidate, wants []*want) bool {
	for _, w := range wants {
		if !w.satisfied(c) {
			return false
		}
	}
	return true
}

func uniqueCandidates(cs []*candidate) []*candidate {
	var out []*candidate
	for _, c := range cs {
		if !hasCandidate(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func hasCandidate(cs []*candidate, c *candidate) bool {
	for _, x := range cs {
		if x == c {
			return true
		}
	}
	return false
}

func without(cs, not []*candidate) []*candidate {
	if len(not) == 0 {
		return cs
	}
	var out []*candidate
	for _, c := range cs {
		if !hasCandidate(not, c) {
			out = append(out, c)
		}
	}
	return out
}

func wantsOf(c *criterion) []*want {
	if c == nil {
		return nil
	}
	out := make([]*want, len(c.reasons))
	for i, x := range c.reasons {
		out[i] = x.want
	}
	return out
}

// add takes one more requirement into cs. A clash error means that nothing fits.
func (r *resolution) add(cs *criteria, w *want, parent *candidate) error {
	old := cs.m[w.key]
	now := &criterion{}
	if old != nil {
		now.incompatible = old.incompatible
		now.reasons = append(now.reasons, old.reasons...)
	}
	now.reasons = append(now.reasons, reason{w, parent})
	var err error
	now.candidates, err = r.matches(w.key, wantsOf(now), func(k string) []*want { return wantsOf(cs.m[k]) }, now.incompatible)
	if err != nil {
		return err
	}
	if len(now.candidates) == 0 {
		return clash{now}
	}
	cs.set(w.key, now)
	return nil
}

func (r *resolution) top() *state { return r.states[len(r.states)-1] }

func (r *resolution) push() {
	t := r.top()
	r.states = append(r.states, &state{
		pinned:   append([]*candidate(nil), t.pinned...),
		criteria: t.criteria.clone(),
		causes:   append([]reason(nil), t.causes...),
	})
}

// satisfied tells whether a key's pin, if it has one, fits its requirements.
func (r *resolution) satisfied(key string) bool {
	c := r.top().pin(key)
	return c != nil && fitsAll(c, wantsOf(r.top().criteria.m[key]))
}

// carefulRounds bounds the second search, which takes its time when there is no
// solution.
const carefulRounds = 3000

// solve searches, and once more with care if there seems to be no solution.
func (r *resolution) solve(roots []*want) (*state, error) {
	r.roots = roots
	st, err := r.search(roots, r.opts.MaxRounds)
	if !fault.Is(err, fault.Conflict) || !r.jumped {
		return st, err
	}
	r.careful, r.depths = true, map[string]float64{}
	if st, again := r.search(roots, min(carefulRounds, r.opts.MaxRounds)); again == nil || !fault.Is(again, fault.Conflict) {
		return st, again
	}
	return nil, err
}

// search runs one search to its end.
func (r *resolution) search(roots []*want, rounds int) (*state, error) {
	first := &state{criteria: criteria{m: map[string]*criterion{}}}
	for _, w := range roots {
		if err := r.add(&first.criteria, w, nil); err != nil {
			return nil, r.explain(err, nil)
		}
	}
	r.states = []*state{first}
	r.push() // the first one stays, so that there is always one to go back to
	for range rounds {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		var open []string
		wasSatisfied := map[string]bool{}
		for _, k := range r.top().criteria.keys {
			if r.satisfied(k) {
				wasSatisfied[k] = true
			} else {
				open = append(open, k)
			}
		}
		if len(open) == 0 {
			return r.top(), nil
		}
		key := r.choose(open)
		r.busy = key
		causes, err := r.attempt(key)
		if err != nil {
			return nil, err
		}
		if causes == nil {
			r.forget(wasSatisfied)
			r.push()
			continue
		}
		ok, err := r.backjump(causes)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, r.explain(nil, causes)
		}
		r.top().causes = causes
	}
	return nil, fault.Advise(fault.Conflict, "Narrow the versions down (name==version) and try again.",
		"solving gave up after %d rounds; it was busy with %s", rounds, r.busyWith())
}

// forget drops what pins that no longer fit had asked for.
func (r *resolution) forget(wasSatisfied map[string]bool) {
	cs := &r.top().criteria
	gone := map[string]bool{}
	for _, k := range cs.keys {
		if wasSatisfied[k] && !r.satisfied(k) {
			gone[k] = true
		}
	}
	if len(gone) == 0 {
		return
	}
	for _, k := range cs.keys {
		old := cs.m[k]
		now := &criterion{candidates: old.candidates, incompatible: old.incompatible}
		for _, x := range old.reasons {
			if x.parent == nil || !gone[x.parent.key] {
				now.reasons = append(now.reasons, x)
			}
		}
		cs.m[k] = now
	}
}

// preference is compared field by field, the lower first.
type preference struct {
	python, direct, pinned, cause int // 0: yes
	depth, order                  float64
	free                          int
	key                           string
}

func (a preference) less(b preference) bool {
	for _, d := range []int{a.python - b.python, a.direct - b.direct, a.pinned - b.pinned, a.cause - b.cause} {
		if d != 0 {
			return d < 0
		}
	}
	if a.depth != b.depth {
		return a.depth < b.depth
	}
	if a.order != b.order {
		return a.order < b.order
	}
	if a.free != b.free {
		return a.free < b.free
	}
	return a.key < b.key
}

// choose says which key to pin next.
func (r *resolution) choose(open []string) string {
	var best preference
	for i, k := range open {
		if p := r.preference(k); i == 0 || p.less(best) {
			best = p
		}
	}
	return best.key
}

func (r *resolution) preference(key string) preference {
	t := r.top()
	p := preference{python: 1, direct: 1, pinned: 1, cause: 1, free: 1, depth: math.Inf(1), order: math.Inf(1), key: key}
	if key == pythonKey {
		p.python = 0
	}
	reasons := t.criteria.m[key].reasons
	for _, x := range reasons {
		if x.want.exact != nil || x.want.python != "" {
			p.direct = 0
		}
		for _, s := range x.want.specs {
			p.free = 0
			if s.Op == "==" || s.Op == "===" {
				p.pinned = 0
			}
		}
		d := 0.0
		if x.parent != nil {
			d = math.Inf(1)
			if known, ok := r.depths[x.parent.key]; ok {
				d = known
			}
		}
		p.depth = math.Min(p.depth, d+1)
	}
	if i, ok := r.asked[key]; ok {
		p.depth, p.order = 1, float64(i)
	}
	r.depths[key] = p.depth
	for _, x := range t.causes {
		if x.want.key == key || x.parent != nil && x.parent.key == key {
			p.cause = 0
		}
	}
	return p
}

// attempt pins the first candidate of a key whose own needs can be met. Without
// one it gives the reasons of all clashes; nil means that it is pinned.
func (r *resolution) attempt(key string) ([]reason, error) {
	t := r.top()
	crit := t.criteria.m[key]
	causes := []reason{}
	tried := 0
	// In a last resort, what is bad comes behind all that is not.
	passes := []bool{false}
	if r.lastResort {
		passes = []bool{false, true}
	}
	for _, bad := range passes {
		for _, c := range crit.candidates {
			if err := r.ctx.Err(); err != nil {
				return nil, err
			}
			if err := r.load(c); err != nil {
				return nil, err
			}
			if (c.bad != nil) != bad {
				continue
			}
			tried++
			cs := t.criteria.clone()
			var cl clash
			var err error
			for _, w := range c.deps {
				if err = r.add(&cs, w, c); err != nil {
					break
				}
			}
			if errors.As(err, &cl) {
				causes = append(causes, cl.criterion.reasons...)
				continue
			}
			if err != nil {
				return nil, err
			}
			t.criteria = cs
			pinned := t.pinned[:0:0]
			for _, x := range t.pinned {
				if x.key != key {
					pinned = append(pinned, x)
				}
			}
			t.pinned = append(pinned, c)
			return nil, nil
		}
	}
	if tried == 0 { // every candidate was passed over: those who ask for it are to blame
		causes = append(causes, crit.reasons...)
	}
	return causes, nil
}

// backjump goes back to before the last pin that has to do with the causes, and
// remembers what did not work. False: there is nothing left to try.
func (r *resolution) backjump(causes []reason) (bool, error) {
	guilty := map[string]bool{}
	for _, x := range causes {
		guilty[x.want.key] = true
		if x.parent != nil {
			guilty[x.parent.key] = true
		}
	}
	for len(r.states) >= 3 {
		r.states = r.states[:len(r.states)-1]
		var broken *state
		var last *candidate
		for {
			if len(r.states) == 0 {
				return false, nil
			}
			broken = r.top()
			r.states = r.states[:len(r.states)-1]
			if len(broken.pinned) == 0 {
				return false, nil
			}
			last = broken.pinned[len(broken.pinned)-1]
			broken.pinned = broken.pinned[:len(broken.pinned)-1]
			if r.careful || dependsOn(last, guilty) {
				break
			}
			r.jumped = true
		}
		if len(r.states) == 0 {
			return false, nil
		}
		r.push()
		ok, err := r.patch(broken, last)
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

func dependsOn(c *candidate, keys map[string]bool) bool {
	for _, w := range c.deps {
		if keys[w.key] {
			return true
		}
	}
	return false
}

// patch marks in the newest state what the broken one knew not to work, and its
// last pin. False: then nothing is left for some key.
func (r *resolution) patch(broken *state, last *candidate) (bool, error) {
	t := r.top()
	one := func(key string, more []*candidate) (bool, error) {
		old := t.criteria.m[key]
		if len(more) == 0 || old == nil || r.careful && len(old.reasons) == 0 {
			return true, nil
		}
		not := uniqueCandidates(append(append([]*candidate(nil), more...), old.incompatible...))
		cands, err := r.matches(key, wantsOf(old), func(k string) []*want { return wantsOf(t.criteria.m[k]) }, not)
		if err != nil || len(cands) == 0 {
			return false, err
		}
		t.criteria.m[key] = &criterion{candidates: cands, reasons: old.reasons, incompatible: not}
		return true, nil
	}
	for _, k := range broken.criteria.keys {
		if ok, err := one(k, broken.criteria.m[k].incompatible); !ok {
			return false, err
		}
	}
	return one(last.key, []*candidate{last})
}

// solution collects what is reachable from the solve's requirements.
func (r *resolution) solution(st *state, roots []*want) (*Solution, error) {
	pins := map[string]*Pin{}
	requires := map[string]map[string]bool{}
	seen := map[string]bool{}
	var visit func(key string)
	visit = func(key string) {
		c := st.pin(key)
		if key == pythonKey || seen[key] || c == nil {
			return
		}
		seen[key] = true
		base := c
		if c.base != nil {
			base = c.base
		}
		p := pins[c.Name]
		if p == nil {
			p = &Pin{Name: c.Name, Version: c.Version, Candidate: base.Candidate, Metadata: base.meta, Refused: base.refused}
			if base.bad != nil {
				p.Refused = base.bad
			}
			pins[c.Name] = p
			requires[c.Name] = map[string]bool{}
		}
		p.Extras = append(p.Extras, c.extras...)
		for _, w := range c.deps {
			if w.name != "" && w.name != c.Name {
				requires[c.Name][w.name] = true
			}
			visit(w.key)
		}
	}
	for _, w := range roots {
		visit(w.key)
	}
	for _, w := range roots {
		pins[w.name].Direct = true
	}
	s := &Solution{careful: r.careful}
	for n, p := range pins {
		p.Extras = sortedSet(p.Extras)
		for d := range requires[n] {
			p.Requires = append(p.Requires, d)
		}
		sort.Strings(p.Requires)
		s.Pins = append(s.Pins, *p)
	}
	sort.Slice(s.Pins, func(i, j int) bool { return s.Pins[i].Name < s.Pins[j].Name })
	for n := range r.projects {
		s.Asked = append(s.Asked, n)
	}
	sort.Strings(s.Asked)
	for n := range r.notices {
		s.Notices = append(s.Notices, strings.ReplaceAll(n, "\n", " "))
	}
	sort.Strings(s.Notices)
	return s, nil
}
