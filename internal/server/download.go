package server

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// takes says, for one asker and project, which artifacts' bytes are refused: the
// gate's answer depends on the class, so it is asked once for each. What is community
// by what it rests on alone has an entry of its own, under its digest, if it is secure
// elsewhere and secure ones are refused.
type takes map[policy.Class]refusal

// restsClass is what the gate says of secure artifacts, if there is one that may be
// one elsewhere.
const restsClass policy.Class = "rests"

// refusal is the gate's answer for one artifact of a class.
type refusal struct {
	of  purl.PURL
	err error // nil: it may be taken
}

// takesOf asks the gate for the classes that a document has.
func (s *Server) takesOf(ctx context.Context, p *Project) takes {
	t := takes{}
	org, name, _ := strings.Cut(p.Document.Project, "/")
	for _, row := range p.Document.Artifacts {
		if row.Digest == nil || s.opts.Platform == nil {
			continue
		}
		if _, ok := t[row.Class]; !ok {
			t[row.Class] = refusal{row.PURL, s.takeAs(ctx, org, name, row, secure(row))}
		}
		if !rests(row) {
			continue
		}
		r, ok := t[restsClass]
		if !ok {
			r = refusal{row.PURL, s.takeAs(ctx, org, name, row, true)}
			t[restsClass] = r
		}
		if r.err != nil && p.elsewhere(row) {
			t[policy.Class(*row.Digest)] = r
		}
	}
	return t
}

// refused is why a row's bytes are refused, in a sentence; empty: they are not.
func (t takes) refused(row status.Row) string {
	r := t[row.Class]
	if row.Digest != nil {
		if own, ok := t[policy.Class(*row.Digest)]; ok {
			r = own
		}
	}
	switch {
	case r.err == nil:
		return ""
	case fault.KindOf(r.err) == "":
		return "It cannot be taken now."
	}
	text, _, _ := strings.Cut(r.err.Error(), "\n")
	return strings.ReplaceAll(text, string(r.of), string(row.PURL))
}

// bundleView is what a project's page says of the archive of all files.
type bundleView struct {
	URL     string
	Files   int      // that are in it
	Left    int      // that the gate leaves out
	Missing int      // of which nothing is there
	Why     []string // what the gate said, each sentence once
}

// bundle counts what the archive would have.
func (s *Server) bundle(doc status.Document, t takes) bundleView {
	v := bundleView{URL: (&url.URL{Path: "/" + doc.Project + "/files.zip"}).String()}
	said := map[policy.Class]bool{}
	for _, row := range doc.Artifacts {
		switch why := t.refused(row); {
		case row.Digest == nil || row.File == nil:
			v.Missing++
		case why == "":
			v.Files++
		default:
			v.Left++
			if !said[row.Class] {
				said[row.Class] = true
				word := "Secure"
				if row.Class != policy.Secure {
					word = "Community"
				}
				v.Why = append(v.Why, word+" artifacts are left out: "+strings.TrimSuffix(why, ".")+".")
			}
		}
	}
	return v
}

