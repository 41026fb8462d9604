package pypi

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hallmark/internal/fault"
)

// Config is how the machine's pip reaches its indexes. It holds credentials:
// print it never, store it never. Notices may be shown.
type Config struct {
	Indexes      []Index       // in the order in which they are asked; the first that owns a name wins
	Cert         string        // file or folder of certificate authorities, PEM; empty: the system's
	ClientCert   string        // file with certificate and key, PEM; may be empty
	Proxy        *url.URL      // nil: as the environment says
	TrustedHosts []string      // host or host:port for which pip skips verification
	Timeout      time.Duration // for connecting and between bytes of an answer
	Retries      int           // further tries when an index does not answer
	Netrc        string        // file; empty: none
	Notices      []string      // what of pip's settings is not followed, a sentence each
}

// Index is one package index.
type Index struct {
	Name string   // empty for the default one; else its address without credentials
	URL  *url.URL // of the simple API's root; may hold credentials
}

// String names the index without credentials.
func (ix Index) String() string {
	if ix.URL == nil {
		return ix.Name
	}
	bare := *ix.URL
	bare.User = nil
	return bare.String()
}

// String lists the indexes and nothing that is secret, so that a configuration
// printed by mistake gives no password away.
func (c Config) String() string { return fmt.Sprint(c.Indexes) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

//go:embed config_query.py
var configQuery string

const maxConfigBytes = 1 << 20

// configDeadlines are what pip's answer may take at the first and at the second
// try. It takes half a second; on a machine that is busy with builds, many times
// that.
var configDeadlines = []time.Duration{30 * time.Second, 3 * time.Minute}

// pipSettings is what config_query.py prints.
type pipSettings struct {
	Index        string   `json:"index_url"`
	Extra        []string `json:"extra_index_urls"`
	FindLinks    []string `json:"find_links"`
	NoIndex      bool     `json:"no_index"`
	Cert         string   `json:"cert"`
	ClientCert   string   `json:"client_cert"`
	Proxy        string   `json:"proxy"`
	TrustedHosts []string `json:"trusted_hosts"`
	Timeout      float64  `json:"timeout"`
	Retries      int      `json:"retries"`
}

// MachineConfig asks the machine's pip for its configuration: its files, its
// environment and its own defaults, joined by pip's own rules. No address is
// built in. An error says that no pip could be asked, and why; fault.Unavailable:
// one is there and did not answer in time.
func MachineConfig(ctx context.Context) (Config, error) {
	return machineConfig(ctx, pythons(), configDeadlines)
}

func machineConfig(ctx context.Context, pythons []string, deadlines []time.Duration) (Config, error) {
	var causes []error
	late := false
	for _, py := range pythons {
		s, err := askPip(ctx, py, deadlines)
		if ctx.Err() != nil {
			return Config{}, fmt.Errorf("asking the machine's pip for its indexes: %w", ctx.Err())
		}
		if err != nil {
			causes = append(causes, fmt.Errorf("%s: %w", py, err))
			late = late || errors.Is(err, errPipLate)
			continue
		}
		return s.config()
	}
	if late {
		return Config{}, fault.Advise(fault.Unavailable, "Try again when the machine is less busy; if pip config list hangs as well, see why.",
			"asking the machine's pip for its indexes: %w", errors.Join(causes...))
	}
	if len(causes) == 0 {
		causes = append(causes, errors.New("no python3 on the path"))
	}
	return Config{}, fault.Advise(fault.Unsupported, "Install pip (Debian: python3-pip).",
		"asking the machine's pip for its indexes: %w", errors.Join(causes...))
}

// errPipLate says that pip did not answer in time.
var errPipLate = errors.New("it did not answer in time")

// pythons are the interpreters that may have pip, each once: those that the
// pip programs on the path are run by, then the usual names.
func pythons() []string {
	var out []string
	seen := map[string]bool{}
	add := func(p string) {
		if r, err := filepath.EvalSymlinks(p); err == nil && !seen[p] && !seen[r] {
			seen[p], seen[r] = true, true
			out = append(out, p)
		}
	}
	for _, n := range []string{"python3", "python"} {
		if p, err := exec.LookPath(n); err == nil {
			add(p)
		}
	}
	for _, n := range []string{"pip3", "pip"} {
		if p, err := exec.LookPath(n); err == nil {
			if i := interpreterOf(p); i != "" {
				add(i)
			}
		}
	}
	add("/usr/bin/python3")
	return out
}

// interpreterOf is the program in a script's first line, if it is a Python.
func interpreterOf(script string) string {
	f, err := os.Open(script)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 512)
	n, _ := f.Read(b)
	line, _, _ := bytes.Cut(b[:n], []byte("\n"))
	p, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "#!")
	if p = strings.TrimSpace(p); !ok || !filepath.IsAbs(p) || !strings.HasPrefix(filepath.Base(p), "python") {
		return ""
	}
	return p
}

