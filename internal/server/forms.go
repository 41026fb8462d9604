package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/jobs"
	"hallmark/internal/plan"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// projectRoutes are the pages of organizations and projects and what their forms
// post to. Each form has its twin in the API; both call the same function of the
// platform.
func (s *Server) projectRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{org}", s.orgPage)
	mux.HandleFunc("POST /{org}/-/projects", s.post(s.postProject))
	mux.HandleFunc("GET /{org}/{project}/configuration", s.configurationPage)
	mux.HandleFunc("GET /{org}/{project}/history", s.historyPage)
	mux.HandleFunc("GET /{org}/{project}/settings", s.settingsPage)
	mux.HandleFunc("GET /{org}/{project}/events", s.events)
	mux.HandleFunc("POST /{org}/{project}/-/commit", s.post(s.postCommit))
	mux.HandleFunc("POST /{org}/{project}/-/build", s.post(s.postBuild))
	mux.HandleFunc("POST /{org}/{project}/-/cancel", s.post(s.postCancel))
	mux.HandleFunc("POST /{org}/{project}/-/revert", s.post(s.postRevert))
	mux.HandleFunc("POST /{org}/{project}/-/settings", s.post(s.postSettings))
	mux.HandleFunc("POST /{org}/{project}/-/waive", s.post(s.postWaive))
	mux.HandleFunc("POST /{org}/{project}/-/unwaive", s.post(s.postUnwaive))
	s.remedyRoutes(mux)
	s.branchRoutes(mux)
}

// memberRoutes are for organizations with members.
func (s *Server) memberRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /{org}/-/members", s.post(s.postMember))
	mux.HandleFunc("POST /{org}/-/remove-member", s.post(s.postRemoveMember))
	mux.HandleFunc("POST /{org}/-/invite", s.postInvite)
}

// accountRoutes are for people with accounts.
func (s *Server) accountRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sign-in", s.signInPage)
	mux.HandleFunc("POST /sign-in", s.signIn)
	mux.HandleFunc("POST /sign-out", s.signOut)
	mux.HandleFunc("GET /link/{secret}", s.linkPage)
	mux.HandleFunc("POST /link/{secret}", s.useLink)
	mux.HandleFunc("GET /account", s.accountPage)
	mux.HandleFunc("POST /account/tokens", s.postToken)
	mux.HandleFunc("POST /account/revoke", s.post(s.postRevoke))
	mux.HandleFunc("POST /account/password", s.post(s.postPassword))
	mux.HandleFunc("POST /account/sign-out-others", s.post(s.postSignOutOthers))
	s.waysRoutes(mux)
	mux.HandleFunc("GET /admin", s.adminPage)
	mux.HandleFunc("POST /admin/tier", s.post(s.postTier))
	mux.HandleFunc("POST /admin/user", s.post(s.postUser))
	mux.HandleFunc("POST /admin/reset", s.postReset)
}

// post is what is common to forms: read, checked, done, and on to another page.
func (s *Server) post(do func(ctx context.Context, r *http.Request, f url.Values) (next string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := s.form(w, r)
		if err == nil {
			var next string
			if next, err = do(r.Context(), r, f); err == nil {
				http.Redirect(w, r, onBranch(r, next), http.StatusSeeOther)
				return
			}
		}
		s.failPage(w, r, err)
	}
}

func (s *Server) postCommit(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	ch, old, err := s.readChange(ctx, r, f)
	if err != nil {
		return "", err
	}
	build := f.Has("build")
	if _, err := s.opts.Platform.Commit(ctx, asks(ctx).Who, org, name, BranchOf(ctx), ch, old, build); err != nil {
		return "", err
	}
	if build {
		return "/" + org + "/" + name, nil
	}
	return "/" + org + "/" + name + "/configuration", nil
}

// parseTime reads a catalog time as a person or a browser writes it.
func parseTime(t string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.Parse(layout, t); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fault.New(fault.Usage, "catalog time %.40q: want a day such as 2026-10-01, or a time such as 2026-10-01T00:00:00Z", t)
}

func (s *Server) postBuild(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	_, err := s.opts.Platform.Build(ctx, asks(ctx).Who, org, name, BranchOf(ctx), f.Has("retry"))
	return "/" + org + "/" + name, err
}

