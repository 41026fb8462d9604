package server

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates, each with the layout around it.
var pages = sync.OnceValue(func() map[string]*template.Template {
	funcs := template.FuncMap{
		"bytes": status.Bytes, "secure": secure, "statusWord": func(s status.Status) string { return statusWords[s] },
		"gradeWord": func(g policy.Grade) string { return gradeWords[g] },
		"pieceMark": pieceMarkHTML,
		"day":       day,
		"when":      when,
		"inDays":    inDays,
		"toDo":      toDo,
		"took":      took,
		"stage":     func(s string) string { return cmp.Or(stageWords[s], s) },
		"minutes":   minutes,
		"sentence":  sentence,
		"plus":      func(a, b int) int { return a + b },
		"minus":     func(a, b int) int { return a - b },
		"pair":      func(page, fault any) map[string]any { return map[string]any{"Page": page, "Fault": fault} },
		"plural":    plural,
	}
	out := map[string]*template.Template{}
	for _, name := range []string{"home", "project", "empty", "builder", "verifier", "error",
		"signin", "depart", "link", "secret", "configuration", "history", "settings", "org", "account", "admin", "artifact", "effect", "import", "compare", "remedies", "report", "run", "queue"} {
		t := template.New("layout.html").Funcs(funcs)
		out[name] = template.Must(t.ParseFS(templateFiles, "templates/layout.html", "templates/icons.html", "templates/tabs.html", "templates/search.html", "templates/parts.html", "templates/table.html", "templates/ways.html", "templates/"+name+".html"))
	}
	return out
})

// Words for people. The codes stay in the JSON.
var (
	stageWords  = map[string]string{"solve": "finding out what it needs", "build": "building", "sign": "signing"}
	statusWords = map[status.Status]string{
		status.Queued: "Waiting to be built", status.Blocked: "Blocked by another failure", status.Running: "Building now",
		status.Succeeded: "Built from source", status.Failed: "Build failed", status.Skipped: "No source to build",
	}
	gradeWords = map[policy.Grade]string{
		policy.Unknown: "nothing verifiable is known", policy.PublisherAttested: "its publisher's attestation was verified",
		policy.EquivalentGrade: "a published file that our build equals after normalisation",
		policy.Built:           "built from source, but one condition fails",
	}
	grades = []policy.Grade{policy.Unknown, policy.PublisherAttested, policy.EquivalentGrade, policy.Built}
)

// page is what every template gets.
type page struct {
	frame
	Title    string
	Version  string
	Hosted   bool // things can be done here
	Accounts bool // there is somebody to sign in
	Admin    bool
	Path     string // of the page, to come back to
	Body     any
}

// pageOf is what a page's template gets.
func (s *Server) pageOf(r *http.Request, title string, body any) page {
	return page{framed(r.Context()), title, s.opts.Version, s.opts.Platform != nil, s.opts.Accounts != nil, s.opts.Accounts != nil && asks(r.Context()).Can(access.Administer, ""), r.URL.RequestURI(), body}
}

// render answers with a page.
func (s *Server) render(w http.ResponseWriter, r *http.Request, code int, name, title string, body any) {
	var b bytes.Buffer
	if err := pages()[name].Execute(&b, s.pageOf(r, title, body)); err != nil {
		s.fail(w, r, fmt.Errorf("page %s: %w", name, err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "private, no-cache")
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes())
	}
}

// failPage answers with an error as a page. Its advice stands on a line of its
// own, as the command prints it.
func (s *Server) failPage(w http.ResponseWriter, r *http.Request, err error) {
	// A program that says what it takes, and no page, is answered in words.
	if a := r.Header.Get("Accept"); a != "" && !strings.Contains(a, "text/html") && !strings.Contains(a, "*/*") {
		s.fail(w, r, err)
		return
	}
	code, text := s.say(r, err)
	message, advice := cutAdvice(text)
	s.render(w, r, code, "error", http.StatusText(code), map[string]string{"Message": message, "Advice": advice})
}

// maxListed is how many projects the first page computes a status for.
const maxListed = 50

type homeItem struct {
	Name    string
	Summary *status.Summary
	Pie     pie
	Note    string
}

type homeView struct {
	frame
	Items  []homeItem
	Orgs   []store.Org
	Hosted bool
	CanOrg bool
}