// filesZip streams all files of a project's newest commit that whoever asks may
// have, with the evidence about all of them. What was left out, and why, stands in
// the archive's README. Each file is read through its digest; one that is not what
// it should be ends the answer, so that the client sees a broken archive and not a
// wrong one.
func (s *Server) filesZip(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	p, err := s.open(ctx, org, name)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	doc := p.Document
	// Each file is asked for, until one of its class is refused: a refusal holds for
	// the class, and saying it again is dear.
	gate, no := map[int]string{}, takes{}
	for i, row := range doc.Artifacts {
		key := row.Class
		if rests(row) {
			key = policy.Class(*row.Digest)
		}
		if _, refused := no[key]; row.Digest == nil || row.File == nil || refused {
			gate[i] = no.refused(row)
			continue
		}
		if err := s.take(ctx, org, name, row); fault.Is(err, fault.Denied) {
			no[key] = refusal{row.PURL, err}
			gate[i] = no.refused(row)
		} else if err != nil {
			s.failPage(w, r, err)
			return
		}
	}
	root, err := s.backend.TrustedRoot(ctx)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	document, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
		s.failPage(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s-%s.zip"`, org, name, shorten(doc.Commit)))
	if r.Method == http.MethodHead {
		return
	}
	b := &bundler{ctx: ctx, s: s, z: zip.NewWriter(w), at: p.Created}
	b.document(document, root)
	for i, row := range doc.Artifacts {
		b.artifact(row, gate[i])
	}
	b.finish(doc)
	if b.err == nil {
		b.err = b.z.Close()
	}
	if b.err != nil {
		if ctx.Err() == nil {
			s.opts.Log.Error("an archive of files broke off", "project", doc.Project, "error", b.err)
		}
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// bundler writes the archive of a commit's files. After an error it does nothing.
type bundler struct {
	ctx     context.Context
	s       *Server
	z       *zip.Writer
	at      time.Time // of all entries
	err     error
	sums    strings.Builder
	left    strings.Builder
	taken   int
	skipped int
}

// add writes one entry and its line in SHA256SUMS.
func (b *bundler) add(name string, method uint16, in io.Reader, want digest.Digest) {
	if b.err != nil {
		return
	}
	out, err := b.z.CreateHeader(&zip.FileHeader{Name: name, Method: method, Modified: b.at.UTC()})
	if err != nil {
		b.err = err
		return
	}
	got, _, err := digest.FromReader(io.TeeReader(in, out))
	switch {
	case err != nil:
		b.err = fmt.Errorf("%s: %w", name, err)
	case want != "" && got != want:
		b.err = fault.New(fault.Corrupt, "%s: its bytes have the digest %s, not %s", name, got, want)
	default:
		fmt.Fprintf(&b.sums, "%s  %s\n", got.Hex(), name)
	}
}

func (b *bundler) text(name, content string) {
	b.add(name, zip.Deflate, strings.NewReader(content), "")
}

func (b *bundler) document(document, root []byte) {
	b.text("status.json", string(document)+"\n")
	b.text("trusted_root.json", string(root))
}

// artifact writes a row's file, unless something refused it, and the evidence about
// it.
func (b *bundler) artifact(row status.Row, refused string) {
	if b.err != nil {
		return
	}
	if row.Digest == nil || row.File == nil || pypi.CheckFileName(*row.File) != nil {
		fmt.Fprintf(&b.left, "  %s: there is no file\n", row.PURL)
		b.skipped++
		return
	}
	if refused != "" {
		fmt.Fprintf(&b.left, "  %s: %s\n", *row.File, refused)
		b.skipped++
	} else {
		f, err := b.s.backend.Open(b.ctx, *row.Digest)
		if err != nil {
			b.err = err
			return
		}
		b.add("files/"+*row.File, zip.Store, f, *row.Digest)
		f.Close()
		b.taken++
		b.s.metrics.files.Add(1)
	}
	evidence, err := b.s.backend.Evidence(b.ctx, *row.Digest, b.s.mayHave(b.ctx))
	if err != nil {
		b.err = err
		return
	}
	for _, e := range evidence {
		if b.err != nil || strings.ContainsAny(e.Name, `/\`) {
			return
		}
		doc, err := b.s.backend.EvidenceFile(b.ctx, *row.Digest, e.Name, b.s.mayHave(b.ctx))
		if err != nil {
			b.err = err
			return
		}
		b.text("evidence/"+*row.File+"/"+e.Name, string(doc))
	}
}

// finish writes what describes the rest.
func (b *bundler) finish(doc status.Document) {
	left := ""
	if b.skipped > 0 {
		left = "\nLeft out:\n\n" + b.left.String()
	}
	summary := doc.Summary
	b.text("README.txt", fmt.Sprintf(`%s, %s

%s secure: %s
Policy %s. status.json says it for every package.

  files/           %d files as they are served, for pip install --no-index --find-links files
  evidence/FILE/   what is signed about each
  SHA256SUMS       of everything here but itself; check with: sha256sum --check --ignore-missing SHA256SUMS
  trusted_root.json  the keys of log and time stamp, for cosign
%s
The key that signs is not in here: a key proves who signed only if you have it
from somebody you trust. Ask the server for it, at the address that verifier.id
in a summary names, or export it: hallmark export evidence PURL -o DIR
`, doc.Project, doc.Commit, summary.Percent(), summary.Sentence(), doc.Policy, b.taken, left))
	sums := b.sums.String()
	b.text("SHA256SUMS", sums)
}
