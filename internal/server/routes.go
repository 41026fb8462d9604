package server

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/runtime"
	"hallmark/internal/store"
)

//go:embed static
var static embed.FS

// started is the time that static files carry; what the server's own program
// brings with it changes only with the program.
var started = time.Now()

// routes shows every path at a glance. A project's name begins and ends with a
// letter or digit, so that "-" is free for what is done to it.
func (s *Server) routes() http.Handler {
	// Two trees: what begins with a name of the server's own, and everything below
	// an organization. No organization can have one of those names.
	own, orgs := http.NewServeMux(), http.NewServeMux()
	own.HandleFunc("GET /{$}", s.home)
	orgs.HandleFunc("GET /{org}/{project}", s.project)
	orgs.HandleFunc("GET /{org}/{project}/artifact/{hex}", s.artifactPage)
	orgs.HandleFunc("GET /{org}/{project}/files.zip", s.filesZip)
	orgs.HandleFunc("GET /{org}/{project}/runtime.oci.tar", s.runtimeFile(runtime.FormatOCI))
	orgs.HandleFunc("GET /{org}/{project}/runtime.tar", s.runtimeFile(runtime.FormatTar))
	s.registerAPI(own) // /api/v1/…, /openapi.json

	own.HandleFunc("GET /r/{org}/{project}/pypi/simple/{$}", s.simpleIndex)
	own.HandleFunc("GET /r/{org}/{project}/pypi/simple/{name}/{$}", s.simpleProject)
	own.HandleFunc("GET /r/{org}/{project}/pypi/files/{hex}/{file}", s.simpleFile)

	own.HandleFunc("GET /evidence/{hex}", s.evidenceIndex)
	own.HandleFunc("GET /evidence/{hex}/{name}", s.evidenceFile)
	own.HandleFunc("GET /trusted_root.json", s.trustedRoot)
	own.Handle("GET /log/", http.StripPrefix("/log", s.backend.Log()))
	own.HandleFunc("GET /builder/{key}/{mode}", s.builder)
	own.HandleFunc("GET /verifier/{key}", s.verifier)
	own.HandleFunc("GET /verifier/{key}/key.pub", s.publicKey)

	own.HandleFunc("GET /static/{file}", s.static)
	own.HandleFunc("GET /healthz", s.healthz)
	own.HandleFunc("GET /metrics", s.metricsPage)
	if s.opts.Platform != nil {
		s.projectRoutes(orgs)
		s.runRoutes(own, orgs)
		own.HandleFunc("GET /badge/{org}/{file}", s.badge)
		own.HandleFunc("POST /orgs", s.post(s.postOrg))
		own.HandleFunc("GET /search", s.search)
	}
	if s.opts.Accounts != nil {
		s.memberRoutes(orgs)
		s.accountRoutes(own)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if first == "" || access.Reserved(first) {
			own.ServeHTTP(w, r)
			return
		}
		if b := r.URL.Query().Get("branch"); b != "" {
			there := r.WithContext(onLine(r.Context(), b))
			defer func() { r.Pattern = there.Pattern }() // for the request's line in the log
			orgs.ServeHTTP(w, there)
			return
		}
		orgs.ServeHTTP(w, r)
	})
}

// forgery refuses what another site's page makes a browser send (Sec-Fetch-Site,
// Origin).
var forgery = http.NewCrossOriginProtection()