func (s *Server) postCancel(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	return "/" + org + "/" + name, s.opts.Platform.Cancel(ctx, asks(ctx).Who, org, name, f.Get("run"))
}

func (s *Server) postRevert(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	to, err := digest.Parse(f.Get("commit"))
	if err != nil {
		return "", err
	}
	_, err = s.opts.Platform.Revert(ctx, asks(ctx).Who, org, name, BranchOf(ctx), to, false)
	return "/" + org + "/" + name + "/history", err
}

func (s *Server) postSettings(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	return "/" + org + "/" + name + "/settings", s.opts.Platform.SetSettings(ctx, asks(ctx).Who, store.Settings{Org: org, Name: name, Public: f.Has("public"), RequireSecure: f.Has("require_secure")})
}

func (s *Server) postWaive(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	until, err := parseTime(f.Get("until"))
	if err != nil {
		return "", err
	}
	return "/" + org + "/" + name + "/settings", s.opts.Platform.Waive(ctx, asks(ctx).Who, org, name, f.Get("purl"), f.Get("owner"), f.Get("reason"), until)
}

func (s *Server) postUnwaive(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), r.PathValue("project")
	return "/" + org + "/" + name + "/settings", s.opts.Platform.EndWaiver(ctx, asks(ctx).Who, org, name, f.Get("id"))
}

func (s *Server) postOrg(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	name := strings.TrimSpace(f.Get("name"))
	return "/" + name, s.opts.Platform.CreateOrg(ctx, asks(ctx).Who, name)
}

func (s *Server) postProject(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org, name := r.PathValue("org"), strings.TrimSpace(f.Get("name"))
	_, err := s.opts.Platform.CreateProject(ctx, asks(ctx).Who, org, name, time.Now())
	return "/" + org + "/" + name + "/configuration", err
}

func (s *Server) postMember(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org := r.PathValue("org")
	return "/" + org, s.opts.Platform.SetMember(ctx, asks(ctx).Who, org, strings.TrimSpace(f.Get("user")), access.Role(f.Get("role")))
}

func (s *Server) postRemoveMember(ctx context.Context, r *http.Request, f url.Values) (string, error) {
	org := r.PathValue("org")
	next := "/" + org
	if f.Get("user") == asks(ctx).Name {
		next = "/"
	}
	return next, s.opts.Platform.RemoveMember(ctx, asks(ctx).Who, org, f.Get("user"))
}

func (s *Server) postRevoke(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	return "/account", s.opts.Accounts.RevokeToken(ctx, asks(ctx).Principal, f.Get("id"), asks(ctx).Address)
}

func (s *Server) postPassword(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	a := asks(ctx)
	return "/account", s.opts.Accounts.ChangePassword(ctx, a.Principal, a.cookie, f.Get("old"), f.Get("new"), a.Address)
}

func (s *Server) postSignOutOthers(ctx context.Context, _ *http.Request, _ url.Values) (string, error) {
	a := asks(ctx)
	return "/account", s.opts.Accounts.SignOutOthers(ctx, a.Principal, a.cookie, a.Address)
}

func (s *Server) postTier(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	return "/admin", s.opts.Platform.SetTier(ctx, asks(ctx).Who, f.Get("org"), access.Tier(f.Get("tier")))
}

func (s *Server) postUser(ctx context.Context, _ *http.Request, f url.Values) (string, error) {
	return "/admin", s.opts.Platform.SetUser(ctx, asks(ctx).Who, f.Get("user"), f.Has("admin"), f.Has("disabled"))
}

// shown is a secret that is shown once.
type shown struct {
	Title, Text, Secret, Back string
}

func (s *Server) show(w http.ResponseWriter, r *http.Request, v shown) {
	w.Header().Set("Cache-Control", "no-store")
	s.render(w, r, http.StatusOK, "secret", v.Title, v)
}

func (s *Server) postInvite(w http.ResponseWriter, r *http.Request) {
	f, err := s.form(w, r)
	org := r.PathValue("org")
	if err == nil {
		var secret string
		if secret, err = s.opts.Platform.Invite(r.Context(), asks(r.Context()).Who, org, access.Role(f.Get("role"))); err == nil {
			s.show(w, r, shown{"An invitation to " + org, "Whoever follows this link joins as " + f.Get("role") + ". It works once, within three days, and is shown only now.", s.opts.ExternalURL + "/link/" + secret, "/" + org})
			return
		}
	}
	s.failPage(w, r, err)
}

