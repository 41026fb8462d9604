package server

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/jobs"
	"hallmark/internal/store"
)

// Who watches a build, or a project, is told no more of it once they signed out.
func TestWatchersWhoSignedOut(t *testing.T) {
	s := newScript()
	w := newWorks(t, s.build)
	s.set("six first running")
	id := w.run()
	p := <-s.begun
	accounts, err := account.New(w.rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	by := store.By{Actor: "test", Via: "test", At: time.Now()}
	ann := store.User{ID: account.NewID(), Name: "ann", Created: by.At}
	if err := w.rows.CreateUser(ctx, ann, by); err != nil {
		t.Fatal(err)
	}
	if err := w.rows.SetMember(ctx, store.Member{Org: "acme", User: ann.ID, Role: string(access.Owner), Created: by.At}, by); err != nil {
		t.Fatal(err)
	}
	hosted, err := New(w.f, Options{ExternalURL: w.URL, Accounts: accounts, Platform: w.Service, Builds: w.queue})
	if err != nil {
		t.Fatal(err)
	}
	hosted.sureFor = 20 * time.Millisecond
	ts := httptest.NewServer(hosted)
	defer ts.Close()
	for _, path := range []string{"/acme/web/builds/" + id + "/events", "/api/v1/projects/acme/web/runs/" + id + "/events", "/acme/web/events"} {
		cookie, err := accounts.Begin(ctx, ann, "", "")
		if err != nil {
			t.Fatal(err)
		}
		ask, cancel := context.WithTimeout(ctx, time.Minute)
		req, err := http.NewRequestWithContext(ask, http.MethodGet, ts.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.AddCookie(&http.Cookie{Name: hosted.cookieName(), Value: cookie})
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, res.Status)
		}
		if err := accounts.SignOut(ctx, access.Principal{User: ann.ID, Name: ann.Name}, cookie, ""); err != nil {
			t.Fatal(err)
		}
		// The build goes on, and its watchers are woken again and again.
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					p.Doing([]jobs.Doing{{PURL: "pkg:pypi/six@1.0"}})
				}
			}
		}()
		sc := bufio.NewScanner(res.Body)
		for sc.Scan() {
		}
		if ask.Err() != nil {
			t.Errorf("%s: a minute after signing out it goes on", path)
		}
		close(stop)
		res.Body.Close()
		cancel()
	}
	s.end <- nil
}
