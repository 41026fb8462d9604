package debian

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Config tells a Client where packages come from. The zero value takes all of
// it from the machine's apt.
type Config struct {
	// Sources in place of apt's own. Risk: none to integrity, since the index
	// must be signed and each file has a digest.
	Sources []Source
	// Keyrings are files of keys to check the index with, in place of the
	// source's Signed-By and Debian's own keyring. Risk: whoever holds one of
	// these keys decides what the seed is.
	Keyrings []string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Attempts is how often a file is asked for before giving up; 4 if zero.
	Attempts int
}

// Sink takes files by digest: it reads all of r, fails if the bytes are not
// those of want or more than limit, keeps nothing then, and gives the size.
type Sink interface {
	Put(ctx context.Context, r io.Reader, want digest.Digest, limit int64) (int64, error)
	Has(want digest.Digest) bool
}

// Client reads from the archive that apt is configured for. It is safe for use
// by several goroutines.
type Client struct {
	cfg     Config
	apt     aptConfig
	sources []Source
	auth    []credential
	http    *http.Client
	indexes sourceIndexes
}

// NewClient reads apt's configuration: sources, keyrings, proxies, certificate
// authorities, credentials. It opens no connection.
func NewClient(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 4
	}
	c := &Client{cfg: cfg, sources: cfg.Sources, apt: aptConfig{}}
	if apt, err := loadAptConfig(ctx); err == nil {
		c.apt = apt
	} else if len(cfg.Sources) == 0 {
		return nil, err
	}
	if len(cfg.Sources) == 0 {
		s, err := loadSources(c.apt)
		if err != nil {
			return nil, fault.New(fault.Unsupported, "%w", err)
		}
		c.sources = s
	}
	c.auth = loadAuth(c.apt)
	tr := &http.Transport{Proxy: c.proxy, MaxIdleConnsPerHost: 8, ResponseHeaderTimeout: 60 * time.Second,
		TLSHandshakeTimeout: 30 * time.Second, IdleConnTimeout: 60 * time.Second, DisableCompression: true}
	// apt's own authorities, where it names them; verification itself cannot be
	// switched off here, even if apt has it off.
	if ca := c.apt.get("Acquire::https::CAInfo"); ca != "" {
		b, err := readLimited(ca, maxKeyring)
		if err != nil {
			return nil, fault.New(fault.Unsupported, "reading apt's certificate authorities (Acquire::https::CAInfo): %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fault.New(fault.Unsupported, "reading apt's certificate authorities (Acquire::https::CAInfo): no certificate in %s", ca)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if crt, key := c.apt.get("Acquire::https::SslCert"), c.apt.get("Acquire::https::SslKey"); crt != "" {
		if key == "" {
			key = crt
		}
		pair, err := tls.LoadX509KeyPair(crt, key)
		if err != nil {
			return nil, fault.New(fault.Unsupported, "reading apt's client certificate (Acquire::https::SslCert): %w", err)
		}
		if tr.TLSClientConfig == nil {
			tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		tr.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	c.http = &http.Client{Transport: tr}
	return c, nil
}

// proxy follows apt: by host, by scheme, then the environment's variables.
func (c *Client) proxy(r *http.Request) (*url.URL, error) {
	host := r.URL.Hostname()
	keys := []string{"Acquire::" + r.URL.Scheme + "::Proxy::" + host, "Acquire::" + r.URL.Scheme + "::Proxy"}
	if r.URL.Scheme == "https" {
		// apt falls back to the proxy for plain connections.
		keys = append(keys, "Acquire::http::Proxy::"+host, "Acquire::http::Proxy")
	}
	for _, k := range keys {
		switch v := c.apt.get(k); {
		case v == "":
		case strings.EqualFold(v, "DIRECT"), strings.EqualFold(v, "false"):
			return nil, nil
		default:
			if !strings.Contains(v, "://") {
				v = "http://" + v
			}
			return url.Parse(v)
		}
	}
	return http.ProxyFromEnvironment(r)
}

// sourcesOf gives the sources of a suite, or an error that says where was looked.
func (c *Client) sourcesOf(suite, component, arch string) ([]Source, error) {
	s := sourcesFor(c.sources, suite, component, arch)
	if len(s) == 0 {
		return nil, fault.Advise(fault.NotFound, fmt.Sprintf("Add a source for suite %s, component %s to apt's configuration (for a mirror of your own: its address, and Signed-By Debian's keyring).", suite, component),
			"looking for suite %s, component %s, architecture %s among the %d sources that apt is configured for: none is for it", suite, component, arch, len(c.sources))
	}
	return s, nil
}

// debianKeyring is where Debian's package debian-archive-keyring puts its keys.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// keyring gives the keys that may sign a source's index.
func (c *Client) keyring(s Source) (*Keyring, error) {
	if len(c.cfg.Keyrings) > 0 {
		return ReadKeyrings(c.cfg.Keyrings...)
	}
	if len(s.Key) > 0 {
		return ParseKeyring(s.Key)
	}
	var files, fingerprints []string
	for _, v := range s.SignedBy {
		if filepath.IsAbs(v) {
			files = append(files, v)
		} else {
			fingerprints = append(fingerprints, strings.ToUpper(v))
		}
	}
	if len(files) == 0 {
		if _, err := os.Stat(debianKeyring); err == nil {
			files = append(files, debianKeyring)
		} else {
			files, _ = filepath.Glob(filepath.Join(c.apt.path("Dir::Etc::trustedparts", "trusted.gpg.d"), "debian-archive-*"))
		}
	}
	if len(files) == 0 {
		return nil, fault.Advise(fault.Unsupported, "Install the package debian-archive-keyring.", "looking for Debian's keyring: there is none on this machine")
	}
	k, err := ReadKeyrings(files...)
	if err != nil {
		return nil, err
	}
	return k.only(fingerprints), nil
}

// Resolve fetches the signed index of the roots' suite, checks it, and resolves
// the roots. The evidence is what it was resolved from; it is to be kept.
func (c *Client) Resolve(ctx context.Context, roots Roots) (Pin, Evidence, error) {
	sources, err := c.sourcesOf(roots.Suite, roots.Component, roots.Arch)
	if err != nil {
		return Pin{}, Evidence{}, err
	}
	var failed []error
	for _, s := range sources {
		pin, ev, err := c.resolveAt(ctx, s, roots)
		if err == nil {
			return pin, ev, nil
		}
		// Only a source that does not answer makes room for the next one; one
		// that answers wrongly is an error.
		if !fault.Is(err, fault.Unavailable) {
			return Pin{}, Evidence{}, err
		}
		failed = append(failed, err)
	}
	return Pin{}, Evidence{}, fault.New(fault.Unavailable, "resolving seed %s: %w", roots.Name, errors.Join(failed...))
}

func (c *Client) resolveAt(ctx context.Context, s Source, roots Roots) (Pin, Evidence, error) {
	keys, err := c.keyring(s)
	if err != nil {
		return Pin{}, Evidence{}, err
	}
	var ev Evidence
	dists := "dists/" + s.Suite
	if ev.InRelease, err = c.get(ctx, s, dists+"/InRelease", maxInRelease); err != nil {
		return Pin{}, Evidence{}, err
	}
	rel, err := OpenRelease(ev.InRelease, keys, c.cfg.Now())
	if err != nil {
		return Pin{}, Evidence{}, err
	}
	if err := rel.serves(roots); err != nil {
		return Pin{}, Evidence{}, err
	}
	_, b, err := c.listed(ctx, s, rel, indexPaths(roots.Component, roots.Arch))
	if err != nil {
		return Pin{}, Evidence{}, fmt.Errorf("resolving seed %s for %s on %s: %w", roots.Name, roots.Component, roots.Arch, err)
	}
	ev.Packages = b
	pin, err := ResolveFrom(ev, roots, keys, c.cfg.Now())
	return pin, ev, err
}

// listed reads the first of the indexes that InRelease lists and the source has, by
// its digest.
func (c *Client) listed(ctx context.Context, s Source, rel *Release, paths []string) (name string, b []byte, err error) {
	dists := "dists/" + s.Suite
	err = fault.New(fault.NotFound, "InRelease of suite %s lists no %s", s.Suite, strings.Join(paths, ", "))
	for _, p := range paths {
		f, ok := rel.Files[p]
		if !ok || f.Size > maxIndex {
			continue
		}
		names := []string{dists + "/" + p}
		if rel.ByHash { // never torn by an update of the mirror in between
			names = append([]string{dists + "/" + path.Dir(p) + "/by-hash/SHA256/" + f.SHA256}, names...)
		}
		for _, n := range names {
			var b []byte
			if b, err = c.get(ctx, s, n, f.Size); err != nil {
				continue
			}
			if got := digest.FromBytes(b); got.Hex() != f.SHA256 {
				err = fault.New(fault.Unverified, "fetching %s: want sha256:%s, got %s (%d bytes)", n, f.SHA256, got, len(b))
				continue
			}
			return p, b, nil
		}
	}
	return "", nil, err
}

// get reads a small file whole.
func (c *Client) get(ctx context.Context, s Source, name string, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	err := c.try(ctx, func() error {
		buf.Reset()
		r, err := c.open(ctx, s, name)
		if err != nil {
			return err
		}
		defer r.Close()
		n, err := io.Copy(&buf, io.LimitReader(r, limit+1))
		if err != nil {
			return fault.New(fault.Unavailable, "fetching %s: after %d bytes: %w", name, n, err)
		}
		if n > limit {
			return fault.New(fault.Hostile, "fetching %s: more than %d bytes", name, limit)
		}
		return nil
	})
	return buf.Bytes(), err
}

// try repeats what failed for want of an answer, with growing pauses.
func (c *Client) try(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || !fault.Is(err, fault.Unavailable) || n >= c.cfg.Attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Duration(1<<n) * 250 * time.Millisecond):
		}
	}
}

