package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/build"
	"hallmark/internal/client"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/status"
)

// remote tells whether the command works on a server.
func (e *env) remote() bool { return e.global.Server != "" }

// server makes a client of the server, with the token that is kept for it.
func (e *env) server() (*client.Client, error) {
	token, err := client.Token(e.global.Server)
	if err != nil {
		return nil, err
	}
	c, err := client.New(e.global.Server, token, version)
	if err != nil {
		return nil, err
	}
	c.Branch = e.global.Branch
	return c, nil
}

// onServer makes a client and reads the configuration here.
func (e *env) onServer() (*client.Client, project.Config, error) {
	cfg, err := project.Load(e.global.Dir)
	if err != nil {
		return nil, cfg, err
	}
	c, err := e.server()
	return c, cfg, err
}

// notOnServer is for what a command cannot do on a server.
func notOnServer(what, instead string) error {
	return fault.Advise(fault.Usage, instead, "%s works on a data directory, not on a server", what)
}

type loginCmd struct{}

// Run reads a token, asks the server whose it is, and keeps it.
func (*loginCmd) Run(e *env) error {
	if !e.remote() {
		return fault.New(fault.Usage, "login: which server? --server URL, or HALLMARK_SERVER, names it")
	}
	base, err := client.ServerURL(e.global.Server)
	if err != nil {
		return err
	}
	if err := client.CheckToken(base); err != nil {
		return err
	}
	token, err := e.readToken(base)
	if err != nil {
		return err
	}
	c, err := client.New(base, token, version)
	if err != nil {
		return err
	}
	w, err := c.Whoami(e.ctx)
	if err != nil {
		return err
	}
	if w.Token == "" { // the server has one user, or took no notice
		return fault.New(fault.Conflict, "%s needs no token: it has one user and no accounts", base)
	}
	file, err := client.KeepToken(base, token)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"server": base, "name": w.Name, "scopes": w.Scopes}, func(o io.Writer) error {
		_, err := fmt.Fprintf(o, "Signed in to %s as %s (%s). The token is in %s.\n", base, w.Name, strings.Join(w.Scopes, ", "), file)
		return err
	})
}

// readToken asks for a token without showing it, or reads a line of standard
// input. It is never an argument, which everybody on the machine could see.
func (e *env) readToken(base string) (string, error) {
	var text string
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		fmt.Fprintf(e.err, "Make a token on %s/account and paste it here (it is not shown): ", base)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(e.err)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = string(b)
	} else {
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = line
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", fault.New(fault.Usage, "login: there is no token on standard input")
	}
	return text, nil
}

type logoutCmd struct{}

// Run forgets the token; revoking it is for the account's page.
func (*logoutCmd) Run(e *env) error {
	if !e.remote() {
		return fault.New(fault.Usage, "logout: of which server? --server URL, or HALLMARK_SERVER, names it")
	}
	was, err := client.ForgetToken(e.global.Server)
	if err != nil {
		return err
	}
	return e.print(map[string]bool{"forgotten": was}, func(o io.Writer) error {
		text := "The token is forgotten here. To end it everywhere, revoke it on the account's page."
		if !was {
			text = "There was no token for it."
		}
		_, err := fmt.Fprintln(o, text)
		return err
	})
}

// onServer makes the project on the server, or takes up one that is there.
func (c *initCmd) onServer(e *env) error {
	if _, err := os.Lstat(filepath.Join(e.global.Dir, project.ConfigFile)); err == nil {
		return fault.Advise(fault.Conflict, "Change it with: hallmark install REQ…", "there is a %s in this folder already", project.ConfigFile)
	}
	if c.Project == "" {
		return fault.New(fault.Usage, "init: a project on a server is named ORG/PROJECT")
	}
	s, err := e.server()
	if err != nil {
		return err
	}
	p, err := s.Project(e.ctx, c.Project)
	made := fault.Is(err, fault.NotFound)
	if made {
		p, err = s.CreateProject(e.ctx, c.Project, c.AtTime.Time)
	}
	if fault.Is(err, fault.NotFound) {
		// A single user's organizations come with their first project, as in a data
		// directory; elsewhere somebody decides to have one.
		w, werr := s.Whoami(e.ctx)
		if org, _, _ := strings.Cut(c.Project, "/"); werr == nil && w.SingleUser {
			if err = s.CreateOrg(e.ctx, org); err == nil {
				p, err = s.CreateProject(e.ctx, c.Project, c.AtTime.Time)
			}
		}
	}
	if err != nil {
		return err
	}
	cfg, err := configOf(c.Project, api.Commit{Project: p.Project, Requirements: p.Requirements, Platforms: p.Platforms, AtTime: p.AtTime, Policy: p.Policy, OnUnproven: p.OnUnproven})
	if err != nil {
		return err
	}
	if !made {
		if err := e.takeOver(s, cfg.Project, p.Commit); err != nil {
			return err
		}
	}
	if err := cfg.Save(e.global.Dir); err != nil {
		return err
	}
	return e.print(map[string]string{"project": cfg.Project, "at_time": cfg.AtTime}, func(w io.Writer) error {
		text := "Made project %s on %s with the catalog as of %s.\n"
		if !made {
			text = "Project %s is on %s already; its configuration, with the catalog as of %s, is here now.\n"
		}
		_, err := fmt.Fprintf(w, text+"Next: hallmark install REQ…, then hallmark builds\n", cfg.Project, s.Server(), cfg.AtTime)
		return err
	})
}

