package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/app"
	"hallmark/internal/client"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/record"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
)

// cli is the whole command line.
type cli struct {
	Global global `embed:""`

	Init      initCmd      `cmd:"" help:"Make a project here."`
	Install   installCmd   `cmd:"" help:"Add requirements: a new commit."`
	Uninstall uninstallCmd `cmd:"" help:"Take requirements out: a new commit."`
	Import    importCmd    `cmd:"" help:"Take over a lock file, a requirements file or a bill of materials: a new commit."`
	Branch    branchCmd    `cmd:"" help:"List, make, compare and remove the project's branches."`
	Builds    buildsCmd    `cmd:"" help:"Solve, build what is missing, show the status."`
	Status    statusCmd    `cmd:"" help:"Show the status from what is stored; a gate for CI."`
	Build     buildCmd     `cmd:"" help:"Build one package and all that it is built with."`
	Rebuild   rebuildCmd   `cmd:"" help:"Rerun an artifact's step and compare."`
	Verify    verifyCmd    `cmd:"" help:"Check digests, signatures, log, policy and closure."`
	Why       whyCmd       `cmd:"" help:"Say why an artifact is in its class."`
	History   historyCmd   `cmd:"" help:"List the project's commits."`
	Revert    revertCmd    `cmd:"" help:"Ask again for what an earlier commit asked for: a new commit."`
	Export    exportCmd    `cmd:"" help:"Write evidence, plan, log or trusted root."`
	Checkout  checkoutCmd  `cmd:"" help:"Install the project's runtime, verified, in a folder."`
	Exec      execCmd      `cmd:"" help:"Run a command in the project's runtime."`
	Shell     shellCmd     `cmd:"" help:"Work in the project's runtime."`
	Seed      seedCmd      `cmd:"" help:"Show the pinned binaries that the first build starts from."`
	Serve     serveCmd     `cmd:"" help:"Serve pages, API, registry, evidence and log."`
	Backup    backupCmd    `cmd:"" help:"Write a backup of the data directory; a server may run."`
	Restore   restoreCmd   `cmd:"" help:"Make a data directory of a backup."`
	Keys      keysCmd      `cmd:"" help:"List, rotate and revoke the keys of signer, log and time stamp."`
	Audit     auditCmd     `cmd:"" help:"The audit log: who did what, when."`
	Login     loginCmd     `cmd:"" help:"Keep a token for a server: read from standard input, never from the command line."`
	Logout    logoutCmd    `cmd:"" help:"Forget the token for a server."`
	Recipe    recipeCmd    `cmd:"" help:"Recipes of system libraries and language cores."`
	Fsck      fsckCmd      `cmd:"" help:"Check database, blobs and log against one another."`
}

// timeFlag is a catalog time: RFC 3339, or "now".
type timeFlag struct{ time.Time }

// UnmarshalText reads the flag.
func (t *timeFlag) UnmarshalText(b []byte) error {
	if string(b) == "now" {
		t.Time = time.Now()
		return nil
	}
	v, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("%q: want a time such as 2026-10-01T00:00:00Z, or now", b)
	}
	t.Time = v
	return nil
}

type initCmd struct {
	Project string   `arg:"" optional:"" name:"ORG/PROJECT" help:"The project's name; default: local and the folder's name."`
	AtTime  timeFlag `name:"at-time" help:"Catalog time: nothing published later is seen." default:"now" placeholder:"TIME"`
}

func (c *initCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	a, err := e.open(true)
	if err != nil {
		return err
	}
	defer a.Close()
	cfg, err := a.Init(e.ctx, e.global.Dir, c.Project, c.AtTime.Time)
	if err != nil {
		return err
	}
	return e.print(map[string]string{"project": cfg.Project, "at_time": cfg.AtTime}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Made project %s with the catalog as of %s.\nNext: hallmark install REQ…, then hallmark builds\n", cfg.Project, cfg.AtTime)
		return err
	})
}

type installCmd struct {
	Reqs   []string `arg:"" name:"REQ" help:"PEP 508 requirement, purl, or pypi:REQ."`
	AtTime timeFlag `name:"at-time" help:"Move the catalog time." placeholder:"TIME"`
}

func (c *installCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	return e.change(func(a *app.App) (digest.Digest, project.Commit, error) {
		return a.Install(e.ctx, e.global.Dir, c.Reqs, c.AtTime.Time)
	})
}

type uninstallCmd struct {
	Names []string `arg:"" name:"REQ" help:"Packages by name."`
}

func (c *uninstallCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	return e.change(func(a *app.App) (digest.Digest, project.Commit, error) {
		return a.Uninstall(e.ctx, e.global.Dir, c.Names)
	})
}

