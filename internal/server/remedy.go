package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/store"
)

// remedyRoutes are the pages about what can be done, and a project's documents for
// elsewhere.
func (s *Server) remedyRoutes(orgs *http.ServeMux) {
	orgs.HandleFunc("POST /{org}/{project}/-/effect", s.post(s.postEffect))
	orgs.HandleFunc("GET /{org}/{project}/effect/{key}", s.effectPage)
	orgs.HandleFunc("POST /{org}/{project}/-/apply", s.post(s.postApply))
	orgs.HandleFunc("GET /{org}/{project}/remedies", s.remediesPage)
	orgs.HandleFunc("POST /{org}/{project}/-/fix-all", s.post(s.postFixAll))
	orgs.HandleFunc("GET /{org}/{project}/report", s.reportPage)
	orgs.HandleFunc("GET /{org}/{project}/report.json", s.reportJSON)
	orgs.HandleFunc("GET /{org}/{project}/status.csv", s.statusCSV)
	orgs.HandleFunc("GET /{org}/{project}/status.sarif", s.statusSARIF)
	orgs.HandleFunc("GET /{org}/{project}/sbom.cyclonedx.json", s.sbomFile(sbom.CycloneDX))
	orgs.HandleFunc("GET /{org}/{project}/sbom.spdx.json", s.sbomFile(sbom.SPDX))
}

// maxChange bounds what a form may say of a change, in bytes, and in packages.
const (
	maxChange         = 256 << 10
	maxChangePackages = 5000
)

// ParseChange reads a change as a page sends it back: JSON without unknown fields.
// Anything else is fault.Usage.
func ParseChange(text string) (platform.Change, error) {
	var ch platform.Change
	if len(text) > maxChange {
		return ch, fault.New(fault.Usage, "a change of %d bytes: at most %d", len(text), maxChange)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&ch); err != nil {
		return platform.Change{}, fault.New(fault.Usage, "the change cannot be read: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return platform.Change{}, fault.New(fault.Usage, "the change cannot be read: something follows it")
	}
	if len(ch.Add)+len(ch.Remove) > maxChangePackages {
		return platform.Change{}, fault.New(fault.Usage, "a change of %d packages: at most %d", len(ch.Add)+len(ch.Remove), maxChangePackages)
	}
	return ch, nil
}

// readChange reads what a form of the configuration asks for. A field that stands as
// it was is no change.
func (s *Server) readChange(ctx context.Context, r *http.Request, f url.Values) (platform.Change, digest.Digest, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	ch := platform.Change{Add: strings.Fields(f.Get("add")), Remove: f["remove"], OnUnproven: f.Get("on_unproven"), Message: f.Get("message")}
	if f.Has("requirement") { // one that may hold blanks
		ch.Add = nil
		for _, line := range strings.Split(f.Get("requirement"), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				ch.Add = append(ch.Add, line)
			}
		}
	}
	switch t := f.Get("at_time"); t {
	case "":
	case "now":
		now := time.Now().UTC().Truncate(time.Second)
		ch.AtTime = &now
	default:
		at, err := parseTime(t)
		if err != nil {
			return ch, "", err
		}
		ch.AtTime = &at
	}
	var old digest.Digest
	if h := f.Get("head"); h != "" {
		var err error
		if old, err = digest.Parse(h); err != nil {
			return ch, "", err
		}
	}
	if c, err := s.opts.Platform.History(ctx, asks(ctx).Who, org, name, BranchOf(ctx), 1); err == nil && len(c) == 1 {
		if c[0].OnUnproven == ch.OnUnproven {
			ch.OnUnproven = ""
		}
		if ch.AtTime != nil && c[0].AtTime == ch.AtTime.UTC().Format(time.RFC3339) {
			ch.AtTime = nil
		}
	}
	return ch, old, nil
}

// postEffect begins to find out what a change would bring.
func (s *Server) postEffect(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	ch, _, err := s.readChange(ctx, r, f)
	if err != nil {
		return "", err
	}
	return s.toEffect(ctx, r, ch)
}

func (s *Server) toEffect(ctx context.Context, r *http.Request, ch platform.Change) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	key, err := s.opts.Platform.StartPreview(ctx, asks(ctx).Who, org, name, BranchOf(ctx), ch)
	return "/" + org + "/" + name + "/effect/" + key, err
}

