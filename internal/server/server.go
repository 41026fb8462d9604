// Package server is Hallmark over HTTP: pages for people, an API for programs,
// registries for package managers, and the evidence for whoever wants to check.
//
// It computes nothing that a page shows: percentages, classes and reasons come
// from the status document, the same that the command prints. It offers exactly
// the files that a project's plan names. It decides nothing of who may do what:
// internal/account says who asks, internal/platform does what is asked, or not.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hallmark/internal/account"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
)

// Projects finds projects. Its methods are called for every request and from several
// goroutines.
type Projects interface {
	// Projects lists all projects as ORG/PROJECT, sorted.
	Projects(ctx context.Context) ([]string, error)
	// Project gives the head of a project: fault.NotFound if there is no such
	// project, fault.Conflict, with advice, if its head was not solved yet. It is as
	// things are now, or at least at the time that Fresh gives. What was made for pages
	// is used again as long as it is the same pointer: nobody changes what it points to.
	Project(ctx context.Context, org, name string) (*Project, error)
	// BranchesWith names the branches of a project, but the default one, whose newest
	// commit may have a file among those that it runs with. It looks at no status.
	BranchesWith(ctx context.Context, org, name string, d digest.Digest) ([]string, error)
}

// Project is what the server shows of a project's newest commit.
type Project struct {
	Document     status.Document
	Policy       policy.Policy
	PolicyDigest digest.Digest
	Requirements []string  // as asked
	AtTime       string    // the catalog's time, RFC 3339
	Created      time.Time // of the commit
	Message      string    // of the commit
	// Signed tells of which files there is evidence; nil: it is asked for each.
	Signed map[digest.Digest]bool
	// Elsewhere tells of a file of ours that is community here by what it rests on alone
	// whether a summary of ours that verifies calls it secure, as it does where what it
	// rests on is; nil: none is.
	Elsewhere func(file digest.Digest) bool
}

// Files gives the bytes of artifacts.
type Files interface {
	// Open opens a stored file for reading; fault.NotFound if it is not there.
	// What it gives is closed by the caller, and also an io.ReaderAt where the
	// store can do it.
	Open(ctx context.Context, d digest.Digest) (File, error)
}

// File is an open file.
type File interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Evidence gives signed statements.
type Evidence interface {
	// Evidence lists what is there about a subject for somebody, sorted by name; empty
	// if there is nothing. What belongs to private projects is there for their readers.
	Evidence(ctx context.Context, subject digest.Digest, may May) ([]EvidenceFile, error)
	// EvidenceFile gives the bytes of one; fault.NotFound if it is not there for
	// somebody.
	EvidenceFile(ctx context.Context, subject digest.Digest, name string, may May) ([]byte, error)
	// TrustedRoot is what cosign takes as --trusted-root.
	TrustedRoot(ctx context.Context) ([]byte, error)
	// Log serves the transparency log; paths are relative to its root.
	Log() http.Handler
}

// May tells whether somebody may have the evidence about what only a project has.
type May func(org, project string) bool

// EvidenceFile describes one signed file.
type EvidenceFile struct {
	Name          string        `json:"name"`
	PredicateType string        `json:"predicate_type"`
	Digest        digest.Digest `json:"digest"` // of the file
	LogIndex      *int64        `json:"log_index"`
	Created       time.Time     `json:"created"`
	URL           string        `json:"url"` // set by the server
}

// Identity says who signs here.
type Identity interface {
	// Builder describes the builder of a key (16 hex digits) and a mode;
	// fault.NotFound if it is not ours.
	Builder(ctx context.Context, key, mode string) (Builder, error)
	// PublicKey gives the PEM of the key (16 hex digits) that signs verification
	// summaries; fault.NotFound if it is not ours.
	PublicKey(ctx context.Context, key string) ([]byte, error)
}

// Builder is what the page behind a builder.id says.
type Builder struct {
	ID            string
	PublicKey     []byte // PEM
	Level         string // the SLSA build level that is true, such as SLSA_BUILD_LEVEL_1
	ProfileDigest string
	Profile       []byte        // the sandbox profile, canonical JSON
	Until         *time.Time    // the last moment at which it signed; nil: it still does
	Revoked       *Revoked      // nil: what it signed is believed
	Newest        *record.Facts // as read off the sandbox of its newest build; nil if there is none
}

// Revoked says since when what a key signed is not believed.
type Revoked struct {
	Since time.Time
	Why   string
}

// Limits are the facts about limits of the builder's newest build.
func (b Builder) Limits() []record.Fact {
	var out []record.Fact
	if b.Newest == nil {
		return nil
	}
	for _, f := range b.Newest.Facts {
		if strings.HasPrefix(f.Name, "limit.") {
			out = append(out, f)
		}
	}
	return out
}

// Groups tells whether control groups enforced all limits of the newest build.
func (b Builder) Groups() bool {
	for _, name := range record.LimitFacts {
		if !slices.ContainsFunc(b.Limits(), func(f record.Fact) bool { return f.Name == name && f.Holds }) {
			return false
		}
	}
	return true
}

// Backend is all that the server needs.
type Backend interface {
	Projects
	Files
	Evidence
	Identity
	Reports
	Artifacts
	Attempts
	Runtimes
}

