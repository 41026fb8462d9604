package pypi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

const (
	acceptSimple   = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
	userAgent      = "hallmark"
	maxRedirects   = 10
	maxConnections = 8 // at a time
	retryPause     = 250 * time.Millisecond
)

// Cache keeps small answers between runs, by a key that names their content. A
// Client works without one. Both methods may be called concurrently; a failing
// cache behaves as an empty one.
type Cache interface {
	Get(key string) ([]byte, bool)
	Put(key string, value []byte)
}

// Client asks indexes. It is safe for concurrent use and asks for each project's
// page once.
type Client struct {
	// Cache, if set, keeps the metadata of wheels by the wheel's digest. Set it
	// before the first call.
	Cache Cache

	cfg    Config
	http   *http.Client
	logins map[string]login
	slots  chan struct{}
	flight singleflight.Group

	mu    sync.Mutex
	pages map[string]*Page // guarded by mu
}

// NewClient makes a client for the configured indexes. Errors are about files
// that the configuration names: certificates, netrc.
func NewClient(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, slots: make(chan struct{}, maxConnections), pages: map[string]*Page{}, logins: map[string]login{}}
	if cfg.Timeout <= 0 {
		c.cfg.Timeout = 15 * time.Second
	}
	tc, err := tlsConfig(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Netrc != "" {
		if b, err := readConfigFile(cfg.Netrc, maxNetrcBytes); err == nil {
			c.logins = parseNetrc(string(b))
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("reading the netrc file: %w", err)
		}
	}
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tc,
		DialContext:         (&net.Dialer{Timeout: c.cfg.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: c.cfg.Timeout, ResponseHeaderTimeout: c.cfg.Timeout,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxConnections, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
	if cfg.Proxy != nil {
		base.Proxy = http.ProxyURL(cfg.Proxy)
	}
	loose := base.Clone()
	loose.TLSClientConfig.InsecureSkipVerify = true // only for hosts that pip is told to trust
	c.http = &http.Client{
		Transport: &trustTransport{client: c, strict: base, loose: loose},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return errors.New("too many redirects")
			}
			return nil // trustTransport refuses a change to plain http
		},
	}
	return c, nil
}

// Config gives the configuration that the client was made with.
func (c *Client) Config() Config { return c.cfg }

func readConfigFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.Cert != "" {
		pool := x509.NewCertPool()
		files := []string{cfg.Cert}
		if st, err := os.Stat(cfg.Cert); err == nil && st.IsDir() {
			files, _ = filepath.Glob(filepath.Join(cfg.Cert, "*"))
		}
		found := false
		for _, f := range files {
			b, err := readConfigFile(f, 32<<20)
			if err != nil {
				return nil, fault.New(fault.Usage, "pip's setting cert: %w", err)
			}
			found = pool.AppendCertsFromPEM(b) || found
		}
		if !found {
			return nil, fault.New(fault.Usage, "pip's setting cert: no certificate in %s", cfg.Cert)
		}
		tc.RootCAs = pool
	}
	if cfg.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.ClientCert, cfg.ClientCert)
		if err != nil {
			return nil, fault.New(fault.Usage, "pip's setting client-cert: %w", err)
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	return tc, nil
}

// trustTransport applies pip's rules on which hosts may be spoken to how: https
// with verification, or anything with a trusted host or the machine itself.
type trustTransport struct {
	client        *Client
	strict, loose http.RoundTripper
}

// RoundTrip is http.RoundTripper's.
func (t *trustTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	trusted := t.client.trusts(r.URL)
	switch {
	case r.URL.Scheme == "https" && trusted:
		return t.loose.RoundTrip(r)
	case r.URL.Scheme == "https":
		return t.strict.RoundTrip(r)
	case r.URL.Scheme == "http" && (trusted || isLoopback(r.URL.Hostname())):
		return t.strict.RoundTrip(r)
	}
	return nil, errInsecure
}

var errInsecure = errors.New("refused to speak without TLS to a host that pip's setting trusted-host does not name")