// change runs a change of the configuration and shows the commit.
func (e *env) change(f func(*app.App) (digest.Digest, project.Commit, error)) error {
	a, err := e.open(true)
	if err != nil {
		return err
	}
	defer a.Close()
	id, c, err := f(a)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"commit": "commit:" + id.String(), "requirements": c.Requirements, "at_time": c.AtTime}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "commit:%s\n  %s as of %s\nNext: %s\n", id, strings.Join(c.Requirements, ", "), c.AtTime, e.nextBuilds())
		return err
	})
}

func (e *env) show(d status.Document) error {
	return e.print(d, func(w io.Writer) error {
		width, color := e.width()
		return status.Render(w, d, width, color)
	})
}

// report opens the data directory and gives the status of the project here, with
// all that it rests on.
func (e *env) report(writer bool, more ...func(*app.Config)) (*app.App, *app.Report, error) {
	return e.project(writer, (*app.App).Status, more...)
}

// project opens the data directory and gives what look says of the newest commit of
// the project here.
func (e *env) project(writer bool, look func(*app.App, context.Context, digest.Digest) (*app.Report, error), more ...func(*app.Config)) (*app.App, *app.Report, error) {
	c, err := project.Load(e.global.Dir)
	if err != nil {
		return nil, nil, err
	}
	a, err := e.open(writer, more...)
	if err != nil {
		return nil, nil, err
	}
	id, _, err := a.Head(e.ctx, c.Project)
	if err == nil {
		var r *app.Report
		if r, err = look(a, e.ctx, id); err == nil {
			return a, r, nil
		}
	}
	a.Close()
	return nil, nil, err
}

type buildCmd struct {
	What   string   `arg:"" name:"PURL" help:"A package: pkg:pypi/NAME@VERSION, or a requirement."`
	AtTime timeFlag `name:"at-time" help:"Catalog time." default:"now" placeholder:"TIME"`
	Shell  bool     `help:"Open a shell in the root of its build in place of building it; ARTIFACTs of the project too."`
	buildFlags
}

// Run builds one package, or enters its build.
func (c *buildCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	if c.Shell {
		return e.enter(c.What, c.AtTime.Time, c.set)
	}
	a, err := e.open(true, c.set)
	if err != nil {
		return err
	}
	defer a.Close()
	rows, err := a.BuildOne(e.ctx, e.global.Dir, c.What, c.AtTime.Time)
	if err != nil {
		return err
	}
	return e.showBuilt(rows)
}

// showBuilt shows what came of the build of a package.
func (e *env) showBuilt(rows []app.BuiltRow) error {
	failed := ""
	err := e.print(rows, func(w io.Writer) error {
		for _, r := range rows {
			printBuilt(harmlessly{w}, r)
		}
		return nil
	})
	for _, r := range rows {
		if r.Asked && r.Status != string(record.Succeeded) {
			failed = r.Message
		}
	}
	if err == nil && failed != "" {
		return &gateError{exitFailed, failed}
	}
	return err
}

type rebuildCmd struct {
	Artifact string `arg:"" name:"ARTIFACT" help:"sha256:… (8 or more hex digits) or a purl."`
	Plan     string `help:"Rerun a step of this plan, in an empty data directory too." type:"existingfile" placeholder:"FILE"`
	timelineFlag
}

func (c *rebuildCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	var res *app.RebuildResult
	if c.Plan != "" {
		b, err := os.ReadFile(c.Plan)
		if err != nil {
			return err
		}
		a, err := e.open(true, c.set)
		if err != nil {
			return err
		}
		defer a.Close()
		if res, err = a.RebuildPlan(e.ctx, b, c.Artifact); err != nil {
			return err
		}
	} else {
		a, r, err := e.report(true, c.set)
		if err != nil {
			return err
		}
		defer a.Close()
		f, err := r.Find(c.Artifact)
		if err != nil {
			return err
		}
		if res, err = a.Rebuild(e.ctx, r, f); err != nil {
			return err
		}
	}
	return e.showRebuilt(res)
}

// showRebuilt shows what a rebuild came to; other bytes are exit code 4.
func (e *env) showRebuilt(res *app.RebuildResult) error {
	if err := e.print(res, func(w io.Writer) error { return printRebuild(harmlessly{w}, res) }); err != nil {
		return err
	}
	switch res.Outcome {
	case record.Identical:
		return nil
	case record.CouldNotBuild:
		return &gateError{exitFailed, "the rebuild failed"}
	}
	return &gateError{exitUnverified, "the rebuild gave other bytes (" + string(res.Outcome) + ")"}
}

