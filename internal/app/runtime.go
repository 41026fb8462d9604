package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	layered "hallmark/internal/runtime"
	"hallmark/internal/sbom"
	"hallmark/internal/status"
)

// layerSuffix ends the names of files that are layers.
const layerSuffix = ".layer.tar"

// pythonRecipe is the package whose layer brings the interpreter that wheels are laid
// out for.
const pythonRecipe = "python"

// Runtime is what a commit installs, ready to be read. Close it.
type Runtime struct {
	layered.Spec
	tmp string
}

// Close removes what was made to be read.
func (r *Runtime) Close() error {
	if r.tmp == "" {
		return nil
	}
	return os.RemoveAll(r.tmp)
}

// Runtime gives what the commit of a report installs: its layers as they are stored,
// each wheel laid out as a layer for the runtime's own Python. fault.Conflict where
// something of the plan cannot be installed, or nothing in it brings a root to run in;
// fault.Denied where the project demands more than is proven.
func (a *App) Runtime(ctx context.Context, r *Report) (_ *Runtime, err error) {
	fail := func(err error) (*Runtime, error) {
		return nil, fmt.Errorf("the runtime of %s: %w", r.Document.Project, err)
	}
	if err := a.mayInstall(ctx, r); err != nil {
		return fail(err)
	}
	created, err := time.Parse(time.RFC3339, r.Solved.Plan.AtTime)
	if err != nil {
		return fail(fault.New(fault.Corrupt, "the plan's time: %w", err))
	}
	rt := &Runtime{Spec: layered.Spec{Platform: r.Solved.Plan.Platform, Env: []string{"PATH=" + layered.DefaultPath, "LANG=C.UTF-8"}, Created: created,
		Name: r.Document.Project, Commit: r.CommitID, Plan: r.Solved.ID, Direct: r.Solved.Plan.Requirements}}
	defer func() {
		if err != nil {
			rt.Close()
		}
	}()
	var wheels []status.Row
	python := false
	for _, row := range r.Document.Artifacts {
		switch {
		case pypi.IsPortable(row.PURL): // for machines without the runtime
		case row.Digest == nil || row.File == nil:
			return fail(missing(r, row))
		case row.PURL.Type() == "generic" && strings.HasSuffix(*row.File, layerSuffix):
			l, err := a.layer(row)
			if err != nil {
				return fail(err)
			}
			rt.Layers = append(rt.Layers, l)
			python = python || row.PURL.Name() == pythonRecipe
		case row.PURL.Type() == "pypi" && strings.HasSuffix(*row.File, ".whl"):
			wheels = append(wheels, row)
		default:
			return fail(fault.New(fault.Unsupported, "%s is served as %s, which has no place in a runtime", row.PURL, *row.File))
		}
	}
	switch {
	case len(rt.Layers) == 0:
		return fail(fault.Advise(fault.Conflict, "Add what they run on: hallmark install sys:python@3.11, then hallmark builds. For a Python that is there, the project's registry serves them to pip.",
			"its plan has packages alone and nothing below them, so that there is no root to run in"))
	case len(wheels) > 0 && !python:
		return fail(fault.Advise(fault.Conflict, "Add one: hallmark install sys:python@3.11, then hallmark builds.",
			"it has %d Python packages (%s …) and no Python", len(wheels), wheels[0].PURL))
	}
	for _, row := range wheels {
		l, err := a.wheelLayer(ctx, rt, row)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", row.PURL, err))
		}
		rt.Layers = append(rt.Layers, l)
	}
	return rt, nil
}

// mayInstall asks what the project demands of what leaves the house.
func (a *App) mayInstall(ctx context.Context, r *Report) error {
	org, name, err := project.ParseName(r.Document.Project)
	if err != nil {
		return err
	}
	set, err := a.Store.Settings(ctx, org, name)
	if err != nil {
		return err
	}
	if s := r.Document.Summary; set.RequireSecure && s.Community > 0 {
		return fault.Advise(fault.Denied, "hallmark status lists what is not; its page of ways out says what can be done.",
			"the project requires 100 %% secure, and %d of its %d artifacts are not", s.Community, s.Artifacts)
	}
	return nil
}

// missing is why there is no file of a row.
func missing(r *Report, row status.Row) error {
	why := "nothing of it is stored"
	if len(row.Reasons) > 0 {
		why = strings.TrimSuffix(row.Reasons[0].Message, ".")
	}
	if r.Commit.OnUnproven == project.Refuse {
		return fault.Advise(fault.Denied, "hallmark why "+string(row.PURL), "%s is refused: the project takes nothing that is not proven (%s)", row.PURL, why)
	}
	return fault.Advise(fault.Conflict, "hallmark why "+string(row.PURL)+" says it; hallmark builds --retry tries again.", "there is no file for %s: %s", row.PURL, why)
}