func (c *Client) trusts(u *url.URL) bool {
	for _, h := range c.cfg.TrustedHosts {
		if strings.EqualFold(h, u.Host) || strings.EqualFold(strings.Trim(h, "[]"), u.Hostname()) {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// authorize gives a request the credentials of the index that its address lies
// under, else those of netrc.
func (c *Client) authorize(r *http.Request) {
	if r.URL.User != nil {
		p, _ := r.URL.User.Password()
		r.SetBasicAuth(r.URL.User.Username(), p)
		r.URL.User = nil
		return
	}
	for _, ix := range c.cfg.Indexes {
		if ix.URL.User != nil && ix.URL.Host == r.URL.Host && ix.URL.Scheme == r.URL.Scheme {
			p, _ := ix.URL.User.Password()
			r.SetBasicAuth(ix.URL.User.Username(), p)
			return
		}
	}
	l, ok := c.logins[r.URL.Hostname()]
	if !ok {
		l, ok = c.logins[""]
	}
	if ok {
		r.SetBasicAuth(l.user, l.password)
	}
}

// do sends a GET, again if the other side does not answer or says that it
// cannot now. what says what for, without an address. The caller closes the
// body; statuses other than the 5xx are the caller's to judge.
func (c *Client) do(ctx context.Context, u *url.URL, header http.Header, what string) (*http.Response, error) {
	var last error
	for try := 0; ; try++ {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		resp, err := c.once(ctx, u, header)
		switch {
		case err == nil && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
			resp.Body = &slotBody{ReadCloser: resp.Body, release: sync.OnceFunc(func() { <-c.slots })}
			return resp, nil
		case err == nil:
			resp.Body.Close()
			last = fmt.Errorf("it answered %s", resp.Status)
		default:
			last = scrub(err)
		}
		<-c.slots
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		if try >= c.cfg.Retries || errors.Is(err, errInsecure) {
			return nil, fault.Advise(fault.Unavailable, "Check the network and pip's configuration (pip config list), then try again.",
				"%s: %w", what, last)
		}
		select {
		case <-time.After(min(retryPause<<try, 10*time.Second)):
		case <-ctx.Done():
		}
	}
}

func (c *Client) once(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	// The deadline is on progress, not on the whole: a slow large file may come.
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("User-Agent", userAgent)
	c.authorize(r)
	resp, err := c.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	stall := c.cfg.Timeout
	resp.Body = &stallBody{ReadCloser: resp.Body, cancel: cancel, limit: stall,
		timer: time.AfterFunc(stall, func() { cancel(errStalled) })}
	return resp, nil
}

var errStalled = errors.New("the answer stopped coming")

// stallBody gives up when nothing was read for a while.
type stallBody struct {
	io.ReadCloser
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

func (b *stallBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Reset(b.limit)
	return n, err
}

func (b *stallBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// slotBody gives its connection slot back when closed.
type slotBody struct {
	io.ReadCloser
	release func()
}

func (b *slotBody) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// scrub takes the address out of an error, since it may hold credentials.
func scrub(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Page gives the page of a project as the first index that owns the name has it
// now. fault.NotFound: no index has it.
func (c *Client) Page(ctx context.Context, name string) (*Page, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	name = NormalizeName(name)
	for {
		c.mu.Lock()
		p := c.pages[name]
		c.mu.Unlock()
		if p != nil {
			return p, nil
		}
		ch := c.flight.DoChan(name, func() (any, error) {
			p, err := c.fetchPage(ctx, name)
			if err == nil {
				c.mu.Lock()
				c.pages[name] = p
				c.mu.Unlock()
			}
			return p, err
		})
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("asking the index about %s: %w", name, ctx.Err())
		case r := <-ch:
			if r.Err == nil {
				return r.Val.(*Page), nil
			}
			ended := errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, context.DeadlineExceeded)
			if ended && fault.KindOf(r.Err) == "" && ctx.Err() == nil {
				continue // another caller's context ended, not ours
			}
			return nil, r.Err
		}
	}
}

func (c *Client) fetchPage(ctx context.Context, name string) (*Page, error) {
	if len(c.cfg.Indexes) == 0 {
		return nil, fault.New(fault.Unsupported, "asking about %s: pip has no index configured", name)
	}
	for _, ix := range c.cfg.Indexes {
		p, err := c.fetchFrom(ctx, ix, name)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		return p, err
	}
	return nil, fault.New(fault.NotFound, "no index has a package named %s", name)
}

func (c *Client) fetchFrom(ctx context.Context, ix Index, name string) (*Page, error) {
	what := "asking the index about " + name
	if ix.Name != "" {
		what = "asking the index " + ix.Name + " about " + name
	}
	resp, err := c.do(ctx, ix.URL.JoinPath(name, "/"), http.Header{"Accept": {acceptSimple}}, what)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fault.New(fault.NotFound, "%s: it has no such package", what)
	default:
		// Going on to the next index would let another one answer for a name
		// that may be owned here.
		return nil, fault.New(fault.Unavailable, "%s: it answered %s", what, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPageBytes+1))
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "%s: %w", what, scrub(err))
	}
	if len(b) > maxPageBytes {
		return nil, fault.New(fault.Hostile, "%s: an answer of more than %d bytes", what, maxPageBytes)
	}
	base := *resp.Request.URL
	base.User = nil
	typ, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p *Page
	switch typ {
	case "application/vnd.pypi.simple.v1+json":
		p, err = parseSimpleJSON(b, name, &base)
	case "application/vnd.pypi.simple.v1+html", "text/html":
		p, err = parseSimpleHTML(b, name, &base)
	default:
		return nil, fault.New(fault.Unsupported, "%s: an answer of type %.80q: want the simple API in JSON or HTML", what, typ)
	}
	if err != nil {
		return nil, err
	}
	p.Index = ix.Name
	return p, nil
}

// locate gives a file with its address: that of the page which is known, or of
// the index's answer now if f comes from a pinned page.
func (c *Client) locate(ctx context.Context, name string, f File) (*url.URL, error) {
	if f.url == "" {
		p, err := c.Page(ctx, name)
		if err != nil {
			return nil, err
		}
		now, ok := p.file(f.Name)
		if !ok {
			return nil, fault.New(fault.NotFound, "file %s of %s: the index has it no more", f.Name, name)
		}
		if now.SHA256 != f.SHA256 {
			return nil, fault.New(fault.Unverified, "file %s of %s: the index now gives it with another digest: %s in place of %s", f.Name, name, now.SHA256, f.SHA256)
		}
		f.url = now.url
	}
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" {
		return nil, fault.New(fault.Hostile, "file %s of %s: the index gives no usable address", f.Name, name)
	}
	return u, nil
}

