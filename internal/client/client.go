// Package client speaks to a Hallmark server: the API's operations as functions,
// with limits on what comes back and errors as kinds of fault.
//
// A server is foreign: what it sends is bounded, checked and cleaned before a
// person sees it. The package sends no token over http to anything but this
// machine, follows no redirect, and keeps tokens in one file that only its owner
// can read (credentials.go). It computes no status.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Limits of what a server may send, in bytes.
const (
	maxDocument = 64 << 20 // status, plan, log
	maxProblem  = 64 << 10
	maxFile     = 1 << 30 // an artifact
	maxStream   = 1 << 36 // a runtime
)

// Bounds of a request whose answer is a document, and of one that takes as long as
// planning takes. A server answers within ten minutes or not at all.
const (
	timeout  = 2 * time.Minute
	slowTime = 10 * time.Minute
)

// Client speaks to one server. Its methods may be called from several goroutines.
type Client struct {
	base  string // without a slash at its end
	token string
	agent string
	http  *http.Client
	slow  *http.Client // waits longer for an answer to begin

	// Branch is the branch that commits, builds and status are of; empty: the
	// project's default one. Set it before the first call.
	Branch string

	sole atomic.Bool // the server is a single user's

	mu   sync.Mutex // guards form
	form string     // of a single user's server; empty: not asked yet
}

// ServerURL reads a server's address as a person gives it: http(s)://HOST[:PORT].
// It is fault.Usage if it is none.
func ServerURL(s string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(strings.TrimSpace(s), "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil || u.Opaque != "" {
		return "", fault.New(fault.Usage, "server %.200q: want https://HOST[:PORT] and nothing behind it", s)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// CheckToken is fault.Denied if a token must not be sent to a server: over http it
// would go over the net in the clear, unless the server is this machine.
func CheckToken(server string) error {
	u, err := url.Parse(server)
	if err != nil {
		return fault.New(fault.Usage, "server %.200q: %w", server, err)
	}
	if u.Scheme == "https" || loopback(u.Hostname()) {
		return nil
	}
	return fault.Advise(fault.Denied, "Use the server's https:// address.", "a token is not sent to %s: over http anybody on the way could read it", server)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// New makes a client of a server; token may be empty, version is this program's.
func New(server, token, version string) (*Client, error) {
	base, err := ServerURL(server)
	if err != nil {
		return nil, err
	}
	if token != "" {
		if err := CheckToken(base); err != nil {
			return nil, err
		}
		if len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fault.New(fault.Usage, "the token for %s is not of the form of one", base)
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = timeout
	if u, err := url.Parse(base); err == nil && loopback(u.Hostname()) {
		// The name stands for this machine here, whatever a resolver says.
		t.Proxy = nil
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if rest, ok := strings.CutPrefix(addr, "localhost:"); ok {
				c, err := dial(ctx, network, "127.0.0.1:"+rest)
				if err == nil {
					return c, nil
				}
				addr = "[::1]:" + rest
			}
			return dial(ctx, network, addr)
		}
	}
	long := t.Clone()
	long.ResponseHeaderTimeout = slowTime
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, token: token, agent: "hallmark/" + version,
		http: &http.Client{Transport: t, CheckRedirect: stay}, slow: &http.Client{Transport: long, CheckRedirect: stay}}, nil
}

// Server is the server's address.
func (c *Client) Server() string { return c.base }

// request makes a request; body, if not nil, is sent as JSON.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	addr := c.base + path
	if len(query) > 0 {
		addr += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, addr, r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	} else if method != http.MethodGet {
		form, err := c.formToken(ctx)
		if err != nil {
			return nil, err
		}
		if form != "" {
			req.Header.Set(api.FormHeader, form)
		}
	}
	return req, nil
}

// formToken is what a single user's server wants from whoever changes something.
func (c *Client) formToken(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.form == "" {
		w, err := c.Whoami(ctx)
		if err != nil {
			return "", err
		}
		c.form = w.FormToken
	}
	return c.form, nil
}

// send sends a request and gives an answer that is no error.
func (c *Client) send(req *http.Request) (*http.Response, error) { return c.sendBy(c.http, req) }

func (c *Client) sendBy(by *http.Client, req *http.Request) (*http.Response, error) {
	res, err := by.Do(req)
	if err != nil {
		if ctx := req.Context(); ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, ctx.Err()
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which may hold what was asked
		}
		return nil, fault.Advise(fault.Unavailable, "Is the address right, and does the server run? --server, or HALLMARK_SERVER, names it.", "ask %s: %w", c.base, err)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.problem(res)
}

// problem reads an answer that is an error.
func (c *Client) problem(res *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what came of it is enough
	p, ok := parseProblem(b)
	switch plain := strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain"); {
	case ok:
	case plain && res.StatusCode >= 400 && res.StatusCode < 500 && len(bytes.TrimSpace(b)) > 0:
		// Registry and evidence say it in words.
		detail, advice, _ := strings.Cut(strings.TrimSpace(string(b)), "\n  ")
		p.Detail, p.Advice = Clean(detail, 2000), Clean(advice, 1000)
	default:
		p.Detail = fmt.Sprintf("%s answers %d %s", c.base, res.StatusCode, http.StatusText(res.StatusCode))
		if res.StatusCode >= 300 && res.StatusCode < 400 {
			p.Advice = "Redirects are not followed: use the address that the server calls its own."
		}
	}
	kind := p.Kind()
	if kind == "" || kind == fault.Corrupt {
		switch code := res.StatusCode; {
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			kind = fault.Denied
		case code == http.StatusNotFound:
			kind = fault.NotFound
		case code == http.StatusConflict:
			kind = fault.Conflict
		case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout || code == http.StatusTooManyRequests:
			kind = fault.Unavailable
		case code < 500:
			kind = fault.Usage
		default: // its own failure
			kind = fault.Unavailable
		}
	}
	if res.StatusCode == http.StatusUnauthorized || kind == fault.NotFound && c.token == "" && !c.sole.Load() {
		p.Advice = strings.TrimSpace(p.Advice + " Sign in with: hallmark login --server " + c.base)
	}
	text := p.Detail
	for _, f := range p.Errors {
		text += "; " + f.Location + ": " + f.Message
	}
	return fault.Advise(kind, p.Advice, "%s", text)
}