// postFixAll proposes the one change that takes what is proven for all that is at
// fault, and shows its effect.
func (s *Server) postFixAll(ctx context.Context, r *http.Request, _ url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	ch, err := s.opts.Platform.FixAll(ctx, asks(ctx).Who, org, name, BranchOf(ctx))
	if err != nil {
		return "", err
	}
	return s.toEffect(ctx, r, ch)
}

// postApply commits exactly what an effect was shown of.
func (s *Server) postApply(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	ch, err := ParseChange(f.Get("change"))
	if err != nil {
		return "", err
	}
	base, err := digest.Parse(f.Get("base"))
	if err != nil {
		return "", err
	}
	if _, err := s.opts.Platform.Commit(ctx, asks(ctx).Who, org, name, BranchOf(ctx), ch, base, f.Has("build")); err != nil {
		return "", err
	}
	if f.Has("build") {
		return "/" + org + "/" + name, nil
	}
	return "/" + org + "/" + name + "/configuration", nil
}

type effectView struct {
	projectHead
	platform.Preview
	JSON     string // of the change
	Problem  string
	Advice   string
	Sentence string
	Takes    string
}

// patience is how long a page waits for an effect before it says how far it is.
const patience = 2 * time.Second

// effectPage shows what a change would bring, or how far finding it out is.
func (s *Server) effectPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	p, err := s.opts.Platform.LookPreview(ctx, asks(ctx).Who, org, name, r.PathValue("key"), patience)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := effectView{projectHead: s.projectHead(ctx, org, name, "configuration"), Preview: p}
	b, err := json.Marshal(p.Change)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v.JSON = string(b)
	switch {
	case !p.Done:
		w.Header().Set("Refresh", "1") // the page is loaded again without a script, too
	case p.Err != nil:
		_, text := s.say(r, p.Err)
		v.Problem, v.Advice = cutAdvice(text)
	default:
		v.Sentence = p.Effect.Sentence()
		if t := p.Effect.Work.Seconds; t != nil {
			v.Takes = about(time.Duration(*t * float64(time.Second)))
		}
	}
	w.Header().Set("Cache-Control", "private, no-store")
	s.render(w, r, http.StatusOK, "effect", "Effect on "+org+"/"+name, v)
}

// about is a time as people say it.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("about %d minutes", int(d.Round(time.Minute).Minutes()))
	}
	return fmt.Sprintf("about %d hours", int(d.Round(time.Hour).Hours()))
}

type remediesView struct {
	projectHead
	Standing remedy.Standing
	Faults   []remedy.Fault
	Fixes    []string
	CanWaive bool
	Settings store.Settings
	Gate     remedy.Answer
	Badge    string // address; empty: only those who may hand it out see it
	Today    string
}

// remediesPage shows the ways out of everything that is not secure.
func (s *Server) remediesPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	who := asks(ctx).Who
	v := remediesView{projectHead: s.projectHead(ctx, org, name, "builds"), CanWaive: who.Can(access.WaiveProject, org), Today: time.Now().UTC().Format(time.DateOnly)}
	var err error
	if v.Faults, v.Standing, err = s.opts.Platform.Faults(ctx, who, org, name, BranchOf(ctx)); err == nil {
		v.Settings, err = s.opts.Platform.Settings(ctx, who, org, name)
	}
	if err == nil {
		v.Gate, err = s.opts.Platform.Gate(ctx, who, org, name, BranchOf(ctx), platform.GateDemand{})
	}
	if fault.Is(err, fault.Conflict) {
		_, text := s.say(r, err)
		message, advice := cutAdvice(text)
		s.render(w, r, http.StatusOK, "empty", org+"/"+name, emptyView{v.projectHead, message, advice})
		return
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v.Fixes = remedy.FixAll(v.Faults)
	if who.Can(access.SetProject, org) {
		v.Badge = s.opts.ExternalURL + "/badge/" + org + "/" + name + ".svg"
		if !v.Settings.Public {
			token, err := s.opts.Platform.BadgeToken(ctx, who, org, name)
			if err != nil {
				s.failPage(w, r, err)
				return
			}
			v.Badge += "?token=" + token
		}
	}
	s.render(w, r, http.StatusOK, "remedies", "Ways out for "+org+"/"+name, v)
}

