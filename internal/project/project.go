// Package project reads and writes a project's files: hallmark.yaml, which a
// person edits, and hallmark.lock, which says what was solved; and it makes the
// immutable commits that a configuration is a line of.
//
// It knows no language: a requirement is text until its ecosystem reads it.
package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hallmark/internal/access"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Names of the files in a project's folder.
const (
	ConfigFile = "hallmark.yaml"
	LockFile   = "hallmark.lock"
)

// What to do with an artifact that cannot be proven (design: "When something
// cannot be proven").
const (
	Published = "published"
	Built     = "built"
	Refuse    = "refuse"
)

// Limits of a configuration that comes from outside.
const (
	maxConfig       = 1 << 20
	maxRequirements = 5000
)

// Config is hallmark.yaml. Unknown keys are errors.
type Config struct {
	// Project is ORG/PROJECT.
	Project string `yaml:"project"`
	// Requirements are what a person asks for: a PEP 508 requirement, a purl, or
	// TYPE:REQ in that type's own syntax.
	Requirements []string `yaml:"requirements"`
	// Platforms are what the runtime is for; linux/amd64 is the one there is.
	Platforms []string `yaml:"platforms,omitempty"`
	// AtTime is the catalog time: nothing published later is seen. RFC 3339.
	AtTime string `yaml:"at_time"`
	// Policy is the URI of the policy that decides the classes.
	Policy string `yaml:"policy,omitempty"`
	// OnUnproven names the candidate for what cannot be proven: published (the
	// default), built or refuse.
	OnUnproven string `yaml:"on_unproven,omitempty"`
}

// Defaults of a configuration.
const (
	DefaultPlatform = "linux/amd64"
	DefaultPolicy   = "urn:hallmark:policy:first-light:v1"
)

// CommitSchema names the form of Commit; schemas/commit.v1.json describes it.
const CommitSchema = "urn:hallmark:commit:v1"

// Commit is one immutable state of a configuration. Its id is "commit:" and the
// digest of its canonical JSON.
type Commit struct {
	Schema       string   `json:"schema"`
	Project      string   `json:"project"`
	Parent       string   `json:"parent,omitempty"` // id of the commit before
	Author       string   `json:"author"`
	Message      string   `json:"message"`
	Created      string   `json:"created"` // RFC 3339, UTC, seconds
	Requirements []string `json:"requirements"`
	Platforms    []string `json:"platforms"`
	AtTime       string   `json:"at_time"`
	Policy       string   `json:"policy"`
	OnUnproven   string   `json:"on_unproven"`

	// Overrides are the project's own recipes/pypi, as they were: the digest of
	// what was read; empty if it has none.
	Overrides digest.Digest `json:"overrides,omitempty"`
	// OverridesText is what Overrides is the digest of, in a commit that is only
	// proposed: it is stored with the commit, and no part of it.
	OverridesText []byte `json:"-"`
	// Recipes are the project's own recipes/sys, as they were: the digest of what was
	// read; empty if it has none.
	Recipes digest.Digest `json:"recipes,omitempty"`
}

// ID gives a commit's id and its canonical JSON.
func (c Commit) ID() (string, []byte, error) {
	d, b, err := canonical.Digest(c)
	if err != nil {
		return "", nil, err
	}
	return "commit:" + d.String(), b, nil
}

// ParseCommitID gives the digest in a commit's id.
func ParseCommitID(id string) (digest.Digest, error) {
	s, ok := strings.CutPrefix(id, "commit:")
	if !ok {
		return "", fault.New(fault.Usage, "commit %.80q: want commit:sha256:…", id)
	}
	return digest.Parse(s)
}

// ParseCommit reads a stored commit.
func ParseCommit(b []byte) (Commit, error) {
	var c Commit
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("commit: %w", err)
	}
	if c.Schema != CommitSchema {
		return c, fmt.Errorf("commit has schema %.80q: want %s", c.Schema, CommitSchema)
	}
	return c, nil
}

// SameConfiguration tells whether two commits ask for the same.
func SameConfiguration(a, b Commit) bool {
	a.Parent, a.Author, a.Message, a.Created = "", "", "", ""
	b.Parent, b.Author, b.Message, b.Created = "", "", "", ""
	x, _, errX := a.ID()
	y, _, errY := b.ID()
	return errX == nil && errY == nil && x == y
}

// ParseName splits ORG/PROJECT and checks both: lower case letters, digits and
// "._-" within, at most 64 characters each.
func ParseName(s string) (org, name string, err error) {
	org, name, _ = strings.Cut(s, "/")
	if err := access.CheckProject(org, name); err != nil {
		return "", "", err
	}
	return org, name, nil
}