func printRebuild(w io.Writer, res *app.RebuildResult) error {
	fmt.Fprintf(w, "%s: %s\n  %s\n  %s\n", res.PURL, res.Outcome, res.File, res.Digest)
	if first, second := res.Result.FirstRuntime, res.Result.SecondRuntime; first != "" || second != "" {
		fmt.Fprintf(w, "  %-16s %s / %s\n", "runtime", first, second)
	}
	for _, x := range res.Result.Axes {
		how := "not varied: " + x.Cause
		if x.Varied {
			how = x.First + " / " + x.Second
		}
		fmt.Fprintf(w, "  %-16s %s\n", x.Name, how)
	}
	for _, d := range res.Result.Differences {
		fmt.Fprintf(w, "  differs: %s (%s) %s\n", d.Path, d.What, d.Hint)
		if d.First != "" || d.Second != "" {
			fmt.Fprintf(w, "    first  %s\n    second %s\n", d.First, d.Second)
		}
	}
	if f := res.Result.Failure; f != nil {
		fmt.Fprintf(w, "  %s\n", f.Message)
		for _, l := range f.Log {
			fmt.Fprintf(w, "    %s\n", l)
		}
	}
	return nil
}

type verifyCmd struct {
	What    string `arg:"" name:"FILE|ARTIFACT|COMMIT" help:"A file (contains a / or exists), a checkout's folder, sha256:…, a purl, or commit:…; default: the project's newest commit." optional:""`
	Offline bool   `help:"Go to no network; nothing here does."`
}

func (c *verifyCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	if _, _, err := runtime.ReadDocument(c.What); c.What != "" && err == nil {
		return (&checkoutCmd{Dir: c.What}).verify(e)
	}
	// What is read is let go at once; little would be gained by looking for it often.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	a, r, err := e.report(false, func(cfg *app.Config) { cfg.Fresh = true })
	if err != nil {
		return err
	}
	defer a.Close()
	var v *api.Verification
	switch {
	case c.What == "" || strings.HasPrefix(c.What, "commit:"):
		if c.What != "" {
			id, err := project.ParseCommitID(c.What)
			if err != nil {
				return err
			}
			if r, err = a.Status(e.ctx, id); err != nil {
				return err
			}
		}
		if v, err = a.VerifyCommit(e.ctx, r); err == nil && c.What == "" {
			err = a.VerifyLock(e.ctx, e.global.Dir, v)
		}
	case isFile(c.What):
		v, err = a.VerifyFile(e.ctx, r, c.What)
	default:
		f, ferr := r.Find(c.What)
		if ferr != nil {
			return ferr
		}
		v, err = a.VerifyArtifact(e.ctx, r, f)
	}
	if err != nil {
		return err
	}
	return e.showVerification(v)
}

