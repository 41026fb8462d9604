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

	"hallmark/internal/account"
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

// The numbers are for this machine, administrators and a single user, and where they
// are served apart for whoever reaches that.
func TestWhoSeesMetrics(t *testing.T) {
	w := newWorks(t, nil)
	accounts, err := account.New(w.rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	make_ := func(o Options) *Server {
		t.Helper()
		o.Accounts, o.Platform, o.Log = accounts, w.Service, slog.New(slog.DiscardHandler)
		s, err := New(w.f, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	asks := func(h http.Handler, from string, headers ...string) int {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host, r.RemoteAddr = "localhost", from
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code == http.StatusOK != strings.Contains(rec.Body.String(), "hallmark_http_requests_under_way") {
			t.Errorf("%d says %s", rec.Code, rec.Body)
		}
		return rec.Code
	}
	const here, there = "127.0.0.1:4711", "192.0.2.7:4711"
	direct, behind, apart := make_(Options{}), make_(Options{BehindProxy: true, ExternalURL: "https://localhost"}), make_(Options{MetricsApart: true})
	for i, c := range []struct {
		h       http.Handler
		from    string
		headers []string
		want    int
	}{
		{direct, here, nil, 200}, {direct, "[::1]:4711", nil, 200}, {direct, there, nil, 401}, {direct, "", nil, 401},
		{direct, there, []string{"X-Forwarded-For", "127.0.0.1"}, 401}, {direct, there, []string{"Authorization", "Bearer none"}, 401},
		{behind, here, nil, 401}, {behind, here, []string{"X-Forwarded-For", "192.0.2.7"}, 401}, {behind, here, []string{"X-Forwarded-For", "127.0.0.1, 192.0.2.7"}, 401},
		{behind, here, []string{"X-Forwarded-For", "192.0.2.7, 127.0.0.1"}, 200}, {behind, here, []string{"X-Forwarded-For", "nonsense"}, 401},
		{apart, here, nil, 404}, {apart.MetricsHandler(), there, nil, 200}, {w.Config.Handler, there, nil, 200},
	} {
		if got := asks(c.h, c.from, c.headers...); got != c.want {
			t.Errorf("%d: from %s with %v: %d, want %d", i, c.from, c.headers, got, c.want)
		}
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