// configOf is what a commit of the server asks for, checked.
func configOf(name string, c api.Commit) (project.Config, error) {
	cfg := c.Config()
	if err := cfg.Validate(); err != nil {
		return cfg, fault.New(fault.Hostile, "the server's configuration of %s: %w", name, err)
	}
	if cfg.Project != name {
		return cfg, fault.New(fault.Hostile, "asked for %s, the server gives %.140q", name, cfg.Project)
	}
	return cfg, nil
}

// sameConfig tells whether two configurations ask for the same.
func sameConfig(a, b project.Config) bool {
	x, y := slices.Sorted(slices.Values(a.Requirements)), slices.Sorted(slices.Values(b.Requirements))
	return slices.Equal(x, y) && a.AtTime == b.AtTime && a.Policy == b.Policy && a.OnUnproven == b.OnUnproven
}

// maxHistory is how many commits are looked through.
const maxHistory = 200

// newer tells whether a stands before b in a list, newest first.
func newer(commits []api.Commit, a, b string) bool {
	at := func(id string) int { return slices.IndexFunc(commits, func(c api.Commit) bool { return c.ID == id }) }
	return at(a) >= 0 && at(a) < at(b)
}

// short is a commit's id with as many digits as a person types.
func short(id string) string {
	hex := strings.TrimPrefix(id, "commit:sha256:")
	return "commit:sha256:" + client.Clean(hex[:min(12, len(hex))], 12)
}

// lockedCommit is the commit that hallmark.lock here is of; empty if there is none.
func (e *env) lockedCommit() string {
	f, err := os.Open(filepath.Join(e.global.Dir, project.LockFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	var l struct{ Commit string }
	if json.NewDecoder(io.LimitReader(f, 64<<20)).Decode(&l) != nil {
		return ""
	}
	return l.Commit
}

// changeOnServer changes the configuration here and on the server, and shows the
// commit.
func (e *env) changeOnServer(message string, change func(*project.Config) error) error {
	s, want, head, err := e.atHead()
	if err != nil {
		return err
	}
	if err := change(&want.Config); err != nil {
		return err
	}
	slices.Sort(want.Requirements)
	c, err := e.commitTo(s, head, want, message)
	if err != nil {
		return err
	}
	return e.showCommit(c)
}

func (e *env) showCommit(c api.Commit) error {
	return e.print(map[string]any{"commit": c.ID, "requirements": c.Requirements, "at_time": c.AtTime}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n  %s as of %s\nNext: %s\n", harmless(c.ID), harmless(strings.Join(c.Requirements, ", ")), harmless(c.AtTime), e.nextBuilds())
		return err
	})
}

func (c *installCmd) onServer(e *env) error {
	return e.changeOnServer("install "+strings.Join(c.Reqs, " "), func(cfg *project.Config) error {
		for _, text := range c.Reqs {
			req, name, err := app.ParseRequirement(text)
			if err != nil {
				return err
			}
			cfg.Requirements = append(slices.DeleteFunc(cfg.Requirements, func(s string) bool { return app.PackageOf(s) == name }), req)
		}
		if !c.AtTime.IsZero() {
			cfg.AtTime = c.AtTime.UTC().Truncate(time.Second).Format(time.RFC3339)
		}
		return nil
	})
}

func (c *uninstallCmd) onServer(e *env) error {
	return e.changeOnServer("uninstall "+strings.Join(c.Names, " "), func(cfg *project.Config) error {
		for _, text := range c.Names {
			_, name, err := app.ParseRequirement(text)
			if err != nil {
				return err
			}
			n := len(cfg.Requirements)
			cfg.Requirements = slices.DeleteFunc(cfg.Requirements, func(s string) bool { return app.PackageOf(s) == name })
			if len(cfg.Requirements) == n {
				return fault.Advise(fault.NotFound, "The requirements are in "+project.ConfigFile+".", "the project has no requirement for %s", name)
			}
		}
		return nil
	})
}

// onServer has the server build what is missing, and follows it.
func (c *buildsCmd) onServer(e *env) error {
	if err := c.here("builds"); err != nil {
		return err
	}
	s, here, head, err := e.atHead()
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.dryRunOnServer(e, s, here, head)
	}
	if _, err = e.commitTo(s, head, here, "change "+project.ConfigFile); err != nil {
		return err
	}
	run, err := s.Build(e.ctx, here.Project, c.Retry)
	if err != nil {
		return err
	}
	if err := e.follow(s, here.Project, run); err != nil {
		return err
	}
	b, err := s.Lock(e.ctx, here.Project)
	if err != nil {
		return err
	}
	var lock project.Lock
	if err := json.Unmarshal(b, &lock); err != nil || lock.Schema != project.LockSchema {
		return fault.New(fault.Hostile, "the server's %s cannot be read: %v", project.LockFile, err)
	}
	if err := lock.Save(e.global.Dir); err != nil {
		return err
	}
	d, err := e.statusOf(s, here.Config)
	if err != nil {
		return err
	}
	return e.show(d)
}