// open starts reading a file below a source's address.
func (c *Client) open(ctx context.Context, s Source, name string) (io.ReadCloser, error) {
	if s.URI.Scheme == "file" || s.URI.Scheme == "copy" {
		f, err := os.Open(filepath.Join(s.URI.Path, filepath.FromSlash(name)))
		if os.IsNotExist(err) {
			return nil, fault.New(fault.NotFound, "fetching %s: %w", name, err)
		}
		return f, err
	}
	u := s.URI.JoinPath(strings.Split(strings.ReplaceAll(name, "%", "%25"), "/")...)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: a request for it cannot be made", name)
	}
	req.Header.Set("User-Agent", "hallmark")
	for _, a := range c.auth {
		if req.URL.User == nil && a.matches(req.URL) {
			req.SetBasicAuth(a.user, a.password)
			break
		}
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("fetching %s: %w", name, ctx.Err())
		}
		return nil, fault.New(fault.Unavailable, "fetching %s from %s: %w", name, u.Redacted(), unwrapURL(err))
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone:
		return nil, fault.New(fault.NotFound, "fetching %s from %s: %s", name, u.Redacted(), res.Status)
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout:
		return nil, fault.New(fault.Unavailable, "fetching %s from %s: %s", name, u.Redacted(), res.Status)
	}
	return nil, fault.New(fault.Denied, "fetching %s from %s: %s", name, u.Redacted(), res.Status)
}

