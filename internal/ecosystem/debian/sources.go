package debian

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"hallmark/internal/fault"
)

// Source is one place that apt is configured to take packages from.
type Source struct {
	URI           *url.URL // may carry a user's name and password: never print it whole
	Suite         string
	Components    []string
	Architectures []string // empty: all that the machine has
	SignedBy      []string // keyring files or fingerprints; empty: the trusted ones
	Key           []byte   // an armoured key given in place
	From          string   // the file and line or paragraph that says so
}

// maxSources is the most bytes of one of apt's configuration files that are read.
const maxSources = 4 << 20

// parseOneLine reads a sources.list file (sources.list(5), one-line style).
// Entries of other types than "deb" are left out.
func parseOneLine(b []byte, from string) ([]Source, error) {
	var out []Source
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, maxSources)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		at := fmt.Sprintf("%s:%d", from, n)
		typ, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		if typ != "deb" {
			if typ != "" && typ != "deb-src" {
				return nil, fmt.Errorf("%s: type %.40q is not deb or deb-src", at, typ)
			}
			continue
		}
		s := Source{From: at}
		rest = strings.TrimSpace(rest)
		if opts, ok := strings.CutPrefix(rest, "["); ok {
			inner, tail, ok := strings.Cut(opts, "]")
			if !ok {
				return nil, fmt.Errorf("%s: options without an end", at)
			}
			rest = strings.TrimSpace(tail)
			for o := range strings.FieldsSeq(inner) {
				k, v, _ := strings.Cut(o, "=")
				switch strings.ToLower(k) {
				case "arch":
					s.Architectures = strings.Split(v, ",")
				case "signed-by":
					s.SignedBy = strings.Split(v, ",")
				}
			}
		}
		f := strings.Fields(rest)
		if len(f) < 2 {
			return nil, fmt.Errorf("%s: want an address, a suite and components", at)
		}
		u, err := sourceURI(f[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		s.URI, s.Suite, s.Components = u, f[1], f[2:]
		out = append(out, s)
	}
	return out, sc.Err()
}

// parseDeb822Sources reads a *.sources file (sources.list(5), deb822 style): a
// paragraph gives one source for each address and suite.
func parseDeb822Sources(b []byte, from string) ([]Source, error) {
	st, err := ParseStanzas(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	var out []Source
	for i, s := range st {
		at := fmt.Sprintf("%s, paragraph %d", from, i+1)
		if slices.Contains([]string{"no", "false", "without", "off", "disable"}, strings.ToLower(s.Get("Enabled"))) ||
			!slices.Contains(strings.Fields(s.Get("Types")), "deb") {
			continue
		}
		base := Source{Components: strings.Fields(s.Get("Components")), Architectures: strings.Fields(s.Get("Architectures")), From: at}
		if v := s.Get("Signed-By"); strings.Contains(v, "-----BEGIN PGP PUBLIC KEY BLOCK-----") {
			// In a field an empty line is written as a dot (deb822(5)).
			var key strings.Builder
			for l := range strings.SplitSeq(v, "\n") {
				if l = strings.TrimSpace(l); l == "." {
					l = ""
				}
				key.WriteString(l + "\n")
			}
			base.Key = bytes.TrimLeft([]byte(key.String()), "\n")
		} else {
			base.SignedBy = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
		}
		for _, a := range strings.Fields(s.Get("URIs")) {
			u, err := sourceURI(a)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			for _, suite := range strings.Fields(s.Get("Suites")) {
				one := base
				one.URI, one.Suite = u, suite
				if out = append(out, one); len(out) > 10000 {
					return nil, fmt.Errorf("%s: more than 10000 sources", at)
				}
			}
		}
	}
	return out, nil
}

// sourceURI parses an address of a source; it never puts it whole in an error,
// since it may hold a password.
func sourceURI(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("an address that is none (%d characters)", len(s))
	}
	return u, nil
}

// reachable tells whether this client can read from the source's kind of address.
func (s Source) reachable() bool {
	switch s.URI.Scheme {
	case "http", "https":
		return s.URI.Host != ""
	case "file", "copy":
		return strings.HasPrefix(s.URI.Path, "/")
	}
	return false
}

// aptConfig is apt's own configuration: keys as "acquire::http::proxy" (in
// lower case), each with its values in order.
type aptConfig map[string][]string

// parseAptConfig reads the output of `apt-config dump`.
func parseAptConfig(b []byte) aptConfig {
	c := aptConfig{}
	for line := range strings.SplitSeq(string(b), "\n") {
		k, v, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ";"), " \"")
		if !ok {
			continue
		}
		k = strings.ToLower(strings.TrimSuffix(k, "::"))
		c[k] = append(c[k], strings.TrimSuffix(v, "\""))
	}
	return c
}

func (c aptConfig) get(key string) string {
	v := c[strings.ToLower(key)]
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] != "" {
			return v[i]
		}
	}
	return ""
}

