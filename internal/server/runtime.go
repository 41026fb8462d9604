package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/project"
	"hallmark/internal/runtime"
	"hallmark/internal/status"
)

// Runtimes gives what commits install.
type Runtimes interface {
	// Runtime is what a commit installs; done is called when nothing of it is read any
	// more. fault.Conflict, with advice, if something of the plan cannot be installed or
	// nothing in it brings a root.
	Runtime(ctx context.Context, commit digest.Digest) (spec runtime.Spec, done func() error, err error)
}

// Bounds of requests that have a whole runtime read and written.
const (
	runtimesAll  = 8 // at a time
	runtimesEach = 2 // at a time of one user
)

func newRuntimes() *heavies {
	return &heavies{most: runtimesAll, each: runtimesEach, of: map[string]int{}, says: func() error {
		return fault.Advise(fault.Unavailable, "Try again in a while, one download after the other.", "too many runtimes are being written at the same time")
	}}
}

// runtimeNames are the ends of the names of runtimes, as files.
var runtimeNames = map[string]string{runtime.FormatOCI: "oci.tar", runtime.FormatTar: "tar"}

// runtimeView is what a project's page says of its runtime.
type runtimeView struct {
	OCI, Tar string   // addresses; empty: the gate refuses
	Layers   int      // system layers in it
	Why      []string // what the gate said
}

// runtimeOf says what there is of a project's runtime; nil if its plan brings no root.
func runtimeOf(doc status.Document, t takes, at string) *runtimeView {
	v := &runtimeView{}
	said := map[string]bool{}
	for _, row := range doc.Artifacts {
		if pypi.IsPortable(row.PURL) {
			continue
		}
		if row.Digest == nil || row.File == nil {
			return nil // the row says why
		}
		if isLayer(row) {
			v.Layers++
		}
		if why := t.refused(row); why != "" && !said[string(row.Class)] {
			said[string(row.Class)] = true
			v.Why = append(v.Why, strings.TrimSuffix(why, ".")+".")
		}
	}
	if v.Layers == 0 {
		return nil
	}
	if len(v.Why) == 0 {
		base := (&url.URL{Path: "/" + doc.Project + "/runtime."}).String()
		v.OCI, v.Tar = base+runtimeNames[runtime.FormatOCI]+at, base+runtimeNames[runtime.FormatTar]+at
	}
	return v
}

// isLayer tells whether a row's file is a layer of a root.
func isLayer(row status.Row) bool {
	return row.PURL.Type() == "generic" && strings.HasSuffix(*row.File, ".layer.tar")
}

// runtimeFile streams what the project's newest commit installs, as an image or as one
// tar. All of it goes through the gate: where one artifact is refused there is no
// runtime. Every layer is read against its digest before the first byte is sent, and
// while it is sent; an answer that cannot be finished is broken off.
func (s *Server) runtimeFile(format string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
		p, err := s.open(ctx, org, name)
		if err != nil {
			s.failPage(w, r, err)
			return
		}
		for _, row := range p.Document.Artifacts {
			if row.Digest == nil || pypi.IsPortable(row.PURL) {
				continue // not there, or no part of the runtime
			}
			if err := s.take(ctx, org, name, row); err != nil {
				s.failPage(w, r, err)
				return
			}
		}
		end, err := s.runtimes.begin(watching(asks(ctx)))
		if err != nil {
			s.failPage(w, r, err)
			return
		}
		defer end()
		if err := s.sendRuntime(w, r, p, format); err != nil {
			s.failPage(w, r, err)
		}
	}
}

// sendRuntime answers with a runtime. What it returns went wrong before anything was
// sent.
func (s *Server) sendRuntime(w http.ResponseWriter, r *http.Request, p *Project, format string) error {
	ctx := r.Context()
	commit, err := project.ParseCommitID(p.Document.Commit)
	if err != nil {
		return err
	}
	spec, done, err := s.backend.Runtime(ctx, commit)
	if err != nil {
		return err
	}
	defer func() {
		if err := done(); err != nil {
			s.opts.Log.Error("after a runtime was read", "project", p.Document.Project, "error", err)
		}
	}()
	ix, err := spec.Index(ctx)
	if err != nil {
		return err
	}
	image, err := spec.Image(ix)
	if err != nil {
		return err
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s-%s.%s"`, r.PathValue("org"), r.PathValue("project"), shorten(p.Document.Commit), runtimeNames[format]))
	if format == runtime.FormatOCI {
		h.Set("Docker-Content-Digest", image.Digest.String()) // as a registry names a manifest
	}
	if r.Method == http.MethodHead {
		return nil
	}
	out := bufio.NewWriterSize(w, 256<<10)
	if format == runtime.FormatOCI {
		err = image.WriteArchive(ctx, out)
	} else {
		err = spec.WriteTar(ctx, ix, out)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		if ctx.Err() == nil {
			s.opts.Log.Error("a runtime broke off", "project", p.Document.Project, "error", err)
		}
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
	s.metrics.files.Add(int64(len(spec.Layers)))
	return nil
}