// layer is an artifact that is one.
func (a *App) layer(row status.Row) (layered.Layer, error) {
	size, err := a.Blobs.Size(*row.Digest)
	if err != nil {
		return layered.Layer{}, err
	}
	d := *row.Digest
	return layered.Layer{PURL: row.PURL, File: *row.File, Artifact: d, Digest: d, Size: size,
		Open: func() (layered.File, error) { return a.Blobs.Open(d) }}, nil
}

// wheelLayer lays a wheel out where the runtime's Python looks for it, as a layer, which
// depends on the wheel's bytes and the interpreter's version alone. Nothing is
// compiled and nothing of it is run.
func (a *App) wheelLayer(ctx context.Context, rt *Runtime, row status.Row) (layered.Layer, error) {
	scheme, err := pypi.RuntimeScheme(rt.Platform.Interpreter)
	if err != nil {
		return layered.Layer{}, err
	}
	if err := ctx.Err(); err != nil {
		return layered.Layer{}, err
	}
	if rt.tmp == "" {
		if rt.tmp, err = os.MkdirTemp("", "hallmark-runtime-"); err != nil {
			return layered.Layer{}, err
		}
	}
	work := filepath.Join(rt.tmp, row.Digest.Hex())
	if err := os.Mkdir(work, 0o700); err != nil {
		return layered.Layer{}, err
	}
	if err := pypi.CheckFileName(*row.File); err != nil {
		return layered.Layer{}, err
	}
	wheel, tree, file := filepath.Join(work, *row.File), filepath.Join(work, "tree"), filepath.Join(work, "layer.tar")
	if err := a.copyBlob(*row.Digest, wheel); err != nil {
		return layered.Layer{}, err
	}
	if _, err := pypi.InstallWheel(wheel, tree, scheme); err != nil {
		return layered.Layer{}, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return layered.Layer{}, err
	}
	info, err := archive.WriteLayer(tree, f, pypi.LayerTime)
	if err = errors.Join(err, f.Close(), os.Remove(wheel), os.RemoveAll(tree)); err != nil {
		return layered.Layer{}, err
	}
	return layered.Layer{PURL: row.PURL, File: *row.File, Artifact: *row.Digest, Digest: info.Digest, Size: info.Size,
		Open: func() (layered.File, error) { return os.Open(file) }}, nil
}

// copyBlob copies a blob, held against its digest, into a new file.
func (a *App) copyBlob(d digest.Digest, name string) error {
	in, err := a.Blobs.Open(d)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, digest.NewReader(in, d, maxSource))
	return errors.Join(err, out.Close())
}

// Checkout is what an installed runtime came to.
type Checkout struct {
	Dir     string          `json:"dir"`
	Outcome layered.Outcome `json:"outcome"`
	Commit  string          `json:"commit"`
	Layers  int             `json:"layers"`
	Files   int             `json:"files"`
	Bytes   int64           `json:"bytes"`
	Summary status.Summary  `json:"summary"`
}

// Checkout installs the runtime of a report's commit in dir, after everything that is
// claimed about the commit was verified; fault.Unverified if something did not. An
// installed runtime that nobody changed is replaced; one that was only with force.
func (a *App) Checkout(ctx context.Context, r *Report, dir string, force bool) (*Checkout, error) {
	if err := a.verified(ctx, r); err != nil {
		return nil, fmt.Errorf("check out %s: %w", r.Document.Project, err)
	}
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	papers, err := a.papers(ctx, r)
	if err != nil {
		return nil, err
	}
	in, err := layered.Install(ctx, rt.Spec, dir, papers, force)
	if err != nil {
		return nil, err
	}
	return &Checkout{in.Dir, in.Outcome, r.Document.Commit, len(rt.Layers), in.Index.Files, in.Index.Bytes, r.Document.Summary}, nil
}

// verified is an error if something that is claimed about a commit does not verify.
func (a *App) verified(ctx context.Context, r *Report) error {
	v, err := a.VerifyCommit(ctx, r)
	if err != nil {
		return err
	}
	for _, c := range v.Checks {
		if !c.OK {
			return fault.Advise(fault.Unverified, "hallmark verify lists them all.", "%d of %d checks failed: %s %s: %s", v.Failed(), len(v.Checks), c.Artifact, c.What, c.Detail)
		}
	}
	return nil
}

// Names of what lies beside an installed runtime's document.
const (
	planPaper      = "plan.json"
	cycloneDXPaper = "sbom.cyclonedx.json"
	spdxPaper      = "sbom.spdx.json"
)