// path follows apt's rule for folders: an entry is relative to its parent's
// value, up to Dir.
func (c aptConfig) path(key, fallback string) string {
	p := c.get(key)
	if p == "" {
		p = fallback
	}
	for k := key; !filepath.IsAbs(p); {
		i := strings.LastIndex(k, "::")
		if i < 0 {
			return filepath.Join("/", p)
		}
		k = k[:i]
		up := c.get(k)
		if up == "" && strings.EqualFold(k, "Dir::Etc") {
			up = "etc/apt"
		}
		p = filepath.Join(up, p)
		if strings.EqualFold(k, "Dir") && !filepath.IsAbs(p) {
			p = filepath.Join("/", p)
		}
	}
	return p
}

// loadAptConfig asks apt for its configuration.
func loadAptConfig(ctx context.Context) (aptConfig, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fault.Advise(fault.Unsupported, "The seed comes from Debian's archive as apt is configured for it: install apt, or give the sources in the configuration.",
			"asking apt for its configuration (apt-config dump): %w", err)
	}
	return parseAptConfig(out), nil
}

// loadSources reads all of apt's source files, sorted by name as apt does.
func loadSources(c aptConfig) ([]Source, error) {
	var files []string
	list := c.path("Dir::Etc::sourcelist", "sources.list")
	if _, err := os.Stat(list); err == nil {
		files = append(files, list)
	}
	parts := c.path("Dir::Etc::sourceparts", "sources.list.d")
	entries, err := os.ReadDir(parts)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("reading apt's sources: %w", err)
	}
	var names []string
	for _, e := range entries {
		if x := filepath.Ext(e.Name()); x == ".list" || x == ".sources" {
			names = append(names, filepath.Join(parts, e.Name()))
		}
	}
	sort.Strings(names)
	var out []Source
	for _, f := range append(files, names...) {
		b, err := readLimited(f, maxSources)
		if err != nil {
			return nil, fmt.Errorf("reading apt's sources: %w", err)
		}
		parse := parseOneLine
		if strings.HasSuffix(f, ".sources") {
			parse = parseDeb822Sources
		}
		s, err := parse(b, f)
		if err != nil {
			return nil, fmt.Errorf("reading apt's sources: %w", err)
		}
		out = append(out, s...)
	}
	return out, nil
}

func readLimited(file string, limit int64) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", file, st.Size(), limit)
	}
	return os.ReadFile(file)
}

// sourcesFor picks those for a suite, component and architecture, in order,
// each address once.
func sourcesFor(all []Source, suite, component, arch string) []Source {
	var out []Source
	seen := map[string]bool{}
	for _, s := range all {
		if s.Suite != suite || !slices.Contains(s.Components, component) || (len(s.Architectures) > 0 && !slices.Contains(s.Architectures, arch)) || !s.reachable() || seen[s.URI.String()] {
			continue
		}
		seen[s.URI.String()] = true
		out = append(out, s)
	}
	return out
}

// credential is one entry of apt_auth.conf(5).
type credential struct {
	scheme, host, path, user, password string
}

// parseAuth reads an auth.conf file (apt_auth.conf(5), netrc-like).
func parseAuth(b []byte) []credential {
	var out []credential
	var f []string
	for l := range strings.SplitSeq(string(b), "\n") {
		if l = strings.TrimSpace(l); !strings.HasPrefix(l, "#") {
			f = append(f, strings.Fields(l)...)
		}
	}
	for i := 0; i+1 < len(f); i += 2 {
		switch f[i] {
		case "machine":
			m := f[i+1]
			var c credential
			if s, rest, ok := strings.Cut(m, "://"); ok {
				c.scheme, m = s, rest
			}
			c.host, c.path, _ = strings.Cut(m, "/")
			out = append(out, c)
		case "login":
			if len(out) > 0 {
				out[len(out)-1].user = f[i+1]
			}
		case "password":
			if len(out) > 0 {
				out[len(out)-1].password = f[i+1]
			}
		}
	}
	return out
}

// matches tells whether the entry is for u. Without a scheme it is for
// encrypted connections only, as in apt.
func (c credential) matches(u *url.URL) bool {
	if c.scheme != u.Scheme && (c.scheme != "" || u.Scheme != "https") {
		return false
	}
	if c.host != u.Host && (c.host != u.Hostname() || strings.Contains(c.host, ":")) {
		return false
	}
	return c.path == "" || strings.HasPrefix(strings.TrimPrefix(u.Path, "/"), c.path)
}

// loadAuth reads apt's credentials; files that this user may not read are left
// out, as apt does for what it does not need.
func loadAuth(c aptConfig) []credential {
	files := []string{c.path("Dir::Etc::netrc", "auth.conf")}
	if parts, err := filepath.Glob(filepath.Join(c.path("Dir::Etc::netrcparts", "auth.conf.d"), "*.conf")); err == nil {
		files = append(files, parts...)
	}
	var out []credential
	for _, f := range files {
		if b, err := readLimited(f, maxSources); err == nil {
			out = append(out, parseAuth(b)...)
		}
	}
	return out
}
