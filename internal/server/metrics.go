package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hallmark/internal/access"
)

// Stats is what the server's operator wants to know of builds and of what is stored.
// It names no organization, project, person or package.
type Stats struct {
	Queued, Running int
	Ended           map[string]int64     // runs by outcome
	Durations       Histogram            // of runs that succeeded or failed, in seconds
	BuildSeconds    map[string]float64   // of those, by the tier of their organization
	DatabaseBytes   int64                // 0: not known
	LogEntries      int64                // under signed checkpoints
	Stored          map[string]int64     // rows by what they are: builds, evidence, …
	Keys            map[string]time.Time // by role: when the key's certificate ends
}

// Histogram counts what was seen up to each of its bounds.
type Histogram struct {
	Bounds []float64 // ascending
	Counts []int64   // of those up to the bound and above the one before; the last: above all
	Sum    float64
}

// Add counts v.
func (h *Histogram) Add(v float64) {
	if h.Counts == nil {
		h.Counts = make([]int64, len(h.Bounds)+1)
	}
	i, _ := slices.BinarySearch(h.Bounds, v)
	h.Counts[i]++
	h.Sum += v
}

// metrics counts answers by surface and class of status, since the start.
type metrics struct {
	requests [surfaces][6]atomic.Int64
	files    atomic.Int64
	bytes    atomic.Int64
	underWay atomic.Int64

	mu    sync.Mutex          // guards what follows
	took  [surfaces]Histogram // seconds
	stats Stats
	asked time.Time // when stats were asked for
	known bool      // stats are there
	begun bool      // they were asked for once, and that was answered

	first sync.Mutex // held while stats are asked for the first time; taken before mu
}

// The surfaces of the server.
const (
	surfacePages = iota
	surfaceAPI
	surfaceRegistry
	surfaceEvidence
	surfaceLog
	surfaceOther
	surfaces
)

var surfaceNames = [surfaces]string{"pages", "api", "registry", "evidence", "log", "other"}

func surfaceOf(p string) int {
	for _, c := range []struct {
		prefix  string
		surface int
	}{{"/api/", surfaceAPI}, {"/openapi", surfaceAPI}, {"/r/", surfaceRegistry}, {"/evidence/", surfaceEvidence},
		{"/trusted_root.json", surfaceEvidence}, {"/log/", surfaceLog}, {"/static/", surfaceOther}, {"/healthz", surfaceOther}, {"/metrics", surfaceOther}} {
		if strings.HasPrefix(p, c.prefix) {
			return c.surface
		}
	}
	return surfacePages
}

// latencies are the bounds of what answers take, in seconds. Streams of events last
// as long as somebody watches, and are not among them.
var latencies = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func (m *metrics) count(p string, code int, took time.Duration, stream bool) {
	s := surfaceOf(p)
	if c := code / 100; c >= 1 && c <= 5 {
		m.requests[s][c].Add(1)
	}
	if stream {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.took[s].Bounds == nil {
		m.took[s].Bounds = latencies
	}
	m.took[s].Add(took.Seconds())
}

// statsAge is how old the numbers about builds may be: anybody may ask for them, and
// they cost a few queries.
const statsAge = 10 * time.Second

// latest gives the stats, asked for anew if they are old. While one request asks, the
// others get those that there are; of a server that has just begun they wait for the
// first ones.
func (s *Server) latest(ctx context.Context) (Stats, bool) {
	if s.opts.Stats == nil {
		return Stats{}, false
	}
	m := &s.metrics
	m.mu.Lock()
	if !m.begun {
		m.mu.Unlock()
		m.first.Lock()
		defer m.first.Unlock()
		m.mu.Lock()
	}
	if time.Since(m.asked) < statsAge {
		defer m.mu.Unlock()
		return m.stats, m.known
	}
	m.asked = time.Now()
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	st, err := s.opts.Stats(ctx)
	if err != nil {
		s.opts.Log.Warn("the numbers about builds could not be read", "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.begun = err == nil, true
	if err == nil {
		m.stats = st
	}
	return m.stats, m.known
}

// exposition writes Prometheus' text format, version 0.0.4.
type exposition struct{ strings.Builder }

// family begins a metric.
func (e *exposition) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// value writes a sample; labels are pairs of name and value.
func (e *exposition) value(name string, v float64, labels ...string) {
	e.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		e.WriteByte(",{"[btoi(i == 0)])
		e.WriteString(labels[i])
		e.WriteByte('=')
		e.WriteString(strconv.Quote(labels[i+1]))
	}
	if len(labels) > 1 {
		e.WriteByte('}')
	}
	e.WriteByte(' ')
	e.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	e.WriteByte('\n')
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// histogram writes the samples of a histogram.
func (e *exposition) histogram(name string, h Histogram, labels ...string) {
	sum := int64(0)
	for i := range h.Counts {
		sum += h.Counts[i]
		le := "+Inf"
		if i < len(h.Bounds) {
			le = strconv.FormatFloat(h.Bounds[i], 'f', -1, 64)
		}
		e.value(name+"_bucket", float64(sum), append(slices.Clone(labels), "le", le)...)
	}
	e.value(name+"_sum", h.Sum, labels...)
	e.value(name+"_count", float64(sum), labels...)
}

// metricsPage gives the numbers, which name no tenant but tell how much a server is
// used, to this machine, to administrators and to a single user. A proxy's own
// address says nothing of who asks.
func (s *Server) metricsPage(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.opts.MetricsApart:
		http.NotFound(w, r)
	case s.opts.SingleUser, asks(r.Context()).Can(access.Administer, ""), s.fromHere(r):
		s.writeMetrics(w, r)
	default:
		h := w.Header()
		h.Set("WWW-Authenticate", `Bearer realm="hallmark"`)
		h.Set("Cache-Control", "no-store")
		http.Error(w, "The numbers of this server are for its operator: ask from its own machine, send an administrator's token with the scope admin, or have them served apart, with serve --metrics-listen.", http.StatusUnauthorized)
	}
}

// fromHere tells whether a request comes from this machine, as far as is known.
func (s *Server) fromHere(r *http.Request) bool {
	ip := net.ParseIP(s.address(r))
	if s.opts.BehindProxy {
		ip = forwarded(r)
	}
	return ip.IsLoopback()
}

// MetricsHandler gives the numbers to whoever reaches it, and /healthz: for a
// listener of its own.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.writeMetrics)
	mux.HandleFunc("GET /healthz", s.healthz)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	})
}