// here is for flags that say how this machine builds.
func (f buildFlags) here(command string) error {
	if f.Timeline != "" || f.Jobs != 0 {
		return notOnServer(command+" with --timeline or -j", "Leave them out: the server decides how many builds run at a time, and its page of the build shows when each ran.")
	}
	return nil
}

// follow shows what a run on a server does until it has ended; one that has not
// succeeded is an error.
func (e *env) follow(s *client.Client, name string, run api.Run) error {
	if !e.global.Quiet {
		e.bar = newProgress(e.err)
	}
	f := follower{bar: e.bar}
	run, err := s.Follow(e.ctx, name, run.ID, f.tell)
	if err != nil {
		return err
	}
	e.endProgress()
	if run.State != "succeeded" {
		return fmt.Errorf("the build %s on %s: %s: %s", harmless(run.ID), s.Server(), harmless(run.State), client.Clean(run.Message, 2000))
	}
	return nil
}

// follower shows what a run on a server does as progress here.
type follower struct {
	bar   *progress
	stage string
	notes []string // of the newest event
}

func (f *follower) tell(v client.Event) {
	if f.bar == nil {
		return
	}
	if v.Stage != f.stage {
		f.stage = v.Stage
		f.bar.Stage(client.Clean(v.Stage, 60))
	}
	// Of the notes the server keeps the newest: say those that are new.
	fresh := v.Notes
	for i := range v.Notes {
		if n := len(v.Notes) - i; n <= len(f.notes) && slices.Equal(v.Notes[:n], f.notes[len(f.notes)-n:]) {
			fresh = v.Notes[n:]
			break
		}
	}
	f.notes = v.Notes
	for _, n := range fresh {
		f.bar.Note(client.Clean(n, 500))
	}
	w := build.State{Done: v.Done, Total: v.Total}
	for _, d := range v.Doing {
		w.Running = append(w.Running, build.Running{Name: client.Clean(d.PURL, 100), Phase: client.Clean(d.Purpose, 30), Began: d.Since})
	}
	f.bar.Step(v.Done, v.Total, client.Clean(v.Message, 200))
	if len(w.Running) > 0 {
		f.bar.Work(w)
	}
}

// statusOf is the server's status, with what the document itself leaves to the
// policy's.
func (e *env) statusOf(s *client.Client, cfg project.Config) (status.Document, error) {
	d, err := s.Status(e.ctx, cfg.Project, "")
	if err != nil {
		return d, err
	}
	if p, _, err := app.Policy(d.Policy); err == nil {
		d.Caveats = p.Caveats
	}
	return d, nil
}

// onServer shows the server's status and asks its gate.
func (c *statusCmd) onServer(e *env) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	d, err := e.statusOf(s, cfg)
	if err != nil {
		return err
	}
	if c.Format == "csv" || c.Format == "sarif" { // with the server's waivers
		b, err := s.StatusFile(e.ctx, cfg.Project, c.Format)
		if err == nil {
			_, err = e.out.Write(b)
		}
		if err != nil {
			return err
		}
	} else if err := c.show(e, d, nil); err != nil {
		return err
	}
	if c.MinSecure == nil && !c.NoNewUnknown {
		return nil
	}
	g, err := s.Gate(e.ctx, cfg.Project, c.MinSecure, c.NoNewUnknown)
	if err != nil {
		return err
	}
	return c.gate(e, g.OK, g.Says, g.Answered)
}

