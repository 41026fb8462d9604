package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
)

// branchRoutes are what is done with a project's branches. Which branch a page or a
// form is about stands in its address: ?branch=NAME.
func (s *Server) branchRoutes(orgs *http.ServeMux) {
	orgs.HandleFunc("GET /{org}/{project}/compare", s.comparePage)
	orgs.HandleFunc("POST /{org}/{project}/-/branch", s.post(s.postBranch))
	orgs.HandleFunc("POST /{org}/{project}/-/remove-branch", s.post(s.postRemoveBranch))
	orgs.HandleFunc("POST /{org}/{project}/-/default-branch", s.post(s.postDefaultBranch))
	orgs.HandleFunc("POST /{org}/{project}/-/import", s.postImport)
	orgs.HandleFunc("GET /{org}/{project}/import/{key}", s.importPage)
}

type branchKey struct{}

// BranchOf is the branch of a project that a page is asked for; empty: the default
// one. A backend gives what is so on it.
func BranchOf(ctx context.Context) string {
	b, _ := ctx.Value(branchKey{}).(string)
	return b
}

// onLine gives a context for what is asked about a branch.
func onLine(ctx context.Context, branch string) context.Context {
	return context.WithValue(ctx, branchKey{}, branch)
}

// onBranch is where a form leads to: a page of the project on the same branch.
func onBranch(r *http.Request, next string) string {
	b := BranchOf(r.Context())
	u, err := url.Parse(next)
	if b == "" || err != nil || u.Query().Has("branch") {
		return next
	}
	project := "/" + r.PathValue("org") + "/" + r.PathValue("project")
	if next != project && !strings.HasPrefix(next, project+"/") {
		return next
	}
	q := u.Query()
	q.Set("branch", b)
	u.RawQuery = q.Encode()
	return u.String()
}

// branchHead is what all tabs of a project show of its branches.
type branchHead struct {
	Branch   string   // that the page is about, as its address says; empty: the default one
	Current  string   // the same by its name
	Branches []string // the default one first
}

func (s *Server) branchHead(ctx context.Context, org, name string) branchHead {
	h := branchHead{Branch: BranchOf(ctx)}
	names, err := s.opts.Platform.BranchNames(ctx, asks(ctx).Who, org, name)
	if err != nil {
		return h // the page itself says what is wrong
	}
	h.Branches, h.Current = names, h.Branch
	if h.Current == "" {
		h.Current = names[0]
	}
	return h
}

// At is what stands behind the addresses of pages and forms, so that they stay on
// the branch.
func (h branchHead) At() string {
	if h.Branch == "" {
		return ""
	}
	return "?branch=" + url.QueryEscape(h.Branch)
}

// openWith opens a project on its default branch, or else on the first that has a
// file; has is asked of those that may. The request it gives is about that branch.
func (s *Server) openWith(r *http.Request, d digest.Digest, has func(*Project) bool) (*Project, *http.Request, error) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	p, err := s.open(ctx, org, name)
	if err == nil && has(p) || s.opts.Platform == nil || err != nil && !fault.Is(err, fault.Conflict) {
		return p, r, err
	}
	if rerr := s.read(ctx, org, name); rerr != nil {
		return nil, r, rerr
	}
	names, berr := s.backend.BranchesWith(ctx, org, name, d)
	if berr != nil {
		return nil, r, berr
	}
	for _, b := range names {
		there := onLine(ctx, b)
		if q, err := s.backend.Project(there, org, name); err == nil && has(q) {
			return q, r.WithContext(there), nil
		}
	}
	return p, r, err
}

func (s *Server) postBranch(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	from := f.Get("from")
	if from == "" {
		from = BranchOf(ctx)
	}
	b, err := s.opts.Platform.CreateBranch(ctx, asks(ctx).Who, org, name, strings.TrimSpace(f.Get("name")), from)
	return "/" + org + "/" + name + "/configuration?branch=" + url.QueryEscape(b.Name), err
}

func (s *Server) postRemoveBranch(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	next := "/" + org + "/" + name + "/history"
	if BranchOf(ctx) == f.Get("name") {
		next += "?branch=" // the default one: this one is gone
	}
	return next, s.opts.Platform.RemoveBranch(ctx, asks(ctx).Who, org, name, f.Get("name"))
}

func (s *Server) postDefaultBranch(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	return "/" + org + "/" + name + "/history", s.opts.Platform.SetDefaultBranch(ctx, asks(ctx).Who, org, name, f.Get("name"))
}

type compareView struct {
	projectHead
	FromRef, ToRef string
	platform.Comparison
	Sentence string
}

// comparePage shows what differs between two branches or commits.
func (s *Server) comparePage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	v := compareView{FromRef: r.URL.Query().Get("from"), ToRef: r.URL.Query().Get("to")}
	if v.ToRef == "" {
		v.ToRef = BranchOf(ctx)
	}
	var err error
	if v.Comparison, err = s.opts.Platform.Compare(ctx, asks(ctx).Who, org, name, v.FromRef, v.ToRef); err != nil {
		s.failPage(w, r, err)
		return
	}
	if v.Effect != nil {
		v.Sentence = v.Effect.Sentence()
	}
	v.projectHead = s.projectHead(ctx, org, name, "history")
	if v.FromRef == "" && len(v.Branches) > 0 {
		v.FromRef = v.Branches[0]
	}
	if v.ToRef == "" {
		v.ToRef = v.Current
	}
	s.render(w, r, http.StatusOK, "compare", "What differs in "+org+"/"+name, v)
}