func (s *Server) postReset(w http.ResponseWriter, r *http.Request) {
	f, err := s.form(w, r)
	if err == nil {
		var secret string
		if secret, err = s.opts.Platform.ResetPassword(r.Context(), asks(r.Context()).Who, f.Get("user")); err == nil {
			s.show(w, r, shown{"A new password for " + f.Get("user"), "Whoever follows this link sets the password. It works once, within three days, and is shown only now.", s.opts.ExternalURL + "/link/" + secret, "/admin"})
			return
		}
	}
	s.failPage(w, r, err)
}

func (s *Server) postToken(w http.ResponseWriter, r *http.Request) {
	f, err := s.form(w, r)
	if err == nil {
		var secret string
		if secret, err = s.newToken(r.Context(), f); err == nil {
			s.show(w, r, shown{"Your new token", "It is shown only now. A package client sends it as password, with __token__ as user name.", secret, "/account"})
			return
		}
	}
	s.failPage(w, r, err)
}

func (s *Server) newToken(ctx context.Context, f url.Values) (string, error) {
	scopes, err := access.ParseScopes(strings.Join(f["scope"], ","))
	if err != nil {
		return "", err
	}
	days, err := time.ParseDuration(f.Get("days") + "h")
	if err != nil {
		return "", fault.New(fault.Usage, "a token lasts a number of days, not %.40q", f.Get("days"))
	}
	a := asks(ctx)
	_, secret, err := s.opts.Accounts.NewToken(ctx, a.Principal, f.Get("label"), f.Get("org"), scopes, 24*days, a.Address)
	return secret, err
}

// frame is what every page of the platform has for its forms.
type frame struct {
	Form string // the token of its forms
	Who  access.Principal
}

func framed(ctx context.Context) frame {
	a := asks(ctx)
	return frame{a.formToken(), a.Principal}
}

// projectHead is what all tabs of a project show above.
type projectHead struct {
	frame
	Org, Project, Tab                      string
	Hosted, CanChange, CanBuild, CanManage bool
	Run                                    *jobs.State // the newest build of the branch; nil: none
	Place                                  int         // of that build in the queue; 0: it does not wait
	branchHead
}

func (s *Server) projectHead(ctx context.Context, org, name, tab string) projectHead {
	h := projectHead{frame: framed(ctx), Org: org, Project: name, Tab: tab, Hosted: s.opts.Platform != nil}
	if h.Hosted {
		w := asks(ctx).Who
		h.branchHead = s.branchHead(ctx, org, name)
		h.CanChange, h.CanBuild, h.CanManage = w.Can(access.ChangeProject, org), w.Can(access.BuildProject, org), w.Can(access.SetProject, org)
	}
	if st, r, ok := s.newestRun(ctx, branchLine{org, name, BranchOf(ctx)}); ok {
		h.Run = &st
		if st.State == store.RunQueued {
			if ranks, err := s.opts.Platform.Ranks(ctx, r); err == nil {
				h.Place = ranks[r.ID].Place
			}
		}
	}
	return h
}

// newestRun tells how far the newest build of a branch is, to whoever was found to be
// a reader of the project; false if there is none here. What many ask at a time is
// found out once for them.
func (s *Server) newestRun(ctx context.Context, line branchLine) (jobs.State, store.Run, bool) {
	if s.opts.Builds == nil || s.opts.Platform == nil {
		return jobs.State{}, store.Run{}, false
	}
	v, err, _ := s.asking.Do("run of "+line.org+"/"+line.project+" "+line.branch, func() (any, error) {
		return s.opts.Platform.NewestRun(context.WithoutCancel(ctx), line.org, line.project, line.branch)
	})
	if err != nil {
		return jobs.State{}, store.Run{}, false // the page itself says what is wrong
	}
	r := v.(store.Run)
	return s.runState(r), r, true
}

// Path is the project's address.
func (h projectHead) Path() string { return "/" + h.Org + "/" + h.Project }

// Full is ORG/PROJECT.
func (h projectHead) Full() string { return h.Org + "/" + h.Project }