// Open streams a file. Reading it to the end fails with digest.ErrMismatch if it
// is not the file that the index promised: nothing read may be used before that.
func (c *Client) Open(ctx context.Context, name string, f File) (io.ReadCloser, error) {
	what := fmt.Sprintf("downloading %s", f.Name)
	want, err := digest.FromHex(f.SHA256)
	if err != nil {
		return nil, fault.New(fault.Unverified, "%s: the index gives no sha256 for it", what)
	}
	u, err := c.locate(ctx, name, f)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, u, http.Header{"Accept-Encoding": {"identity"}}, what)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		kind := fault.Unavailable
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
			kind = fault.NotFound
		}
		return nil, fault.New(kind, "%s: the server answered %s", what, resp.Status)
	}
	limit := f.Size
	if limit == 0 {
		limit = maxFileBytes
	}
	return &checkedBody{Reader: digest.NewReader(resp.Body, want, limit), c: resp.Body, what: what}, nil
}

// checkedBody says which file failed.
type checkedBody struct {
	*digest.Reader
	c    io.Closer
	what string
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case err == nil || err == io.EOF:
	case errors.Is(err, digest.ErrMismatch) || errors.Is(err, digest.ErrTooLarge):
		err = fault.New(fault.Unverified, "%s: %w", b.what, err)
	default:
		err = fault.New(fault.Unavailable, "%s: %w", b.what, scrub(err))
	}
	return n, err
}

func (b *checkedBody) Close() error { return b.c.Close() }

// Download writes a file to dst. On an error what was written must be thrown
// away: it is not known to be the file (fault.Unverified: it is known not to be).
func (c *Client) Download(ctx context.Context, name string, f File, dst io.Writer) error {
	r, err := c.Open(ctx, name, f)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(dst, r)
	return err
}
