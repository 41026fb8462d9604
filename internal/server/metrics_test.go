package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What /metrics says is Prometheus' text format, names no tenant, and stays when the
// database is away.
func TestMetrics(t *testing.T) {
	f := sample(t)
	away := false
	s, err := New(f, Options{SingleUser: true, Log: slog.New(slog.DiscardHandler), Stats: func(context.Context) (Stats, error) {
		if away {
			return Stats{}, errors.New("away")
		}
		h := Histogram{Bounds: []float64{1, 60}}
		for _, v := range []float64{0.5, 1, 30, 3600} {
			h.Add(v)
		}
		return Stats{Queued: 2, Running: 1, Ended: map[string]int64{"succeeded": 3, "failed": 1}, Durations: h, BuildSeconds: map[string]float64{"free": 1.5, "team": 3630},
			DatabaseBytes: 4096, LogEntries: 12, Stored: map[string]int64{"builds": 9}, Keys: map[string]time.Time{"timestamp": time.Unix(2e9, 0)}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	defer ts.Close()
	get := func(path string) string {
		res, err := http.Get(ts.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	get("/acme/web")
	text := get("/metrics")
	for _, want := range []string{
		`hallmark_http_request_duration_seconds_count{surface="pages"} 1`, `hallmark_up 1`, `hallmark_builds_queued 2`, `hallmark_builds_running 1`,
		`hallmark_builds_total{outcome="failed"} 1`, `hallmark_build_duration_seconds_bucket{le="1"} 2`, `hallmark_build_duration_seconds_bucket{le="60"} 3`,
		`hallmark_build_duration_seconds_bucket{le="+Inf"} 4`, `hallmark_build_duration_seconds_count 4`, `hallmark_build_seconds_total{tier="team"} 3630`,
		`hallmark_database_bytes 4096`, `hallmark_log_entries 12`, `hallmark_stored{what="builds"} 9`, `hallmark_key_expiry_time_seconds{role="timestamp"} 2000000000`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [0-9.+-]+)$`)
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if !line.MatchString(l) {
			t.Errorf("not a line of the format: %q", l)
		}
	}
	for _, tenant := range []string{"acme", "web", "flask"} {
		if strings.Contains(text, tenant) {
			t.Errorf("it tells of %q", tenant)
		}
	}
	away = true
	s.metrics.mu.Lock()
	s.metrics.asked = time.Time{}
	s.metrics.mu.Unlock()
	if text := get("/metrics"); !strings.Contains(text, "hallmark_up 0\n") || strings.Contains(text, "hallmark_builds_queued") || !strings.Contains(text, "hallmark_http_requests_total") {
		t.Errorf("with the database away:\n%s", text)
	}
}

// Two that ask a server that has just begun are both told the numbers.
func TestFirstMetrics(t *testing.T) {
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	s, err := New(sample(t), Options{SingleUser: true, Log: slog.New(slog.DiscardHandler), Stats: func(context.Context) (Stats, error) {
		asked <- struct{}{}
		<-answer
		return Stats{Queued: 2}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	known := make(chan bool)
	ask := func() {
		st, ok := s.latest(t.Context())
		known <- ok && st.Queued == 2
	}
	go ask()
	<-asked
	go ask()
	select {
	case <-known:
		t.Fatal("the second is told that there are none")
	case <-time.After(50 * time.Millisecond):
	}
	close(answer)
	for range 2 {
		if !<-known {
			t.Error("one is told that there are none")
		}
	}
}

// Each request is one line with its route, and none of what may be secret in its
// address.
func TestRequestLines(t *testing.T) {
	var b bytes.Buffer
	s, err := New(sample(t), Options{SingleUser: true, Log: slog.New(slog.NewJSONHandler(&b, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, path := range []string{"/acme/web?token=SECRET", "/acme/web?branch=SECRET", "/link/SECRET", "/api/v1/projects/acme/web/status?key=SECRET", "/SECRET/SECRET/SECRET/SECRET", "/healthz?SECRET"} {
		b.Reset()
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if len(id) != 16 || ids[id] {
			t.Errorf("%s: request %q", path, id)
		}
		ids[id] = true
		if strings.Contains(b.String(), "SECRET") {
			t.Errorf("%s: %s", path, b.String())
		}
		if strings.HasPrefix(path, "/healthz") {
			if b.Len() > 0 {
				t.Errorf("a line for a check of health: %s", b.String())
			}
			continue
		}
		var l struct {
			Request, Method, Route string
			Status                 int
			MS                     *float64
		}
		if err := json.Unmarshal(b.Bytes(), &l); err != nil || l.Request != id || l.Method != "GET" || l.Status != w.Code || l.Route == "" || l.MS == nil {
			t.Errorf("%s: %s (%v)", path, b.String(), err)
		}
		if strings.HasPrefix(path, "/acme/web?") && l.Route != "/{org}/{project}" {
			t.Errorf("%s took the route %q", path, l.Route)
		}
	}
}