// home lists the projects that whoever asks may read.
func (s *Server) home(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	v := homeView{frame: framed(ctx), Hosted: s.opts.Platform != nil}
	var names []string
	var err error
	if v.Hosted {
		who := asks(ctx).Who
		var all []platform.Listed
		if all, err = s.opts.Platform.Projects(ctx, who); err == nil {
			v.Orgs, err = s.opts.Platform.Orgs(ctx, who)
		}
		for _, p := range all {
			names = append(names, p.Org+"/"+p.Name)
		}
		v.CanOrg = who.Can(access.CreateOrg, "")
		if err == nil && s.opts.Accounts != nil && !who.SignedIn() && len(names) == 0 {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
	} else {
		names, err = s.backend.Projects(ctx)
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	for i, n := range names {
		v.Items = append(v.Items, s.homeItem(r, n, i))
	}
	s.render(w, r, http.StatusOK, "home", "Projects", v)
}

// homeItem is the nth of a list of projects, one that whoever asks may read.
func (s *Server) homeItem(r *http.Request, full string, n int) homeItem {
	it := homeItem{Name: full}
	if n >= maxListed {
		return it
	}
	org, name, _ := strings.Cut(full, "/")
	p, err := s.backend.Project(r.Context(), org, name)
	switch {
	case err == nil:
		it.Summary, it.Pie = &p.Document.Summary, newPie(p.Document.Summary)
	case fault.Is(err, fault.Conflict):
		it.Note = "Not built yet."
	default:
		_, it.Note = s.say(r, err)
	}
	return it
}

// pie is the share of secure artifacts as two arcs of a ring of radius 54 around
// (60, 60), clockwise from the top.
type pie struct {
	Percent   string
	Empty     bool // nothing to count
	All, None bool
	Secure    string // SVG path; empty if All or None
	Community string
}

func newPie(sum status.Summary) pie {
	p := pie{Percent: sum.Percent(), Empty: sum.Artifacts == 0, All: sum.Artifacts > 0 && sum.Community == 0, None: sum.Secure == 0}
	if p.All || p.None {
		return p
	}
	const r = 46
	arc := func(from, to float64) string {
		at := func(f float64) (x, y float64) {
			a := 2*math.Pi*f - math.Pi/2
			return 60 + r*math.Cos(a), 60 + r*math.Sin(a)
		}
		large := 0
		if to-from > 0.5 {
			large = 1
		}
		x1, y1 := at(from)
		x2, y2 := at(to)
		return fmt.Sprintf("M%.3f %.3fA%d %d 0 %d 1 %.3f %.3f", x1, y1, r, r, large, x2, y2)
	}
	// A gap between the two, so that they are apart without their colours.
	const gap = 0.008
	f := float64(sum.Secure) / float64(sum.Artifacts)
	p.Secure, p.Community = arc(gap, max(f-gap, gap+0.002)), arc(f+gap, max(1-gap, f+gap+0.002))
	return p
}

// filter is what the address asks for; empty fields let everything through.
type filter struct {
	Class, Grade, Reason, Language, Text string

	branch string // that the page is about; it leaves nothing out
}

func readFilter(q url.Values) filter {
	get := func(k string) string {
		v := strings.TrimSpace(q.Get(k))
		if len(v) > 200 {
			v = v[:200]
		}
		return strings.ToValidUTF8(v, "")
	}
	return filter{get("class"), get("grade"), get("reason"), get("language"), get("q"), get("branch")}
}

// Active tells whether anything is left out.
func (f filter) Active() bool { return f != filter{branch: f.branch} }

func (f filter) match(r status.Row) bool {
	if f.Class != "" && string(r.Class) != f.Class {
		return false
	}
	if f.Grade != "" && (r.Grade == nil || string(*r.Grade) != f.Grade) {
		return false
	}
	if f.Language != "" && r.PURL.Type() != f.Language {
		return false
	}
	if f.Reason != "" {
		ok := false
		for _, x := range r.Reasons {
			ok = ok || x.Code == f.Reason
		}
		if !ok {
			return false
		}
	}
	if f.Text == "" {
		return true
	}
	hay := string(r.PURL)
	if r.File != nil {
		hay += " " + *r.File
	}
	if r.Digest != nil {
		hay += " " + r.Digest.String()
	}
	for _, x := range r.Reasons {
		hay += " " + x.Message
	}
	return strings.Contains(strings.ToLower(hay), strings.ToLower(f.Text))
}

// rowView is one row of the table.
type rowView struct {
	status.Row
	Anchor   string
	Name     string
	Version  string
	Page     string // of the artifact; empty: there is no file
	Download string // of the file; empty: none
	Refused  string // why there is none
	Evidence string // of the evidence index; empty: none
	Builder  string // as a link; empty: none
	Reasons  []reasonView
	More     []reasonView // the rest, folded
}

// maxReasons is how many reasons a row shows unfolded.
const maxReasons = 6

type reasonView struct {
	policy.Reason
	Link string // to the row of the artifact at fault; empty: it is this one, or none of the table
	Name string // of the artifact at fault
}

type option struct {
	Value, Label string
	Count        int
	Selected     bool
}

type emptyView struct {
	projectHead
	Message, Advice string
}

type projectView struct {
	*Project
	Top         projectHead
	Name        string
	Pie         pie
	Summary     status.Summary
	PolicyName  string
	Shown       int        // rows that the filter lets through
	Pages       []pageLink // of the table; empty: there is one
	Filter      filter
	Classes     []option
	Grades      []option
	Reasons     []option
	Languages   []option
	GradeCounts []option // of the community artifacts
	Bundle      bundleView
	Runtime     *runtimeView // nil: the plan brings no root
	CommitShort string
	PlanShort   string
	IndexURL    string
	TokenHost   string   // that package clients send a token to; empty: none is asked for
	Ask         string   // a package of the project, for the snippets
	Example     *rowView // a secure artifact, for the commands to verify
	Work        int      // running or queued
	StatusURL   string
}

// policyName is the readable part of urn:hallmark:policy:NAME:vN.
func policyName(uri string) string {
	if f := strings.Split(uri, ":"); len(f) >= 5 {
		return strings.Join(f[3:], " ")
	}
	return uri
}

var anchorRE = regexp.MustCompile(`[^A-Za-z0-9@._/+!-]`)

var builderRE = regexp.MustCompile(`^/builder/([0-9a-f]{16})/([a-z0-9-]{1,40})$`)

func anchor(r status.Row) string {
	return anchorRE.ReplaceAllString(strings.TrimPrefix(string(r.PURL), "pkg:"), "_")
}

// project shows a project: the page that all the rest is for.
func (s *Server) project(w http.ResponseWriter, r *http.Request) {
	org, name := r.PathValue("org"), r.PathValue("project")
	p, err := s.open(r.Context(), org, name)
	if fault.Is(err, fault.Conflict) {
		_, text := s.say(r, err)
		message, advice := cutAdvice(text)
		s.render(w, r, http.StatusOK, "empty", org+"/"+name, emptyView{s.projectHead(r.Context(), org, name, "builds"), message, advice})
		return
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v, t, err := s.projectView(r.Context(), p, readFilter(r.URL.Query()), readPage(r.URL.Query()))
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.renderAround(w, r, "project", p.Document.Project, v, &t.piece)
}

// projectView is a project's page for whoever asks, and the table on it.
func (s *Server) projectView(ctx context.Context, p *Project, f filter, page int) (projectView, *table, error) {
	doc := p.Document
	org, name, _ := strings.Cut(doc.Project, "/")
	o := s.cache.tables(p).outline()
	v := projectView{Project: p, Top: s.projectHead(ctx, org, name, "builds"), Name: doc.Project, Summary: doc.Summary, Pie: newPie(doc.Summary), PolicyName: policyName(doc.Policy),
		Filter: f, IndexURL: s.opts.ExternalURL + "/r/" + doc.Project + "/pypi/simple/", TokenHost: s.tokenHost(), Ask: o.ask, Work: o.work,
		StatusURL: "/api/v1/projects/" + doc.Project + "/status", CommitShort: shorten(doc.Commit), PlanShort: doc.Plan.Short(),
		Reasons: selected(o.reasons, f.Reason), Languages: selected(o.languages, f.Language)}
	t := s.takesOf(ctx, p)
	v.Bundle = s.bundle(doc, t)
	v.Bundle.URL += v.Top.At()
	v.Runtime = runtimeOf(doc, t, v.Top.At())
	if o.example >= 0 {
		row := o.rows[o.example]
		v.Example = &rowView{Row: row, Name: row.PURL.Name(), Version: row.PURL.Version()}
	}
	for _, c := range []policy.Class{policy.Community, policy.Secure} {
		v.Classes = append(v.Classes, option{string(c), strings.ToUpper(string(c[:1])) + string(c[1:]), o.classes[c], f.Class == string(c)})
	}
	for _, g := range grades {
		v.Grades = append(v.Grades, option{string(g), string(g), o.grades[g], f.Grade == string(g)})
		if o.grades[g] > 0 {
			v.GradeCounts = append(v.GradeCounts, option{Value: string(g), Label: gradeWords[g], Count: o.grades[g]})
		}
	}
	tab, err := s.table(ctx, p, f, page, t)
	if err != nil {
		return v, nil, err
	}
	v.Shown, v.Pages = tab.shown, tab.pageLinks(doc.Project, f)
	return v, tab, nil
}

// took is a duration for people.
func took(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func shorten(commit string) string {
	if i := strings.LastIndex(commit, ":"); i >= 0 && len(commit) > i+13 {
		return commit[i+1 : i+13]
	}
	return commit
}

// versionOf is a package's version, with what tells it from others of that version.
func versionOf(u purl.PURL) string {
	if u.Version() == "" {
		return ""
	}
	return strings.TrimPrefix(u.Label(), u.Name()+" ")
}

// rowView is a row of a table; link gives the address of another artifact's row.
func (s *Server) rowView(ctx context.Context, p *Project, row status.Row, anchor string, link func(purl.PURL) string, t takes, builders map[string]string) rowView {
	rv := rowView{Row: row, Anchor: anchor, Name: row.PURL.Name(), Version: versionOf(row.PURL)}
	if row.Digest != nil {
		signed := p.Signed[*row.Digest]
		if p.Signed == nil {
			files, err := s.backend.Evidence(ctx, *row.Digest, s.mayHave(ctx))
			signed = err == nil && len(files) > 0
		}
		if signed {
			rv.Evidence = "/evidence/" + row.Digest.Hex()
		}
		rv.Page = "/" + p.Document.Project + "/artifact/" + row.Digest.Hex()
		if rv.Refused = t.refused(row); row.File != nil && row.PURL.Type() == "pypi" && rv.Refused == "" {
			rv.Download = (&url.URL{Path: "/r/" + p.Document.Project + "/pypi/files/" + row.Digest.Hex() + "/" + *row.File}).String()
		}
	}
	if row.Builder != nil {
		path, ok := builders[*row.Builder]
		if !ok {
			path = s.builderPath(ctx, *row.Builder)
			builders[*row.Builder] = path
		}
		rv.Builder = path
	}
	for _, x := range row.Reasons {
		v := reasonView{Reason: x, Name: x.Artifact.Name()}
		if x.Artifact != row.PURL {
			v.Link = link(x.Artifact)
		}
		rv.Reasons = append(rv.Reasons, v)
	}
	// Its own reasons come first; a long list of what it rests on is folded.
	if len(rv.Reasons) > maxReasons {
		rv.Reasons, rv.More = rv.Reasons[:maxReasons-1], rv.Reasons[maxReasons-1:]
	}
	return rv
}

type builderView struct {
	Builder
	Key, Mode string
	Profile   string // indented JSON
}

// builder is the page behind a builder.id: what that builder guarantees.
func (s *Server) builder(w http.ResponseWriter, r *http.Request) {
	key, mode := r.PathValue("key"), r.PathValue("mode")
	b, err := s.backend.Builder(r.Context(), key, mode)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := builderView{Builder: b, Key: key, Mode: mode}
	var out bytes.Buffer
	if json.Indent(&out, b.Profile, "", "  ") == nil {
		v.Profile = out.String()
	}
	s.render(w, r, http.StatusOK, "builder", "Builder "+key+"/"+mode, v)
}

// verifier is the page behind a verifier.id.
func (s *Server) verifier(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	pem, err := s.backend.PublicKey(r.Context(), key)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "verifier", "Verifier "+key, map[string]string{
		"Key": key, "ID": s.opts.ExternalURL + "/verifier/" + key, "PublicKey": string(pem)})
}