// showVerification says what a verification found; its error is the answer.
func (e *env) showVerification(v *api.Verification) error {
	err := e.print(v, func(w io.Writer) error {
		for _, k := range v.Checks {
			if !k.OK {
				fmt.Fprintf(w, "FAILED  %s %s: %s\n", k.Artifact, k.What, k.Detail)
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
		fmt.Fprintf(e.out, "verified: %d checks passed\n", len(v.Checks))
	}
	return nil
}

func isFile(s string) bool {
	if strings.Contains(s, "/") && !strings.HasPrefix(s, "pkg:") {
		return true
	}
	st, err := os.Stat(s)
	return err == nil && st.Mode().IsRegular()
}

type whyCmd struct {
	Artifact string `arg:"" optional:"" name:"ARTIFACT" help:"sha256:… or a purl."`
	Frontier bool   `help:"Say instead what of the whole closure was not built from source: in what runs, linked-in bytes too, and in what built it."`
}

// check tells what is asked for.
func (c *whyCmd) check() error {
	switch {
	case c.Frontier && c.Artifact != "":
		return fault.New(fault.Usage, "why --frontier is about the whole closure: leave out %.100q", c.Artifact)
	case !c.Frontier && c.Artifact == "":
		return fault.New(fault.Usage, "why: say of which artifact (hallmark why ARTIFACT), or --frontier")
	}
	return nil
}

// showFrontier shows a frontier.
func (e *env) showFrontier(f status.Frontier) error {
	return e.print(f, func(w io.Writer) error {
		for _, l := range f.Lines() {
			fmt.Fprintln(w, l)
		}
		return nil
	})
}

func (c *whyCmd) Run(e *env) error {
	if err := c.check(); err != nil {
		return err
	}
	if e.remote() {
		return c.onServer(e)
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	if c.Frontier {
		return e.showFrontier(r.Frontier())
	}
	hops, err := r.Why(c.Artifact)
	if err != nil {
		return err
	}
	return e.showHops(hops, r.Policy.URI)
}

type exportCmd struct {
	Evidence    exportEvidence    `cmd:"" help:"An artifact with all evidence about it."`
	Plan        exportPlan        `cmd:"" help:"The project's plan."`
	Log         exportLog         `cmd:"" help:"The whole log of a build."`
	SBOM        exportSBOM        `cmd:"" name:"sbom" help:"The closure as a bill of materials: CycloneDX or SPDX."`
	Report      exportReport      `cmd:"" name:"report" help:"What was proven, for an auditor, as JSON."`
	OCI         exportOCI         `cmd:"" name:"oci" help:"The runtime as an OCI image."`
	Tar         exportTar         `cmd:"" name:"tar" help:"The runtime as one tar."`
	TrustedRoot exportTrustedRoot `cmd:"" name:"trusted-root" help:"The keys of log and time stamp, for stock verifiers."`
}

type exportEvidence struct {
	Artifact string `arg:"" name:"ARTIFACT" help:"sha256:… or a purl."`
	Output   string `short:"o" required:"" help:"Folder to write to." placeholder:"DIR"`
	Bare     bool   `name:"without-file" help:"Leave out the artifact itself: its evidence is open to every tier."`
}

func (c *exportEvidence) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	f, err := r.Find(c.Artifact)
	if err != nil {
		return err
	}
	names, err := a.ExportEvidence(e.ctx, r, f, c.Output, c.Bare)
	if err != nil {
		return err
	}
	return e.showNames(names, c.Output)
}

// output is where an export of one document goes.
type output struct {
	Output string `short:"o" help:"File to write to; default: standard output." placeholder:"FILE"`
}

func (o output) write(e *env, b []byte) error {
	if o.Output == "" || o.Output == "-" {
		_, err := e.out.Write(b)
		return err
	}
	return os.WriteFile(o.Output, b, 0o644)
}

type exportPlan struct {
	output `embed:""`
}

func (c *exportPlan) Run(e *env) error {
	if e.remote() {
		return c.onServer(e, func(s *client.Client, name string) ([]byte, error) { return s.Plan(e.ctx, name) })
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	_, b, err := r.Solved.Plan.Digest()
	if err != nil {
		return err
	}
	return c.write(e, b)
}

type exportTrustedRoot struct {
	output `embed:""`
}

func (c *exportTrustedRoot) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	a, err := e.open(false)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := a.TrustedRoot()
	if err != nil {
		return err
	}
	return c.write(e, b)
}

type seedCmd struct {
	List   seedList   `cmd:"" default:"1" help:"List the seed's packages with digests and bytes."`
	Update seedUpdate `cmd:"" help:"Resolve a candidate from the machine's signed archive and show what differs."`
}

type seedList struct{}

func (c *seedList) Run(e *env) error {
	s, err := e.seed()
	if err != nil {
		return err
	}
	return e.print(s, func(w io.Writer) error {
		for _, p := range s.Packages {
			fmt.Fprintf(w, "sha256:%s %10d %s %s\n", harmless(p.SHA256), p.Size, harmless(p.Name), harmless(p.Version))
		}
		fmt.Fprintf(w, "%d packages, %d bytes", len(s.Packages), s.Fetched)
		if s.Installed > 0 {
			fmt.Fprintf(w, ", %d bytes unpacked", s.Installed)
		}
		_, err := fmt.Fprintf(w, "\nset %s (%s)\n", harmless(s.Digest.String()), harmless(s.Suite))
		return err
	})
}

// seed is the server's seed, or that of this program.
func (e *env) seed() (app.SeedInfo, error) {
	if e.remote() {
		s, err := e.server()
		if err != nil {
			return app.SeedInfo{}, err
		}
		return s.Seed(e.ctx)
	}
	a, err := e.open(false)
	if fault.Is(err, fault.NotFound) {
		a, err = e.open(true)
	}
	if err != nil {
		return app.SeedInfo{}, err
	}
	defer a.Close()
	return a.Seed()
}

type seedUpdate struct {
	Output string `short:"o" help:"Folder for candidate, diff and signed index." default:"seed-candidate" placeholder:"DIR"`
}

func (c *seedUpdate) Run(e *env) error {
	s, err := e.seedCandidate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Output, 0o755); err != nil {
		return err
	}
	for name, b := range map[string][]byte{"bookworm.json": s.Pin, "diff.txt": []byte(s.Diff.Text()), "InRelease": s.InRelease, "Packages": s.Packages} {
		if err := os.WriteFile(filepath.Join(c.Output, name), b, 0o644); err != nil {
			return err
		}
	}
	return e.print(map[string]any{"candidate": s.Candidate, "folder": c.Output, "diff": s.Diff}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%scandidate %s in %s\nNothing that is built on it can be secure before a policy names its digest.\n", harmless(s.Diff.Text()), s.Candidate, c.Output)
		return err
	})
}

// seedCandidate resolves a seed as the server's machine, or this one, has it now.
func (e *env) seedCandidate() (api.SeedCandidate, error) {
	if e.remote() {
		s, err := e.server()
		if err != nil {
			return api.SeedCandidate{}, err
		}
		return s.SeedCandidate(e.ctx)
	}
	return app.SeedCandidate(e.ctx)
}
