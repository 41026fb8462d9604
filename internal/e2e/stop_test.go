package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/store"
)

// TestStoppedServer: asked to stop (SIGTERM) while a build runs and somebody watches
// it, a server takes nothing new, lets the watcher go, puts the build back into the
// queue and ends well, and the next one goes on with the build.
func TestStoppedServer(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	p := project{dir: t.TempDir(), data: data, env: index(t, sdist{Name: "e2e-slow", Version: "1.0", Wheel: "import time; time.sleep(300)"})}
	h := p.host(t)
	ann := h.visitor(t)
	link := strings.TrimPrefix(h.setup, h.url)
	ann.must(ann.send(link, link, url.Values{"name": {"ann"}, "password": {password}}))
	ann.must(ann.send("/", "/orgs", url.Values{"name": {"acme"}}))
	ann.must(ann.send("/acme", "/acme/-/projects", url.Values{"name": {"web"}}))
	ann.must(ann.send("/acme/web/configuration", "/acme/web/-/commit", url.Values{"requirement": {"e2e-slow"}, "build": {"1"}}))
	// run is the project's one run, as it is stored.
	run := func() store.Run {
		t.Helper()
		a, err := app.Open(t.Context(), app.Config{Data: data}, false)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		rs, err := a.Store.Runs(t.Context(), "acme", "web", 10)
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		return rs[0]
	}
	running := func() {
		t.Helper()
		for end := time.Now().Add(time.Minute); run().State != store.RunRunning; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it does not run: %+v", run())
			}
		}
	}
	running()
	time.Sleep(2 * time.Second) // into the build itself
	watched := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/acme/web/events", nil)
		if err != nil {
			watched <- err
			return
		}
		res, err := (&http.Client{Jar: ann.c.Jar}).Do(r)
		if err == nil {
			if res.StatusCode != http.StatusOK {
				err = errors.New(res.Status)
			}
			b := make([]byte, 4096)
			for err == nil {
				_, err = res.Body.Read(b)
			}
			res.Body.Close()
		}
		watched <- err
	}()
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	h.stop() // it must end well
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if err := <-watched; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who watched was not let go: %v", err)
	}
	if _, err := ann.c.Get(h.url + "/healthz"); err == nil {
		t.Error("it still answers")
	}
	if r := run(); r.State != store.RunQueued || !strings.Contains(r.Message, "what was built is kept") {
		t.Errorf("the run after the server ended: %+v", r)
	}
	p.run(t, done, "fsck")
	next := p.host(t)
	running()
	next.stop()
}