type reportView struct {
	projectHead
	remedy.Report
	Secure, Others []reportRow
}

type reportRow struct {
	PURL, Version, Digest, Grade, Why, Reproduced string
}

func operators(n int) string {
	if n == 1 {
		return "one operator"
	}
	return fmt.Sprintf("%d operators", n)
}

func (s *Server) reportPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	rep, err := s.opts.Platform.Report(ctx, asks(ctx).Who, org, name, BranchOf(ctx))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := reportView{projectHead: s.projectHead(ctx, org, name, "builds"), Report: rep}
	for _, row := range rep.Artifacts {
		x := reportRow{PURL: string(row.PURL)}
		if row.Digest != nil {
			x.Digest = row.Digest.String()
		}
		if row.Grade != nil {
			x.Grade = string(*row.Grade)
		}
		if row.Reproduced != nil {
			x.Reproduced = fmt.Sprintf("%d of %d identical, by %s", row.Reproduced.Identical, row.Reproduced.Builds, operators(row.Reproduced.Operators))
		}
		if len(row.Reasons) > 0 {
			x.Why = row.Reasons[0].Message
		}
		if secure(row) {
			v.Secure = append(v.Secure, x)
		} else {
			v.Others = append(v.Others, x)
		}
	}
	s.render(w, r, http.StatusOK, "report", "Report on "+org+"/"+name, v)
}

func (s *Server) reportJSON(w http.ResponseWriter, r *http.Request) {
	rep, err := s.opts.Platform.Report(r.Context(), asks(r.Context()).Who, r.PathValue("org"), r.PathValue("project"), BranchOf(r.Context()))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rep); err != nil {
		s.fail(w, r, err)
		return
	}
	s.attach(w, r, "report.json", "application/json", b.Bytes())
}

// attach answers with a document of a project to be kept as a file.
func (s *Server) attach(w http.ResponseWriter, r *http.Request, name, contentType string, b []byte) {
	w.Header().Set("Cache-Control", "private, no-cache")
	// Both parts of the name are checked: a project of another name does not exist.
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", r.PathValue("org")+"-"+r.PathValue("project")+"-"+name))
	s.write(w, r, contentType, b)
}

func (s *Server) statusCSV(w http.ResponseWriter, r *http.Request) {
	st, _, err := s.opts.Platform.Exported(r.Context(), asks(r.Context()).Who, r.PathValue("org"), r.PathValue("project"), BranchOf(r.Context()))
	var b []byte
	if err == nil {
		b, err = remedy.CSV(st.Document)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.attach(w, r, "status.csv", "text/csv; charset=utf-8; header=present", b)
}

func (s *Server) statusSARIF(w http.ResponseWriter, r *http.Request) {
	st, ws, err := s.opts.Platform.Exported(r.Context(), asks(r.Context()).Who, r.PathValue("org"), r.PathValue("project"), BranchOf(r.Context()))
	var b []byte
	if err == nil {
		b, err = remedy.SARIF(st.Document, ws, s.opts.Version)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.attach(w, r, "status.sarif", "application/sarif+json", b)
}

func (s *Server) sbomFile(f sbom.Format) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := s.opts.Platform.SBOM(r.Context(), asks(r.Context()).Who, r.PathValue("org"), r.PathValue("project"), BranchOf(r.Context()), f)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.attach(w, r, "sbom."+string(f)+".json", f.MediaType(), b)
	}
}

// badge shows a project's percentage and nothing else: to its readers, and to
// whoever has the badge's token.
func (s *Server) badge(w http.ResponseWriter, r *http.Request) {
	org, name := r.PathValue("org"), strings.TrimSuffix(r.PathValue("file"), ".svg")
	percent, err := s.opts.Platform.Badge(r.Context(), asks(r.Context()).Who, org, name, r.URL.Query().Get("token"))
	if err == nil && name == r.PathValue("file") {
		err = fault.New(fault.NotFound, "there is no badge of that name")
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // it is for pages elsewhere
	h.Set("Cache-Control", "no-cache")
	s.write(w, r, "image/svg+xml", remedy.Badge(percent))
}
