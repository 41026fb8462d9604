package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Each request gets an identifier and, once it is answered, one line in the log: which
// route it took, never its address, since one-time links and badges have secrets in
// theirs.

type requestKey struct{}

// withRequestID gives r an identifier of its own. What a client calls its request is
// not taken: it could be anything, and another's.
func withRequestID(r *http.Request) (*http.Request, string) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	return r.WithContext(context.WithValue(r.Context(), requestKey{}, id)), id
}

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestKey{}).(string)
	return id
}

// route is the pattern that a request was matched with, without its method.
func route(r *http.Request) string {
	p := r.Pattern
	if _, rest, ok := strings.Cut(p, " "); ok {
		p = rest
	}
	if p == "" {
		return "none"
	}
	return p
}

// ended counts a request that was answered and writes its line. What comes often and
// tells little is for the level debug.
func (s *Server) ended(r *http.Request, rec *recorder, id string, took time.Duration) {
	stream := rec.Header().Get("Content-Type") == "text/event-stream"
	s.metrics.count(r.URL.Path, rec.code, took, stream)
	level := slog.LevelInfo
	if surfaceOf(r.URL.Path) == surfaceOther {
		level = slog.LevelDebug
	}
	if rec.code >= 500 {
		level = slog.LevelError
	}
	s.opts.Log.LogAttrs(r.Context(), level, "request", slog.String("request", id), slog.String("method", method(r)), slog.String("route", route(r)),
		slog.Int("status", rec.code), slog.Int64("bytes", rec.bytes), slog.Float64("ms", float64(took.Microseconds())/1000))
}

// method is a request's method, if it is one that is used here.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