// writeMetrics answers in Prometheus' text format.
func (s *Server) writeMetrics(w http.ResponseWriter, r *http.Request) {
	var b exposition
	b.family("hallmark_http_requests_total", "counter", "Answers given, by surface and class of status.")
	for i, name := range surfaceNames {
		for c := 1; c <= 5; c++ {
			if n := s.metrics.requests[i][c].Load(); n > 0 {
				b.value("hallmark_http_requests_total", float64(n), "surface", name, "code", strconv.Itoa(c)+"xx")
			}
		}
	}
	b.family("hallmark_http_request_duration_seconds", "histogram", "How long answers took, by surface, without streams of events.")
	s.metrics.mu.Lock()
	took := s.metrics.took
	for i := range took {
		took[i].Counts = slices.Clone(took[i].Counts)
	}
	s.metrics.mu.Unlock()
	for i, name := range surfaceNames {
		if took[i].Counts != nil {
			b.histogram("hallmark_http_request_duration_seconds", took[i], "surface", name)
		}
	}
	b.family("hallmark_http_requests_under_way", "gauge", "Requests that are being answered, streams of events among them.")
	b.value("hallmark_http_requests_under_way", float64(s.metrics.underWay.Load()))
	b.family("hallmark_registry_files_total", "counter", "Files served by the registries.")
	b.value("hallmark_registry_files_total", float64(s.metrics.files.Load()))
	b.family("hallmark_registry_file_bytes_total", "counter", "Sizes of the files served by the registries, in bytes.")
	b.value("hallmark_registry_file_bytes_total", float64(s.metrics.bytes.Load()))
	b.family("hallmark_start_time_seconds", "gauge", "When the server started, seconds since 1970.")
	b.value("hallmark_start_time_seconds", float64(started.Unix()))
	if s.opts.Stats != nil {
		st, ok := s.latest(r.Context())
		b.family("hallmark_up", "gauge", "Whether the database answers: 0 or 1. Without it what follows is missing.")
		b.value("hallmark_up", float64(btoi(ok)))
		if ok {
			b.stats(st)
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, b.String())
}

// stats writes what is known of builds and of what is stored.
func (e *exposition) stats(st Stats) {
	e.family("hallmark_builds_queued", "gauge", "Builds of commits that wait.")
	e.value("hallmark_builds_queued", float64(st.Queued))
	e.family("hallmark_builds_running", "gauge", "Builds of commits that run.")
	e.value("hallmark_builds_running", float64(st.Running))
	e.family("hallmark_builds_total", "counter", "Builds of commits that have ended, by outcome. Packages of one that succeeded may have failed.")
	for _, k := range sortedNames(st.Ended) {
		e.value("hallmark_builds_total", float64(st.Ended[k]), "outcome", k)
	}
	e.family("hallmark_build_duration_seconds", "histogram", "How long builds of commits ran.")
	e.histogram("hallmark_build_duration_seconds", st.Durations)
	e.family("hallmark_build_seconds_total", "counter", "For how long builds of commits ran, by the tier of the organization.")
	for _, k := range sortedNames(st.BuildSeconds) {
		e.value("hallmark_build_seconds_total", st.BuildSeconds[k], "tier", k)
	}
	if st.DatabaseBytes > 0 {
		e.family("hallmark_database_bytes", "gauge", "Size of the database.")
		e.value("hallmark_database_bytes", float64(st.DatabaseBytes))
	}
	e.family("hallmark_log_entries", "gauge", "Entries of the transparency log under signed checkpoints.")
	e.value("hallmark_log_entries", float64(st.LogEntries))
	e.family("hallmark_stored", "gauge", "What is stored, in rows.")
	for _, k := range sortedNames(st.Stored) {
		e.value("hallmark_stored", float64(st.Stored[k]), "what", k)
	}
	e.family("hallmark_key_expiry_time_seconds", "gauge", "When the certificate of a key ends, seconds since 1970: rotate it before.")
	for _, k := range sortedNames(st.Keys) {
		e.value("hallmark_key_expiry_time_seconds", float64(st.Keys[k].Unix()), "role", k)
	}
}

func sortedNames[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