type configurationView struct {
	projectHead
	Head       digest.Digest
	Commit     project.Commit
	Searchable bool
	Found      found
	Own        []plan.PackageOverrides // of the commit
}

func (s *Server) configurationPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	h, err := s.opts.Platform.History(ctx, asks(ctx).Who, org, name, BranchOf(ctx), 1)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := configurationView{projectHead: s.projectHead(ctx, org, name, "configuration"), Head: h[0].ID, Commit: h[0].Commit}
	if h[0].Overrides != "" {
		if v.Own, err = s.opts.Platform.OverridesOf(ctx, asks(ctx).Who, org, name, h[0].ID); err != nil {
			s.failPage(w, r, err)
			return
		}
	}
	// Who may not search, such as a visitor of a public project, has no search.
	if q := r.URL.Query(); s.opts.Catalog != nil && s.opts.Platform.Search(asks(ctx).Who) == nil {
		if v.Found, _, err = s.find(r, q.Get("q"), q.Get("lookup") == "1"); err != nil {
			s.failPage(w, r, err)
			return
		}
		v.Searchable = true
	}
	s.render(w, r, http.StatusOK, "configuration", org+"/"+name+" configuration", v)
}

type historyEntry struct {
	platform.Logged
	Diff platform.Diff
	Now  bool
}

type historyView struct {
	projectHead
	Lines   []platform.Branch // the project's branches
	Entries []historyEntry
	Runs    []store.Run
}

func (s *Server) historyPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	who := asks(ctx).Who
	commits, err := s.opts.Platform.History(ctx, who, org, name, BranchOf(ctx), maxListed+1)
	var runs []store.Run
	if err == nil {
		runs, err = s.opts.Platform.Runs(ctx, who, org, name, maxListed)
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	lines, err := s.opts.Platform.Branches(ctx, who, org, name)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := historyView{projectHead: s.projectHead(ctx, org, name, "history"), Lines: lines, Runs: runs}
	for i, c := range commits {
		if i == maxListed {
			break
		}
		e := historyEntry{Logged: c, Now: i == 0}
		if i+1 < len(commits) {
			e.Diff = s.opts.Platform.DiffOf(commits[i+1].Commit, c.Commit)
		}
		v.Entries = append(v.Entries, e)
	}
	s.render(w, r, http.StatusOK, "history", org+"/"+name+" history", v)
}

type settingsView struct {
	projectHead
	Settings store.Settings
	Waivers  []store.Waiver
	Today    string
}

func (s *Server) settingsPage(w http.ResponseWriter, r *http.Request) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	who := asks(ctx).Who
	set, err := s.opts.Platform.Settings(ctx, who, org, name)
	var ws []store.Waiver
	if err == nil {
		ws, err = s.opts.Platform.Waivers(ctx, who, org, name)
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "settings", org+"/"+name+" settings",
		settingsView{projectHead: s.projectHead(ctx, org, name, "settings"), Settings: set, Waivers: ws, Today: time.Now().UTC().Format(time.DateOnly)})
}

type orgView struct {
	frame
	platform.Org
	Projects                       []homeItem
	CanManage, CanCreate, Accounts bool
	Roles                          []access.Role
}

func (s *Server) orgPage(w http.ResponseWriter, r *http.Request) {
	ctx, org := r.Context(), r.PathValue("org")
	who := asks(ctx).Who
	o, err := s.opts.Platform.Org(ctx, who, org)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	all, err := s.opts.Platform.Projects(ctx, who)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := orgView{frame: framed(ctx), Org: o, CanManage: who.Can(access.ManageMembers, org), CanCreate: who.Can(access.CreateProject, org),
		Accounts: s.opts.Accounts != nil, Roles: access.Roles}
	for _, p := range all {
		if p.Org == org {
			v.Projects = append(v.Projects, s.homeItem(r, p.Org+"/"+p.Name, len(v.Projects)))
		}
	}
	s.render(w, r, http.StatusOK, "org", org, v)
}