// papers are the documents that go with an installed runtime.
func (a *App) papers(ctx context.Context, r *Report) (map[string][]byte, error) {
	_, plan, err := r.Solved.Plan.Digest()
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{planPaper: plan}
	for name, f := range map[string]sbom.Format{cycloneDXPaper: sbom.CycloneDX, spdxPaper: sbom.SPDX} {
		if out[name], err = a.SBOM(ctx, r, f); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Cached gives the folder of the commit's runtime in the data directory, installed as
// Checkout does if it is not there.
func (a *App) Cached(ctx context.Context, r *Report) (string, error) {
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return "", err
	}
	defer rt.Close()
	id, err := rt.ID()
	if err != nil {
		return "", err
	}
	dir := a.cacheFile(filepath.Join("runtimes", id.Hex()))
	if _, doc, err := layered.ReadDocument(dir); err == nil && doc.Plan == rt.Plan {
		return dir, nil
	}
	if err := a.verified(ctx, r); err != nil {
		return "", fmt.Errorf("run in the runtime of %s: %w", r.Document.Project, err)
	}
	papers, err := a.papers(ctx, r)
	if err != nil {
		return "", err
	}
	_, err = layered.Install(ctx, rt.Spec, dir, papers, true)
	return dir, err
}

// VerifyCheckout checks an installed runtime: everything that is claimed about its
// commit, that it says of itself what that commit installs, and that every file in it is
// as the layers have it.
func (a *App) VerifyCheckout(ctx context.Context, dir string) (*api.Verification, error) {
	have, doc, err := layered.ReadDocument(dir)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	id, err := project.ParseCommitID(doc.Commit)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	r, err := a.Status(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("verify %s: its commit: %w", dir, err)
	}
	v, err := a.VerifyCommit(ctx, r)
	if err != nil {
		return nil, err
	}
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	ix, err := rt.Index(ctx)
	if err != nil {
		return nil, err
	}
	want, files, err := rt.Document(ix)
	if err != nil {
		return nil, err
	}
	same := func(what string, have, want []byte, err error) {
		if err == nil && !slices.Equal(have, want) {
			err = errors.New("it is not: it was changed, or another file is served since; hallmark checkout brings it up to date")
		}
		v.Add("", what, err)
	}
	same(layered.DocumentFile+" says what the commit installs", have, want, nil)
	list, err := layered.ReadOwn(dir, layered.FilesFile)
	same(layered.FilesFile+" lists its files", list, files, err)
	_, plan, err := r.Solved.Plan.Digest()
	if err != nil {
		return nil, err
	}
	paper, err := layered.ReadOwn(dir, planPaper)
	same(planPaper+" is the commit's plan", paper, plan, err)
	diff, err := layered.Compare(ctx, dir, ix)
	if err != nil {
		return nil, err
	}
	for _, d := range diff {
		u := purl.PURL("")
		if e, ok := ix.Find(d.Path); ok {
			u = rt.Layers[e.Layer].PURL
		}
		text := d.What
		if d.Detail != "" {
			text += ": " + d.Detail
		}
		v.Add(u, fmt.Sprintf("installed %q", d.Path), errors.New(text))
	}
	if len(diff) == 0 {
		v.Add("", fmt.Sprintf("%d files are as %d layers have them", ix.Files, len(rt.Layers)), nil)
	}
	return v, nil
}

// WriteRuntime writes the runtime of a report's commit: "oci" an image as one file,
// "tar" the merged root.
func (a *App) WriteRuntime(ctx context.Context, r *Report, format string, w io.Writer) error {
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return err
	}
	defer rt.Close()
	return rt.Write(ctx, format, w)
}

// WriteImage writes the image of a report's commit as an OCI layout into a folder, and
// gives its digest.
func (a *App) WriteImage(ctx context.Context, r *Report, dir string) (digest.Digest, error) {
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return "", err
	}
	defer rt.Close()
	ix, err := rt.Index(ctx)
	if err != nil {
		return "", err
	}
	im, err := rt.Image(ix)
	if err != nil {
		return "", err
	}
	return im.Digest, im.WriteLayout(ctx, dir)
}

// Runtime is server.Runtimes's.
func (b Backend) Runtime(ctx context.Context, commit digest.Digest) (layered.Spec, func() error, error) {
	r, err := b.a.kept().deep(ctx, commit)
	if err != nil {
		return layered.Spec{}, nil, err
	}
	rt, err := b.a.Runtime(ctx, r)
	if err != nil {
		return layered.Spec{}, nil, err
	}
	return rt.Spec, rt.Close, nil
}

// Runtime is server.Runtimes's: the opening is held until done.
func (b hostedBackend) Runtime(ctx context.Context, commit digest.Digest) (layered.Spec, func() error, error) {
	o, err := b.c.take()
	if err != nil {
		return layered.Spec{}, nil, err
	}
	spec, done, err := o.App.Backend().Runtime(ctx, commit)
	if err != nil {
		b.c.give(o)
		return spec, done, err
	}
	return spec, sync.OnceValue(func() error {
		defer b.c.give(o)
		return done()
	}), nil
}