func (c *whyCmd) onServer(e *env) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	if c.Frontier {
		f, err := s.Frontier(e.ctx, cfg.Project)
		if err != nil {
			return err
		}
		return e.showFrontier(f)
	}
	hops, err := s.Why(e.ctx, cfg.Project, c.Artifact)
	if err != nil {
		return err
	}
	return e.showHops(hops, cfg.Policy)
}

// showHops shows the way from an artifact to what is missing.
func (e *env) showHops(hops []status.Hop, uri string) error {
	return e.print(hops, func(w io.Writer) error {
		for i, h := range hops {
			printHop(w, strings.Repeat("  ", i), h)
		}
		if len(hops) == 1 && hops[0].Class == policy.Secure {
			fmt.Fprintf(w, "  It meets every condition of %s, and so does everything in its closure.\n", uri)
		}
		return nil
	})
}

// onServer checks a commit, a file that came from the server, or what is signed
// about an artifact.
func (c *verifyCmd) onServer(e *env) error {
	if c.Offline {
		return notOnServer("verify --offline", "Keep the evidence (hallmark export evidence ARTIFACT -o DIR): its README has the commands that check it without a network.")
	}
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	var v *api.Verification
	switch {
	case c.What == "" || strings.HasPrefix(c.What, "commit:"):
		if v, err = s.VerifyCommit(e.ctx, cfg.Project, c.What); err == nil && c.What == "" {
			err = e.lockOnServer(s, cfg.Project, v)
		}
	case isFile(c.What):
		v, err = s.VerifyFile(e.ctx, cfg.Project, c.What)
	default:
		v, err = s.VerifyArtifact(e.ctx, cfg.Project, c.What)
	}
	if err != nil {
		return err
	}
	err = e.print(v, func(w io.Writer) error {
		for _, k := range v.Checks {
			if !k.OK {
				fmt.Fprintf(w, "FAILED  %s %s: %s\n", harmless(string(k.Artifact)), harmless(k.What), harmless(k.Detail))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if bad := v.Failed(); bad > 0 {
		return &gateError{exitUnverified, fmt.Sprintf("%d of %d checks failed", bad, len(v.Checks))}
	}
	if !e.global.JSON {
		fmt.Fprintf(e.out, "verified: %d checks passed, under the keys that %s gives\n", len(v.Checks), s.Server())
	}
	return nil
}

// lockOnServer adds to a verification whether the lock file here, if there is one,
// is what the server gives.
func (e *env) lockOnServer(s *client.Client, name string, v *api.Verification) error {
	b, err := os.ReadFile(filepath.Join(e.global.Dir, project.LockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", project.LockFile, err)
	}
	return s.VerifyLock(e.ctx, name, b, v)
}

func (c *exportEvidence) onServer(e *env) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	x, err := s.Export(e.ctx, cfg.Project, c.Artifact)
	if err != nil {
		return err
	}
	names, err := s.SaveExport(e.ctx, x, c.Output, c.Bare)
	if err != nil {
		return err
	}
	return e.showNames(names, c.Output)
}

// showNames lists the files of an export.
func (e *env) showNames(names []string, dir string) error {
	return e.print(names, func(w io.Writer) error {
		for _, n := range names {
			fmt.Fprintln(w, filepath.Join(dir, n))
		}
		return nil
	})
}

// onServer writes a document of the server's project.
func (o output) onServer(e *env, get func(s *client.Client, name string) ([]byte, error)) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	b, err := get(s, cfg.Project)
	if err != nil {
		return err
	}
	return o.write(e, b)
}

func (c *exportTrustedRoot) onServer(e *env) error {
	s, err := e.server()
	if err != nil {
		return err
	}
	b, err := s.TrustedRoot(e.ctx)
	if err != nil {
		return err
	}
	return c.write(e, b)
}

func (c *exportLog) onServer(e *env) error {
	s, cfg, err := e.onServer()
	if err != nil {
		return err
	}
	l, err := s.Log(e.ctx, cfg.Project, c.What)
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.print(l, nil)
	}
	text, err := s.LogText(e.ctx, cfg.Project, l.Build)
	if err != nil {
		return err
	}
	return c.show(e, app.BuildLog(l), text)
}