type accountView struct {
	frame
	waysView
	Tokens []store.Token
	Orgs   []string
	Now    time.Time
}

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request) {
	ctx, a := r.Context(), asks(r.Context())
	if !a.SignedIn() || a.Token != "" {
		http.Redirect(w, r, "/sign-in?next=/account", http.StatusSeeOther)
		return
	}
	tokens, err := s.opts.Accounts.Tokens(ctx, a.Principal)
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	v := accountView{frame: framed(ctx), Tokens: tokens, Now: time.Now()}
	if v.waysView, err = s.ownWays(ctx); err != nil {
		s.failPage(w, r, err)
		return
	}
	for org := range a.Roles {
		if a.Can(access.OwnTokens, org) {
			v.Orgs = append(v.Orgs, org)
		}
	}
	s.render(w, r, http.StatusOK, "account", "Your account", v)
}

type adminView struct {
	frame
	Users []store.User
	Orgs  []store.Org
	Tiers []access.Tier
	Audit []store.Audit
}

func (s *Server) adminPage(w http.ResponseWriter, r *http.Request) {
	ctx, who := r.Context(), asks(r.Context()).Who
	users, err := s.opts.Platform.Users(ctx, who)
	v := adminView{frame: framed(ctx), Users: users, Tiers: access.Tiers}
	if err == nil {
		v.Orgs, err = s.opts.Platform.Orgs(ctx, who)
	}
	if err == nil {
		v.Audit, err = s.opts.Platform.Audit(ctx, who, "", 0, 50)
	}
	if err != nil {
		s.failPage(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "admin", "Administration", v)
}

// events tells a watcher of a project's page how far the newest build of the branch
// is that is looked at, and of another commit on it.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	line := branchLine{r.PathValue("org"), r.PathValue("project"), BranchOf(r.Context())}
	s.tellProject(w, r, func(ctx context.Context) (jobs.State, bool) {
		st, _, ok := s.newestRun(ctx, line)
		return st, ok
	})
}

// tellProject tells a watcher of a project how far a build of it is, and of another
// commit on the branch that is looked at, as server-sent events: one now, one at each
// change, at most two a second, and a comment now and then so that the connection is
// seen to live.
func (s *Server) tellProject(w http.ResponseWriter, r *http.Request, now func(context.Context) (jobs.State, bool)) {
	ctx, org, name := r.Context(), r.PathValue("org"), r.PathValue("project")
	if err := s.read(ctx, org, name); err != nil {
		s.fail(w, r, err)
		return
	}
	if s.opts.Builds == nil {
		s.fail(w, r, fault.New(fault.Unsupported, "this server builds nothing"))
		return
	}
	end, err := s.watchers.begin(watching(asks(ctx)))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer end()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	c := http.NewResponseController(w)
	// tell sends what has a time to be taken in: whoever takes nothing is let go.
	tell := func(text string) error {
		if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		return c.Flush()
	}
	beat := time.NewTicker(stillHere)
	defer beat.Stop()
	line := branchLine{org, name, BranchOf(ctx)}
	defer s.heads.watch(line)()
	commit, moved := s.heads.now(line)
	sure := time.Now()
	for {
		// Who was signed out, or is no member any more, is told no more.
		if time.Since(sure) > s.sureFor {
			var err error
			if ctx, err = s.stillWho(r); err != nil || s.read(ctx, org, name) != nil {
				return
			}
			sure = time.Now()
		}
		text := ""
		if head, next := s.heads.now(line); head != commit {
			if commit != "" {
				text = headEvent(head)
			}
			commit, moved = head, next
		}
		_, _, changed := s.opts.Builds.Watch(org + "/" + name)
		if st, ok := now(ctx); ok {
			b, err := json.Marshal(st)
			if err != nil {
				return
			}
			text += "event: run\ndata: " + string(b) + "\n\n"
		} else {
			text += ": nothing yet\n\n"
		}
		if err := tell(text); err != nil {
			return
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-s.stopping:
				return
			case <-beat.C:
				if err := tell(": still here\n\n"); err != nil {
					return
				}
			case <-changed:
				waiting = false
			case <-moved:
				waiting = false
			}
		}
		select {
		case <-time.After(eventPause):
		case <-ctx.Done():
			return
		}
	}
}

// stillWho identifies whoever makes a long request anew, and gives the request's
// context for who it is by now: nobody, if they signed out.
func (s *Server) stillWho(r *http.Request) (context.Context, error) {
	a, err := s.identify(r)
	return context.WithValue(r.Context(), askerKey{}, a), err
}