// Builds tells how far a project's builds are, as far as it is in memory.
type Builds interface {
	// Watch gives the state of the build that changed last, false if there is none, and
	// a channel that is closed when there is something new.
	Watch(project string) (jobs.State, bool, <-chan struct{})
	// States gives the state of each build that has not ended, and of the one that ended
	// last; the one that changed last first.
	States(project string) []jobs.State
}

// Options say how to serve.
type Options struct {
	// ExternalURL is how clients reach the server, without a path; it stands in
	// pages and snippets. Its host is one of those that requests may name.
	ExternalURL string
	// SingleUser serves whoever reaches the port as the owner. Without it Accounts
	// and Platform have to be there.
	SingleUser bool
	// Accounts says who somebody is; nil for a single user.
	Accounts *account.Service
	// Platform is what is done here; nil: the server only shows.
	Platform *platform.Service
	// Builds tells how far builds are; nil: nothing is built here.
	Builds Builds
	// Catalog is what the Configuration tab searches; nil: nothing is searched.
	Catalog Catalog
	// BehindProxy trusts X-Forwarded-For as the proxy in front appends to it.
	BehindProxy bool
	// Version is shown at the foot of pages.
	Version string
	// MetricsApart has /metrics served by MetricsHandler alone, on a listener of its own.
	MetricsApart bool
	// Stats gives numbers about builds for /metrics; nil: there are none.
	Stats func(context.Context) (Stats, error)
	// Log receives a line for each request, and failures of the server's own making;
	// nil: slog.Default.
	Log *slog.Logger
}

// Server answers requests.
type Server struct {
	backend  Backend
	opts     Options
	hosts    map[string]bool // names that a request may use for us, without port
	origin   string          // scheme and host of ExternalURL
	secure   bool            // clients reach us over TLS
	own      string          // what a single user's forms are bound to
	cache    *cache
	pieces   *pieces
	heads    *heads             // nil: nobody is told of commits
	sureFor  time.Duration      // how long a watcher is believed to be who it was
	builders sync.Map           // pages of builders that are ours, as found
	watchers *heavies           // requests that watch
	runtimes *heavies           // requests that have a runtime written
	asking   singleflight.Group // what many ask at a time
	meta     *metadataCache
	metrics  metrics
	handler  http.Handler

	stopping chan struct{} // closed when Serve is asked to end
}

// New makes a server. It is fault.Unsupported without SingleUser if there are no accounts.
func New(b Backend, o Options) (*Server, error) {
	if !o.SingleUser && (o.Accounts == nil || o.Platform == nil) {
		return nil, fault.Advise(fault.Unsupported, "Start it with --single-user on your own machine.", "serve: without accounts it serves a single user only")
	}
	if o.ExternalURL == "" {
		o.ExternalURL = "http://localhost:8420"
	}
	u, err := url.Parse(strings.TrimSuffix(o.ExternalURL, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fault.New(fault.Usage, "serve: external URL %.200q: want http(s)://HOST[:PORT] and nothing behind it", o.ExternalURL)
	}
	o.ExternalURL = u.String()
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{backend: b, opts: o, origin: u.Scheme + "://" + u.Host, secure: u.Scheme == "https", own: processSecret(),
		hosts: map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, strings.ToLower(u.Hostname()): true},
		cache: newCache(), pieces: newPieces(), heads: newHeads(b), sureFor: sureFor, watchers: newWatchers(), runtimes: newRuntimes(), meta: newMetadataCache(), stopping: make(chan struct{})}
	s.handler = s.guard(s.routes())
	return s, nil
}

// ServeHTTP is http.Handler's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Listen opens addr, HOST:PORT, for Serve. The host must be a loopback address
// (fault.Denied); a port that is in use is fault.Conflict with advice.
func Listen(addr string) (net.Listener, error) {
	host, port, err := hostPort(addr)
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return nil, fault.Advise(fault.Denied, "Listen on 127.0.0.1 or ::1, give --tls-cert and --tls-key, or have a proxy that speaks TLS in front: --behind-proxy.",
			"listen on %.100q: beyond the loopback interface passwords and tokens would go over the net in the clear", addr)
	}
	return listen(addr, host, port)
}

// ListenAnywhere is Listen for any address: behind a proxy that ends TLS.
func ListenAnywhere(addr string) (net.Listener, error) {
	host, port, err := hostPort(addr)
	if err != nil {
		return nil, err
	}
	return listen(addr, host, port)
}

func hostPort(addr string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(addr); err != nil {
		return "", "", fault.New(fault.Usage, "listen on %.100q: want HOST:PORT, such as 127.0.0.1:8420", addr)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return host, port, nil
}

func listen(addr, host, port string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fault.Advise(fault.Conflict, "Another program may have the port; choose one with --listen 127.0.0.1:PORT.",
			"listen on %s: %w", addr, err)
	}
	return l, nil
}

// Serve answers requests from l until ctx ends, then lets those under way finish
// for up to five seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      10 * time.Minute, // a large wheel over a slow line
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		close(s.stopping)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := hs.Shutdown(stop); err != nil {
			hs.Close()
		}
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