// Validate checks a configuration and fills its defaults.
func (c *Config) Validate() error {
	if _, _, err := ParseName(c.Project); err != nil {
		return err
	}
	if len(c.Requirements) > maxRequirements {
		return fault.New(fault.Usage, "%d requirements: at most %d", len(c.Requirements), maxRequirements)
	}
	for _, r := range c.Requirements {
		if strings.TrimSpace(r) == "" {
			return fault.New(fault.Usage, "one of the requirements is empty")
		}
	}
	if len(c.Platforms) == 0 {
		c.Platforms = []string{DefaultPlatform}
	}
	for _, p := range c.Platforms {
		if p != DefaultPlatform {
			return fault.New(fault.Unsupported, "platform %.40q: this version builds for %s alone", p, DefaultPlatform)
		}
	}
	if c.Policy == "" {
		c.Policy = DefaultPolicy
	}
	switch c.OnUnproven {
	case "":
		c.OnUnproven = Published
	case Published, Built, Refuse:
	default:
		return fault.New(fault.Usage, "on_unproven %.40q: want %s, %s or %s", c.OnUnproven, Published, Built, Refuse)
	}
	t, err := time.Parse(time.RFC3339, c.AtTime)
	if err != nil {
		return fault.New(fault.Usage, "at_time %.40q: want a time such as 2026-10-01T00:00:00Z", c.AtTime)
	}
	c.AtTime = t.UTC().Truncate(time.Second).Format(time.RFC3339)
	return nil
}

// Parse reads hallmark.yaml.
func Parse(b []byte) (Config, error) {
	var c Config
	if len(b) > maxConfig {
		return c, fault.New(fault.Usage, "%s of %d bytes: at most %d", ConfigFile, len(b), maxConfig)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fault.New(fault.Usage, "%s: %w", ConfigFile, err)
	}
	// What stands behind a second "---" would be left out in silence.
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, fault.New(fault.Usage, "%s: something follows the end of the configuration (a line ... or ---)", ConfigFile)
	}
	return c, c.Validate()
}

// Load reads the configuration in folder dir; fault.NotFound if there is none.
func Load(dir string) (Config, error) {
	b, err := os.ReadFile(filepath.Join(dir, ConfigFile))
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fault.Advise(fault.NotFound, "Make one with: hallmark init ORG/PROJECT",
			"there is no %s in this folder", ConfigFile)
	}
	if err != nil {
		return Config{}, err
	}
	return Parse(b)
}

// Save writes the configuration to folder dir: a new file in place of the old.
func (c Config) Save(dir string) error {
	var b bytes.Buffer
	b.WriteString("# What this project runs with. `hallmark install`, `hallmark uninstall` and you edit it.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return err
	}
	return replace(filepath.Join(dir, ConfigFile), b.Bytes())
}

// Commit makes the commit that says what the configuration says.
func (c Config) Commit(parent, author, message string, now time.Time) Commit {
	reqs := append([]string{}, c.Requirements...)
	sort.Strings(reqs)
	return Commit{
		Schema: CommitSchema, Project: c.Project, Parent: parent, Author: author, Message: message,
		Created: now.UTC().Truncate(time.Second).Format(time.RFC3339), Requirements: reqs,
		Platforms: c.Platforms, AtTime: c.AtTime, Policy: c.Policy, OnUnproven: c.OnUnproven,
	}
}

// Lock is hallmark.lock: what the commit was solved to. It holds purls, file
// names and digests, and no address.
type Lock struct {
	Schema  string            `json:"schema"` // LockSchema
	Commit  string            `json:"commit"`
	Plan    digest.Digest     `json:"plan"`
	Seed    digest.Digest     `json:"seed"`
	Index   map[string]string `json:"index"` // package name to digest of its pinned index answer
	Sources []Locked          `json:"sources"`
}

// Locked is one source.
type Locked struct {
	PURL   string        `json:"purl"`
	File   string        `json:"file"`
	Digest digest.Digest `json:"digest"`
}

// LockSchema names the form of Lock.
const LockSchema = "urn:hallmark:lock:v1"

// Save writes the lock to folder dir.
func (l Lock) Save(dir string) error {
	b, err := l.Marshal()
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, LockFile), b)
}

// Marshal is the lock's file.
func (l Lock) Marshal() ([]byte, error) {
	l.Schema = LockSchema
	b, err := json.MarshalIndent(l, "", "  ")
	return append(b, '\n'), err
}

// replace writes a file beside path, syncs it and gives it path's name.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".hallmark-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