// guard stands before every route: who may ask, with what, and which headers
// every answer carries.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		// Without any referrer a browser sends the Origin "null" with our own forms
		// (Fetch, 3.1), which is refused below.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		rec, began := &recorder{ResponseWriter: w}, time.Now()
		r, id := withRequestID(r)
		s.metrics.underWay.Add(1)
		defer s.metrics.underWay.Add(-1)
		h.Set("X-Request-Id", id)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.opts.Log.Error("a request failed", "route", route(r), "request", requestID(r), "panic", fmt.Sprint(p))
				if rec.code == 0 {
					s.refuse(rec, r, http.StatusInternalServerError, "Something went wrong here. It was written to the server's log.")
				}
			}
			s.ended(r, rec, id, time.Since(began))
		}()
		// A page elsewhere whose name was made to point at this machine sends
		// its own name as Host (DNS rebinding).
		if !s.hosts[hostname(r.Host)] {
			s.refuse(rec, r, http.StatusMisdirectedRequest, "This server answers only to its own names; the request was for another.")
			return
		}
		if o := r.Header.Get("Origin"); o != "" && !s.ownOrigin(o) {
			s.refuse(rec, r, http.StatusForbidden, "Requests from other sites' pages are refused.")
			return
		}
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !reads && s.opts.Platform == nil {
			h.Set("Allow", "GET, HEAD")
			s.refuse(rec, r, http.StatusMethodNotAllowed, "Nothing can be changed here: use the hallmark command.")
			return
		}
		if len(r.URL.Path) > 2048 || len(r.URL.RawQuery) > 4096 {
			s.refuse(rec, r, http.StatusRequestURITooLong, "The address is too long.")
			return
		}
		// No name here has such characters; not every database takes them.
		if !utf8.ValidString(r.URL.Path) || strings.Contains(r.URL.Path, "\x00") || strings.Contains(r.URL.RawQuery, "%00") {
			s.refuse(rec, r, http.StatusBadRequest, "The address has characters that are none.")
			return
		}
		if reads && (r.ContentLength > 0 || len(r.TransferEncoding) > 0) {
			s.refuse(rec, r, http.StatusRequestEntityTooLarge, "A GET request has no body here.")
			return
		}
		// What a browser sends because another site's page asked for it says so.
		if !reads {
			if err := forgery.Check(r); err != nil {
				s.refuse(rec, r, http.StatusForbidden, "Requests from other sites' pages are refused.")
				return
			}
		}
		a, err := s.identify(r)
		if err != nil {
			code, text := s.say(r, err)
			if code == http.StatusForbidden { // a token that is none
				code = http.StatusUnauthorized
				h.Set("WWW-Authenticate", `Basic realm="hallmark", charset="UTF-8"`)
			}
			h.Set("Cache-Control", "no-store")
			s.refuse(rec, r, code, text)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), askerKey{}, a))
		next.ServeHTTP(rec, r)
	})
}

// hostname is the name in a Host header, without port and brackets.
func hostname(host string) string {
	u := url.URL{Host: host}
	return strings.ToLower(u.Hostname())
}

// ownOrigin tells whether an Origin header is one of ours.
func (s *Server) ownOrigin(o string) bool {
	if o == s.origin {
		return true
	}
	u, err := url.Parse(o)
	if err != nil || u.Scheme != "http" {
		return false
	}
	own, err := url.Parse(s.opts.ExternalURL)
	return err == nil && s.hosts[strings.ToLower(u.Hostname())] && u.Port() == own.Port()
}

// recorder remembers the code of an answer.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int64 // of the body
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// codeOf turns the kind of an error into the status of an answer; the one place
// that does.
func codeOf(err error) int {
	switch fault.KindOf(err) {
	case fault.Usage:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Denied:
		return http.StatusForbidden
	case fault.Unverified, fault.Hostile:
		return http.StatusUnprocessableEntity
	case fault.Unavailable:
		return http.StatusBadGateway
	case fault.Unsupported:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// cutAdvice takes an error's text apart: what is wrong, and what to do about it.
func cutAdvice(text string) (problem, advice string) {
	problem, advice, _ = strings.Cut(text, "\n  ")
	return problem, advice
}

// say gives the text of an error that may leave the house: what has a kind was
// written for people, the rest is for the log.
func (s *Server) say(r *http.Request, err error) (int, string) {
	code := codeOf(err)
	if errors.Is(err, store.ErrAway) {
		s.opts.Log.Error("a request failed", "route", route(r), "request", requestID(r), "error", err)
		return code, "The database cannot be reached at the moment, which was written to the server's log.\n  Try again in a while; nothing that was committed is lost."
	}
	if code == http.StatusInternalServerError {
		if r.Context().Err() == nil {
			s.opts.Log.Error("a request failed", "route", route(r), "request", requestID(r), "error", err)
		}
		return code, "Something went wrong here. It was written to the server's log."
	}
	return code, err.Error()
}

// fail answers with an error as plain text.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, text := s.say(r, err)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, code)
}

// writeJSON answers with a document.
func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, contentType, b)
}

// write answers with bytes that are named by their digest, so that a client that
// has them need not fetch them again.
func (s *Server) write(w http.ResponseWriter, r *http.Request, contentType string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("ETag", `"`+digest.FromBytes(b).Hex()+`"`)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (s *Server) static(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.PathValue("file"))
	b, err := static.ReadFile("static/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	types := map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".js": "text/javascript; charset=utf-8"}
	s.write(w, r, types[path.Ext(name)], b)
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if _, err := s.backend.Projects(r.Context()); err != nil {
		s.opts.Log.Error("not healthy", "error", err)
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}