// parseProblem reads a problem document; false if it is none. Its texts are short
// and of one line.
func parseProblem(b []byte) (api.Problem, bool) {
	var p api.Problem
	if json.Unmarshal(b, &p) != nil || p.Detail == "" {
		return api.Problem{}, false
	}
	p.Detail, p.Advice = Clean(p.Detail, 2000), Clean(p.Advice, 1000)
	p.Errors = p.Errors[:min(len(p.Errors), 20)]
	for i, f := range p.Errors {
		p.Errors[i] = api.ProblemField{Location: Clean(f.Location, 200), Message: Clean(f.Message, 500)}
	}
	return p, true
}

// Clean makes a foreign text fit for a terminal: one line, at most n bytes, nothing
// that a terminal obeys or that turns the direction of what follows.
func Clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return '·'
		}
		return r
	}, strings.ToValidUTF8(s, "·"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// call asks for a document, or, if out is nil, only that something is done.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	return c.callBy(ctx, c.http, timeout, method, path, query, body, out)
}

// slowly is call for what takes as long as planning takes.
func (c *Client) slowly(ctx context.Context, method, path string, query url.Values, body, out any) error {
	return c.callBy(ctx, c.slow, slowTime, method, path, query, body, out)
}

func (c *Client) callBy(ctx context.Context, by *http.Client, within time.Duration, method, path string, query url.Values, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	res, err := c.sendBy(by, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	b, err := c.read(res)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fault.Advise(fault.Unsupported, "Is it a Hallmark server, and of this version?", "what %s answers to %s cannot be read: %w", c.base, path, err)
	}
	return nil
}

func (c *Client) read(res *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, fault.New(fault.Unavailable, "the answer of %s ended early: %w", c.base, err)
	case len(b) > maxDocument:
		return nil, fault.New(fault.Hostile, "%s answers with more than %d bytes", c.base, maxDocument)
	}
	return b, nil
}

// document asks for bytes as they are.
func (c *Client) document(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", fileTypes)
	res, err := c.send(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return c.read(res)
}

// fileTypes is what is taken where a page might come: files, and problems in words.
const fileTypes = "application/octet-stream, application/json, application/x-tar, text/csv, text/plain"

// Stream writes what a server makes as it is asked for to w. Whether it is whole the
// connection tells: one that ends early is fault.Unavailable.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, w io.Writer) error {
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", fileTypes)
	res, err := c.sendBy(c.slow, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(w, io.LimitReader(res.Body, maxStream+1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fault.New(fault.Unavailable, "download from %s: %w", c.base, err)
	case n > maxStream:
		return fault.New(fault.Hostile, "%s sends more than %d bytes", c.base, int64(maxStream))
	}
	return nil
}

// Download writes a file of the server to w, and fails, with fault.Unverified, at
// its end if it is not the one of the digest.
func (c *Client) Download(ctx context.Context, path string, want digest.Digest, w io.Writer) error {
	req, err := c.request(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	res, err := c.send(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, digest.NewReader(res.Body, want, maxFile)); err != nil {
		return fmt.Errorf("download from %s: %w", c.base, err)
	}
	return nil
}
