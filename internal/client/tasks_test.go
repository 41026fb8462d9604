package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/seed"
)

// answering is a client of a server that answers as told; it is a single user's, so
// that no form token is asked for twice.
func answering(t *testing.T, mux *http.ServeMux) *Client {
	t.Helper()
	mux.HandleFunc("GET /api/v1/whoami", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Whoami{SingleUser: true, FormToken: "x", Memberships: []api.Membership{}})
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	c, err := New(ts.URL, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func says(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

// A stream is written as it comes; one that is refused or cut off is an error.
func TestStream(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /acme/web/runtime.tar", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "html") {
			t.Error("it asks for a page")
		}
		_, _ = w.Write([]byte("whole"))
	})
	mux.HandleFunc("GET /acme/web/runtime.oci.tar", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("part"))
	})
	mux.HandleFunc("GET /acme/none/runtime.tar", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a secure artifact\n  Ask for another tier.", http.StatusForbidden)
	})
	c := answering(t, mux)
	var b bytes.Buffer
	if err := c.Runtime(t.Context(), "acme/web", "tar", &b); err != nil || b.String() != "whole" {
		t.Errorf("%q, %v", b.String(), err)
	}
	wantKind(t, c.Runtime(t.Context(), "acme/web", "oci.tar", &b), fault.Unavailable)
	err := c.Runtime(t.Context(), "acme/none", "tar", &b)
	wantKind(t, err, fault.Denied)
	if !strings.Contains(err.Error(), "Ask for another tier.") {
		t.Errorf("the refusal says %v", err)
	}
	wantKind(t, c.Runtime(t.Context(), "../x", "tar", &b), fault.Usage)
}

// Overrides are those that the commit names, or none.
func TestOverridesOfACommit(t *testing.T) {
	list := []plan.PackageOverrides{{Name: "six", Entries: []plan.VersionOverride{{Change: plan.Override{Origin: plan.OriginProject,
		Environment: []plan.Setting{{Name: "X", Values: []string{"1"}, Why: "w"}}}}}}}
	id, err := pypi.OverridesID(list)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/projects/acme/web/overrides", says(map[string]any{"overrides": list}))
	c := answering(t, mux)
	if got, err := c.Overrides(t.Context(), "acme/web", api.Commit{ID: "commit:" + id.String(), Overrides: id}); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Overrides(t.Context(), "acme/web", api.Commit{}); err != nil || got != nil {
		t.Errorf("of none: %+v, %v", got, err)
	}
	_, err = c.Overrides(t.Context(), "acme/web", api.Commit{ID: "commit:x\x1b[2J", Overrides: digest.FromBytes([]byte("other"))})
	wantKind(t, err, fault.Hostile)
	if strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the error is not clean: %q", err)
	}
}

// A candidate for the seed is the one that its pin is of.
func TestSeedCandidateIsWhatItSays(t *testing.T) {
	give := api.SeedCandidate{Candidate: digest.FromBytes([]byte("other")), Pin: seed.Bookworm}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/seed/candidates", func(w http.ResponseWriter, r *http.Request) { says(give)(w, r) })
	c := answering(t, mux)
	_, err := c.SeedCandidate(t.Context())
	wantKind(t, err, fault.Hostile)
	give.Pin = []byte("{}")
	_, err = c.SeedCandidate(t.Context())
	wantKind(t, err, fault.Hostile)
}

// A check of the data directory is followed to its end; one that is forgotten is told,
// and one that nobody waits for any more is ended.
func TestInspect(t *testing.T) {
	end := time.Now()
	asked, ended := 0, make(chan struct{})
	now := api.Inspection{ID: "one", State: "waiting"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/inspection", func(w http.ResponseWriter, r *http.Request) { says(now)(w, r) })
	mux.HandleFunc("GET /api/v1/inspection", func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			now.State, now.Ended, now.Found = "done", &end, []api.Damage{{Where: "x", Message: "y"}}
		}
		says(now)(w, r)
	})
	mux.HandleFunc("DELETE /api/v1/inspection", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		close(ended)
	})
	c := answering(t, mux)
	told := 0
	if v, err := c.Inspect(t.Context(), false, func(api.Inspection) { told++ }); err != nil || v.State != "done" || len(v.Found) != 1 || told != 1 {
		t.Errorf("%+v, told %d times, %v", v, told, err)
	}
	now.Ended, now.State = nil, "running"
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Inspect(ctx, false, func(api.Inspection) { cancel() })
	if err == nil {
		t.Error("it goes on without anybody")
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it is not ended")
	}
	begin := now
	begin.ID = "two"
	other := http.NewServeMux()
	other.HandleFunc("POST /api/v1/inspection", says(begin))
	other.HandleFunc("GET /api/v1/inspection", says(now))
	_, err = answering(t, other).Inspect(t.Context(), true, func(api.Inspection) {})
	wantKind(t, err, fault.Unavailable)
}
