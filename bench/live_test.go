//go:build bench

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// told is one event that a watcher was sent.
type told struct {
	who        int
	kind, data string
	at         time.Time
}

// watch follows a project's events until ctx ends.
func (p *person) watch(ctx context.Context, who int, path string, to chan<- told) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.h.url+path+"/events", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Cookie", p.cookie)
	c := &http.Client{Transport: &http.Transport{}}
	res, err := c.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s/events: %d", path, res.StatusCode)
	}
	to <- told{who: who, kind: "connected", at: time.Now()}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	kind := ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "data":
			to <- told{who, kind, value, time.Now()}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(lines.Err(), errors.New("the events ended"))
}

// watched has everybody watch a project while it is built and then changed, and
// gives how long it took until the last of them was told.
func (h *hosted) watched(ctx context.Context, owner *person, all []*person, path string) ([]Row, error) {
	live, stop := context.WithCancel(ctx)
	defer stop()
	to := make(chan told, 100*len(all))
	failed := make(chan error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			if err := p.watch(live, i, path, to); err != nil {
				failed <- err
			}
		})
	}
	// until waits until everybody was told something that is so, and gives how long
	// after since that was, sorted.
	until := func(since time.Time, what string, so func(told) bool) ([]float64, error) {
		first := map[int]float64{}
		patience := time.After(30 * time.Second)
		for len(first) < len(all) {
			select {
			case e := <-to:
				if _, ok := first[e.who]; !ok && so(e) {
					first[e.who] = e.at.Sub(since).Seconds() * 1000
				}
			case err := <-failed:
				return nil, err
			case <-patience:
				return nil, fmt.Errorf("%d of %d watchers were not told of %s", len(all)-len(first), len(all), what)
			}
		}
		v := make([]float64, 0, len(first))
		for _, ms := range first {
			v = append(v, ms)
		}
		slices.Sort(v)
		return v, nil
	}
	if _, err := until(time.Now(), "the beginning", func(e told) bool { return e.kind == "connected" }); err != nil {
		return nil, err
	}
	var out []Row
	add := func(id, what string, v []float64) {
		out = append(out, Row{ID: "g-" + id, What: what, Ours: v[len(v)-1], Unit: "ms", Figure: v[len(v)-1], Bound: 1500, AtMost: true, Rounds: len(v),
			Note: fmt.Sprintf("median %.0f ms", v[len(v)/2])})
	}
	// A build of a project that is built: it begins, finds nothing to do, and ends.
	if _, _, _, err := owner.do(ctx, http.MethodGet, path, nil); err != nil { // so that its status is computed
		return nil, err
	}
	since := time.Now()
	if _, err := owner.send(ctx, path, path+"/-/build", url.Values{}); err != nil {
		return nil, err
	}
	v, err := until(since, "the build", func(e told) bool { return e.kind == "run" && !strings.Contains(e.data, `"state":"succeeded"`) })
	if err != nil {
		return nil, err
	}
	add("live-build", fmt.Sprintf("a build begins: until the last of %d watchers is told", len(all)), v)
	if _, err := until(time.Now(), "the build's end", func(e told) bool { return e.kind == "run" && strings.Contains(e.data, `"state":"succeeded"`) }); err != nil {
		return nil, err
	}
	since = time.Now()
	if _, err := owner.send(ctx, path+"/configuration", path+"/-/commit", url.Values{"on_unproven": {"built"}, "message": {"a change"}}); err != nil {
		return nil, err
	}
	v, err = until(since, "the commit", func(e told) bool { return e.kind == "head" })
	if err != nil {
		return nil, err
	}
	add("live-commit", fmt.Sprintf("a commit is made: until the last of %d watchers is told", len(all)), v)
	stop()
	wg.Wait()
	return out, nil
}