// unwrapURL drops the outer error of net/http, which repeats the address with
// any password in it.
func unwrapURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// Fetch puts one package into sink, its digest and size checked while reading.
// A package that sink has is not asked for.
func (c *Client) Fetch(ctx context.Context, pin Pin, p Package, sink Sink) error {
	if err := p.check(); err != nil {
		return fault.New(fault.Hostile, "fetching a package: %w", err)
	}
	if sink.Has(p.Digest()) {
		return nil
	}
	sources, err := c.sourcesOf(pin.Suite, pin.Component, pin.Arch)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range sources {
		err = c.put(ctx, s, p.Path, p.String(), p.Digest(), p.Size, sink)
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	err = errors.Join(failed...)
	if fault.Is(err, fault.NotFound) {
		return fault.Advise(fault.NotFound, "The archive drops a version when a newer one is released: run `hallmark seed update` for a new pin, or configure a source that keeps old versions.",
			"fetching %s: no configured source has it: %w", p, err)
	}
	return err
}

// Progress is told after each package that is there: how many packages and
// bytes of all, and which came last. It is called by one goroutine at a time.
type Progress func(done, total int, bytes, totalBytes int64, last Package)

// FetchAll puts all packages of a pin into sink, workers at a time (4 if zero).
func (c *Client) FetchAll(ctx context.Context, pin Pin, sink Sink, workers int, progress Progress) error {
	if workers <= 0 {
		workers = 4
	}
	var (
		mu    sync.Mutex // guards done and bytes, and serialises progress
		done  int
		bytes int64
		total = pin.Size()
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, p := range pin.Packages {
		g.Go(func() error {
			if err := c.Fetch(ctx, pin, p, sink); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done, bytes = done+1, bytes+p.Size
			if progress != nil {
				progress(done, len(pin.Packages), bytes, total, p)
			}
			return nil
		})
	}
	return g.Wait()
}