// askPip asks one interpreter's pip, and once more with more time for each further
// deadline if it does not answer.
func askPip(ctx context.Context, python string, deadlines []time.Duration) (pipSettings, error) {
	var took []string
	for _, d := range deadlines {
		try, cancel := context.WithTimeout(ctx, d)
		s, err := askPipOnce(try, python)
		late := err != nil && try.Err() != nil && ctx.Err() == nil
		cancel()
		if !late {
			return s, err
		}
		took = append(took, d.String())
	}
	return pipSettings{}, fmt.Errorf("%w (tried for %s)", errPipLate, strings.Join(took, ", then for "))
}

func askPipOnce(ctx context.Context, python string) (pipSettings, error) {
	var s pipSettings
	cmd := exec.CommandContext(ctx, python, "-c", configQuery)
	cmd.Dir = "/" // not where a folder named pip may lie
	var out, errs limitedBuffer
	out.left, errs.left = maxConfigBytes, 4096
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return s, fmt.Errorf("%w (%.200s)", err, lines[len(lines)-1])
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return s, fmt.Errorf("its answer is not JSON: %w", err)
	}
	return s, nil
}

// limitedBuffer keeps the first bytes and drops the rest.
type limitedBuffer struct {
	bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}

// config turns pip's settings into ours.
func (s pipSettings) config() (Config, error) {
	c := Config{
		Cert: s.Cert, ClientCert: s.ClientCert, TrustedHosts: s.TrustedHosts,
		Timeout: time.Duration(s.Timeout * float64(time.Second)), Retries: s.Retries,
		Netrc: netrcPath(),
	}
	if c.Timeout <= 0 || c.Timeout > time.Hour {
		c.Timeout = 15 * time.Second
	}
	c.Retries = max(0, min(c.Retries, 10))
	seen := map[string]bool{}
	for i, a := range append([]string{s.Index}, s.Extra...) {
		u, err := parseIndexURL(a)
		if err != nil {
			return Config{}, err
		}
		bare := *u
		bare.User = nil
		name := bare.String()
		if seen[name] {
			continue
		}
		seen[name] = true
		ix := Index{Name: name, URL: u}
		if i == 0 {
			ix.Name = ""
		}
		c.Indexes = append(c.Indexes, ix)
	}
	if s.Proxy != "" {
		p := s.Proxy
		if !strings.Contains(p, "://") {
			p = "http://" + p
		}
		u, err := url.Parse(p)
		if err != nil || u.Host == "" {
			return Config{}, fault.New(fault.Usage, "pip's setting proxy is not an address")
		}
		c.Proxy = u
	}
	if len(s.FindLinks) > 0 {
		c.Notices = append(c.Notices, "pip's setting find-links is ignored: packages come from an index only.")
	}
	if s.NoIndex {
		c.Notices = append(c.Notices, "pip's setting no-index is ignored: packages come from an index only.")
	}
	return c, nil
}

// parseIndexURL reads an index's address; the path then ends in a slash. Errors
// do not repeat the address, which may hold a password.
func parseIndexURL(a string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(a))
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, fault.New(fault.Usage, "an index address in pip's configuration is not one that can be used")
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, fault.New(fault.Unsupported, "an index address in pip's configuration has scheme %.20q: only https and http are supported", u.Scheme)
	}
	u.Fragment, u.RawQuery = "", ""
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u, nil
}
